"""How soon a resolver is silent that has a million answers of a prefix in its cache, when the prefix is disabled."""

import asyncio
import random
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

import grpc
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from loadtest import servers, workload
from loadtest.cores import on_generator_cores
from loadtest.driver import Call, Loop
from loadtest.signing import signed
from resolver.rpc.errors import fault_of_rpc_error
from resolver.v1 import resolver_pb2 as pb

PREFIX: Final = "88.111"
"""Everything of the workload stands below it."""

BATCH: Final = 1_000
_LOST: Final = 30.0


class Suspended(Struct, frozen=True):
    """How many answers were cached; seconds from the registry's answer to the resolver's first refusal.

    `answered_still` are those of a thousand other cached identifiers that were answered after that.
    """

    cached: int
    silent_after: float
    answered_still: int


async def measure(store: Path, records: int, tell: Callable[[str], None]) -> Suspended:
    """Fill the cache of a node's one resolver with the whole store, disable the prefix above, and enable it again."""
    # A sixteenth of either bound is for absent answers.
    room = {"TOPNODE_MEMORY__SIZE": "2GiB", "TOPNODE_MEMORY__ENTRIES": str(records * 5 // 4)}
    with servers.node(store, workers=1, **room) as node, on_generator_cores():
        resolver = Loop(node.resolver, node.pids["worker-0"], connections=4)
        registry = Loop(node.registry, node.pids["owner"], connections=1)
        try:
            tell("a million answers are cached")
            names = [workload.identifier(number) for number in range(records)]
            await resolver.run(workload.batches(names, BATCH), callers=4, seconds=120)
            cached = await asyncio.to_thread(_cached, node.admin)
            tell("the prefix is disabled")
            found = await _disable(node, registry, names)
            await registry.run([_state(node, "enabled")], callers=1, seconds=10)
        finally:
            await resolver.close()
            await registry.close()
    return Suspended(cached, *found)


async def _disable(node: servers.Node, registry: Loop, names: list[bytes]) -> tuple[float, int]:
    asked = random.Random(1).sample(names, 1_001)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{node.resolver}") as channel:
        resolve: grpc.aio.UnaryUnaryMultiCallable[pb.ResolveRequest, bytes] = channel.unary_unary(
            "/topnode.resolver.v1.ResolverService/Resolve", pb.ResolveRequest.SerializeToString
        )

        async def is_refused(name: bytes) -> bool:
            try:
                await resolve(pb.ResolveRequest(identifier=name.decode()), timeout=5)
            except grpc.aio.AioRpcError as error:
                return fault_of_rpc_error(error).reason.name == "PREFIX_DISABLED"
            return False

        await registry.run([_state(node, "disabled")], callers=1, seconds=10)
        began = time.perf_counter()
        while not await is_refused(asked[0]):
            assert time.perf_counter() - began < _LOST
            await asyncio.sleep(0.005)
        silent_after = time.perf_counter() - began
        return silent_after, sum([not await is_refused(name) for name in asked[1:]])


def _state(node: servers.Node, state: str) -> Call:
    return signed(node, "prefix-state.v1", {"prefix": PREFIX, "state": state})


def _cached(admin: str) -> int:
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return int(sum(sample.value for sample in samples if sample.name == "topnode_cache_entries"))
