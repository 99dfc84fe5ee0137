"""A front over the real chain and the embedded store: what callers see when all parts stand together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from prometheus_client import CollectorRegistry

from resolver import bounds, chain, wire
from resolver.cache.memory import MemoryCache, MemorySettings
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.following import Following, FollowingSettings
from resolver.front.grpc import TRACE_KEY, FrontSettings, NodeCard, ResolverFront
from resolver.front.listing import ListingSettings
from resolver.routes import Hosting, Prefix, PrefixState, RouteTable
from resolver.rpc.channels import ChannelSettings, open_channel
from resolver.rpc.errors import fault_of, fault_of_rpc_error
from resolver.rpc.serving import ServingSettings, build_server
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.units import Duration
from resolver.v1 import resolver_pb2 as pb
from resolver.v1.resolver_pb2_grpc import ResolverServiceStub
from tests.stores import record, write, writes

OWNER: Final = Owner(pid=1, what="test", since=0, socket="")
PREFIXES: Final = [
    Prefix("88.111", "88.111"),
    Prefix("88.112", "88.112", hosting=Hosting.DELEGATED),
    Prefix("88.113", "88.113", state=PrefixState.DISABLED),
]
PARTS: Final = [f"88.111/Part-{number}" for number in range(30)]


class Node:
    """A store, everything above it, and a caller's stub."""

    def __init__(self, store: EmbeddedWriter, following: Following, stub: Any) -> None:
        self.store = store
        self.following = following
        self.stub = stub

    async def batch(self, *identifiers: str, **options: Any) -> list[pb.BatchResult]:
        request = pb.BatchResolveRequest(identifiers=identifiers, options=pb.Options(**options))
        return list((await self.stub.BatchResolve(request)).results)


@asynccontextmanager
async def _over(store: EmbeddedWriter) -> AsyncIterator[Node]:
    clock, registry, routes = SystemClock(), CollectorRegistry(), RouteTable()
    cache = MemoryCache(MemorySettings(), registry)
    # A store's feed is looked at when the test says so, and what was seen then stays current for the whole test.
    following = Following(store, routes, cache, clock, FollowingSettings(bypass_after=Duration(600)), registry)
    await following.start()
    link = chain.build(
        node="88",
        clock=clock,
        records=store,
        routes=routes,
        cache=cache,
        following=following,
        settings=chain.ChainSettings(),
        registry=registry,
    )
    front = ResolverFront(
        chain=link,
        records=store,
        routes=routes,
        node=NodeCard(node="88", tier="top", software_version="1"),
        applied_index=lambda: following.applied,
        settings=FrontSettings(listing=ListingSettings(public=True)),
        secret=await store.secret(),
        clock=clock,
        registry=registry,
    )
    server = build_server(ServingSettings(address="127.0.0.1:0"))
    front.add_to(server)
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{server.port}", ChannelSettings()) as channel:
            yield Node(store, following, _stub(channel))
    finally:
        await server.stop()


def _stub(channel: grpc.aio.Channel) -> Any:
    return ResolverServiceStub(channel)  # type: ignore[no-untyped-call] # generated code has no types


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    with closing(EmbeddedWriter.open(tmp_path / "store", owner=OWNER)) as store:
        await store.commit(prefixes=PREFIXES)
        await store.commit([*writes(PARTS), *writes(["88.112/copy"]), write("88.111/gone", deleted=True)])
        async with _over(store) as node:
            yield node


async def test_what_is_registered_comes_back_singly_and_in_batches(node: Node) -> None:
    for options in ({}, {}, {"authoritative": True}):
        results = await node.batch(*PARTS, **options)
        for text, result in zip(PARTS, results, strict=True):
            answer = wire.answer_from_message(result.answer)
            assert answer.record
            assert answer.record.values == record(text).values
            assert (answer.record.identifier.to_text(), answer.authority) == (text, "88")
    unary = [(await node.stub.Resolve(pb.ResolveRequest(identifier=text.lower()))).answer for text in PARTS]
    assert unary == [result.answer for result in results]


async def test_each_kind_of_answer_and_error_stands_in_its_place(node: Node) -> None:
    asked = [
        "88.111/Part-1",
        "88.111/nothing",
        "88.111/gone",
        "88.112/copy",
        "88.112/nothing",
        "88.113/x",
        "no slash",
    ]
    results = await node.batch(*asked)
    outcomes = [result.answer.outcome for result in results]
    assert outcomes == [
        pb.OUTCOME_FOUND,
        pb.OUTCOME_ABSENT,
        pb.OUTCOME_ABSENT,
        pb.OUTCOME_FOUND,
        pb.OUTCOME_NOT_HERE,
        pb.OUTCOME_UNSPECIFIED,
        pb.OUTCOME_UNSPECIFIED,
    ]
    assert results[2].answer.record.tombstone.reason == "withdrawn"
    assert results[3].answer.standing == pb.STANDING_REGISTERED_COPY
    faults = [fault_of(result.error) for result in results[5:]]
    assert [(fault.reason, fault.field) for fault in faults] == [
        (Reason.PREFIX_DISABLED, "identifiers[5]"),
        (Reason.IDENTIFIER_NO_SLASH, "identifiers[6]"),
    ]


async def test_a_write_is_seen_after_the_next_look_at_the_feed(node: Node) -> None:
    (before,) = await node.batch("88.111/Part-1")
    await node.store.commit([write("88.111/Part-1", b"another part", overwrite=True)])
    await node.following.catch_up()
    (after,) = await node.batch("88.111/Part-1")
    assert before.answer.record.values[0].data == b"a part"
    assert after.answer.record.values[0].data == b"another part"
    assert after.answer.version > before.answer.version


async def _refused(call: Any) -> Fault:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return fault_of_rpc_error(raised.value)


@pytest.mark.parametrize(("count", "reason"), [(0, Reason.BATCH_EMPTY), (1_001, Reason.BATCH_TOO_LARGE)])
async def test_a_batch_of_none_or_too_many_is_refused(node: Node, count: int, reason: Reason) -> None:
    fault = await _refused(node.batch(*["88.111/x"] * count))
    assert (fault.reason, fault.field) == (reason, "identifiers")
    assert fault.variables == {"identifiers": str(count), "allowed": str(bounds.BATCH_IDENTIFIERS)}


@pytest.mark.parametrize("identifier", ["88.113/x", "no slash", "", "88..1/x", "88.111/", "x" * 2_049, "88.111/\x00"])
async def test_a_refused_identifier_is_the_field_identifier(node: Node, identifier: str) -> None:
    fault = await _refused(node.stub.Resolve(pb.ResolveRequest(identifier=identifier)))
    assert fault.field == "identifier"


async def test_filters_cut_and_referrals_refer(node: Node) -> None:
    (cut,) = await node.batch("88.111/Part-1", types=["URL"])
    assert cut.answer.outcome == pb.OUTCOME_FOUND
    assert not cut.answer.record.values
    (referral,) = await node.batch("88.112/copy", mode=pb.MODE_REFERRAL, with_copy=True)
    assert (referral.answer.outcome, referral.answer.referral.holder) == (pb.OUTCOME_REFERRAL, "88.112")
    assert referral.answer.record.identifier == "88.112/copy"


async def test_a_trace_names_the_tiers_that_an_answer_came_through(node: Node) -> None:
    tiers = []
    for _ in range(2):
        request = pb.ResolveRequest(identifier="88.111/Part-2", options=pb.Options(trace=True))
        call = node.stub.Resolve(request)
        await call
        (trace,) = [value for key, value in await call.trailing_metadata() if key == TRACE_KEY]
        tiers.append([step.tier for step in wire.trace_steps(trace)])
    assert tiers[0][-1] == "store"
    assert tiers[1][-1] == "memory"


async def test_a_listing_pages_through_the_store(node: Node) -> None:
    listed: list[str] = []
    token = ""
    while True:
        page = await node.stub.ListHandles(pb.ListHandlesRequest(prefix="88.111", page_size=7, page_token=token))
        listed += page.identifiers
        token = page.next_page_token
        if not token:
            break
    assert sorted(listed) == sorted(PARTS)


async def test_the_node_tells_the_index_that_it_has_applied(node: Node) -> None:
    told = await node.stub.GetNodeInfo(pb.GetNodeInfoRequest())
    assert told.applied_index == await node.store.head()
