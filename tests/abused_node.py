"""A node that holds what the probes of `tests.abuse` ask for, and a probe that is run against it."""

import asyncio
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from tests import abuse
from tests.abuse import Seen
from tests.running_node import ROOT, RunningNode

LARGE: Final = [{"index": number, "type": "TEXT", "data": "x" * 64 * 1024} for number in (1, 2, 3)]
ROWS: Final = (
    {"prefix": "88.111", "holder": "88.111"},
    {"identifier": abuse.SMALL.decode(), "values": [{"index": 1, "type": "URL", "data": "https://x/1"}]},
    {"identifier": abuse.LARGE.decode(), "values": LARGE},
)


@contextmanager
def abused_node(folder: Path, environment: Mapping[str, str]) -> Iterator[RunningNode]:
    """Run one whose resolver is its one process, with as many files as there may be."""
    with _many_files():
        node = RunningNode(folder / "data", folder / "log", ["--workers", "0"], environment)
    try:
        node.wait_ready()
        asyncio.run(node.load(*ROWS))
        yield node
    finally:
        node.stop()


def run_probe(name: str, address: str) -> Seen:
    """Run a probe in a process of its own, to its end."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.abuse", name, address], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    return msgspec.json.decode(ran.stdout, type=Seen)


@contextmanager
def _many_files() -> Iterator[None]:
    """Let what is started meanwhile have as many files as this process may have at most, as a service has."""
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
