"""`topnode load` as its user meets it: files of all kinds, interruptions, and what stands in the way."""

import asyncio
import json
import os
import pty
import resource
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from registry.parts import BOUNDS
from resolver.errors import Fault, Reason
from resolver.record import Record
from resolver.store.embedded import EmbeddedReader, current_owner
from resolver.trust.keys import PrivateKey
from resolver.wire import decode_record
from tests.journeys.conftest import TopNode
from tests.running_node import wait_until
from tests.topnode import started, told, topnode

PREFIX = {"prefix": "88.1", "holder": "88.1"}
COUNT = 50_000
"""Rows of six chunks and a bit."""


def row(number: int, data: str = "x") -> dict[str, Any]:
    values = [{"index": index, "type": "T", "data": f"{data} {number:06} " + "." * 40} for index in (1, 2, 3)]
    return {"identifier": f"88.1/SN-{number:06}", "values": values}


def written(path: Path, rows: Iterable[Any]) -> Path:
    """Write rows as NDJSON; bytes are written as they are."""
    path.write_bytes(
        b"".join(each if isinstance(each, bytes) else json.dumps(each).encode() + b"\n" for each in rows)
    )
    return path


def many(path: Path, count: int = COUNT) -> Path:
    return written(path, [PREFIX, *map(row, range(count))])


def held(data: Path) -> dict[str, Record]:
    """Everything that a store holds, without the times and versions that no two loads have in common."""
    return asyncio.run(_held(data))


async def _held(data: Path) -> dict[str, Record]:
    reader = EmbeddedReader.open(data)
    try:
        after, records = None, {}
        while True:
            page = await reader.identifiers(b"88.1", derived=True, after=after, limit=5_000)
            fetched = await reader.full([identifier.upper().encode() for identifier in page.identifiers])
            for body in fetched.bodies:
                assert body
                record = decode_record(body)
                values = tuple(replace(value, timestamp=0) for value in record.values)
                plain = replace(record, values=values, version=0, registered_at=0, updated_at=0)
                assert plain.identifier.to_text() not in records
                records[plain.identifier.to_text()] = plain
            after = page.next_after
            if after is None:
                return records
    finally:
        reader.close()


def head(data: Path) -> int:
    """The journal index of a store that another process writes; 0 where there is none yet."""
    try:
        reader = EmbeddedReader.open(data)
    except Fault as fault:
        if fault.reason is not Reason.STORE_MISSING:
            raise
        return 0
    try:
        return asyncio.run(reader.head())
    finally:
        reader.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    """What a load that nothing interrupts leaves in a store."""
    folder = tmp_path_factory.mktemp("whole")
    told(topnode("load", many(folder / "rows.ndjson"), "--data", folder / "data", "--json"))
    return held(folder / "data")


def test_ndjson_in_and_the_same_again(tmp_path: Path, whole: dict[str, Record]) -> None:
    assert len(whole) == COUNT
    file, data = many(tmp_path / "rows.ndjson", 100), tmp_path / "data"
    summary = told(topnode("load", file, "--data", data, "--json"))
    counted = {name: summary[name] for name in ("lines", "registered", "replaced", "unchanged", "rejected", "bytes")}
    assert counted == {
        "lines": 101,
        "registered": 101,
        "replaced": 0,
        "unchanged": 0,
        "rejected": 0,
        "bytes": file.stat().st_size,
    }
    again = told(topnode("load", file, "--data", data, "--json"))
    # That somebody asked for it is in the journal too.
    assert (again["registered"], again["unchanged"], again["index"]) == (0, 101, summary["index"] + 1)


def test_the_summary_for_people(tmp_path: Path) -> None:
    run = topnode("load", written(tmp_path / "rows.ndjson", [PREFIX, row(1), b"{\n"]), "--data", tmp_path / "data")
    assert run.returncode == 3
    text = run.stdout.decode()
    assert "3 lines" in text
    for line in ("registered 2", "rejected 1", "ROW_MALFORMED 1"):
        assert line in " ".join(text.split())
    assert "\x1b" not in text
    assert run.stderr == b""


def test_a_progress_bar_with_the_rate_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with started("load", many(tmp_path / "rows.ndjson"), "--data", tmp_path / "data", stderr=theirs) as child:
        os.close(theirs)
        shown = b""
        try:
            while octets := os.read(ours, 65_536):
                shown += octets
        except OSError:
            pass  # how the end of a terminal reads
        assert child.wait(60) == 0
    os.close(ours)
    assert b"loading" in shown
    assert b"rows/s" in shown


def test_csv(tmp_path: Path) -> None:
    data = tmp_path / "data"
    told(topnode("load", written(tmp_path / "prefix.ndjson", [PREFIX]), "--data", data, "--json"))
    file = tmp_path / "ROWS.CSV"
    file.write_bytes(
        b'\xef\xbb\xbfidentifier,URL,7:NAME\r\n88.1/a,http://x,"one\r\ntwo, three"\r\n88.1/b,,\r\n88.1/c,only\r\n'
    )
    summary = told(topnode("load", file, "--data", data, "--json", "--rejects", tmp_path / "rejects"), 3)
    assert (summary["lines"], summary["registered"], summary["rejected"]) == (5, 2, 1)
    assert summary["bytes"] == file.stat().st_size
    values = held(data)["88.1/a"].values
    assert [(value.index, value.type, value.data) for value in values] == [
        (1, "URL", b"http://x"),
        (7, "NAME", b"one\r\ntwo, three"),
    ]
    (reject,) = map(json.loads, (tmp_path / "rejects").read_text().splitlines())
    assert (reject["line"], reject["row"]) == (5, "88.1/c,only\r\n")


def test_a_csv_of_many_parts(tmp_path: Path) -> None:
    data, file = tmp_path / "data", tmp_path / "rows.csv"
    told(topnode("load", written(tmp_path / "prefix.ndjson", [PREFIX]), "--data", data, "--json"))
    lines = [f'88.1/{number},"{"." * 100}\n{number}"\n' for number in range(COUNT)]
    file.write_text("identifier,T\n" + "".join(lines))
    summary = told(topnode("load", file, "--data", data, "--json"))
    assert (summary["registered"], summary["lines"]) == (COUNT, 2 * COUNT + 1)
    assert len(held(data)) == COUNT


@pytest.mark.parametrize(
    ("header", "said"), [("URL,NAME\n", "identifier"), ("identifier,URL,URL\n", "twice"), ("", "header")]
)
def test_a_csv_with_an_unusable_header(tmp_path: Path, header: str, said: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(header + "88.1/a,b\n" * bool(header))
    run = topnode("load", file, "--data", tmp_path / "data")
    assert run.returncode == 1
    assert b"ROW_MALFORMED" in run.stderr
    assert said in run.stderr.decode()


def test_refused_rows_are_left_in_a_file(tmp_path: Path) -> None:
    """With line, reason, field, and the row itself, which can be mended and loaded."""
    rejects, data = tmp_path / "rejects.ndjson", tmp_path / "data"
    rows = [
        PREFIX,
        row(1),
        {"identifier": "88.2/a", "values": []},
        b"\xff\n",
        b"\n",
        {**row(2), "what": 1},
        row(1, "y"),
    ]
    summary = told(
        topnode("load", written(tmp_path / "rows", rows), "--data", data, "--rejects", rejects, "--json"), 3
    )
    assert (summary["registered"], summary["rejected"]) == (2, 4)
    assert summary["reasons"] == {"ROW_MALFORMED": 2, "PREFIX_NOT_ALLOCATED": 1, "IDENTIFIER_EXISTS": 1}
    left = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(each["line"], each["reason"], each["field"]) for each in left] == [
        (3, "PREFIX_NOT_ALLOCATED", "identifier"),
        (4, "ROW_MALFORMED", ""),
        (6, "ROW_MALFORMED", "what"),
        (7, "IDENTIFIER_EXISTS", "identifier"),
    ]
    assert left[1]["row"] == "\\xff"
    assert all(each["detail"] for each in left)
    mended = written(tmp_path / "mended", [left[3]["row"].encode() + b"\n"])
    summary = told(topnode("load", mended, "--data", data, "--overwrite", "--json"))
    assert summary["replaced"] == 1
    assert held(data)["88.1/SN-000001"].values[0].data.startswith(b"y")


def test_from_standard_input(tmp_path: Path) -> None:
    file = many(tmp_path / "rows.ndjson", 200)
    summary = told(topnode("load", "-", "--data", tmp_path / "one", "--json", input=file.read_bytes()))
    assert summary["registered"] == 201
    with file.open("rb") as stream:
        summary = told(topnode("load", "-", "--data", tmp_path / "other", "--json", stdin=stream))
    assert summary["registered"] == 201
    summary = told(
        topnode("load", "-", "--format", "csv", "--data", tmp_path / "one", "--json", input=b"identifier\n")
    )
    assert summary["lines"] == 0


# --- interruptions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_a_load_that_is_killed_goes_on_where_it_was(tmp_path: Path, whole: dict[str, Record], commits: int) -> None:
    """Nothing is lost and nothing is double: the store is the one that an uninterrupted load leaves."""
    file, data = many(tmp_path / "rows.ndjson"), tmp_path / "data"
    with started("load", file, "--data", data) as child:
        wait_until(lambda: head(data) >= commits)
        child.kill()
        assert child.wait(30) == -signal.SIGKILL
    at_least = len(held(data))
    assert 0 < at_least < COUNT
    summary = told(topnode("load", file, "--data", data, "--json"))
    assert summary["lines"] == COUNT + 1
    assert 0 < summary["resumed_at_line"] <= at_least + 1
    assert summary["registered"] + summary["unchanged"] == COUNT + 1
    assert held(data) == whole
    again = told(topnode("load", file, "--data", data, "--json"))
    assert (again["resumed_at_line"], again["unchanged"]) == (0, COUNT + 1)


def test_rejects_of_a_killed_load_stay_in_the_file(tmp_path: Path) -> None:
    rows = [PREFIX, *(each for number in range(COUNT) for each in (row(number), {**row(number), "registrant": "\n"}))]
    file, data, rejects = written(tmp_path / "rows.ndjson", rows), tmp_path / "data", tmp_path / "rejects"
    with started("load", file, "--data", data, "--rejects", rejects) as child:
        wait_until(lambda: rejects.exists() and rejects.stat().st_size > 0)
        child.kill()
        child.wait(30)
    run = topnode("load", file, "--data", data, "--rejects", rejects, "--json")
    summary = told(run, 3)
    assert summary["resumed_at_line"] > 0
    assert summary["rejected"] == COUNT
    left = [json.loads(line)["line"] for line in rejects.read_text().splitlines()]
    # Those of the part that was durable, and not told any more, may be missing: then it is said.
    assert len(left) == COUNT or b"not in the file" in run.stderr
    assert left == sorted(set(left))
    told(topnode("load", file, "--data", data, "--rejects", rejects, "--json"), 3)
    assert len(rejects.read_text().splitlines()) == COUNT


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, whole: dict[str, Record]) -> None:
    file, data = many(tmp_path / "rows.ndjson"), tmp_path / "data"
    with started("load", file, "--data", data) as child:
        wait_until(lambda: head(data) >= 2)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert b"The same command goes on" in errors
    assert b"Traceback" not in errors
    assert told(topnode("load", file, "--data", data, "--json"))["resumed_at_line"] > 0
    assert held(data) == whole


def test_ctrl_c_while_standard_input_is_silent(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with started("load", "-", "--data", data) as child:
        wait_until(lambda: current_owner(data) is not None)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130


def test_restart_begins_at_the_first_row(tmp_path: Path) -> None:
    file, data = many(tmp_path / "rows.ndjson"), tmp_path / "data"
    with started("load", file, "--data", data) as child:
        wait_until(lambda: head(data) >= 2)
        child.kill()
    summary = told(topnode("load", file, "--data", data, "--restart", "--json"))
    assert summary["resumed_at_line"] == 0
    assert summary["unchanged"] > 0


def test_standard_input_goes_on_under_its_name(tmp_path: Path, whole: dict[str, Record]) -> None:
    octets, data = many(tmp_path / "rows.ndjson").read_bytes(), tmp_path / "data"
    load = ("load", "-", "--name", "nightly", "--data", data)
    with started(*load) as child:
        assert child.stdin
        child.stdin.write(octets[: len(octets) * 4 // 5])
        child.stdin.flush()
        # All whole chunks of that: it cannot end before its input does.
        wait_until(lambda: head(data) >= 4)
        child.kill()
    summary = told(topnode(*load, "--json", input=octets))
    assert COUNT // 2 < summary["resumed_at_line"] < COUNT
    assert held(data) == whole


def test_another_input_under_a_used_name_is_told(tmp_path: Path) -> None:
    octets, data = many(tmp_path / "rows.ndjson").read_bytes(), tmp_path / "data"
    load = ("load", "-", "--name", "nightly", "--data", data)
    with started(*load) as child:
        assert child.stdin
        child.stdin.write(octets[: len(octets) * 4 // 5])
        child.stdin.flush()
        # All whole chunks of that: it cannot end before its input does.
        wait_until(lambda: head(data) >= 4)
        child.kill()
    run = topnode(*load, input=octets[:1_000])
    assert run.returncode == 1
    assert b"LOAD_OUT_OF_STEP" in run.stderr


def test_a_truncated_file(tmp_path: Path, whole: dict[str, Record]) -> None:
    """All whole rows are in; the cut one is told; the complete file brings the rest."""
    complete, data, rejects = many(tmp_path / "rows.ndjson"), tmp_path / "data", tmp_path / "rejects"
    octets = complete.read_bytes()
    cut = tmp_path / "cut.ndjson"
    cut.write_bytes(octets[: len(octets) // 2])
    lines = octets[: len(octets) // 2].count(b"\n")
    summary = told(topnode("load", cut, "--data", data, "--rejects", rejects, "--json"), 3)
    assert (summary["registered"], summary["reasons"]) == (lines, {"ROW_TRUNCATED": 1})
    reject = json.loads(rejects.read_text())
    assert (reject["line"], reject["reason"]) == (lines + 1, "ROW_TRUNCATED")
    summary = told(topnode("load", complete, "--data", data, "--json"))
    assert (summary["unchanged"], summary["registered"]) == (lines, COUNT + 1 - lines)
    assert held(data) == whole


# --- who signs -----------------------------------------------------------------------------------------------------


def test_an_operator_from_the_settings_signs(tmp_path: Path, top_node: TopNode) -> None:
    """By name and key; with another name, or a key that nobody knows, nothing is taken."""
    key, stranger = PrivateKey.generate(), PrivateKey.generate()
    key.to_file(tmp_path / "wang.key")
    stranger.to_file(tmp_path / "stranger.key")
    (tmp_path / "wang.pem").write_text(key.public.to_pem())
    config = tmp_path / "node.toml"
    config.write_text(f"node = '88 top'\n[[registry.operators]]\nname = 'wang'\nkey = '{tmp_path}/wang.pem'\n")
    node = top_node("--config", str(config))
    load = ("load", many(tmp_path / "rows", 10), "--data", node.data, "--json")
    for arguments, reason in (
        (("--key", tmp_path / "stranger.key"), b"KEY_UNKNOWN"),
        (("--key", tmp_path / "wang.key"), b"ACTOR_MISMATCH"),
        (("--actor", "wang"), b"ACTOR_MISMATCH"),
        (("--key", tmp_path / "nowhere"), b"FILE_UNREADABLE"),
        (("--key", tmp_path / "wang.pem"), b"FILE_UNREADABLE"),
    ):
        run = topnode(*load, *arguments)
        assert (run.returncode, reason in run.stderr) == (1, True), run.stderr
        assert head(node.data) == 0
    assert told(topnode(*load, "--actor", "wang", "--key", tmp_path / "wang.key"))["registered"] == 11


def test_without_a_node_the_key_beside_the_store_signs(tmp_path: Path) -> None:
    """It is made with the store, for its owner only; another one is refused there too."""
    file, data = many(tmp_path / "rows", 10), tmp_path / "data"
    told(topnode("load", file, "--data", data, "--json"))
    assert (data / "operator.pem").stat().st_mode & 0o077 == 0
    PrivateKey.generate().to_file(tmp_path / "stranger.key")
    run = topnode("load", file, "--data", data, "--key", tmp_path / "stranger.key")
    assert run.returncode == 1
    assert b"KEY_UNKNOWN" in run.stderr
    assert head(data) == 1


# --- what stands in the way ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [7_000_000, 8 << 20])
def test_a_full_disk(tmp_path: Path, whole: dict[str, Record], limit: int) -> None:
    file, data = many(tmp_path / "rows.ndjson"), tmp_path / "data"
    run = topnode(
        "load", file, "--data", data, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    assert run.returncode == 1
    assert b"STORE_FULL" in run.stderr
    assert b"Traceback" not in run.stderr
    assert 0 < len(held(data)) < COUNT
    summary = told(topnode("load", file, "--data", data, "--json"))
    assert summary["resumed_at_line"] > 0
    assert held(data) == whole


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    file, data = many(tmp_path / "rows.ndjson", 10), tmp_path / "data"
    with started("load", "-", "--data", data) as first:
        wait_until(lambda: current_owner(data) is not None)
        run = topnode("load", file, "--data", data)
        assert run.returncode == 1
        assert b"STORE_OWNED" in run.stderr
        assert f"topnode load (process {first.pid})" in run.stderr.decode()
        first.communicate(file.read_bytes(), timeout=30)
        assert first.returncode == 0
    assert told(topnode("load", file, "--data", data, "--json"))["unchanged"] == 11


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, whole: dict[str, Record]) -> None:
    """What is in stays in; nothing that was read after the change comes in."""
    file, data = many(tmp_path / "rows.ndjson"), tmp_path / "data"
    with started("load", file, "--data", data) as child:
        wait_until(lambda: current_owner(data) is not None)
        with file.open("ab") as appending:
            appending.write(b"{}\n")
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert b"INPUT_CHANGED" in errors
    assert len(held(data)) < COUNT
    summary = told(topnode("load", file, "--data", data, "--json"), 3)
    assert (summary["lines"], summary["reasons"]) == (COUNT + 2, {"ROW_MALFORMED": 1})
    assert held(data) == whole


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere.ndjson"], 1, "FILE_UNREADABLE"),
        (["."], 1, "FILE_UNREADABLE"),
        ([], 2, "Missing argument"),
        (["rows", "--format", "xml"], 2, "xml"),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    run = topnode("load", *arguments, "--data", tmp_path / "data")
    assert run.returncode == code
    assert said in run.stderr.decode()


def test_a_rejects_file_that_cannot_be_written(tmp_path: Path) -> None:
    file = many(tmp_path / "rows.ndjson", 10)
    run = topnode("load", file, "--data", tmp_path / "data", "--rejects", tmp_path / "no" / "rejects")
    assert run.returncode == 1
    assert b"--rejects" in run.stderr


def test_a_store_in_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    run = topnode("load", many(tmp_path / "rows.ndjson", 10), "--data", tmp_path / "data")
    assert run.returncode == 1
    assert b"Traceback" not in run.stderr


# --- through a node ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_through_the_node_that_owns_the_store(
    tmp_path: Path, top_node: TopNode, whole: dict[str, Record], workers: int
) -> None:
    node = top_node(workers=workers)
    file, rejects = written(tmp_path / "rows.ndjson", [PREFIX, *map(row, range(COUNT)), b"{\n"]), tmp_path / "rejects"
    summary = told(topnode("load", file, "--data", node.data, "--rejects", rejects, "--json"), 3)
    assert (summary["registered"], summary["rejected"]) == (COUNT + 1, 1)
    assert json.loads(rejects.read_text())["line"] == COUNT + 2
    assert held(node.data) == whole
    answer = node.resolve("88.1/sn-000007")
    assert answer.record.identifier == "88.1/SN-000007"
    again = told(topnode("load", file, "--data", node.data, "--json"), 3)
    assert again["unchanged"] == COUNT + 1


def test_a_part_with_nothing_but_refused_rows(tmp_path: Path, top_node: TopNode) -> None:
    """The answer to it is longer than what gRPC takes by default."""
    node = top_node()
    taken = {"prefix": "99." + "9" * 600, "holder": "99"}
    told(topnode("load", written(tmp_path / "taken", [taken]), "--data", node.data, "--json"))
    # Each refusal names the prefix, so that those of one chunk come to some 6 MiB.
    rows = [{**taken, "holder": "98"}] * BOUNDS.lines
    summary = told(topnode("load", written(tmp_path / "rows", rows), "--data", node.data, "--json"), 3)
    assert (summary["rejected"], summary["reasons"]) == (BOUNDS.lines, {"PREFIX_EXISTS": BOUNDS.lines})


def test_a_load_through_a_node_that_is_killed_goes_on(
    tmp_path: Path, top_node: TopNode, whole: dict[str, Record]
) -> None:
    node = top_node()
    file = many(tmp_path / "rows.ndjson")
    with started("load", file, "--data", node.data) as child:
        wait_until(lambda: head(node.data) >= 2)
        os.kill(node.pids()["owner"], signal.SIGKILL)
        _, errors = child.communicate(timeout=60)
    assert child.returncode in (0, 1), errors
    wait_until(lambda: node.get("/readyz")[0] == 200)
    summary = told(topnode("load", file, "--data", node.data, "--json"))
    assert summary["registered"] + summary["unchanged"] == COUNT + 1
    assert held(node.data) == whole
