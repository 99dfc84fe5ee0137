"""Fixtures for journeys: nodes as real processes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.running_node import RunningNode

TopNode = Callable[..., RunningNode]


@pytest.fixture
def top_node(tmp_path: Path) -> Iterator[TopNode]:
    """A factory of nodes, each `topnode serve TIER` on free ports of the loopback; all are stopped at the end.

    `top_node(*arguments, workers=1, data=..., ready=True, tier="top", **environment)`: further arguments are options
    of the command, further keywords go into the environment. Without `ready` it is not waited for.
    """
    running: list[RunningNode] = []

    def start(
        *arguments: str,
        workers: int = 1,
        data: Path | None = None,
        ready: bool = True,
        tier: str = "top",
        **environment: str,
    ) -> RunningNode:
        node = RunningNode(
            data or tmp_path / "data",
            tmp_path / f"node-{len(running)}.log",
            ["--workers", str(workers), *arguments],
            environment,
            tier=tier,
        )
        running.append(node)
        return node.wait_ready() if ready else node

    yield start
    for node in reversed(running):
        node.stop()
