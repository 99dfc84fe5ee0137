"""Counts of real processes: exact after orderly stops, nothing twice after crashes, and marked where some is lost."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from nodes.client import PrivateKey, RegistryClient, Row, Signer
from nodes.client.counting import Counted, CountsClient, Sent
from nodes.client.registering import RegistryClientSettings
from nodes.counting.keeping import SILENT_SECONDS
from registry.keyring import OPERATOR_FILE
from registry.rows import PrefixRow
from resolver.counting import NOTHING, Figures, day_ends, day_of
from resolver.errors import Fault
from resolver.trust.actors import NodeState
from tests.journeys.conftest import TopNode
from tests.running_node import RunningNode, wait_until
from tests.services.ports import free_ports
from tests.topnode import topnode

CHILD: Final = "88.111"
TOTAL: Final = "total"

LONGEST: Final = 45
"""Seconds that a test here takes, at most."""


def signer(node: RunningNode) -> Signer:
    return Signer("local", PrivateKey.from_file(node.data / OPERATOR_FILE))


def rows_of(node: RunningNode, day: str = "") -> tuple[list[Counted], list[str]]:
    """Ask a node, as its operator, for what it has counted and whose counts are not all."""

    async def ask() -> tuple[list[Counted], list[str]]:
        rows: list[Counted] = []
        partial: list[str] = []
        async with CountsClient(node.started.registry, signer(node), RegistryClientSettings()) as client:
            async for page in client.pages(day):
                rows += page.rows
                partial += page.partial
        return rows, partial

    return asyncio.run(ask())


def counted(node: RunningNode, by: str = "", day: str = "") -> Figures:
    """Sum what one node (empty: this one itself) has counted at and below 88.111."""
    return sum((row.figures for row in rows_of(node, day)[0] if row.node == by), NOTHING)


def sent(node: RunningNode) -> Sent:
    async def send() -> Sent:
        async with CountsClient(node.started.registry, signer(node), RegistryClientSettings()) as client:
            return await client.send()

    return asyncio.run(send())


@pytest.fixture(autouse=True)
def within_a_day() -> None:
    """Begin no test that midnight would overtake: what is asked for here is the counts of one day."""
    left = day_ends(day_of(time.time())) - time.time()
    if left < LONGEST:
        time.sleep(left + 1)


def registered(node: RunningNode, *names: str, prefix: str = CHILD) -> None:
    """Register at a node, as its operator."""

    async def register() -> None:
        async with RegistryClient(node.started.registry, signer(node)) as client:
            await client.register([Row(identifier=f"{prefix}/{name}", values=[]) for name in names])

    asyncio.run(register())


def allocated(node: RunningNode, holder: str) -> None:
    """Have a node allocate 88.111."""

    async def allocate() -> None:
        async with RegistryClient(node.started.registry, signer(node)) as client:
            await client.allocate([PrefixRow(prefix=CHILD, holder=holder)])

    asyncio.run(allocate())


def reviewed(top: RunningNode) -> None:
    """Wait until the child has applied, and enable it."""

    async def is_waiting() -> bool:
        async with RegistryClient(top.started.registry) as client:
            try:
                return (await client.node(CHILD)).state is NodeState.APPLIED
            except Fault:
                return False

    async def enable() -> None:
        async with RegistryClient(top.started.registry, signer(top)) as client:
            await client.review(CHILD)

    wait_until(lambda: asyncio.run(is_waiting()), what="the child has applied", log=top.log)
    asyncio.run(enable())


def asked(node: RunningNode, times: int, name: str = "A") -> None:
    """Ask as often for one identifier, over connections that the kernel spreads over the workers."""
    for _ in range(4):
        with node.channel() as channel:
            for _ in range(times // 4):
                node.resolve(f"{CHILD}/{name}", channel)


def comes_to(node: RunningNode, figures: Figures, *, by: str = "", day: str = "") -> None:
    wait_until(
        lambda: counted(node, by, day) == figures, 40, what=f"{counted(node, by, day)} is {figures}", log=node.log
    )


def hosted(top_node: TopNode, **more: Any) -> RunningNode:
    """Start a node that holds 88.111 and an identifier below it."""
    node = top_node(**more)
    allocated(node, node.started.node)
    registered(node, "A")
    wait_until(lambda: node.resolve(f"{CHILD}/A").outcome == 1, what="A is found")
    return node


def settled(node: RunningNode) -> Figures:
    """Wait until what was asked for to see that all is there is counted too."""
    before = None
    while (figures := counted(node)) != before or not figures.registered:
        before = figures
        time.sleep(1.2)
    return figures


@pytest.mark.parametrize("workers", [2, 0])
def test_counts_are_exact_after_orderly_stops(top_node: TopNode, workers: int) -> None:
    node = hosted(top_node, workers=workers)
    before = settled(node)
    asked(node, 40)
    asked(node, 8, "NO")
    # What was counted in the last half second is handed on at the end.
    assert node.stop() == 0
    again = top_node(workers=workers)
    expected = before + Figures(48, 40)
    assert counted(again) == expected
    assert rows_of(again)[1] == []
    assert counted(again, day=TOTAL) == Figures(registered=1)
    asked(again, 4)
    comes_to(again, expected + Figures(4, 4))


def test_the_owner_may_be_killed_and_nothing_is_missing_or_counted_twice(top_node: TopNode) -> None:
    node = hosted(top_node, workers=2)
    before = settled(node)
    asked(node, 20)
    os.kill(node.pids()["owner"], signal.SIGKILL)
    asked(node, 20)
    node.comes_to("serving")
    asked(node, 20)
    expected = before + Figures(60, 60)
    comes_to(node, expected)
    time.sleep(1)
    assert counted(node) == expected
    assert node.stop() == 0
    again = top_node(workers=2)
    assert (counted(again), rows_of(again)[1]) == (expected, [])


def test_after_a_resolver_was_killed_its_last_second_may_be_missing_and_the_day_is_marked(top_node: TopNode) -> None:
    node = hosted(top_node)
    before = settled(node)
    asked(node, 20)
    comes_to(node, before + Figures(20, 20))
    asked(node, 8)
    os.kill(node.pids()["worker-0"], signal.SIGKILL)
    wait_until(lambda: rows_of(node)[1] == [""], SILENT_SECONDS + 30, what="the day is marked", log=node.log)
    missing = before + Figures(28, 28) - counted(node)
    assert 0 <= missing.queries == missing.found <= 8
    assert (
        b"has counted more than it knows of"
        in topnode("counts", "--registry", node.started.registry, "--data", node.data).stderr
    )


def test_a_whole_node_that_is_killed_lacks_its_last_second_though_nobody_took_its_counts(top_node: TopNode) -> None:
    """What was handed on is there at once; what its owner was too slow to take, its resolvers have left in files."""
    node = hosted(top_node, workers=2)
    before = settled(node)
    asked(node, 20)
    comes_to(node, before + Figures(20, 20))
    pids = [node.pid, *node.pids().values()]
    os.kill(node.pids()["owner"], signal.SIGSTOP)
    asked(node, 40)
    time.sleep(1.5)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    node.wait_ended()
    again = top_node(workers=2)
    assert counted(again) == before + Figures(20, 20)
    wait_until(lambda: rows_of(again)[1] == [""], SILENT_SECONDS + 30, what="the day is marked", log=again.log)
    # Each resolver's file goes when all that it held is kept, which is after its day is marked.
    wait_until(lambda: not any((node.data / "counts").iterdir()), what="their files are gone", log=again.log)
    assert counted(again) == before + Figures(60, 60)
    assert counted(again, day=TOTAL) == Figures(registered=1)


class Pair:
    """A top-level node and a secondary one below it, which has joined and holds A."""

    def __init__(self, start: TopNode, folder: Path) -> None:
        self._start = start
        self._port, self._child_port = free_ports(2)
        self.top_data, self.child_data = folder / "top", folder / "child"
        self.top = self.start_top()
        self.child = self.start_child()
        reviewed(self.top)
        allocated(self.top, CHILD)
        allocated(self.child, CHILD)
        registered(self.child, "A")
        wait_until(lambda: self.child.resolve(f"{CHILD}/A").outcome == 1, what="A is found")

    def start_top(self) -> RunningNode:
        self.top = self._start("--registry", f"127.0.0.1:{self._port}", data=self.top_data)
        return self.top

    def start_child(self) -> RunningNode:
        said = {
            "TOPNODE_NODE": CHILD,
            "TOPNODE_UPWARD__REGISTRY": f"127.0.0.1:{self._port}",
            "TOPNODE_UPWARD__ORGANISATION": "武汉示例",
        }
        address = f"127.0.0.1:{self._child_port}"
        self.child = self._start("--listen", address, tier="secondary", data=self.child_data, **said)
        return self.child


def test_what_the_top_node_adds_up_is_what_was_counted_below_across_restarts_and_repeats(
    top_node: TopNode, tmp_path: Path
) -> None:
    pair = Pair(top_node, tmp_path)
    settled(pair.child)
    done = sent(pair.child)
    assert (done.reports, done.refused) == (2, 0)
    assert sent(pair.child) == Sent(0, 0, 0)
    comes_to(pair.top, counted(pair.child), by=CHILD)
    comes_to(pair.top, Figures(registered=1), by=CHILD, day=TOTAL)
    # The top node is away: nothing is lost, and the report that was made is sent again when it is back.
    asked(pair.child, 20)
    first = settled(pair.child)
    assert pair.top.stop() == 0
    with suppress(Fault):
        sent(pair.child)
    for pid in (pair.child.pid, *pair.child.pids().values()):
        os.kill(pid, signal.SIGKILL)
    pair.child.wait_ended()
    pair.start_top()
    pair.start_child()
    registered(pair.child, "B", "C")
    asked(pair.child, 8)
    after = settled(pair.child)
    assert after.queries >= first.queries + 8
    assert sent(pair.child).refused == 0
    comes_to(pair.top, after, by=CHILD)
    comes_to(pair.top, Figures(registered=3), by=CHILD, day=TOTAL)
    assert pair.top.stop() == 0
    assert pair.start_top().process.poll() is None
    assert counted(pair.top, CHILD) == after
