"""`topnode resolve`, `list`, `backup` and `restore` as their user meets them, over a node that runs."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resolver.v1 import resolver_pb2
from tests.certificates import Authority
from tests.journeys.conftest import TopNode
from tests.running_node import RunningNode, wait_until
from tests.topnode import asked as asked_at
from tests.topnode import told, topnode

DELEGATED = {
    "prefix": "88.7",
    "holder": "88.7",
    "hosting": "delegated",
    "endpoints": [{"protocol": "grpc", "address": "192.0.2.7", "port": 3641}],
}
ROWS: list[dict[str, Any]] = [
    {"prefix": "88.1", "holder": "maker"},
    {"prefix": "88.1.2", "holder": "maker"},
    {"prefix": "88.9", "holder": "maker", "state": "disabled"},
    DELEGATED,
    {
        "identifier": "88.1/SN-1",
        "values": [
            {"index": 1, "type": "URL", "data": "https://example.com/[red]x", "ttl": 60},
            {"index": 2, "type": "NAME", "data": "光模块", "references": [{"handle": "88.1/SN-2", "index": 1}]},
            {"index": 3, "type": "RAW", "data_base64": "/wAb"},
            {"index": 4, "type": "SECRET", "data": "for us only", "permissions": "1100"},
        ],
    },
    {"identifier": "88.1/SN-2", "values": []},
    {"identifier": "88.1.2/SN-3", "values": [{"index": 1, "type": "T", "data": "\u001b[31mred"}]},
    {"identifier": "88.7/copy", "values": [{"index": 1, "type": "T", "data": "x"}]},
]
MANY = [{"identifier": f"88.1.2/many-{number:05}", "values": []} for number in range(6_000)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    """A node with a few registrations and many."""
    folder = tmp_path_factory.mktemp("node")
    running = RunningNode(folder / "data", folder / "log", ["--workers", "1"], {})
    try:
        running.wait_ready()
        file = folder / "rows.ndjson"
        file.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, *MANY]))
        told(topnode("load", file, "--data", running.data, "--json"))
        wait_until(lambda: topnode("resolve", "88.9/x", "--node", running.address).returncode == 1)
        wait_until(lambda: running.resolve("88.1.2/many-05999").outcome == resolver_pb2.OUTCOME_FOUND)
        yield running
    finally:
        running.stop()


def asked(node: RunningNode, *arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return asked_at(node.fronts, "resolve", "--timeout", "20s", *arguments, **options)


def documents(run: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.stdout.splitlines()]


def words(run: subprocess.CompletedProcess[bytes]) -> str:
    """What a run printed, with single spaces."""
    return " ".join(run.stdout.decode().split())


# --- resolve -------------------------------------------------------------------------------------------------------


def test_one_identifier_for_people(node: RunningNode) -> None:
    run = asked(node, "88.1/sn-1")
    assert run.returncode == 0
    text = words(run)
    for part in (
        "88.1/SN-1 found · authoritative",
        "under 88.1",
        "by maker",
        "1 URL https://example.com/[red]x 60 s",
        "2 NAME 光模块 86,400 s",
        "-> 88.1/SN-2 [1]",
        "3 RAW 0xff001b",
    ):
        assert part in text
    assert "for us only" not in text
    assert "\x1b" not in text


def test_one_identifier_for_programs(node: RunningNode) -> None:
    (told_of,) = documents(asked(node, "88.1/sn-1", "--json"))
    assert (told_of["identifier"], told_of["outcome"], told_of["standing"]) == ("88.1/sn-1", "found", "authoritative")
    record = told_of["record"]
    assert (record["identifier"], record["registrant"]) == ("88.1/SN-1", "maker")
    assert [(value["index"], value["type"]) for value in record["values"]] == [(1, "URL"), (2, "NAME"), (3, "RAW")]
    assert record["values"][2]["data_base64"] == "/wAb"


@pytest.mark.parametrize(
    ("arguments", "indexes"),
    [
        (["--type", "url"], [1]),
        (["--index", 2, "--index", 4], [2]),
        (["--type", "RAW", "--index", 1], [1, 3]),
        (["--type", "NONE"], []),
        (["--authoritative"], [1, 2, 3]),
    ],
)
def test_only_what_is_wanted(node: RunningNode, arguments: list[object], indexes: list[int]) -> None:
    (told_of,) = documents(asked(node, "88.1/SN-1", "--json", *arguments))
    assert [value["index"] for value in told_of["record"]["values"]] == indexes


@pytest.mark.parametrize(
    ("identifiers", "code", "outcomes"),
    [
        (["88.1/SN-1", "88.1/SN-2"], 0, ["found", "found"]),
        (["88.1/SN-1", "88.1/none"], 4, ["found", "absent"]),
        (["88.7/none"], 4, ["not_here"]),
        (["88.7/copy"], 0, ["found"]),
        (["88.1/SN-1", "88.9/x", "88.1/none"], 1, ["found", "error", "absent"]),
        (["99/x"], 4, ["not_here"]),
        (["no-slash", "88.1/SN-1"], 1, ["error", "found"]),
        ([b"88.1/\xff", "88.1/SN-1"], 1, ["error", "found"]),
    ],
)
def test_the_exit_code_tells_the_worst(
    node: RunningNode, identifiers: list[Any], code: int, outcomes: list[str]
) -> None:
    arguments = [each.decode(errors="surrogateescape") if isinstance(each, bytes) else each for each in identifiers]
    run = topnode("resolve", *arguments, "--json", "--node", node.address)
    assert run.returncode == code
    assert [document["outcome"] for document in documents(run)] == outcomes
    # At the other front, since a run takes a while.
    plain = topnode("resolve", *arguments, "--node", node.started.streaming)
    assert plain.returncode == code
    assert Counter(re.findall(r"found|absent|error|not here", words(plain))) == Counter(
        outcome.replace("_", " ") for outcome in outcomes
    )
    assert b"Traceback" not in plain.stderr


def test_many_identifiers_are_a_table(node: RunningNode) -> None:
    run = asked(node, "88.1/sn-1", "88.1/none", "88.9/x", "88.1.2/SN-3")
    assert run.returncode == 1
    lines = [" ".join(line.split()) for line in run.stdout.decode().splitlines() if line.strip()]
    assert lines[0] == "identifier outcome standing values first value"
    assert lines[2:] == [
        "88.1/SN-1 found authoritative 3 URL https://example.com/[red]x",
        "88.1/none absent authoritative",
        "88.9/x error PREFIX_DISABLED",
        "88.1.2/SN-3 found authoritative 1 T \\x1b[31mred",
    ]


def test_identifiers_from_a_file_and_from_standard_input(node: RunningNode, tmp_path: Path) -> None:
    file = tmp_path / "identifiers"
    file.write_bytes(b"88.1/SN-1\r\n\n88.1/SN-2\n88.1/\xff\n88.1.2/SN-3")
    from_file = documents(asked(node, "-f", file, "--json"))
    assert [each["outcome"] for each in from_file] == ["found", "found", "error", "found"]
    assert from_file[2]["error"]["reason"] == "IDENTIFIER_NOT_UTF8"
    assert documents(asked(node, "-f", "-", "--json", input=file.read_bytes())) == from_file


def test_more_identifiers_than_fit_into_a_batch(node: RunningNode) -> None:
    asked_for = [str(row["identifier"]) for row in MANY]
    run = asked(node, "-f", "-", "--json", input="\n".join(asked_for).encode())
    assert run.returncode == 0
    assert [document["record"]["identifier"] for document in documents(run)] == asked_for


def test_a_referral(node: RunningNode) -> None:
    run = asked(node, "88.7/copy", "--mode", "referral")
    assert run.returncode == 0
    assert "referral" in words(run)
    assert "ask 88.7, to whom 88.7 is delegated" in words(run)
    assert "grpc 192.0.2.7 3641" in words(run)
    assert "authoritative" not in words(run)
    (document,) = documents(asked(node, "88.7/copy", "--mode", "referral", "--with-copy", "--json"))
    assert document["outcome"] == "referral"
    assert document["referral"]["endpoints"][0]["address"] == "192.0.2.7"
    assert document["record"]["identifier"] == "88.7/copy"


@pytest.mark.parametrize("front", [0, 1], ids=["native", "grpcio"])
def test_the_way_of_an_answer(node: RunningNode, front: int) -> None:
    """With times, so that no two are the same."""
    at = ("--node", node.fronts[front])
    run = topnode("resolve", *at, "88.1/SN-1", "--trace", "--authoritative")
    assert run.returncode == 0
    assert "88.1/SN-1 found" in words(run)
    assert "node tier said took at" in words(run)
    assert "top store" in words(run)
    assert "here call answered" in words(run)
    first, second = documents(topnode("resolve", *at, "88.1/SN-1", "88.1/none", "--trace", "--json"))
    assert first["outcome"] == "found"
    assert second["outcome"] == "absent"
    assert {step["node"] for step in first["trace"]} == {"top"}
    times = [step["microseconds"] for step in first["trace"]]
    assert times == sorted(times)
    assert times[-1] / 1e6 <= first["seconds"]


def test_a_node_that_is_not_there() -> None:
    for arguments in (["88.1/a"], ["88.1/a", "88.1/b"], ["88.1/a", "--trace"]):
        run = topnode("resolve", "--node", "127.0.0.1:1", *arguments)
        assert run.returncode == 1
        assert "NODE_UNREACHABLE" in run.stderr.decode() + run.stdout.decode()


@pytest.mark.parametrize(
    "arguments",
    [[], ["a/b", "--mode", "sideways"], ["a/b", "--index", "0"], ["a/b", "--timeout", "soon"], ["-f", "/nowhere"]],
)
def test_what_is_no_question(arguments: list[str]) -> None:
    run = topnode("resolve", *arguments)
    assert run.returncode == 2
    assert b"Traceback" not in run.stderr


def test_only_with_the_right_certificates(tmp_path: Path, top_node: TopNode) -> None:
    authority = Authority(tmp_path)
    server = authority.issue("server", alternatives=("localhost", "node.example"))
    client = authority.issue("client")
    running = top_node(
        TOPNODE_SERVING__TLS__CERTIFICATE=server.certificate,
        TOPNODE_SERVING__TLS__KEY=server.key,
        TOPNODE_SERVING__TLS__CLIENT_CA=authority.path,
    )
    ours = [
        "--ca",
        authority.path,
        "--cert",
        client.certificate,
        "--cert-key",
        client.key,
        "--tls-name",
        "node.example",
    ]
    run = asked(running, "99/x", *ours)
    assert run.returncode == 4
    assert "not here" in words(run)
    native, grpcio = running.fronts
    for front, arguments, reason in (
        (native, ours[:2] + ours[6:], "NODE_UNREACHABLE"),
        (grpcio, ours[:2] + ours[6:], "NODE_UNREACHABLE"),
        (native, [], "NODE_UNREACHABLE"),
        (grpcio, [], "NODE_UNREACHABLE"),
        (native, ["--ca", str(tmp_path / "none.pem")], "FILE_UNREADABLE"),
    ):
        run = topnode("resolve", "--node", front, "99/x", *arguments)
        assert run.returncode == 1
        assert reason in run.stderr.decode()


# --- list ----------------------------------------------------------------------------------------------------------


def listing(node: RunningNode, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    """List as the operator, who may."""
    signed = ("--actor", "local", "--key", node.data / "operator.pem")
    return asked_at(node.fronts, "list", "--timeout", "20s", *signed, *arguments)


def listed(node: RunningNode, *arguments: object) -> list[str]:
    run = listing(node, *arguments)
    assert run.returncode == 0, run.stderr
    return run.stdout.decode().splitlines()


def test_what_is_registered_below_a_prefix(node: RunningNode) -> None:
    assert listed(node, "88.1") == ["88.1/SN-1", "88.1/SN-2"]
    assert listed(node, "88.1.2", "--all", "--page-size", 999) == [
        *(row["identifier"] for row in MANY),
        "88.1.2/SN-3",
    ]
    assert len(listed(node, "88.1", "--derived", "--all")) == len(MANY) + 3
    assert json.loads(listed(node, "88.7", "--json")[0]) == {"identifier": "88.7/copy"}


def test_a_long_list_is_cut_and_that_is_told(node: RunningNode) -> None:
    run = listing(node, "88.1.2")
    assert len(run.stdout.splitlines()) == 100
    assert b"--all" in run.stderr
    assert len(listed(node, "88.1.2", "--limit", 3)) == 3
    exactly = listing(node, "88.1", "--limit", 2)
    assert (len(exactly.stdout.splitlines()), exactly.stderr) == (2, b"")


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        ("99", "PREFIX_NOT_ALLOCATED"),
        ("88.9", "PREFIX_DISABLED"),
        ("88.1/x", "PREFIX_HAS_SLASH"),
        ("88..1", "PREFIX_EMPTY"),
    ],
)
def test_what_cannot_be_listed(node: RunningNode, prefix: str, reason: str) -> None:
    run = listing(node, prefix)
    assert run.returncode == 1
    assert reason in run.stderr.decode()


def test_nobody_lists_without_saying_who_it_is(node: RunningNode) -> None:
    run = asked_at(node.fronts, "list", "88.1")
    assert run.returncode == 1
    assert b"LISTING_NOT_ALLOWED" in run.stderr
    assert topnode("list", "--node", node.address, "88.1", "--actor", "local").returncode == 2


# --- backup and restore --------------------------------------------------------------------------------------------


def test_a_backup_of_a_running_node_becomes_another_node(
    node: RunningNode, tmp_path: Path, top_node: TopNode
) -> None:
    copy, data = tmp_path / "copy", tmp_path / "restored"
    manifest = told(topnode("backup", copy, "--data", node.data, "--json"))
    assert (manifest["identifiers"], manifest["prefixes"]) == (len(MANY) + 4, 4)
    assert told(topnode("restore", copy, "--data", data, "--json")) == manifest
    other = top_node(data=data)
    for identifier in ("88.1/SN-1", "88.1.2/many-00042"):
        assert other.resolve(identifier) == node.resolve(identifier)


def test_the_summaries_for_people(node: RunningNode, tmp_path: Path) -> None:
    run = topnode("backup", tmp_path / "copy", "--data", node.data)
    assert run.returncode == 0
    assert f"identifiers (deleted ones too) {len(MANY) + 4:,}" in words(run)
    assert topnode("restore", tmp_path / "copy", "--data", tmp_path / "data").returncode == 0


def test_nothing_is_written_over(node: RunningNode, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    told(topnode("backup", copy, "--data", node.data, "--json"))
    for command in (("backup", copy, "--data", node.data), ("restore", copy, "--data", node.data)):
        run = topnode(*command)
        assert run.returncode == 1
        assert b"STORE_EXISTS" in run.stderr


def test_a_damaged_backup_is_not_restored(node: RunningNode, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    told(topnode("backup", copy, "--data", node.data, "--json"))
    octets = bytearray((copy / "data.mdb").read_bytes())
    octets[len(octets) // 2] ^= 1
    (copy / "data.mdb").write_bytes(octets)
    run = topnode("restore", copy, "--data", tmp_path / "data")
    assert run.returncode == 1
    assert b"BACKUP_DAMAGED" in run.stderr
    assert not (tmp_path / "data" / "data.mdb").exists()


def test_a_backup_of_nothing(tmp_path: Path) -> None:
    run = topnode("backup", tmp_path / "copy", "--data", tmp_path / "none")
    assert run.returncode == 1
    assert b"STORE_MISSING" in run.stderr
