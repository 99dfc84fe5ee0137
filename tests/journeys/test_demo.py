"""The demo, as somebody runs it who has just cloned the project; with fewer registrations than it has by itself."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import lmdb
import pytest

from nodes.demo.corpus import Corpus
from nodes.demo.place import Place
from nodes.demo.shelf import Shelf
from nodes.demo.wuhan import PLANNED_NODES, SECONDARY_NODES
from registry.v1 import registry_pb2 as pb
from resolver.clock import SetClock
from resolver.handle import Handle
from resolver.store.embedded import EmbeddedReader
from resolver.v1 import resolver_pb2
from tests.journeys.conftest import TopNode

REGISTRATIONS = 5_000
SECONDS = 240
PACKAGES_SECONDS = 300

ENTERPRISES = {each.prefix for node in SECONDARY_NODES for each in node.enterprises}
PLANNED = {node.prefix for node in PLANNED_NODES}
NODES = {node.prefix for node in SECONDARY_NODES} | PLANNED | ENTERPRISES

pytestmark = pytest.mark.timeout(2 * SECONDS + 60)


class Demo:
    """Runs the command with folders of its own, so that everything it leaves behind is seen."""

    def __init__(self, folder: Path, *size: str) -> None:
        self.size = size
        self.data = folder / "demo"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.environment = {**os.environ, "TMPDIR": str(self.temporary)}

    def command(self, *options: str) -> list[str]:
        return [sys.executable, "-m", "nodes", "demo", *self.size, "--data", str(self.data), *options]

    def run(self, *options: str, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
        command = self.command(*options)
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=seconds
        )

    def left(self) -> list[str]:
        """Give what lies in its folders, but for what is kept on purpose."""
        return [
            each.name for folder in (self.data, self.temporary) for each in folder.glob("*") if each.name != "kept"
        ]


def _demo(folder: Path) -> Demo:
    return Demo(folder, "--registrations", str(REGISTRATIONS), "--no-packages")


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return _demo(tmp_path)


def _report(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


def _check(report: dict[str, Any]) -> None:
    assert (report["wrong"], report["differences"]) == (0, [])
    assert report["right"] > REGISTRATIONS
    assert [each["batch"] for each in report["asked"]] == [1, 10, 100, 1_000]
    assert len(report["joined"]) == 5
    assert all(each["registrations"] and each["known_after"] and each["own_nodes"] for each in report["joined"])
    names = {each["name"] for each in report["node"]["processes"]}
    assert names == {"supervisor", "owner", "worker-0", "worker-1", "prober"}
    below = {each["name"] for each in report["node"]["below"]}
    assert {each for each in below if not each.startswith("enterprises-")} == {
        node.prefix for node in (*SECONDARY_NODES, *PLANNED_NODES)
    }
    assert report["running"]["secondary_nodes"] == len(SECONDARY_NODES)
    assert report["running"]["enterprise_nodes"] == len(ENTERPRISES) == 25
    assert [each["batch"] for each in report["recursed"]] == [100, 100]
    _check_failed(report["failed"])


def _check_failed(failed: dict[str, Any]) -> None:
    """A node was killed, and callers were told so, then answered in its place, then by itself again."""
    assert failed["node"] in PLANNED
    told = " | ".join(each["told"] for each in failed["events"])
    before, reason, copy, taken, again = "cached", "CHILD_UNREACHABLE", "registered copy", "in its place", "by way of"
    assert re.search(f"{before}.*{reason}.*{copy}.*{taken}.*{again}", told), told
    times = [each["after"] for each in failed["events"]]
    assert times == sorted(times)


def _check_loaded(report: dict[str, Any]) -> None:
    """Each enterprise registered for itself, in signed requests whose receipts came back."""
    assert report["loaded"]["rows"] == REGISTRATIONS
    assert report["loaded"]["receipts"] >= len(ENTERPRISES)


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _still_running(report: dict[str, Any]) -> list[int]:
    pids = [each["pid"] for part in ("processes", "below") for each in report["node"][part]]
    return [pid for pid in pids if _is_running(pid)]


class First(NamedTuple):
    """A demo that was run once, with what it said; what it kept on purpose is there still."""

    demo: Demo
    ended: subprocess.CompletedProcess[str]

    @property
    def report(self) -> dict[str, Any]:
        return _report(self.ended)

    def again(self, folder: Path) -> Demo:
        """Give a demo elsewhere that finds the same backup."""
        demo = _demo(folder)
        shutil.copytree(self.demo.data / "kept", demo.data / "kept")
        return demo


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> First:
    demo = _demo(tmp_path_factory.mktemp("first"))
    return First(demo, demo.run("--keep", "--json"))


def test_it_shows_a_node_with_all_those_below(first: First) -> None:
    _check(first.report)
    _check_loaded(first.report)
    assert not _still_running(first.report)


def test_it_tells_its_story_in_plain_lines_when_piped(first: First) -> None:
    story = first.ended.stderr
    assert "\x1b" not in story
    for said in (
        "88.101.0042",
        "光电子行业节点",
        "Asked",
        "Joined while it ran",
        "is killed",
        "answers wrong",
        "stopped",
    ):
        assert said in story
    # The trace through three tiers: what each of them did, the answer from the lowest one's store.
    steps = (
        r"top +child +0 kept, 1 to be asked",
        r"88\.1210 +child +0 kept, 1 to be asked",
        r"88\.1210\.2 +store +1 held, 0 not held",
        r"88\.1210 +child +88\.1210\.2 grpc 1 answered 0 failed",
        r"top +child +88\.1210 grpc 1 answered 0 failed",
    )
    assert re.search(".*".join(steps), story, re.DOTALL), story


def test_the_second_time_it_finds_its_backup_and_it_leaves_nothing(first: First, tmp_path: Path) -> None:
    demo = first.again(tmp_path)
    report = _report(demo.run("--json"))
    _check(report)
    assert report["loaded"] is None
    assert not _still_running(report)
    assert demo.left() == []
    assert demo.run("--clean").returncode == 0
    assert not demo.data.exists()


def test_a_wrong_answer_makes_it_fail(first: First, tmp_path: Path) -> None:
    """The kept store is one in which a single value is another than the corpus says."""
    demo = first.again(tmp_path)
    _keep_wrong_store(demo)
    ended = demo.run("--json")
    assert ended.returncode == 1, ended.stderr
    report = json.loads(ended.stdout)
    assert report["wrong"] > 0
    assert all("values must be" in each and "httpz://" in each for each in report["differences"])
    assert demo.left() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_running(demo: Demo, number: signal.Signals) -> None:
    """However far it has come: here its node has just been told to listen."""
    with subprocess.Popen(
        demo.command(), env=demo.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        told = next(found for line in running.stdout if (found := re.search(r" pid (\d+)", line)))
        running.send_signal(number)
        _, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 130, errors
    assert not _is_running(int(told[1]))
    assert demo.left() == []


def test_a_kept_store_can_be_served_and_its_journal_names_everybody_who_joined(
    first: First, top_node: TopNode
) -> None:
    """Nothing went past the registry: each node applied with a key of its own, and registered what is its own."""
    said = re.search(r"topnode serve top --data (\S+)", first.ended.stderr)
    assert said
    actors = asyncio.run(_actors(Path(said[1])))
    assert sorted(actors["node-apply.v1"]) == sorted(NODES)
    assert len(NODES) >= 32 + 5
    assert actors["node-review.v1"] == ["local"] * len(NODES)
    # Those who joined later push copies of what the enterprises below them have registered there.
    assert set(actors["identifiers.v1"]) == ENTERPRISES | PLANNED
    assert set(actors["route.v1"]) <= NODES
    assert set(actors["route.v1"]) >= PLANNED
    assert set(actors["node-takeover.v1"]) == {"local"}
    # Reports of what was counted below, which are due once a day and at the end.
    assert set(actors.pop("counts.v1", [])) <= NODES
    kinds = {"node-apply.v1", "node-review.v1", "prefix-allocate.v1", "identifiers.v1"}
    assert set(actors) == kinds | {"route.v1", "node-takeover.v1"}
    for node in PLANNED_NODES:
        below = asyncio.run(_actors(Path(said[1]).parent / "nodes" / node.prefix / "data"))
        enterprises = {each.prefix for each in node.enterprises}
        assert set(below["node-apply.v1"]) == set(below["identifiers.v1"]) == enterprises
    answer = top_node(data=Path(said[1])).resolve(Corpus(REGISTRATIONS).identifier(0))
    assert answer.outcome == resolver_pb2.OUTCOME_FOUND


async def _actors(data: Path) -> dict[str, list[str]]:
    """Who signed the entries of a store's journal, by their kind."""
    actors = defaultdict(list)
    with closing(EmbeddedReader.open(data)) as reader:
        for octets in await reader.statements(0, await reader.head()):
            statement = pb.Statement.FromString(octets)
            actors[statement.kind].append(statement.actor)
    return actors


@pytest.mark.needs("debian-index")
@pytest.mark.timeout(PACKAGES_SECONDS + 50)
def test_the_packages_of_this_machine_are_registered_and_resolved_back(tmp_path: Path) -> None:
    """The demo's last act, which it plays wherever there is a package index."""
    demo = Demo(tmp_path, "--registrations", "1000", "--packages")
    report = _report(demo.run("--json", seconds=PACKAGES_SECONDS))
    assert (report["wrong"], report["differences"]) == (0, [])
    packages = report["packages"]
    assert packages["rows"] > 10_000
    assert packages["receipts"] >= packages["rows"] / 1_000
    assert report["right"] > packages["rows"]
    assert report["registrations"] > 1_000 + packages["rows"]
    assert demo.left() == []


def _keep_wrong_store(demo: Demo) -> None:
    """Change a single value in the store that a demo has kept, behind the back of everything that would notice."""
    corpus, clock = Corpus(REGISTRATIONS), SetClock()
    shelf, data = Shelf(Place(demo.data), REGISTRATIONS, clock), demo.temporary / "wrong"
    assert shelf.take(data)
    first = corpus.registration(0)
    with lmdb.open(str(data), max_dbs=32) as environment:
        records = environment.open_db(b"records", create=False)
        with environment.begin(records, write=True) as transaction:
            key = Handle.from_text(first.identifier).canonical(first.prefix.case)
            body = transaction.get(key)
            assert body
            assert b"https://" in body
            transaction.put(key, body.replace(b"https://", b"httpz://"))
    shutil.rmtree(shelf.path)
    shelf.put(data)
    shutil.rmtree(data)
