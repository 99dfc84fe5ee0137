"""Recursion over real sockets and processes while children and networks misbehave: what callers see of each fault."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from nodes.client import Options, Traced
from resolver.answer import Answer, Outcome, Standing
from resolver.errors import Reason
from resolver.federation import breaker
from resolver.federation.settings import FederationSettings
from resolver.query import Mode
from resolver.routes import Prefix
from resolver.units import Duration
from tests.fronts import clients
from tests.running_node import RunningNode, route_row
from tests.served_nodes import RECURSIVE, ServedNode, delegated, endpoint, served
from tests.services.bad_networks import BadNetwork, bad_network, black_hole
from tests.services.ports import free_ports
from tests.small_store import body

TopNode = Callable[..., RunningNode]

RECORDS = {f"88.1/{number}".encode(): body(f"88.1/{number}", number + 1) for number in range(50)}
COPY = {b"88.1/0": body("88.1/0"), b"88.2/H": body("88.2/h")}
HASTY = FederationSettings(deadline=Duration(0.6), positive_for=Duration(0.3), stale_for=Duration(3_600))
FORGETFUL = FederationSettings(deadline=Duration(0.6), positive_for=Duration(0), absent_for=Duration(0))
WITH_COPY = Options(mode=Mode.RECURSIVE, with_copy=True)
PATIENT = FederationSettings(positive_for=Duration(0), absent_for=Duration(0))
AT_ONCE = 0.2
"""Seconds: less than the half of a deadline that an endpoint costs which hangs. The promise is 5 ms inside the node
(loadtest/federation.py measures it); here a whole call is timed on a machine that does other things too."""


class Two:
    """A top node and one child, with a network between them."""

    def __init__(self, top: ServedNode, child: ServedNode, network: BadNetwork) -> None:
        self.top = top
        self.child = child
        self.network = network

    async def opens_the_breaker(self) -> None:
        """Ask until the child is left alone."""
        async with asyncio.timeout(20):
            number = 0
            while self.top.sample("topnode_child_up", child="88.1"):
                number += 1
                await self.top.ask(f"88.1/none {number}")

    async def heals(self) -> None:
        """Wait until the child is asked again."""
        async with asyncio.timeout(20):
            while not self.top.sample("topnode_child_up", child="88.1"):  # noqa: ASYNC110 - seen as metrics see it
                await asyncio.sleep(0.02)


@asynccontextmanager
async def two(federation: FederationSettings = FORGETFUL) -> AsyncIterator[Two]:
    child_port, top_port = free_ports(2)
    async with (
        served("88.1", child_port, RECORDS, [Prefix("88.1", "88.1")]) as child,
        bad_network("127.0.0.1", child_port) as network,
        served(
            "top",
            top_port,
            COPY,
            [delegated("88.1", "88.1", endpoint(network.port)), Prefix("88.2", "88.2")],
            federation=federation,
        ) as top,
    ):
        yield Two(top, child, network)


async def told_at_once(top: ServedNode, identifier: str = "88.1/1") -> list[Answer | Reason]:
    began = time.monotonic()
    given = await top.ask(identifier)
    assert time.monotonic() - began < AT_ONCE
    return given


# --- networks ------------------------------------------------------------------------------------------------------


async def test_answers_come_through_and_say_by_which_hop() -> None:
    async with two() as nodes:
        answer = await nodes.top.answer("88.1/7")
        assert (answer.outcome, answer.standing, answer.authority) == (Outcome.FOUND, Standing.CACHED, "88.1")
        assert [hop.node for hop in answer.hops] == ["88.1"]
        told = await nodes.top.client.node_info()
        assert told.recursion_available
        assert told.answer_tiers == ("memory", "store", "child")


async def test_a_child_to_which_connecting_takes_long_is_far_away_and_not_gone() -> None:
    async with two(PATIENT) as nodes:
        nodes.network.seconds = 0.4
        assert (await nodes.top.answer("88.1/1")).outcome is Outcome.FOUND
        assert nodes.top.sample("topnode_child_calls_total", child="88.1", outcome="failed") == 0


async def test_a_slow_child_costs_its_own_callers_the_deadline_and_nobody_else_anything() -> None:
    async with two() as nodes:
        await nodes.top.answer("88.1/1")
        nodes.network.seconds = 1.0
        began = time.monotonic()
        slow = asyncio.ensure_future(nodes.top.ask("88.1/2"))
        await asyncio.sleep(0.05)
        hosted = time.monotonic()
        assert (await nodes.top.answer("88.2/H")).standing is Standing.AUTHORITATIVE
        assert time.monotonic() - hosted < AT_ONCE
        assert await slow == [Reason.CHILD_UNREACHABLE]
        assert 0.5 < time.monotonic() - began < 1.0
        mixed = await nodes.top.ask("88.1/2", "88.2/H")
        assert mixed[0] is Reason.CHILD_UNREACHABLE
        assert isinstance(mixed[1], Answer)


async def test_stale_answers_and_allowed_copies_stand_in_for_a_slow_child() -> None:
    async with two(HASTY) as nodes:
        await nodes.top.answer("88.1/1")
        nodes.network.seconds = 5.0
        await asyncio.sleep(0.35)
        stale = await nodes.top.answer("88.1/1")
        assert (stale.stale, stale.standing) == (True, Standing.CACHED)
        copy = await nodes.top.answer("88.1/0", WITH_COPY)
        assert (copy.stale, copy.standing) == (False, Standing.REGISTERED_COPY)


async def test_resets_are_told_as_unreachable_and_pass() -> None:
    async with two() as nodes:
        await nodes.top.answer("88.1/1")
        nodes.network.reset()
        assert await nodes.top.ask("88.1/1") == [Reason.CHILD_UNREACHABLE]
        await nodes.opens_the_breaker()
        assert await told_at_once(nodes.top) == [Reason.CHILD_UNREACHABLE]
        nodes.network.heal()
        await nodes.heals()
        assert (await nodes.top.answer("88.1/1")).outcome is Outcome.FOUND


async def test_a_half_open_connection_is_given_up_and_made_anew() -> None:
    async with two() as nodes:
        await nodes.top.answer("88.1/1")
        nodes.network.fall_silent()
        assert await nodes.top.ask("88.1/1") == [Reason.CHILD_UNREACHABLE]
        await nodes.opens_the_breaker()
        assert await told_at_once(nodes.top) == [Reason.CHILD_UNREACHABLE]
        before = nodes.network.accepted
        nodes.network.heal()
        await nodes.heals()
        assert (await nodes.top.answer("88.1/1")).outcome is Outcome.FOUND
        assert nodes.network.accepted > before


async def test_a_black_hole_is_passed_over_for_an_endpoint_that_answers() -> None:
    child_port, top_port = free_ports(2)
    async with (
        served("88.1", child_port, RECORDS, [Prefix("88.1", "88.1")]),
        black_hole() as hole,
        served(
            "top",
            top_port,
            {},
            [delegated("88.1", "88.1", endpoint(hole), endpoint(child_port, priority=1))],
            federation=FORGETFUL,
        ) as top,
    ):
        for number in range(breaker.FAILURES):
            assert (await top.answer(f"88.1/{number}")).outcome is Outcome.FOUND
        began = time.monotonic()
        assert (await top.answer("88.1/9")).outcome is Outcome.FOUND
        assert time.monotonic() - began < AT_ONCE, "the black hole is left alone by now"


async def test_half_of_the_endpoints_being_down_costs_no_answer() -> None:
    ports = free_ports(5)
    top_port, dead, alive = ports[0], ports[1:3], ports[3:]
    endpoints = [endpoint(port) for pair in zip(dead, alive, strict=True) for port in pair]
    async with AsyncExitStack() as stack:
        for port in alive:
            await stack.enter_async_context(served("88.1", port, RECORDS, [Prefix("88.1", "88.1")]))
        top = await stack.enter_async_context(
            served("top", top_port, {}, [delegated("88.1", "88.1", *endpoints)], federation=FORGETFUL)
        )
        for number in range(40):
            assert (await top.answer(f"88.1/{number}")).outcome is Outcome.FOUND
        assert top.sample("topnode_child_calls_total", child="88.1", outcome="failed") == 0


async def test_half_of_the_endpoints_going_down_under_traffic_costs_no_answer() -> None:
    child_port, top_port = free_ports(2)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(served("88.1", child_port, RECORDS, [Prefix("88.1", "88.1")]))
        networks = [await stack.enter_async_context(bad_network("127.0.0.1", child_port)) for _ in range(4)]
        rows = [delegated("88.1", "88.1", *(endpoint(network.port) for network in networks))]
        top = await stack.enter_async_context(served("top", top_port, {}, rows, federation=PATIENT))
        failed: list[Answer | Reason] = []
        is_over = False

        async def traffic(number: int) -> int:
            asked = 0
            while not is_over:
                (given,) = await top.ask(f"88.1/{(number + 7 * asked) % 50}")
                asked += 1
                if not isinstance(given, Answer):
                    failed.append(given)
            return asked

        callers = [asyncio.ensure_future(traffic(number)) for number in range(8)]
        for step in (networks[0].reset, networks[2].reset, networks[0].heal, networks[2].heal):
            await asyncio.sleep(0.7)
            step()
        await asyncio.sleep(0.7)
        is_over = True
        assert sum(await asyncio.gather(*callers)) > 100
        assert failed == []


# --- processes -----------------------------------------------------------------------------------------------------


def child_process(top_node: TopNode, folder: Path) -> RunningNode:
    return top_node(data=folder, tier="secondary", workers=0, TOPNODE_NODE="88.1")


async def loaded(node: RunningNode) -> None:
    value = {"index": 1, "type": "URL", "data": "https://example.org"}
    rows = [{"identifier": f"88.1/{number}", "values": [value]} for number in range(20)]
    await node.load({"prefix": "88.1", "holder": "88.1"}, *rows)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_child_that_is_killed_or_stopped_comes_back(
    top_node: TopNode, tmp_path: Path, number: signal.Signals
) -> None:
    child = child_process(top_node, tmp_path / "child")
    await loaded(child)
    child_port = int(child.address.rpartition(":")[2])
    (top_port,) = free_ports(1)
    row = delegated("88.1", "88.1", endpoint(child_port))
    async with served("top", top_port, COPY, [row], federation=FORGETFUL) as top:
        await top.answer("88.1/1")
        child.signal(number)
        for each in range(breaker.FAILURES):
            assert await top.ask(f"88.1/{each}") == [Reason.CHILD_UNREACHABLE]
        assert await told_at_once(top) == [Reason.CHILD_UNREACHABLE]
        if number is signal.SIGSTOP:
            child.signal(signal.SIGCONT)
        else:
            child.wait_ended()
            child = top_node(
                "--listen",
                f"127.0.0.1:{child_port}",
                data=tmp_path / "child",
                tier="secondary",
                workers=0,
                TOPNODE_NODE="88.1",
            )
        async with asyncio.timeout(20):
            while not top.sample("topnode_child_up", child="88.1"):  # noqa: ASYNC110 - seen as metrics see it
                await asyncio.sleep(0.05)
        assert (await top.answer("88.1/1")).outcome is Outcome.FOUND


async def test_three_tiers_of_processes_tell_one_trace(top_node: TopNode, tmp_path: Path) -> None:
    enterprise = top_node(data=tmp_path / "e", tier="enterprise", workers=0, TOPNODE_NODE="88.1.5")
    secondary = top_node(data=tmp_path / "s", tier="secondary", workers=0, TOPNODE_NODE="88.1")
    top = top_node(data=tmp_path / "t", tier="top", workers=1, TOPNODE_NODE="top")
    value = {"index": 1, "type": "URL", "data": "https://example.org"}
    # One for each front: what the other has asked for is kept on the way.
    names = ("88.1.5/SN-1", "88.1.5/SN-2")
    rows = ({"identifier": each, "values": [value]} for each in names)
    await enterprise.load({"prefix": "88.1.5", "holder": "88.1.5"}, *rows)
    await secondary.load({"prefix": "88.1", "holder": "88.1"}, route_row("88.1.5", enterprise.address))
    await top.load(route_row("88.1", secondary.address))
    async with clients(top.fronts) as fronts:
        for client, name in zip(fronts, names, strict=True):
            async with asyncio.timeout(5):
                traced = await client.resolve_traced(name, RECURSIVE)
                while _outcome(traced) is not Outcome.FOUND:
                    traced = await client.resolve_traced(name, RECURSIVE)
                    await asyncio.sleep(0.05)
            assert isinstance(traced.answer, Answer)
            assert [hop.node for hop in traced.answer.hops] == ["88.1.5", "88.1"]
            told = [(step.node, step.tier) for step in traced.steps]
            assert ("88.1.5", "store") in told
            assert told[-2:] == [("88.1", "child"), ("top", "child")]


def _outcome(traced: Traced) -> Outcome | None:
    return traced.answer.outcome if isinstance(traced.answer, Answer) else None
