"""A front over the real chain and the embedded store: what callers see when all parts stand together."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, nullcontext
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest

from resolver import bounds, chain, wire
from resolver.cache.memory import MemoryCache, MemorySettings
from resolver.chain.admission import AdmissionSettings
from resolver.clock import Clock, SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.following import Following, FollowingSettings
from resolver.front.core import SERVICE, TRACE_KEY, Core, FrontSettings, NodeCard
from resolver.front.grpc import GrpcFront
from resolver.front.listing import Listing
from resolver.front.native_front import NativeFront, NativeSettings
from resolver.front.paging import PageTokens
from resolver.holders import Holders
from resolver.routes import Hosting, Prefix, PrefixState, RouteTable
from resolver.rpc.channels import ChannelSettings, open_channel
from resolver.rpc.errors import fault_of, fault_of_rpc_error
from resolver.rpc.serving import ServingSettings, build_server
from resolver.store import Fetched
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.trust.actors import Key, NodeState, NodeTable, Tier
from resolver.trust.actors import Node as Row
from resolver.trust.keys import PrivateKey
from resolver.trust.operators import Operators
from resolver.trust.queries import QUERY_KEY, QueryVerifier, sign_query
from resolver.units import Duration
from resolver.v1 import resolver_pb2 as pb
from resolver.v1.resolver_pb2_grpc import ResolverServiceStub
from tests.small_store import put
from tests.stores import record, write, writes

OWNER: Final = Owner(pid=1, what="test", since=0, socket="")
PREFIXES: Final = [
    Prefix("88.111", "88.111"),
    Prefix("88.112", "88.112", hosting=Hosting.DELEGATED),
    Prefix("88.113", "88.113", state=PrefixState.DISABLED),
]
PARTS: Final = [f"88.111/Part-{number}" for number in range(30)]

SECRET: Final = b"what only its holder may read"
GUARDED: Final = "88.111/guarded"
OTHERS: Final = "88.112/guarded"

HOLDER: Final = "88.111"
KEYS: Final = {name: PrivateKey.generate() for name in (HOLDER, "88.112", "alice")}


def row(name: str, state: NodeState = NodeState.ENABLED) -> Row:
    """Give the row of a node that signs with its key out of KEYS."""
    public = KEYS[name].public
    return Row(node=name, tier=Tier.SECONDARY, state=state, keys=(Key(public.key_id, public.spki, 1),))


class Node:
    """A store, everything above it, and a caller's stub."""

    def __init__(
        self,
        store: EmbeddedWriter,
        cache: MemoryCache,
        following: Following,
        registry: CollectorRegistry,
        stub: Any,
        native: NativeFront | None,
    ) -> None:
        self.store = store
        self.cache = cache
        self.following = following
        self.registry = registry
        self.stub = stub
        self.native = native

    async def batch(self, *identifiers: str, **options: Any) -> list[pb.BatchResult]:
        request = pb.BatchResolveRequest(identifiers=identifiers, options=pb.Options(**options) if options else None)
        return list((await self.stub.BatchResolve(request)).results)

    async def signed(self, actor: str, *identifiers: str, **options: Any) -> list[pb.BatchResult]:
        """Ask as this actor, by a signature."""
        request = pb.BatchResolveRequest(identifiers=identifiers, options=pb.Options(**options) if options else None)
        metadata = (signature(actor, "BatchResolve", request),)
        return list((await self.stub.BatchResolve(request, metadata=metadata)).results)


def signature(actor: str, method: str, request: Any) -> tuple[str, bytes]:
    """Sign a request to this method."""
    octets = request.SerializeToString()
    signed = sign_query(
        octets, node="88", method=f"{SERVICE}/{method}", actor=actor, key=KEYS[actor], now=time.time()
    )
    return QUERY_KEY, signed


def shown(results: list[pb.BatchResult]) -> list[bool]:
    """Tell for each result whether it holds anything that is restricted."""
    return [SECRET in result.SerializeToString() for result in results]


@asynccontextmanager
async def _over(
    store: EmbeddedWriter,
    settings: chain.ChainSettings = chain.ChainSettings(),  # noqa: B008 - it is frozen
    clock: Clock = SystemClock(),  # noqa: B008 - it has no state
    *,
    is_native: bool = False,
) -> AsyncIterator[Node]:
    registry, routes, nodes = CollectorRegistry(), RouteTable(), NodeTable()
    cache = MemoryCache(MemorySettings(), registry)
    # A store's feed is looked at when the test says so, and what was seen then stays current for the whole test.
    feed = FollowingSettings(bypass_after=Duration(600))
    following = Following(store, routes, cache, clock, feed, registry, nodes=nodes)
    await following.start()
    holders = Holders("88", nodes=nodes, routes=routes, is_current=lambda: following.is_current)
    link = chain.build(
        node="88",
        clock=clock,
        records=store,
        routes=routes,
        cache=cache,
        following=following,
        holders=holders,
        settings=settings,
        registry=registry,
    )
    core = Core(
        chain=link,
        listing=Listing(store, routes, PageTokens(await store.secret()), holders),
        node=NodeCard(node="88", tier="top", software_version="1"),
        applied_index=lambda: following.applied,
        settings=FrontSettings(),
        clock=clock,
        registry=registry,
    )
    signatures = QueryVerifier("88", nodes, Operators([("alice", KEYS["alice"].public)]), clock)
    front = GrpcFront(core, signatures=signatures, clock=clock, registry=registry)
    serving = ServingSettings(address="127.0.0.1:0")
    server = build_server(serving)
    front.add_to(server)
    await server.start()
    native = None
    if is_native:
        native = NativeFront(
            NativeSettings(),
            serving,
            core,
            referred=f"127.0.0.1:{server.port}",
            answers_alone=not settings.admission.rate,
            signatures=signatures,
            routes=routes,
            current_until=lambda: following.current_until,
            counting=None,
            clock=clock,
        )
        following.tell(native)
    port = native.port if native else server.port
    try:
        async with (
            native.serving() if native else nullcontext(),
            open_channel(f"127.0.0.1:{port}", ChannelSettings()) as channel,
        ):
            yield Node(store, cache, following, registry, _stub(channel), native)
    finally:
        await server.stop()


def _stub(channel: grpc.aio.Channel) -> Any:
    return ResolverServiceStub(channel)  # type: ignore[no-untyped-call] # generated code has no types


NATIVE: Final = pytest.param(True, marks=pytest.mark.needs("native-front"), id="native")


@pytest.fixture(params=[pytest.param(False, id="grpcio"), NATIVE])
async def node(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Node]:
    async with _filled(tmp_path) as store, _over(store, is_native=request.param) as node:
        yield node


@pytest.mark.parametrize("is_native", [pytest.param(False, id="grpcio"), NATIVE])
async def test_a_callers_rate_counts_what_is_asked_again_too(tmp_path: Path, *, is_native: bool) -> None:
    """Whatever a front keeps: a caller has one bucket, for batches and for single lookups."""
    settings = chain.ChainSettings(admission=AdmissionSettings(rate=1, burst=1_000))
    async with _filled(tmp_path) as store, _over(store, settings, is_native=is_native) as node:
        for _ in range(20):
            await node.stub.Resolve(pb.ResolveRequest(identifier=PARTS[0]))

        async def refusal_of(count: int) -> Reason:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await node.batch(*[PARTS[0]] * count)
            return fault_of_rpc_error(refused.value).reason

        assert await refusal_of(1_000) is Reason.RATE_LIMITED
        await node.batch(*[PARTS[0]] * 900)
        assert await refusal_of(900) is Reason.RATE_LIMITED


@pytest.fixture
async def native(tmp_path: Path) -> AsyncIterator[Node]:
    async with _filled(tmp_path) as store, _over(store, is_native=True) as node:
        yield node


@asynccontextmanager
async def _filled(folder: Path) -> AsyncIterator[EmbeddedWriter]:
    with closing(EmbeddedWriter.open(folder / "store", owner=OWNER)) as store:
        await put(store, prefixes=PREFIXES, nodes=[row(HOLDER), row("88.112")])
        await put(store, [write(GUARDED, secret=SECRET), write(OTHERS, secret=SECRET)])
        await put(store, [*writes(PARTS), *writes(["88.112/copy"]), write("88.111/gone", deleted=True)])
        yield store


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
    await put(node.store, [write("88.111/Part-1", b"another part")])
    await node.following.catch_up()
    (after,) = await node.batch("88.111/Part-1")
    assert before.answer.record.values[0].data == b"a part"
    assert after.answer.record.values[0].data == b"another part"
    assert after.answer.version > before.answer.version


async def test_a_term_that_ends_is_noticed_without_a_change(node: Node) -> None:
    await put(node.store, prefixes=[Prefix("88.114", "88.114", expires_at=int(time.time()) + 2)])
    await put(node.store, [write("88.114/part")])
    await node.following.catch_up()
    for _ in range(2):
        (before,) = await node.batch("88.114/part")
        assert before.answer.outcome == pb.OUTCOME_FOUND
    await asyncio.sleep(2.1)
    await node.following.catch_up()
    (after,) = await node.batch("88.114/part")
    assert fault_of(after.error).reason is Reason.PREFIX_EXPIRED


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
        request = pb.ListHandlesRequest(prefix="88.111", page_size=7, page_token=token)
        page = await node.stub.ListHandles(request, metadata=(signature(HOLDER, "ListHandles", request),))
        listed += page.identifiers
        token = page.next_page_token
        if not token:
            break
    assert sorted(listed) == sorted([*PARTS, GUARDED])


async def test_the_node_tells_the_index_that_it_has_applied(node: Node) -> None:
    told = await node.stub.GetNodeInfo(pb.GetNodeInfoRequest())
    assert told.applied_index == await node.store.head()


# --- a rate for each caller ----------------------------------------------------------------------------------------


async def test_a_caller_beyond_its_rate_is_refused_and_told_when_to_come_again(tmp_path: Path) -> None:
    """A setting, the chain and the wire together; others are answered meanwhile, and after the wait this one too."""
    settings = chain.ChainSettings(admission=AdmissionSettings(rate=100, burst=1_000))
    clock = SetClock(wall=time.time())
    async with _filled(tmp_path) as store, _over(store, settings, clock) as node:
        assert len(await node.batch(*["88.111/Part-1"] * 1_000)) == 1_000
        batch, single = pb.BatchResolveRequest(identifiers=PARTS), pb.ResolveRequest(identifier=PARTS[0])
        assert await _rate_limited(node.stub.BatchResolve(batch)) == len(PARTS) * 10_000_000
        assert await _rate_limited(node.stub.Resolve(single)) == 10_000_000
        assert shown(await node.signed(HOLDER, GUARDED)) == [True]
        clock.advance(len(PARTS) / 100)
        assert len(await node.batch(*PARTS)) == len(PARTS)
        assert await _rate_limited(node.stub.Resolve(single)) == 10_000_000
        refused = node.registry.get_sample_value("topnode_admission_refused_total", {"reason": "RATE_LIMITED"})
    assert refused == 3


async def _rate_limited(call: Any) -> int:
    """Check that a call is refused for its caller's rate, and give the nanoseconds after which it may come again."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailing = dict(raised.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    assert [status.details[0].Unpack(info), status.details[1].Unpack(retry)] == [True, True]
    assert (info.domain, info.reason) == ("topnode", "RATE_LIMITED")
    nanoseconds: int = retry.retry_delay.ToNanoseconds()
    return round(nanoseconds, -3)


# --- values that only their holder may read ------------------------------------------------------------------------


async def test_only_the_holder_is_shown_what_is_restricted(node: Node) -> None:
    """In a batch with others' identifiers, before and after everybody asked, and by nobody else's signature."""
    asked = [GUARDED, "88.111/Part-1", OTHERS, GUARDED.upper(), "88.111/nothing", "no slash"]
    for _ in range(2):
        assert shown(await node.signed(HOLDER, *asked)) == [True, False, False, True, False, False]
        assert shown(await node.batch(*asked)) == [False] * 6
        assert shown(await node.signed("88.112", *asked)) == [False, False, True, False, False, False]
        assert shown(await node.signed("alice", *asked)) == [False] * 6
    assert len(node.cache) >= 3
    assert not any(SECRET in ready.frame for ready in node.cache._entries.values())


async def test_the_answer_to_a_holder_is_the_publics_but_for_the_values(node: Node) -> None:
    (whole,) = await node.signed(HOLDER, GUARDED)
    (cut,) = await node.batch(GUARDED)
    assert [value.data for value in whole.answer.record.values] == [b"a part", SECRET]
    del whole.answer.record.values[1]
    assert whole == cut


async def test_a_unary_call_shows_the_same(node: Node) -> None:
    request = pb.ResolveRequest(identifier=GUARDED)
    signed = await node.stub.Resolve(request, metadata=(signature(HOLDER, "Resolve", request),))
    unsigned = await node.stub.Resolve(request)
    assert (SECRET in signed.SerializeToString(), SECRET in unsigned.SerializeToString()) == (True, False)


async def test_one_signature_may_come_again_while_it_is_fresh(node: Node) -> None:
    """A read changes nothing, so a retry need not be signed anew."""
    request = pb.BatchResolveRequest(identifiers=[GUARDED])
    metadata = (signature(HOLDER, "BatchResolve", request),)
    answers = [await node.stub.BatchResolve(request, metadata=metadata) for _ in range(3)]
    assert [shown(list(answer.results)) for answer in answers] == [[True]] * 3


@pytest.mark.parametrize("state", [NodeState.SUSPENDED, NodeState.REVOKED])
async def test_a_suspended_or_revoked_holder_may_not_sign_and_sees_what_everybody_sees(
    node: Node, state: NodeState
) -> None:
    """With the next look at the feed, of which there are five a second; what it registered goes on resolving."""
    assert shown(await node.signed(HOLDER, GUARDED)) == [True]
    await put(node.store, nodes=[row(HOLDER, state)])
    await node.following.catch_up()
    fault = await _refused(node.signed(HOLDER, GUARDED))
    assert fault.reason is Reason.NODE_NOT_ENABLED
    (result,) = await node.batch(GUARDED)
    assert result.answer.outcome == pb.OUTCOME_FOUND
    assert shown([result]) == [False]


async def test_a_changed_restricted_value_is_shown_after_the_next_look_at_the_feed(node: Node) -> None:
    await put(node.store, [write(GUARDED, secret=SECRET + b", changed")])
    await node.following.catch_up()
    (result,) = await node.signed(HOLDER, GUARDED)
    assert result.answer.record.values[1].data == SECRET + b", changed"


async def test_nothing_restricted_is_traced_listed_counted_or_logged(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor the holder's identity: metrics have no such labels."""
    with caplog.at_level(logging.DEBUG):
        request = pb.ResolveRequest(identifier=GUARDED, options=pb.Options(trace=True))
        call = node.stub.Resolve(request, metadata=(signature(HOLDER, "Resolve", request),))
        assert SECRET in (await call).SerializeToString()
        (trace,) = [value for key, value in await call.trailing_metadata() if key == TRACE_KEY]
        listing = pb.ListHandlesRequest(prefix="88.111", derived=True)
        page = await node.stub.ListHandles(listing, metadata=(signature(HOLDER, "ListHandles", listing),))
    assert "holding" in [step.tier for step in wire.trace_steps(trace)]
    told = trace + page.SerializeToString() + caplog.text.encode() + generate_latest(node.registry)
    assert SECRET not in told
    assert HOLDER.encode() not in generate_latest(node.registry)


async def test_a_mistake_while_a_holder_is_answered_logs_no_value(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw, with the values in the frame that it comes from."""

    class Broken(Exception):
        pass

    class Breaking(EmbeddedWriter):
        async def full(self, keys: Sequence[bytes]) -> Fetched:
            fetched = await super().full(keys)
            assert SECRET in b"".join(body or b"" for body in fetched.bodies)
            raise Broken

    node.store.__class__ = Breaking
    with caplog.at_level(logging.DEBUG):
        fault = await _refused(node.signed(HOLDER, GUARDED))
    assert fault.reason is Reason.INTERNAL
    assert "Broken" in caplog.text
    assert SECRET.decode() not in caplog.text


# --- what a native front keeps -------------------------------------------------------------------------------------


def kept(node: Node) -> tuple[int, int]:
    """Give the hits of the native front and what it holds."""
    assert node.native
    cache = node.native.stats()["cache"]
    return cache["hits"], cache["entries"]


@pytest.mark.needs("native-front")
async def test_what_was_asked_is_answered_by_the_front_alone_in_any_spelling(native: Node) -> None:
    first = await native.batch(*PARTS)
    assert kept(native) == (0, len(PARTS))
    assert await native.batch(*PARTS) == first
    unary = [(await native.stub.Resolve(pb.ResolveRequest(identifier=text))).answer for text in PARTS]
    assert unary == [result.answer for result in first]
    assert kept(native) == (2 * len(PARTS), len(PARTS))
    # Another spelling is Python's to read, once.
    for _ in range(2):
        await native.stub.Resolve(pb.ResolveRequest(identifier=PARTS[0].lower()))
    assert kept(native) == (2 * len(PARTS) + 1, len(PARTS))


@pytest.mark.needs("native-front")
async def test_a_write_makes_the_front_forget_what_it_changes_and_nothing_else(native: Node) -> None:
    await native.batch(*PARTS)
    await put(native.store, [write(PARTS[0], b"another part")])
    await native.following.catch_up()
    (after, *_) = await native.batch(*PARTS)
    assert after.answer.record.values[0].data == b"another part"
    assert kept(native) == (len(PARTS) - 1, len(PARTS))


@pytest.mark.needs("native-front")
async def test_a_changed_prefix_is_noticed_at_the_next_question_and_enumerates_nothing(native: Node) -> None:
    (before,) = await native.batch("88.111/Part-1")
    await put(native.store, prefixes=[replace(PREFIXES[0], state=PrefixState.DISABLED)])
    await native.following.catch_up()
    (after,) = await native.batch("88.111/Part-1")
    assert before.answer.outcome == pb.OUTCOME_FOUND
    assert fault_of(after.error).reason is Reason.PREFIX_DISABLED


@pytest.mark.needs("native-front")
async def test_what_is_asked_with_options_or_signed_is_not_kept(native: Node) -> None:
    await native.batch(*PARTS, authoritative=True)
    await native.batch(*PARTS, types=["URL"])
    await native.signed(HOLDER, GUARDED)
    await native.batch(GUARDED, trace=True)
    assert kept(native) == (0, 0)
    (public,) = await native.batch(GUARDED)
    assert SECRET not in public.SerializeToString()


WAYS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"mode": pb.MODE_REFERRAL},
    {"mode": pb.MODE_RECURSIVE},
    {"mode": pb.MODE_RECURSIVE, "path": pb.Path(visited=["86"], hops_left=2)},
)
"""How far a question goes, by its options."""


async def test_however_far_a_question_goes_a_nodes_own_word_is_the_same(node: Node) -> None:
    own = (*PARTS, "88.111/nothing")
    first = await node.batch(*own)
    for _ in range(2):
        for way in WAYS:
            assert await node.batch(*own, **way) == first
            request = pb.ResolveRequest(identifier=own[0], options=pb.Options(**way))
            assert (await node.stub.Resolve(request)).answer == first[0].answer


async def test_below_a_delegated_prefix_each_way_has_an_answer_of_its_own(node: Node) -> None:
    for _ in range(2):
        said = [(await node.batch("88.112/copy", PARTS[0], **way))[0].answer for way in WAYS]
        assert [answer.outcome for answer in said] == [pb.OUTCOME_FOUND, *[pb.OUTCOME_REFERRAL] * 3]


@pytest.mark.needs("native-front")
async def test_what_one_way_has_brought_is_kept_for_all_where_it_is_the_nodes_own_word(native: Node) -> None:
    await native.batch(*PARTS, "88.112/copy", **WAYS[3])
    assert kept(native) == (0, len(PARTS))
    for way in WAYS:
        await native.batch(*PARTS, **way)
    assert kept(native) == (len(WAYS) * len(PARTS), len(PARTS))
    # The copy is kept for those who ask for what is here, and given to them alone.
    await native.batch("88.112/copy")
    await native.batch("88.112/copy", **WAYS[2])
    assert kept(native) == (len(WAYS) * len(PARTS), len(PARTS) + 1)


@pytest.mark.needs("native-front")
async def test_absent_is_kept_and_not_here_is_not(native: Node) -> None:
    for _ in range(2):
        await native.batch("88.111/nothing", "88.112/nothing")
    assert kept(native) == (1, 1)
