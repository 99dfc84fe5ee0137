"""The demo, as somebody runs it who has just cloned the project; with fewer registrations than it has by itself."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import lmdb
import pytest

from nodes.demo.corpus import Corpus
from nodes.demo.place import Place
from nodes.demo.shelf import Shelf
from resolver.clock import SetClock
from resolver.handle import Handle

REGISTRATIONS = 5_000
SECONDS = 100


class Demo:
    """Runs the command with folders of its own, so that everything it leaves behind is seen."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "demo"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.environment = {**os.environ, "TMPDIR": str(self.temporary)}

    def command(self, *options: str) -> list[str]:
        size = ["--registrations", str(REGISTRATIONS), "--no-packages", "--data", str(self.data)]
        return [sys.executable, "-m", "nodes", "demo", *size, *options]

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        command = self.command(*options)
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=SECONDS
        )

    def left(self) -> list[str]:
        """Give what lies in its folders, but for what is kept on purpose."""
        return [
            each.name for folder in (self.data, self.temporary) for each in folder.glob("*") if each.name != "kept"
        ]


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


def _report(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.returncode == 0, ended.stderr
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


def _check(report: dict[str, Any]) -> None:
    assert (report["wrong"], report["differences"]) == (0, [])
    assert report["right"] > REGISTRATIONS
    assert [each["batch"] for each in report["asked"]] == [1, 10, 100, 1_000]
    assert len(report["joined"]) == 5
    assert all(each["registrations"] and each["known_after"] for each in report["joined"])
    assert {each["name"] for each in report["node"]["processes"]} == {"supervisor", "owner", "worker-0", "worker-1"}


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_it_shows_a_node_and_leaves_nothing_and_is_quicker_the_second_time(demo: Demo) -> None:
    """Twice, and then it is cleaned away."""
    first = _report(demo.run("--json"))
    _check(first)
    assert first["loaded"]["rows"] == REGISTRATIONS
    second = _report(demo.run("--json"))
    _check(second)
    assert second["loaded"] is None
    pids = [each["pid"] for report in (first, second) for each in report["node"]["processes"]]
    assert not any(map(_is_running, pids))
    assert demo.left() == []
    assert demo.run("--clean").returncode == 0
    assert not demo.data.exists()


def test_it_tells_its_story_in_plain_lines_when_piped(demo: Demo) -> None:
    ended = demo.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "\x1b" not in ended.stdout
    for said in ("88.101.0042", "光电子行业节点", "Asked", "Joined while it ran", "answers wrong", "stopped"):
        assert said in ended.stdout


def test_a_wrong_answer_makes_it_fail(demo: Demo) -> None:
    """The kept store is one in which a single value is another than the corpus says."""
    _report(demo.run("--json"))
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
    with subprocess.Popen(demo.command(), env=demo.environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        told = next(found for line in running.stdout if (found := re.search(r" pid (\d+)", line)))
        running.send_signal(number)
        running.communicate(timeout=SECONDS)
    assert running.returncode == 130
    assert not _is_running(int(told[1]))
    assert demo.left() == []


def test_a_kept_store_can_be_served(demo: Demo) -> None:
    ended = demo.run("--keep")
    assert ended.returncode == 0, ended.stderr
    said = re.search(r"topnode serve top --data (\S+)", ended.stdout)
    assert said
    assert (Path(said[1]) / "data.mdb").exists()


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
