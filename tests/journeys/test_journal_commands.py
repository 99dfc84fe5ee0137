"""The journal as its operator meets it: shown, verified and rebuilt by commands, also while the node runs."""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import lmdb
import pytest

from registry.v1 import registry_pb2 as pb
from resolver.errors import Fault
from resolver.trust.keys import PrivateKey
from resolver.trust.receipts import Receipt, check_receipt
from tests.journeys.conftest import TopNode
from tests.running_node import RunningNode, wait_until
from tests.signing import registering
from tests.small_registry import ENTRIES, SECONDARY, write_history
from tests.topnode import told, topnode


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an entry of every kind; nobody writes to it."""
    data = tmp_path_factory.mktemp("history") / "data"
    data.mkdir()
    asyncio.run(write_history(data))
    return data


def journal(what: str, *arguments: object, code: int = 0) -> str:
    """Run the command, and give what it printed."""
    run = topnode("journal", what, *arguments)
    assert run.returncode == code, run.stderr.decode()
    return run.stdout.decode()


# --- of a store that stands still --------------------------------------------------------------------------------


def test_verify_says_how_much_there_is_and_that_it_fits(history: Path) -> None:
    said = journal("verify", "--data", history)
    assert f"{ENTRIES} entries, root " in said
    assert f"Everything in {history} is what its journal comes to." in said
    document = told(topnode("journal", "verify", "--data", history, "--json"))
    assert (document["entries"], document["found"], document["findings"]) == (ENTRIES, 0, [])
    assert document["rows"]["entries"] == ENTRIES


def test_verify_names_what_does_not_fit_and_ends_with_1(history: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(history, tmp_path / "data"))
    with closing(lmdb.open(str(data), map_size=1 << 30, max_dbs=20)) as environment:
        records = environment.open_db(b"records", create=False)
        with environment.begin(records, write=True) as transaction:
            assert transaction.replace(b"88.111/A", b"something else")
    said = journal("verify", "--data", data, code=1)
    assert "A row is not what the journal comes to: '88.111/A'." in said
    assert "1 things do not fit" in said
    document = told(topnode("journal", "verify", "--data", data, "--json"), code=1)
    (finding,) = document["findings"]
    assert finding["kind"] == "records"
    # It is named by what the journal comes to, since the row itself says nothing.
    assert told(topnode("journal", "show", finding["index"], "--data", data, "--json"))["kind"] == "identifiers.v1"


def test_the_newest_entries_one_of_them_and_what_was_signed(history: Path) -> None:
    newest = told(topnode("journal", "show", "--data", history, "--json"))
    assert newest["entries"][-1]["index"] == ENTRIES
    assert newest["checkpoint"].startswith(f"topnode/top\n{ENTRIES}\n")
    assert f"topnode/top\n{ENTRIES}\n" in journal("show", "--data", history)
    entry = told(topnode("journal", "show", 1, "--data", history, "--json"))
    assert (entry["kind"], entry["actor"], entry["outcomes"]) == ("node-apply.v1", SECONDARY, {"registered": 1})
    assert "node-apply.v1" in journal("show", 1, "--data", history)
    assert json.loads(journal("show", 1, "--data", history, "--body"))["organisation"] == f"{SECONDARY} Ltd"
    refused = topnode("journal", "show", ENTRIES + 1, "--data", history)
    assert (refused.returncode, b"ENTRY_UNKNOWN" in refused.stderr) == (1, True)


def test_rebuild_makes_a_store_once_and_the_key_is_the_same(history: Path, tmp_path: Path) -> None:
    target = tmp_path / "new"
    assert f"{ENTRIES} entries" in journal("rebuild", "--from", history, "--to", target)
    assert journal("key", "--data", target) == journal("key", "--data", history)
    assert told(topnode("journal", "verify", "--data", target, "--json"))["found"] == 0
    again = topnode("journal", "rebuild", "--from", history, "--to", target)
    assert (again.returncode, b"STORE_EXISTS" in again.stderr) == (1, True)


def test_a_pinned_key_and_a_former_operator_are_given_by_hand(history: Path, tmp_path: Path) -> None:
    key = journal("key", "--data", history).strip()
    data = Path(shutil.copytree(history, tmp_path / "data"))
    for name in ("journal.pem", "operator.pem"):
        (data / name).unlink()
    missing = topnode("journal", "verify", "--data", data)
    assert (missing.returncode, b"FILE_UNREADABLE" in missing.stderr) == (1, True)
    # Nobody knows any more who signed as the operator of the data folder.
    said = told(topnode("journal", "verify", "--data", data, "--verifier-key", key, "--json"), code=1)
    assert said["findings"][0]["kind"] == "signature"
    verifying = ("journal", "verify", "--data", data, "--verifier-key", key, "--former")
    (tmp_path / "former.pem").write_text(PrivateKey.from_file(history / "operator.pem").public.to_pem())
    said = told(topnode(*verifying, f"local={tmp_path}/former.pem", "--json"))
    assert (said["entries"], said["found"], said["findings"]) == (ENTRIES, 0, [])
    # A key that is somebody else's, and the right one under another name.
    (tmp_path / "stranger.pem").write_text(PrivateKey.generate().public.to_pem())
    for former in (f"local={tmp_path}/stranger.pem", f"wang={tmp_path}/former.pem"):
        said = told(topnode(*verifying, former, "--json"), code=1)
        assert said["found"] > 0
    misspelled = topnode("journal", "verify", "--data", data, "--former", "local")
    assert (misspelled.returncode, b"equals sign" in misspelled.stderr) == (2, True)


def test_where_a_second_store_has_no_room_that_is_what_is_told(history: Path, tmp_path: Path) -> None:
    bounded = ["sh", "-c", 'ulimit -f 100; exec "$@"', "sh", sys.executable, "-m", "nodes", "journal", "verify"]
    run = subprocess.run(
        [*bounded, "--data", str(history), "--scratch", str(tmp_path)], capture_output=True, check=False, timeout=60
    )
    assert (run.returncode, b"STORE_FULL" in run.stderr) == (1, True)
    assert f"no room in {tmp_path}".encode() in run.stderr
    assert list(tmp_path.iterdir()) == []
    missing = topnode("journal", "verify", "--data", history, "--scratch", tmp_path / "none")
    assert (missing.returncode, b"FILE_UNREADABLE" in missing.stderr) == (1, True)


# --- of a node that runs -----------------------------------------------------------------------------------------


class Registering:
    """Registers one identifier after another at a running node, through whatever happens to it; keeps what it got."""

    def __init__(self, node: RunningNode, prefix: str) -> None:
        self.given: list[pb.Receipt] = []
        self.failed = 0
        self._node = node
        self._prefix = prefix
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        operator = self._node.operator()
        number = 0
        while not self._ends.is_set():
            number += 1
            octets = operator.request("identifiers.v1", registering(f"{self._prefix}/{number}"))
            self.given.append(self._sent(octets))

    def _sent(self, octets: bytes) -> pb.Receipt:
        """Send the same bytes until they are answered: what was taken is not taken twice."""
        while True:
            try:
                return self._node.submit(octets).receipt
            except Fault:
                self.failed += 1
                assert not self._ends.wait(0.05)


def allocate(node: RunningNode, prefix: str) -> None:
    rows = [{"prefix": prefix, "holder": "top"}]
    node.submit(node.operator().request("prefix-allocate.v1", {"rows": rows}))


def check(receipt: pb.Receipt, key: str) -> None:
    check_receipt(
        Receipt(
            index=receipt.index,
            statement=receipt.statement,
            leaf_hash=receipt.leaf_hash,
            checkpoint=receipt.checkpoint,
            proof=list(receipt.inclusion_proof),
        ),
        key,
    )


def verified(data: Path) -> dict[str, Any]:
    return told(topnode("journal", "verify", "--data", data, "--json"))


def test_a_node_is_verified_and_rebuilt_while_it_runs_and_after_its_writer_was_killed(
    top_node: TopNode, tmp_path: Path
) -> None:
    node = top_node()
    allocate(node, "88.1")
    with Registering(node, "88.1") as registering_on:
        wait_until(lambda: len(registering_on.given) > 20)
        first = verified(node.data)
        before = len(registering_on.given)
        wait_until(lambda: len(registering_on.given) > before)
        kill_writer(node)
        wait_until(lambda: len(registering_on.given) > before + 20, 60)
        second = verified(node.data)
    assert first["found"] == second["found"] == 0
    assert first["entries"] < second["entries"]
    given = registering_on.given
    # One entry for each request and one for the prefix: nothing was lost, nothing was taken twice.
    assert [receipt.index for receipt in given] == list(range(2, len(given) + 2))
    key = journal("key", "--data", node.data).strip()
    for receipt in random.Random(1).sample(given, 20):
        check(receipt, key)
    journal("rebuild", "--from", node.data, "--to", tmp_path / "new")
    other = top_node(data=tmp_path / "new")
    assert other.resolve("88.1/7") == node.resolve("88.1/7")
    check(other.submit(other.operator().request("identifiers.v1", registering("88.1/ON"))).receipt, key)


def kill_writer(node: RunningNode) -> None:
    (writer,) = (pid for name, pid in node.pids().items() if name == "owner")
    os.kill(writer, signal.SIGKILL)
