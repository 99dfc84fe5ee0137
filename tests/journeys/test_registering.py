"""Registering as its user meets it: keys, nodes, prefixes, identifiers and receipts from the command line."""

import json
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.journeys.conftest import TopNode
from tests.running_node import RunningNode, wait_until
from tests.topnode import asked, started, told, topnode

SECONDARY: Final = "88.111"
ENTERPRISE: Final = "88.111.1"

MANY: Final = 150_000
"""Rows that take many seconds, of which the first few are enough to see that the rest is on its way."""


class Members:
    """A node with an operator, a secondary node and an enterprise of it, and the files of their keys."""

    def __init__(self, node: RunningNode, folder: Path) -> None:
        self.node = node
        self.folder = folder

    def key(self, actor: str) -> Path:
        return self.folder / f"{actor}.pem"

    def run(self, *arguments: object, actor: str = "local", **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command that signs as this actor; the operator's key is found by the data folder."""
        signed = ("--data", self.node.data) if actor == "local" else ("--actor", actor, "--key", self.key(actor))
        return topnode(*arguments, "--registry", self.node.started.registry, *signed, **options)

    def ask(self, *arguments: object) -> subprocess.CompletedProcess[bytes]:
        return topnode(*arguments, "--registry", self.node.started.registry)

    def join(self) -> None:
        for actor, more in (
            (SECONDARY, ["--tier", "secondary", "--industry", "C36"]),
            (ENTERPRISE, ["--tier", "enterprise", "--parent", SECONDARY]),
        ):
            told(topnode("key", "new", self.key(actor), "--json"))
            told(self.run("node", "apply", *more, "--organisation", "武汉示例", "--json", actor=actor))
            told(self.run("node", "review", actor, "--enable", "--json"))
        told(self.run("prefix", "allocate", SECONDARY, "--holder", SECONDARY, "--json"))
        told(self.run("prefix", "allocate", ENTERPRISE, "--holder", ENTERPRISE, "--json", actor=SECONDARY))

    def resolve(self, *identifiers: object) -> list[str]:
        """Give what is found: "found", another outcome, or the reason of an error."""
        run = asked(self.node.fronts, "resolve", "--timeout", "20s", "--json", *identifiers)
        answers = [json.loads(line) for line in run.stdout.splitlines()]
        return [answer["error"]["reason"] if "error" in answer else answer["outcome"] for answer in answers]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Members]:
    folder = tmp_path_factory.mktemp("node")
    running = RunningNode(folder / "data", folder / "log", ["--workers", "1"], {})
    try:
        running.wait_ready()
        members = Members(running, folder)
        members.join()
        yield members
    finally:
        running.stop()


def rows(file: Path, first: int, count: int, prefix: str = ENTERPRISE) -> Path:
    numbers = range(first, first + count)
    made = ({"identifier": f"{prefix}/SN-{each:06}", "values": []} for each in numbers)
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    return file


def words(run: subprocess.CompletedProcess[bytes]) -> str:
    return " ".join(run.stdout.decode().split())


# --- keys ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ed25519", "ecdsa-p256", "ml-dsa-65"])
def test_a_key_is_made_for_its_owner_alone(tmp_path: Path, algorithm: str) -> None:
    file = tmp_path / "key.pem"
    made = told(topnode("key", "new", file, "--algorithm", algorithm, "--json"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made["algorithm"] == algorithm
    assert told(topnode("key", "show", file, "--json")) == made
    public = tmp_path / "public.pem"
    public.write_bytes(topnode("key", "show", file, "--pem").stdout)
    assert told(topnode("key", "show", public, "--json")) == made
    assert made["key_id"] in words(topnode("key", "show", file))


def test_no_key_is_written_over_another_or_read_by_many(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    told(topnode("key", "new", file, "--json"))
    before = file.read_bytes()
    again = topnode("key", "new", file)
    assert (again.returncode, file.read_bytes()) == (1, before)
    assert b"FILE_UNREADABLE" in again.stderr
    file.chmod(0o644)
    assert b"chmod 600" in topnode("key", "show", file).stderr


# --- nodes and prefixes --------------------------------------------------------------------------------------------


def test_who_a_node_is(members: Members) -> None:
    node = told(members.ask("node", "status", SECONDARY, "--json"))
    assert (node["state"], node["tier"], node["organisation"]) == ("enabled", "secondary", "武汉示例")
    (key,) = node["keys"]
    assert key["key_id"] == told(topnode("key", "show", members.key(SECONDARY), "--json"))["key_id"]
    shown = words(members.ask("node", "status", SECONDARY))
    assert shown.startswith("88.111 enabled")
    assert "organisation 武汉示例" in shown
    unknown = members.ask("node", "status", "nobody")
    assert unknown.returncode == 1
    assert b"NODE_UNKNOWN" in unknown.stderr


def test_operators_list_nodes_and_nobody_else_does(members: Members) -> None:
    run = members.run("node", "list", "--json")
    assert [json.loads(line)["node"] for line in run.stdout.splitlines()] == [SECONDARY, ENTERPRISE]
    assert "88.111 enabled secondary 武汉示例 C36" in words(members.run("node", "list", "--state", "enabled"))
    assert members.run("node", "list", "--json", "--state", "revoked").stdout == b""
    refused = members.run("node", "list", actor=SECONDARY)
    assert refused.returncode == 1
    assert b"NOT_AUTHORISED" in refused.stderr


def test_a_node_from_its_application_to_its_end(members: Members) -> None:
    actor = "88.112"
    told(topnode("key", "new", members.key(actor), "--algorithm", "ml-dsa-65", "--json"))
    apply = ("node", "apply", "--tier", "secondary", "--organisation", "x")
    assert words(members.run(*apply, actor=actor)).startswith("88.112 has applied. Entry ")
    assert "88.112 applied" in words(members.run("node", "list", "--state", "applied"))
    assert words(members.run("node", "review", actor, "--reject", "--reason", "no licence")).startswith(
        "88.112 is rejected."
    )
    told(members.run(*apply, "--json", actor=actor))
    told(members.run("node", "review", actor, "--enable", "--json"))
    told(topnode("key", "new", members.key("new"), "--json"))
    assert "signs with" in words(members.run("node", "rotate", "--new-key", members.key("new"), actor=actor))
    old = members.run("prefix", "apply", "88.112", actor=actor)
    assert b"KEY_NOT_ALLOWED" in old.stderr
    members.key("new").replace(members.key(actor))
    told(members.run("prefix", "apply", "88.112", "--json", actor=actor))
    told(members.run("node", "suspend", actor, "--reason", "audit", "--json"))
    suspended = members.run("prefix", "apply", "88.113", actor=actor)
    assert b"NODE_NOT_ENABLED" in suspended.stderr
    told(members.run("node", "resume", actor, "--json"))
    told(members.run("node", "revoke", actor, "--reason", "gone", "--json"))
    again = members.run("node", "resume", actor)
    assert b"NODE_STATE_CONFLICT" in again.stderr


def test_a_prefix_from_its_application_to_its_end(members: Members, tmp_path: Path) -> None:
    endpoint = "handle-tcp://192.0.2.7:2641?priority=2&tls=node.example.cn"
    asked = ("--hosting", "delegated", "--endpoint", endpoint, "--expires", "2090-01-01", "--case", "sensitive")
    told(members.run("prefix", "apply", "88.115", *asked, "--json", actor=SECONDARY))
    row = told(members.ask("prefix", "show", "88.115", "--json"))
    assert (row["state"], row["holder"], row["endpoints"]) == ("pending", SECONDARY, [endpoint])
    told(members.run("prefix", "state", "88.115", "enabled", "--json"))
    told(members.run("prefix", "renew", "88.115", "--expires", "never", "--json"))
    told(members.run("route", "set", "88.115", "--hosting", "here", "--json", actor=SECONDARY))
    shown = words(members.ask("prefix", "show", "88.115"))
    assert shown.startswith("88.115 enabled")
    assert "case sensitive" in shown
    assert "term ends never" in shown
    assert "endpoint" not in shown
    file = tmp_path / "prefixes.ndjson"
    below = [{"prefix": f"88.115.{each}", "holder": SECONDARY} for each in range(5)]
    file.write_text("".join(json.dumps(each) + "\n" for each in below))
    assert words(members.run("prefix", "allocate", "-f", file, actor=SECONDARY)).startswith(
        "5 prefixes are allocated."
    )
    foreign = members.run("prefix", "state", "88.115.1", "disabled", actor=ENTERPRISE)
    assert b"PREFIX_NOT_HELD" in foreign.stderr


def test_what_lies_below_a_prefix_that_is_disabled_is_refused(members: Members, tmp_path: Path) -> None:
    told(members.run("prefix", "allocate", "88.116", "--holder", SECONDARY, "--json"))
    file = rows(tmp_path / "rows", 0, 3, "88.116")
    told(members.run("register", file, "--json", actor=SECONDARY))
    wait_until(lambda: members.resolve("88.116/SN-000000") == ["found"])
    told(members.run("prefix", "state", "88.116", "disabled", "--json"))
    wait_until(lambda: members.resolve("88.116/SN-000000") == ["PREFIX_DISABLED"])


# --- identifiers and receipts --------------------------------------------------------------------------------------


def test_a_file_is_registered_resolved_and_proven(members: Members, tmp_path: Path) -> None:
    file = rows(tmp_path / "rows.ndjson", 0, 2_500)
    with file.open("a") as more:
        more.write('{"identifier": "88.9/x", "values": []}\n{"mint": "88.111.1", "values": []}\n{"oops\n')
    receipts, rejects, minted = (tmp_path / name for name in ("receipts", "rejects", "minted"))
    kept = ("--receipts", receipts, "--rejects", rejects, "--minted", minted, "--envelopes")
    summary = told(members.run("register", file, *kept, "--json", actor=ENTERPRISE), 3)
    assert (summary["registered"], summary["rejected"], summary["lines"]) == (2_501, 2, 2_503)
    assert summary["reasons"] == {"PREFIX_NOT_ALLOCATED": 1, "ROW_MALFORMED": 1}
    assert [json.loads(line)["line"] for line in rejects.read_bytes().splitlines()] == [2_501, 2_503]
    identifier = json.loads(minted.read_bytes())["identifier"]
    wait_until(lambda: members.resolve(f"{ENTERPRISE}/sn-002499", identifier) == ["found"] * 2)

    key = topnode("journal", "key", "--data", members.node.data).stdout.decode().strip()
    # With a pinned key nobody is asked.
    run = topnode("receipt", "verify", receipts, "--verifier-key", key, "--registry", "127.0.0.1:1")
    assert run.returncode == 0, run.stderr
    assert "3 of 3 receipts hold" in run.stdout.decode()
    assert members.ask("receipt", "verify", receipts).returncode == 0
    lines = receipts.read_text().splitlines()
    altered = json.loads(lines[0])
    altered["receipt"]["index"] += 1
    receipts.write_text("\n".join([json.dumps(altered), *lines[1:], "nothing"]))
    run = topnode("receipt", "verify", receipts, "--verifier-key", key, "--json")
    assert run.returncode == 1
    assert [json.loads(line)["holds"] for line in run.stdout.splitlines()] == [False, True, True, False]


def test_the_same_file_again_changes_nothing(members: Members, tmp_path: Path) -> None:
    file = rows(tmp_path / "rows.ndjson", 10_000, 10)
    assert told(members.run("register", file, "--json", actor=ENTERPRISE))["registered"] == 10
    again = members.run("register", "-", "--json", actor=ENTERPRISE, input=file.read_bytes())
    assert told(again)["unchanged"] == 10
    shown = words(members.run("register", file, actor=ENTERPRISE))
    assert "unchanged 10" in shown
    assert sorted(tmp_path.iterdir()) == [file]


def test_who_does_not_hold_a_prefix_registers_nothing_below_it(members: Members, tmp_path: Path) -> None:
    file = rows(tmp_path / "rows.ndjson", 20_000, 3)
    refused = told(members.run("register", file, "--json", actor=SECONDARY), 3)
    assert (refused["registered"], refused["reasons"]) == (0, {"PREFIX_NOT_HELD": 3})
    unsigned = topnode("register", file, "--actor", ENTERPRISE, "--registry", members.node.started.registry)
    assert unsigned.returncode == 2
    assert b"--key" in unsigned.stderr


def test_an_interrupted_registration_goes_on(members: Members, tmp_path: Path) -> None:
    """At once only one envelope is on its way, so that nearly all of them are left when the first is told."""
    file = rows(tmp_path / "rows.ndjson", 100_000, MANY)
    state = tmp_path / "state"
    arguments = ("register", file, "--state", state, "--json", "--registry", members.node.started.registry)
    signed = ("--actor", ENTERPRISE, "--key", members.key(ENTERPRISE))
    running = started(*arguments, *signed, "--at-once", "1")
    wait_until(lambda: state.exists() and json.loads(state.read_bytes())["lines"] > 0)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert b"The same command goes on behind it." in said
    reached = json.loads(state.read_bytes())["lines"]
    assert 0 < reached < MANY
    summary = told(topnode(*arguments, *signed))
    assert (summary["registered"], summary["resumed_at_line"]) == (MANY, reached)
    assert not state.exists()
    other = topnode(*arguments[:-3], "--registry", "127.0.0.1:1", "--timeout", "1s", *signed)
    assert other.returncode == 1
    assert b"NODE_UNREACHABLE" in other.stderr


def test_an_interrupted_registration_from_standard_input_says_what_to_give_again(members: Members) -> None:
    """All rows; but of those that ask for an identifier, each would be given another one."""
    signed = ("--actor", ENTERPRISE, "--key", members.key(ENTERPRISE), "--at-once", "1")
    running = started("register", "-", "--registry", members.node.started.registry, *signed)
    assert running.stdin
    # More than a pipe holds and the command reads ahead: when all of it was taken, some has been told.
    made = ({"identifier": f"{ENTERPRISE}/P-{each}", "values": []} for each in range(60_000))
    running.stdin.write(b"".join(json.dumps(row).encode() + b"\n" for row in made))
    running.stdin.flush()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    how = b"Give all rows again: one that names its identifier is not registered twice, one with `mint` is."
    assert how in b" ".join(said.split())


def test_receipts_of_all_commands_stand_in_one_file(members: Members, tmp_path: Path) -> None:
    """One adds to what another one left."""
    receipts = tmp_path / "receipts"
    for number in range(2):
        file = rows(tmp_path / f"rows{number}", 30_000 + number, 1)
        told(members.run("register", file, "--receipts", receipts, "--json", actor=ENTERPRISE))
        told(members.run("node", "suspend", "88.111", "--reason", "x", "--receipt", receipts, "--json"))
        told(members.run("node", "resume", "88.111", "--receipt", receipts, "--json"))
    run = members.ask("receipt", "verify", receipts, "--json")
    kinds = ["identifiers.v1", "node-suspend.v1", "node-resume.v1"]
    assert [json.loads(line)["kind"] for line in run.stdout.splitlines()] == kinds * 2
    assert run.returncode == 0


def test_a_registration_outlives_a_restart_of_the_node(tmp_path: Path, top_node: TopNode) -> None:
    """The node is killed in the middle and started again at the same address: the command waits, nothing is lost."""
    node = top_node(workers=0)
    members = Members(node, tmp_path)
    members.join()
    file = rows(tmp_path / "rows.ndjson", 0, MANY)
    state = tmp_path / "state"
    registry = node.started.registry
    running = started(
        "register", file, "--state", state, "--json", "--registry", registry, "--timeout", "60s",
        "--at-once", "1", "--actor", ENTERPRISE, "--key", members.key(ENTERPRISE),
    )  # fmt: skip
    wait_until(lambda: state.exists() and json.loads(state.read_bytes())["lines"] > 0)
    node.process.kill()
    node.process.wait()
    assert running.poll() is None, "the file was registered before the node was killed"
    again = top_node("--registry", registry, workers=0)
    out, said = running.communicate(timeout=90)
    assert running.returncode == 0, said
    summary = json.loads(out)
    assert summary["registered"] == MANY
    verified = topnode("journal", "verify", "--data", again.data)
    assert verified.returncode == 0, verified.stdout.decode()


# --- help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["node", "review", "88.1"],
        ["node", "apply", "--tier", "top", "--organisation", "x"],
        ["prefix", "allocate"],
        ["prefix", "allocate", "88.1"],
        ["prefix", "state", "88.1", "gone"],
        ["prefix", "renew", "88.1", "--expires", "tomorrow"],
        ["route", "set", "88.1", "--hosting", "delegated", "--endpoint", "nowhere"],
        ["register"],
        ["receipt", "verify", "/nowhere"],
        ["key", "new"],
    ],
)
def test_what_is_not_understood(arguments: list[str]) -> None:
    run = topnode(*arguments)
    assert run.returncode == 2
    assert b"Traceback" not in run.stderr


@pytest.mark.parametrize("name", ["key", "node", "prefix", "route", "register", "receipt"])
def test_each_command_explains_itself(name: str) -> None:
    run = topnode(name, "--help")
    assert run.returncode == 0
    assert b"Usage: topnode" in run.stdout
