"""A node with a native front as an operator runs it: what that keeps is current, and what it answers is counted."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest

from resolver.errors import Fault, Reason
from resolver.v1 import resolver_pb2 as pb
from tests.journeys.conftest import TopNode
from tests.running_node import RunningNode, wait_until
from tests.topnode import topnode

PREFIX = {"prefix": "88.111", "holder": "88.111"}
NODE_INFO = "/topnode.resolver.v1.ResolverService/GetNodeInfo"
CONNECTIONS = 12

pytestmark = pytest.mark.needs("native-front")


def row(number: int, url: str = "https://x") -> dict[str, object]:
    return {"identifier": f"88.111/SN-{number}", "values": [{"index": 1, "type": "URL", "data": url}]}


@contextmanager
def channels(node: RunningNode) -> Iterator[list[grpc.Channel]]:
    """Open connections of their own to the native front: the kernel gives each to one of the workers."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    with ExitStack() as opened:
        yield [opened.enter_context(grpc.insecure_channel(node.address, options=own)) for _ in range(CONNECTIONS)]


def outcomes(node: RunningNode, identifier: str, opened: list[grpc.Channel]) -> set[int]:
    return {node.resolve(identifier, each).outcome for each in opened}


@pytest.mark.parametrize("workers", [2, 0])
async def test_a_write_is_seen_by_every_worker_within_a_second(top_node: TopNode, workers: int) -> None:
    node = top_node(workers=workers)
    await node.load(PREFIX, row(1))
    with channels(node) as opened:
        wait_until(lambda: outcomes(node, "88.111/SN-1", opened) == {pb.OUTCOME_FOUND}, 10)
        # Absent before, so that what the fronts keep of it must go.
        for _ in range(2):
            assert outcomes(node, "88.111/sn-2", opened) == {pb.OUTCOME_ABSENT}
        await node.load(row(2), name="second")
        assert wait_until(lambda: outcomes(node, "88.111/sn-2", opened) == {pb.OUTCOME_FOUND}, 5) < 1
    fronts = node.samples("topnode_native_front", "worker")
    assert [each for each in fronts.values() if each] == [1] * max(1, workers)
    assert node.sample("topnode_resolver_calls_total", method="Resolve", code="OK") > 3 * CONNECTIONS
    assert node.stop() == 0


async def test_what_the_front_answers_alone_is_counted_exactly(top_node: TopNode) -> None:
    node = top_node(workers=2)
    await node.load(PREFIX, row(1))
    with channels(node) as opened:
        wait_until(lambda: outcomes(node, "88.111/SN-1", opened) == {pb.OUTCOME_FOUND}, 10)
        before = queries(node)
        for _ in range(10):
            outcomes(node, "88.111/SN-1", opened)
    assert node.stop() == 0
    again = top_node(workers=2)
    assert queries(again) - before == 10 * CONNECTIONS


def queries(node: RunningNode) -> int:
    """Give what was asked below 88.111 today, once that stays the same for longer than counts take to arrive."""
    counted = -1
    while True:
        ran = topnode("counts", "--registry", node.started.registry, "--data", node.data, "--json")
        before, counted = counted, sum(json.loads(line)["queries"] for line in ran.stdout.splitlines())
        if counted == before:
            return counted
        time.sleep(1.2)


async def test_a_killed_worker_is_started_again_and_service_goes_on(top_node: TopNode) -> None:
    node = top_node(workers=2)
    await node.load(PREFIX, row(1))
    with channels(node) as opened:
        wait_until(lambda: outcomes(node, "88.111/SN-1", opened) == {pb.OUTCOME_FOUND}, 10)
        killed = node.pids()["worker-0"]
        os.kill(killed, signal.SIGKILL)
        for each in opened:
            try:
                answer = node.resolve("88.111/SN-1", each)
            except Fault:
                await asyncio.sleep(0.2)
                answer = node.resolve("88.111/SN-1", each)
            assert answer.outcome == pb.OUTCOME_FOUND
    wait_until(lambda: node.pids()["worker-0"] not in (0, killed) and node.conditions()["worker-0"] == "serving")
    assert node.stop() == 0


async def test_a_panic_in_a_call_ends_its_connection_and_is_told(top_node: TopNode) -> None:
    node = top_node(workers=1, PLANTED_PANIC=NODE_INFO)
    await node.load(PREFIX, row(1))
    with channels(node) as (panicking, *others):
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = panicking.unary_unary(NODE_INFO)
        with pytest.raises(grpc.RpcError) as ended:
            call(b"", timeout=10)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        wait_until(lambda: outcomes(node, "88.111/SN-1", others) == {pb.OUTCOME_FOUND}, 10)
    assert node.sample("topnode_native_panics_total") == 1
    assert node.sample("topnode_supervisor_restarts_total") == 0


def test_a_panic_where_connections_are_taken_ends_the_worker_which_is_started_again(top_node: TopNode) -> None:
    """A process that hears nobody any more would be worse than none."""
    node = top_node(workers=1, PLANTED_PANIC="accept")
    before = node.pids()["worker-0"]
    with pytest.raises(Fault) as refused:
        node.resolve("88.111/SN-1")
    assert refused.value.reason is Reason.NODE_UNREACHABLE
    wait_until(lambda: node.pids()["worker-0"] not in (0, before) and node.conditions()["worker-0"] == "serving")
    assert node.sample("topnode_supervisor_restarts_total") == 1
    assert node.stop() == 0


def test_a_node_says_where_there_is_no_native_front(top_node: TopNode) -> None:
    node = top_node(TOPNODE_NATIVE__ENABLED="false")
    assert not node.started.native
    assert set(node.samples("topnode_native_front", "worker").values()) == {0}
