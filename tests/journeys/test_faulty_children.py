"""Recursion among real processes: children that lie, lead in rings or too far, are not who they say, or all end."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from nodes.client import Client, Options
from nodes.demo.node import Launched
from resolver.answer import Answer, Outcome, Standing
from resolver.errors import Fault, Reason
from resolver.federation import breaker
from resolver.query import Mode
from tests.certificates import Authority
from tests.fronts import clients
from tests.journeys.conftest import TopNode
from tests.running_node import RunningNode, load, route_row
from tests.services.ports import free_ports

RECURSIVE: Final = Options(mode=Mode.RECURSIVE)
WITH_COPY: Final = Options(mode=Mode.RECURSIVE, with_copy=True)

NAMES: Final = ("top", "88.1", "88.2", "88.3")
HOPS: Final = {"88.3": "2"}
"""How far a node asks, where that is not as far as by itself (4)."""

WAYS: Final = {
    "77.1": ("top", "88.1", "top"),
    "77.2": ("top", "88.1", "88.2", "top"),
    "77.3": ("88.3", "88.2", "88.1"),
    "77.4": ("88.3", "88.2", "88.1", "top"),
}
"""Each node of a way delegates the prefix to the next one; where that is no ring, the last one hosts it."""

TLS_NAME: Final = "child.example.org"
MANY: Final = tuple(f"66.{number}" for number in range(1, 26))
SECONDS: Final = 60.0
"""A bound for a busy machine."""


def record(identifier: str) -> dict[str, Any]:
    return {"identifier": identifier, "values": [{"index": 1, "type": "URL", "data": "https://example.org"}]}


def hosted(prefix: str, *names: str) -> list[dict[str, Any]]:
    """Write the rows of a prefix of one's own, and of what is below it."""
    return [{"prefix": prefix, "holder": prefix}, *(record(f"{prefix}/{name}") for name in names)]


async def ask_at(front: str, *identifiers: str, options: Options = RECURSIVE) -> list[Answer | Fault]:
    async with Client(front) as client:
        return await client.resolve_batch(identifiers, options)


async def ask(node: RunningNode, *identifiers: str, options: Options = RECURSIVE) -> list[Answer | Fault]:
    """Ask both fronts, one after the other, which must say the same."""
    said, also = [await ask_at(front, *identifiers, options=options) for front in node.fronts]
    assert list(map(_content, said)) == list(map(_content, also))
    return said


def _content(said: Answer | Fault) -> tuple[object, ...]:
    """What does not depend on when it was asked."""
    if isinstance(said, Fault):
        return said.reason, said.detail
    return said.outcome, said.standing, said.record, [hop.node for hop in said.hops]


async def answer(node: RunningNode, identifier: str, options: Options = RECURSIVE) -> Answer:
    """Ask for one, which must be answered."""
    (given,) = await ask(node, identifier, options=options)
    assert isinstance(given, Answer), given
    return given


def faults(given: Sequence[Answer | Fault]) -> list[Fault]:
    """Give them as the faults that all of them are."""
    found = [each for each in given if isinstance(each, Fault)]
    assert len(found) == len(given), given
    return found


async def until_found(node: RunningNode, *identifiers: str) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            given = [each for front in node.fronts for each in await ask_at(front, *identifiers)]
            if all(isinstance(each, Answer) and each.record for each in given):
                return
            await asyncio.sleep(0.1)


def calls(node: RunningNode, child: str) -> float:
    return node.sample("topnode_child_calls_total", child=child)


def up_of(node: RunningNode, *children: str) -> list[float]:
    """Which of its children does the node ask?"""
    up = node.samples("topnode_child_up", "child")
    return [up[child] for child in children]


class Four:
    """Four nodes that know ways through each other."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.nodes = {name: self._start(folder, name) for name in NAMES}

    @property
    def top(self) -> RunningNode:
        return self.nodes["top"]

    def wait_ready(self) -> None:
        for node in self.nodes.values():
            node.wait_ready()

    async def tell(self, name: str, *rows: dict[str, Any]) -> None:
        """Register rows with a node, and wait until it answers by them."""
        taken = await self.nodes[name].load(*rows)
        assert not taken.refusals
        async with clients(self.nodes[name].fronts) as fronts, asyncio.timeout(SECONDS):
            for client in fronts:
                while (await client.node_info()).applied_index < taken.index:  # noqa: ASYNC110 - seen from outside
                    await asyncio.sleep(0.02)

    async def know_ways(self) -> None:
        for prefix, way in WAYS.items():
            for here, there in pairwise(way):
                await self.tell(here, route_row(prefix, self.nodes[there].address, holder=there))
            if way[-1] != way[0]:
                await self.tell(way[-1], *hosted(prefix, "A"))

    def stop(self) -> None:
        for node in self.nodes.values():
            node.stop()

    def _start(self, folder: Path, name: str) -> RunningNode:
        settings = {
            "TOPNODE_NODE": name,
            "TOPNODE_FEDERATION__HOPS": HOPS.get(name, "4"),
            "TOPNODE_FEDERATION__DEADLINE": "10s",
            "TOPNODE_FEDERATION__POSITIVE_FOR": "0s",
            "TOPNODE_FEDERATION__TLS__SERVER_CA": self.authority.path,
        }
        tier = "top" if name == "top" else "secondary"
        return RunningNode(folder / name, folder / f"{name}.log", ["--workers", "0"], settings, tier=tier)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Four]:
    made = Four(tmp_path_factory.mktemp("four"))
    try:
        made.wait_ready()
        asyncio.run(made.know_ways())
        yield made
    finally:
        made.stop()


# --- children that lie ---------------------------------------------------------------------------------------------


async def test_a_child_that_answers_for_another_prefix_is_not_believed(four: Four) -> None:
    """It hosts all of 55, and says so: what it says of 55.1 is its own word only where 55.1 is delegated."""
    await four.tell("88.1", *hosted("55"), record("55.1/A"), record("55.1/B"))
    await four.tell("top", route_row("55.1", four.nodes["88.1"].address, holder="88.1"), record("55.1/A"))
    itself = await answer(four.nodes["88.1"], "55.1/A")
    assert (itself.outcome, itself.prefix) == (Outcome.FOUND, "55")
    for fault in faults(await ask(four.top, "55.1/A", "55.1/B")):
        assert fault.reason is Reason.CHILD_ANSWER_REFUSED
        assert fault.variables == {"child": "88.1", "why": "prefix"}
    assert four.top.sample("topnode_child_refused_answers_total", child="88.1", why="prefix") == 4
    copy = await answer(four.top, "55.1/A", WITH_COPY)
    assert (copy.outcome, copy.standing) == (Outcome.FOUND, Standing.REGISTERED_COPY)


# --- rings and chains ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["77.1", "77.2"], ids=["two", "three"])
async def test_a_ring_of_referrals_is_gone_round_once(four: Four, prefix: str) -> None:
    way = WAYS[prefix]
    around = [(four.nodes[here], there) for here, there in pairwise(way)]
    before = [calls(*each) for each in around]
    failed = [node.sample("topnode_federation_failed_total", reason="REFERRAL_LOOP") for node, _ in around]
    began = time.monotonic()
    given = faults(await ask(four.top, f"{prefix}/A", f"{prefix}/B"))
    assert time.monotonic() - began < 5, "nobody waits for a deadline"
    assert [fault.reason for fault in given] == [Reason.REFERRAL_LOOP] * 2
    assert all(" > ".join(way) in fault.detail for fault in given)
    asked = [calls(*each) - count for each, count in zip(around, before, strict=True)]
    assert asked == [*(2 for _ in way[2:]), 0], "once for each front; whoever closes the ring asks nobody"
    for (node, _), count in zip(around, failed, strict=True):
        assert node.sample("topnode_federation_failed_total", reason="REFERRAL_LOOP") == count + 4


async def test_a_chain_is_followed_to_the_limit_and_no_further(four: Four) -> None:
    within, beyond = WAYS["77.3"], WAYS["77.4"]
    at_limit = await answer(four.nodes[within[0]], "77.3/A")
    assert [hop.node for hop in at_limit.hops] == list(reversed(within[1:]))
    (fault,) = faults(await ask(four.nodes[beyond[0]], "77.4/A"))
    assert fault.reason is Reason.HOP_LIMIT
    assert " > ".join(beyond[:-1]) in fault.detail
    one_further_down = await answer(four.nodes[beyond[1]], "77.4/A")
    assert [hop.node for hop in one_further_down.hops] == list(reversed(beyond[2:]))


# --- certificates --------------------------------------------------------------------------------------------------


async def test_of_two_children_the_one_with_an_expired_certificate_is_not_believed(
    four: Four, top_node: TopNode, tmp_path: Path
) -> None:
    good, expired = "44.1", "44.2"
    for name, year in ((good, 2099), (expired, 2021)):
        end = datetime(year, 1, 1, tzinfo=UTC)
        files = four.authority.issue(name, alternatives=(TLS_NAME,), end=end)
        child = top_node(
            data=tmp_path / name,
            tier="secondary",
            workers=0,
            TOPNODE_NODE=name,
            TOPNODE_SERVING__TLS__CERTIFICATE=files.certificate,
            TOPNODE_SERVING__TLS__KEY=files.key,
        )
        await child.load(*hosted(name, "A"))
        await four.tell("top", route_row(name, child.address, tls_name=TLS_NAME))
    await until_found(four.top, f"{good}/A")
    for front in islice(cycle(four.top.fronts), breaker.FAILURES):
        believed, refused = await ask_at(front, f"{good}/A", f"{expired}/A")
        assert isinstance(believed, Answer)
        assert believed.outcome is Outcome.FOUND
        assert isinstance(refused, Fault)
        assert (refused.reason, refused.variables) == (Reason.CHILD_UNREACHABLE, {"child": expired})
        assert "certificate has expired" in refused.detail, "what gRPC says of it"
    assert up_of(four.top, good, expired) == [1, 0]
    (logged,) = [line for line in four.top.log.read_text().splitlines() if child.address in line]
    assert "is left alone" in logged
    assert "certificate has expired" in logged


# --- all at once ---------------------------------------------------------------------------------------------------


class Many:
    """Nodes that run in one process, each at a port of its own, so that they all end at once and come back."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._running: Launched | None = None
        self._configs = [folder / f"{name}.toml" for name in names]
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in zip(names, free_ports(len(names)), strict=True)}
        for config, (name, address) in zip(self._configs, self.addresses.items(), strict=True):
            config.write_text(self._settings(name, address))

    async def start(self) -> None:
        configs = map(str, self._configs)
        self._running = running = await Launched.start(
            ["nodes.demo.hosting", "secondary", *configs], self._folder / "log"
        )
        for _ in self._configs:
            await running.started()

    async def fill(self) -> None:
        """Register something with each."""
        await asyncio.gather(*(load(self._folder / name, *hosted(name, "A")) for name in self.addresses))

    async def kill(self) -> None:
        if self._running:
            await self._running.kill()

    async def stop(self) -> None:
        if self._running:
            await self._running.stop()

    def _settings(self, name: str, address: str) -> str:
        rows = {
            "node": name,
            "data": str(self._folder / name),
            "admin": "127.0.0.1:0",
            "serving.address": address,
            "front.streaming": "127.0.0.1:0",
            "registry.address": "127.0.0.1:0",
        }
        return "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items())


@asynccontextmanager
async def many(folder: Path) -> AsyncIterator[Many]:
    made = Many(folder, MANY)
    try:
        await made.start()
        await made.fill()
        yield made
    finally:
        await made.stop()


async def test_children_that_are_all_killed_at_once_are_told_each_and_all_come_back(
    four: Four, tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = four.top
    asked = [f"{name}/A" for name in MANY]
    # A short path: sockets lie there, also after a kill.
    async with many(tmp_path_factory.mktemp("many")) as children:
        await four.tell("top", *(route_row(*each) for each in children.addresses.items()), *hosted("33", "H"))
        await until_found(top, *asked)
        await children.kill()
        for front in islice(cycle(top.fronts), breaker.FAILURES):
            *below, here = await ask_at(front, *asked, "33/H")
            assert [fault.reason for fault in faults(below)] == [Reason.CHILD_UNREACHABLE] * len(MANY)
            assert [fault.variables["child"] for fault in faults(below)] == list(MANY)
            assert isinstance(here, Answer)
            assert here.standing is Standing.AUTHORITATIVE
        assert up_of(top, *MANY) == [0] * len(MANY)
        faults(await ask(top, *asked))
        turned_away = top.samples("topnode_child_calls_total", "child", outcome="turned_away")
        assert [turned_away[name] for name in MANY] == [2] * len(MANY), "none is asked any more"
        await children.start()
        await until_found(top, *asked)
        assert up_of(top, *MANY) == [1] * len(MANY)
