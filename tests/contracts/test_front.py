"""What every front does, whatever it is made of: run over a real socket, once for each kind of front.

A front stands over a small chain of its own here (a dictionary); what the real chain says is tested with the chain.
"""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from resolver import bounds, wire
from resolver.answer import FOUND, Failed, Outcome, Ready
from resolver.chain import Link
from resolver.clock import Clock, SetClock, SystemClock
from resolver.encoding import varint
from resolver.errors import Fault, Reason
from resolver.front.core import ALLOWED, SERVICE, TRACE_KEY, Core, FrontSettings, NodeCard
from resolver.front.grpc import GrpcFront
from resolver.front.listing import Listing
from resolver.front.native_front import NativeFront, NativeSettings
from resolver.front.paging import PageTokens
from resolver.handle import split
from resolver.holders import Holders
from resolver.query import Asker, Mode, Query
from resolver.routes import Hosting, Prefix, PrefixState, RouteTable
from resolver.rpc.channels import ChannelSettings, open_channel
from resolver.rpc.errors import fault_of, fault_of_rpc_error
from resolver.rpc.serving import Server, ServingSettings, build_server
from resolver.rpc.tls import ClientTls, ServerTls
from resolver.store import FORMAT, Fetched, Listed
from resolver.trust.actors import Key, Node, NodeState, NodeTable, Tier
from resolver.trust.envelopes import Envelope
from resolver.trust.keys import PrivateKey
from resolver.trust.operators import Operators
from resolver.trust.queries import QUERY_KEY, QueryVerifier, sign_query
from resolver.units import Duration
from resolver.v1 import resolver_pb2 as pb
from tests.certificates import Authority

SECRET: Final = b"s" * 32
CARD: Final = NodeCard(node="88", tier="top", software_version="1.2.3", answer_tiers=("memory", "store"))


# --- what stands below a front ------------------------------------------------------------------------------------


class Shelf(Link):
    """A chain of one link over a dictionary: checks as admission does, and remembers what it was asked."""

    def __init__(self, records: Mapping[bytes, bytes], clock: Clock) -> None:
        self.asked: list[Query] = []
        self.fault: Exception | None = None
        self._ready = {key: Ready(wire.frame(body), FOUND) for key, body in records.items()}
        self._absent = Ready(wire.frame(wire.bare_body(Outcome.ABSENT)), int(Outcome.ABSENT))
        self._disabled = Failed(fault=Fault(Reason.PREFIX_DISABLED, variables={"prefix": "77"}))
        self._clock = clock

    async def resolve(self, query: Query) -> Sequence[Ready]:
        self.asked.append(query)
        if query.trace:
            query.trace.step("shelf", "looked")
        if self.fault:
            raise self.fault
        if query.deadline <= self._clock.monotonic():
            raise Fault(Reason.DEADLINE_SPENT)
        if not query.identifiers:
            raise Fault(Reason.BATCH_EMPTY, field="identifiers")
        if len(query.identifiers) > bounds.BATCH_IDENTIFIERS:
            raise Fault(Reason.BATCH_TOO_LARGE, field="identifiers")
        return [self._answer(identifier) for identifier in query.identifiers]

    def _answer(self, identifier: bytes) -> Ready:
        try:
            split(identifier)
        except Fault as fault:
            return Failed(fault=fault)
        if identifier.startswith(b"77/"):
            return self._disabled
        return self._ready.get(identifier.upper(), self._absent)


class Index:
    """A record reader that only lists: texts in the order of their keys."""

    def __init__(self, *identifiers: str) -> None:
        self._texts = {text.upper().encode(): text for text in identifiers}

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:  # noqa: ARG002 - no replicas
        return Fetched([None for _ in keys], 0)

    full = public

    async def holds_below(self, prefix: bytes) -> bool:
        return any(key.startswith((prefix + b"/", prefix + b".")) for key in self._texts)

    async def identifiers(self, prefix: bytes, *, derived: bool, after: bytes | None, limit: int) -> Listed:
        beginnings = (prefix + b"/", prefix + b".") if derived else (prefix + b"/",)
        keys = [key for key in sorted(self._texts) if key.startswith(beginnings) and key > (after or b"")]
        page = keys[:limit]
        return Listed([self._texts[key] for key in page], page[-1] if len(keys) > limit else None)


class SlowClock(SetClock):
    """A clock that goes on by a second with each look at it."""

    def monotonic(self) -> float:
        self.advance(1)
        return super().monotonic()


def body_of(text: str, version: int = 1, *, size: int = 0) -> bytes:
    """Encode an answer by hand, so that the front's bytes are compared with bytes that it had no part in."""
    answer = pb.Answer(outcome=pb.OUTCOME_FOUND, standing=pb.STANDING_AUTHORITATIVE, version=version)
    answer.record.identifier = text
    answer.record.values.add(index=1, type="URL", data=b"x" * size, ttl_seconds=60)
    return answer.SerializeToString()


LONG: Final = "88.111/" + "L" * 500
BODIES: Final = {text.upper().encode(): body_of(text) for text in ("88.111/a", "88.111/b", "88.111/光", LONG)}


# --- those who sign ------------------------------------------------------------------------------------------------


class Signs(NamedTuple):
    """Somebody who signs queries: the name in the head, and the key."""

    actor: str
    key: PrivateKey

    def metadata(self, to: str, request: bytes, **other: Any) -> tuple[str, bytes]:
        """Sign a request to this method, with something else where a test says so."""
        said = {"node": CARD.node, "method": f"{SERVICE}/{to}", "actor": self.actor, "now": time.time()}
        return QUERY_KEY, sign_query(request, key=self.key, **{**said, **other})

    def row(self, state: NodeState = NodeState.ENABLED) -> Node:
        """Give the row of a node of this name, with this key."""
        key = Key(self.key.public.key_id, self.key.public.spki, 1)
        return Node(node=self.actor, tier=Tier.SECONDARY, state=state, keys=(key,))


HOLDER: Final = Signs("88.111", PrivateKey.generate())
OTHER: Final = Signs("88.1110", PrivateKey.generate())
BELOW: Final = Signs("88.111.2", PrivateKey.generate())
SUSPENDED: Final = Signs("88.222", PrivateKey.generate())
STRANGER: Final = Signs("88.111", PrivateKey.generate())
OPERATOR: Final = Signs("alice", PrivateKey.generate())
OPERATORS: Final = Operators([(OPERATOR.actor, OPERATOR.key.public)])


def members() -> NodeTable:
    """All nodes: three that are enabled and one that is suspended."""
    nodes = NodeTable()
    nodes.put([HOLDER.row(), OTHER.row(), BELOW.row(), SUSPENDED.row(NodeState.SUSPENDED)])
    return nodes


# --- running one ---------------------------------------------------------------------------------------------------


class Below(Struct, frozen=True, kw_only=True):
    """Everything that a front is given, and how it listens."""

    chain: Shelf
    index: Index = Index()
    routes: RouteTable
    nodes: NodeTable
    is_current: Callable[[], bool] = lambda: True
    settings: FrontSettings = FrontSettings()
    serving: ServingSettings = ServingSettings(address="127.0.0.1:0")
    clock: Clock
    registry: CollectorRegistry


class Running(Struct, frozen=True):
    """A front that answers at an address, and what it stands on."""

    address: str
    below: Below

    @property
    def asked(self) -> Query:
        """What the chain was asked last."""
        return self.below.chain.asked[-1]


Run = Callable[[Below], Any]


def core_over(below: Below) -> Core:
    """Make the core that every front stands on."""
    holders = Holders(CARD.node, nodes=below.nodes, routes=below.routes, is_current=below.is_current)
    return Core(
        chain=below.chain,
        listing=Listing(below.index, below.routes, PageTokens(SECRET), holders),
        node=CARD,
        applied_index=lambda: 42,
        settings=below.settings,
        clock=below.clock,
        registry=below.registry,
    )


def signatures_over(below: Below) -> QueryVerifier:
    return QueryVerifier(CARD.node, below.nodes, OPERATORS, SystemClock())


def grpcio_server(below: Below) -> Server:
    """Make the server of a grpcio front, which has not started."""
    server = build_server(below.serving)
    front = GrpcFront(core_over(below), signatures=signatures_over(below), clock=below.clock, registry=below.registry)
    front.add_to(server)
    return server


@asynccontextmanager
async def run_grpcio(below: Below) -> AsyncIterator[str]:
    server = grpcio_server(below)
    await server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.stop()


@asynccontextmanager
async def run_native(below: Below) -> AsyncIterator[str]:
    core = core_over(below)
    beside = GrpcFront(core, signatures=signatures_over(below), clock=below.clock, registry=below.registry)
    beside.add_to(build_server(below.serving))
    front = NativeFront(
        NativeSettings(),
        below.serving,
        core,
        referred="127.0.0.1:3640",
        answers_alone=True,
        signatures=signatures_over(below),
        routes=below.routes,
        current_until=lambda: math.inf,
        counting=None,
        clock=below.clock,
    )
    beside.calls.tell_beside(front.numbers)
    async with front.serving():
        yield f"127.0.0.1:{front.port}"


RUNS: Final[Mapping[str, Run]] = {"grpcio": run_grpcio, "native": run_native}
"""Every kind of front, and how it is run."""

KINDS: Final = ("grpcio", pytest.param("native", marks=pytest.mark.needs("native-front")))
"""Their names, for tests that are run once for each."""

Start = Callable[..., Awaitable[Running]]


@asynccontextmanager
async def starting(kind: str) -> AsyncIterator[Start]:
    """Give what starts fronts of a kind, each with something changed of what stands below it; all end with this."""
    async with AsyncExitStack() as stack:

        async def start(**changed: Any) -> Running:
            clock = changed.pop("clock", SystemClock())
            bodies = changed.pop("bodies", BODIES)
            below = Below(
                chain=Shelf(bodies, clock),
                routes=RouteTable(),
                nodes=members(),
                clock=clock,
                registry=CollectorRegistry(),
            )
            below = replace(below, **changed)
            return Running(await stack.enter_async_context(RUNS[kind](below)), below)

        yield start


@pytest.fixture(params=KINDS)
async def front_start(request: pytest.FixtureRequest) -> AsyncIterator[Start]:
    async with starting(request.param) as start:
        yield start


@pytest.fixture
async def front(front_start: Start) -> Running:
    return await front_start()


class Caller:
    """Calls a front as a stranger would: the bytes are the test's own. Signs each call where somebody is to sign."""

    def __init__(self, channel: grpc.aio.Channel, signs: Signs | None = None) -> None:
        self._channel = channel
        self._signs = signs

    async def raw(self, method: str, request: bytes, **call: Any) -> bytes:
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(f"/{SERVICE}/{method}")
        if self._signs:
            call.setdefault("metadata", (self._signs.metadata(method, request),))
        return await unary(request, **call)

    async def resolve(self, identifier: str, **options: Any) -> pb.ResolveResponse:
        request = pb.ResolveRequest(identifier=identifier, options=pb.Options(**options) if options else None)
        return pb.ResolveResponse.FromString(await self.raw("Resolve", request.SerializeToString()))

    async def batch(self, *identifiers: str, **options: Any) -> pb.BatchResolveResponse:
        request = pb.BatchResolveRequest(identifiers=identifiers, options=pb.Options(**options) if options else None)
        return pb.BatchResolveResponse.FromString(await self.raw("BatchResolve", request.SerializeToString()))

    async def list(self, prefix: str, **wanted: Any) -> pb.ListHandlesResponse:
        request = pb.ListHandlesRequest(prefix=prefix, **wanted)
        return pb.ListHandlesResponse.FromString(await self.raw("ListHandles", request.SerializeToString()))


@asynccontextmanager
async def calling(
    running: Running, tls: ClientTls | None = None, *, signs: Signs | None = None
) -> AsyncIterator[Caller]:
    settings = ChannelSettings(tls=tls, tls_name="node.test" if tls else "")
    async with open_channel(running.address, settings) as channel:
        yield Caller(channel, signs)


@pytest.fixture
async def caller(front: Running) -> AsyncIterator[Caller]:
    async with calling(front) as caller:
        yield caller


async def refused(awaitable: Awaitable[Any]) -> tuple[grpc.StatusCode, Fault]:
    """Give code and fault of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await awaitable
    return raised.value.code(), fault_of_rpc_error(raised.value)


def octets_field(number: int, octets: bytes) -> bytes:
    """Encode one length-delimited field by hand: what no protobuf library would agree to send."""
    return bytes([number << 3 | 2]) + varint(len(octets)) + octets


# --- one identifier ------------------------------------------------------------------------------------------------


async def test_a_found_record_is_passed_on_byte_for_byte(caller: Caller) -> None:
    answer = await caller.raw("Resolve", octets_field(1, b"88.111/a"))
    assert answer == octets_field(1, BODIES[b"88.111/A"])


@pytest.mark.parametrize("text", ["88.111/a", "88.111/A", "88.111/光", LONG, LONG.lower()])
async def test_any_spelling_reaches_the_chain_as_it_was_written(front: Running, caller: Caller, text: str) -> None:
    """Short requests are read without a parser and long ones with it: both ask the same."""
    response = await caller.resolve(text)
    assert response.answer.outcome == pb.OUTCOME_FOUND
    assert tuple(front.asked.identifiers) == (text.encode(),)
    with_options = await caller.resolve(text, mode=pb.MODE_LOCAL)
    assert with_options == response
    assert tuple(front.asked.identifiers) == (text.encode(),)


@pytest.mark.parametrize("length", [*range(118, 135), 254, 255, 256, 300, 2_048])
async def test_identifiers_of_every_length_are_read_whole(front: Running, caller: Caller, length: int) -> None:
    """The lengths around those at which the encoding of a length grows."""
    identifier = b"88.111/".ljust(length, b"x")
    await caller.raw("Resolve", octets_field(1, identifier))
    assert tuple(front.asked.identifiers) == (identifier,)


async def test_an_absent_identifier_is_an_answer(caller: Caller) -> None:
    assert (await caller.resolve("88.111/nothing")).answer.outcome == pb.OUTCOME_ABSENT


async def test_the_last_of_two_identifiers_counts(front: Running, caller: Caller) -> None:
    """As protobuf has it for a field that stands twice."""
    await caller.raw("Resolve", octets_field(1, b"88.111/a") + octets_field(1, b"88.111/b"))
    assert tuple(front.asked.identifiers) == (b"88.111/b",)


BAD_IDENTIFIERS: Final = [
    (b"", Reason.IDENTIFIER_EMPTY),
    (b"88/" + b"x" * 2_046, Reason.IDENTIFIER_TOO_LONG),
    (b"88.111/\xff", Reason.IDENTIFIER_NOT_UTF8),
    ("88.111/光".encode("gbk"), Reason.IDENTIFIER_NOT_UTF8),
    (b"88.111/a\n", Reason.IDENTIFIER_CONTROL_CHARACTER),
    (b"88.111", Reason.IDENTIFIER_NO_SLASH),
    (b"88.111/", Reason.IDENTIFIER_EMPTY_SUFFIX),
    (b"/a", Reason.PREFIX_EMPTY_SEGMENT),
    (b"88..111/a", Reason.PREFIX_EMPTY_SEGMENT),
]


@pytest.mark.parametrize(("identifier", "reason"), BAD_IDENTIFIERS)
async def test_a_bad_identifier_is_refused_with_its_reason(caller: Caller, identifier: bytes, reason: Reason) -> None:
    code, fault = await refused(caller.raw("Resolve", octets_field(1, identifier)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert (fault.reason, fault.field) == (reason, "identifier")
    assert fault.detail


async def test_an_empty_request_is_an_empty_identifier(caller: Caller) -> None:
    _, fault = await refused(caller.raw("Resolve", b""))
    assert fault.reason is Reason.IDENTIFIER_EMPTY


async def test_a_length_written_longer_than_it_need_be_is_still_a_length(front: Running, caller: Caller) -> None:
    """The second byte equals the rest's length by chance here, and is only the first byte of a length."""
    identifier = b"88.111/".ljust(22, b"x")
    request = b"\x0a\x96\x00" + identifier + octets_field(14, b"") + octets_field(15, b"later".ljust(123))
    assert request[1] == len(request) - 2
    await caller.raw("Resolve", request)
    assert tuple(front.asked.identifiers) == (identifier,)


async def test_a_fault_that_a_whole_prefix_shares_names_the_identifier(front: Running, caller: Caller) -> None:
    for _ in range(3):
        code, fault = await refused(caller.resolve("77/a"))
        assert (code, fault.reason) == (grpc.StatusCode.FAILED_PRECONDITION, Reason.PREFIX_DISABLED)
        assert (fault.field, fault.variables) == ("identifier", {"prefix": "77"})
    response = await caller.batch("88.111/a", "77/a", "77/b")
    fields = [fault_of(result.error).field for result in response.results[1:]]
    assert fields == ["identifiers[1]", "identifiers[2]"]
    (shared,) = await front.below.chain.resolve(replace(front.asked, identifiers=(b"77/a",)))
    assert isinstance(shared, Failed)
    assert shared.fault.__traceback__ is None, "raising the shared one would make it grow"


# --- many identifiers ----------------------------------------------------------------------------------------------


async def test_answers_stand_in_the_order_asked_repeats_included(caller: Caller) -> None:
    asked = ["88.111/b", "88.111/a", "88.111/nothing", "88.111/b", "88.111/光", "88.111/b"]
    response = await caller.batch(*asked)
    found = [result.answer.record.identifier for result in response.results]
    assert found == ["88.111/b", "88.111/a", "", "88.111/b", "88.111/光", "88.111/b"]


async def test_a_batch_answer_is_the_unary_answers_joined(caller: Caller) -> None:
    unary = await caller.raw("Resolve", octets_field(1, b"88.111/a"))
    batch = await caller.raw("BatchResolve", octets_field(1, b"88.111/a") * 3)
    assert batch == octets_field(1, unary) * 3


async def test_bad_identifiers_get_their_own_errors_and_spoil_nothing(caller: Caller) -> None:
    request = b"".join(octets_field(1, b"88.111/a") + octets_field(1, bad) for bad, _ in BAD_IDENTIFIERS)
    response = pb.BatchResolveResponse.FromString(await caller.raw("BatchResolve", request))
    assert len(response.results) == 2 * len(BAD_IDENTIFIERS)
    assert all(result.answer.record.identifier == "88.111/a" for result in response.results[::2])
    for position, (result, (_, reason)) in enumerate(zip(response.results[1::2], BAD_IDENTIFIERS, strict=True)):
        fault = fault_of(result.error)
        assert (fault.reason, fault.field) == (reason, f"identifiers[{2 * position + 1}]")


async def test_a_thousand_are_answered(caller: Caller) -> None:
    response = await caller.batch(*["88.111/a", "88.111/x"] * 500)
    outcomes = [result.answer.outcome for result in response.results]
    assert outcomes == [pb.OUTCOME_FOUND, pb.OUTCOME_ABSENT] * 500


@pytest.mark.parametrize(("count", "reason"), [(0, Reason.BATCH_EMPTY), (1_001, Reason.BATCH_TOO_LARGE)])
async def test_a_batch_of_none_or_too_many_is_refused(caller: Caller, count: int, reason: Reason) -> None:
    code, fault = await refused(caller.batch(*["88.111/a"] * count))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert (fault.reason, fault.field) == (reason, "identifiers")


async def test_a_million_empty_identifiers_are_counted_and_refused(front: Running, caller: Caller) -> None:
    """As many as a request can hold; that none of them was copied is seen by the type of what holds them."""
    count = bounds.BATCH_BYTES // 2
    _, fault = await refused(caller.raw("BatchResolve", octets_field(1, b"") * count))
    assert fault.reason is Reason.BATCH_TOO_LARGE
    assert len(front.asked.identifiers) == count
    assert not isinstance(front.asked.identifiers, list | tuple)


async def test_what_no_longer_fits_gets_its_own_error_and_smaller_ones_stay(front_start: Start) -> None:
    """20 answers of 250 KiB are 5 MB; asked again in two parts, all come."""
    large = [f"88.111/large-{number}" for number in range(20)]
    bodies = {text.upper().encode(): body_of(text, size=250 * 1024) for text in large}
    asked = [*itertools.chain(*((text, "88.111/a") for text in large)), "no slash"]
    async with calling(await front_start(bodies={**bodies, **BODIES})) as caller:
        request = pb.BatchResolveRequest(identifiers=asked).SerializeToString()
        octets = await caller.raw("BatchResolve", request)
        results = pb.BatchResolveResponse.FromString(octets).results
        assert len(octets) <= bounds.ANSWER_BYTES
        assert len(results) == len(asked)
        assert fault_of(results[-1].error).reason is Reason.IDENTIFIER_NO_SLASH
        again = []
        for position, (text, result) in enumerate(zip(asked[:-1], results, strict=False)):
            if result.WhichOneof("result") == "answer":
                assert result.answer.record.identifier == text
                continue
            fault = fault_of(result.error)
            assert (fault.reason, fault.field) == (Reason.ANSWER_TOO_LARGE, f"identifiers[{position}]")
            again.append(text)
        assert again == large[14:], "14 times 250 KiB is what fits into 3.5 MiB"
        rest = await caller.batch(*again)
        assert [result.answer.record.identifier for result in rest.results] == again


# --- what is wanted -----------------------------------------------------------------------------------------------


async def test_options_reach_the_chain(front: Running, caller: Caller) -> None:
    options = {
        "types": ["URL", "PART."],
        "indexes": [1, 7],
        "mode": pb.MODE_REFERRAL,
        "authoritative": True,
        "with_copy": True,
    }
    for call in (caller.resolve, caller.batch):
        await call("88.111/a", **options)
        query = front.asked
        assert (query.types, query.indexes, query.mode) == (("URL", "PART."), (1, 7), Mode.REFERRAL)
        assert (query.authoritative, query.with_copy, query.trace) == (True, True, None)


async def test_without_options_everything_is_wanted_from_here(front: Running, caller: Caller) -> None:
    for options in ({}, {"mode": pb.MODE_UNSPECIFIED, "types": []}):
        await caller.resolve("88.111/a", **options)
        query = front.asked
        assert (query.is_filtered, query.mode, query.authoritative) == (False, Mode.LOCAL, False)


@pytest.mark.parametrize(
    ("options", "reason", "field"),
    [
        ({"mode": 99}, Reason.ENUM_UNKNOWN, "options.mode"),
        ({"mode": -1}, Reason.ENUM_UNKNOWN, "options.mode"),
        ({"indexes": [0]}, Reason.FIELD_OUT_OF_RANGE, "options.indexes"),
        ({"indexes": [2**31]}, Reason.FIELD_OUT_OF_RANGE, "options.indexes"),
        ({"types": [""]}, Reason.FIELD_OUT_OF_RANGE, "options.types"),
        ({"types": ["T"] * (bounds.FILTER_TERMS + 1)}, Reason.FIELD_OUT_OF_RANGE, "options.types"),
    ],
)
async def test_options_outside_their_range_are_refused(
    caller: Caller, options: dict[str, Any], reason: Reason, field: str
) -> None:
    for call in (caller.resolve, caller.batch):
        code, fault = await refused(call("88.111/a", **options))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert (fault.reason, fault.field) == (reason, field)


@pytest.mark.parametrize("method", ["Resolve", "BatchResolve", "ListHandles", "GetNodeInfo"])
@pytest.mark.parametrize("octets", [b"\xff", b"\x0a\x05abc", b"\x0a", b"garbage"])
async def test_bytes_that_are_no_request_are_refused(
    front: Running, caller: Caller, method: str, octets: bytes
) -> None:
    """Truncated ones too."""
    code, fault = await refused(caller.raw(method, octets))
    assert (code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, Reason.REQUEST_MALFORMED)
    assert f"{method}Request." in fault.detail
    assert not front.below.chain.asked


@pytest.mark.parametrize("method", ["Resolve", "BatchResolve"])
async def test_options_that_are_not_utf_8_are_no_request(caller: Caller, method: str) -> None:
    request = octets_field(1, b"88.111/a") + octets_field(2, octets_field(1, b"URL\xff"))
    _, fault = await refused(caller.raw(method, request))
    assert fault.reason is Reason.REQUEST_MALFORMED


async def test_a_field_of_a_later_version_is_passed_over(front: Running, caller: Caller) -> None:
    await caller.raw("Resolve", octets_field(1, b"88.111/a") + octets_field(15, b"later"))
    assert tuple(front.asked.identifiers) == (b"88.111/a",)


@pytest.mark.parametrize("signs", [None, HOLDER], ids=["unsigned", "signed"])
@pytest.mark.parametrize("method", ["Resolve", "BatchResolve", "ListHandles", "GetNodeInfo"])
async def test_a_message_of_five_mebibytes_is_refused_unread(
    front: Running, method: str, signs: Signs | None
) -> None:
    """With its reason on the wire, where every client can read it: no code of ours stands between."""
    request = octets_field(1, b"x" * (5 << 20))
    async with grpc.aio.insecure_channel(front.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await Caller(channel, signs).raw(method, request)
    trailing = dict(raised.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("topnode", "REQUEST_TOO_LARGE")
    assert dict(info.metadata) == {"allowed": str(ALLOWED[method])}
    assert not front.below.chain.asked
    counted = {"method": method, "code": "RESOURCE_EXHAUSTED"}
    assert front.below.registry.get_sample_value("topnode_resolver_calls_total", counted) == 1


async def test_an_unknown_method_is_unimplemented(caller: Caller) -> None:
    code, _ = await refused(caller.raw("Invented", b""))
    assert code is grpc.StatusCode.UNIMPLEMENTED


# --- who asks, and until when --------------------------------------------------------------------------------------


async def test_a_caller_is_an_address(front: Running, caller: Caller) -> None:
    await caller.resolve("88.111/a")
    assert front.asked.asker == Asker("127.0.0.1")


async def test_a_deadline_is_the_callers_within_the_fronts(front_start: Start) -> None:
    clock = SetClock()
    running = await front_start(clock=clock, settings=FrontSettings(deadline=Duration(30)))
    async with calling(running) as caller:
        request = octets_field(1, b"88.111/a")
        await caller.raw("Resolve", request)
        # One front counts in milliseconds.
        assert running.asked.deadline == pytest.approx(clock.monotonic() + 30, abs=0.01)
        await caller.raw("BatchResolve", request, timeout=3_600)
        # One front counts in milliseconds.
        assert running.asked.deadline == pytest.approx(clock.monotonic() + 30, abs=0.01)


@pytest.mark.parametrize("front_start", ["grpcio"], indirect=True)
async def test_a_callers_shorter_deadline_reaches_the_chain(front_start: Start) -> None:
    """Where nothing is merged: another front ends the call by itself, and the flight has a deadline of its own."""
    clock = SetClock()
    running = await front_start(clock=clock, settings=FrontSettings(deadline=Duration(30)))
    async with calling(running) as caller:
        await caller.raw("Resolve", octets_field(1, b"88.111/a"), timeout=20)
        # On the wire a timeout has few digits, and is rounded up.
        assert clock.monotonic() + 10 < running.asked.deadline < clock.monotonic() + 21


async def test_a_caller_is_told_when_its_deadline_has_passed(front_start: Start) -> None:
    running = await front_start(chain=Held())
    async with calling(running) as caller:
        code, _ = await refused(caller.raw("Resolve", octets_field(1, b"88.111/a"), timeout=0.1))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("method", ["Resolve", "BatchResolve"])
async def test_a_deadline_already_past_is_told(front_start: Start, method: str) -> None:
    running = await front_start(clock=SlowClock(), settings=FrontSettings(deadline=Duration(0.5)))
    async with calling(running) as caller:
        code, fault = await refused(caller.raw(method, octets_field(1, b"88.111/a")))
    assert (code, fault.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE_SPENT)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize(
    ("alternatives", "identity"), [((), "line 3"), (("plc.plant.test", "other.test"), "plc.plant.test")]
)
async def test_a_verified_certificate_gives_an_identity(
    front_start: Start, authority: Authority, alternatives: tuple[str, ...], identity: str
) -> None:
    node = authority.issue("node", alternatives=("node.test",))
    client = authority.issue("line 3", alternatives=alternatives)
    tls = ServerTls(certificate=node.certificate, key=node.key, client_ca=authority.path)
    running = await front_start(serving=ServingSettings(address="127.0.0.1:0", tls=tls))
    proven = ClientTls(server_ca=authority.path, certificate=client.certificate, key=client.key)
    async with calling(running, proven) as caller:
        await caller.resolve("88.111/a")
        assert running.asked.asker == Asker("127.0.0.1", identity)


# --- signed queries -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signs", [HOLDER, OTHER, OPERATOR], ids=lambda signs: signs.actor)
async def test_a_signature_gives_an_identity(front: Running, signs: Signs) -> None:
    """Beside callers who do not sign, on the same connection."""
    async with calling(front) as caller:
        request = octets_field(1, b"88.111/a")
        for method in ("Resolve", "BatchResolve"):
            unsigned = await caller.raw(method, request)
            assert front.asked.asker == Asker("127.0.0.1")
            signed = await caller.raw(method, request, metadata=(("other", "1"), signs.metadata(method, request)))
            assert front.asked.asker == Asker("127.0.0.1", signs.actor, is_operator=signs is OPERATOR)
            assert not front.asked.is_full, "what is shown to whom is said in the chain"
            assert signed == unsigned
            await caller.raw(method, request, metadata=(("topnode-query", "text"),))
            assert front.asked.asker == Asker("127.0.0.1")


async def test_a_node_that_has_an_operators_name_is_no_operator(front_start: Start) -> None:
    """The key says who it is: the name of an operator may be newer than the node."""
    namesake = Signs(OPERATOR.actor, PrivateKey.generate())
    nodes = members()
    nodes.put([namesake.row()])
    running = await front_start(nodes=nodes, index=LISTED, routes=_routes())
    async with calling(running, signs=namesake) as caller:
        await caller.resolve("88.111/a")
        assert running.asked.asker == Asker("127.0.0.1", OPERATOR.actor)
        _, fault = await refused(caller.list("88.111"))
        assert fault.reason is Reason.LISTING_NOT_ALLOWED


REQUEST: Final = octets_field(1, b"88.111/a")
NOW: Final = time.time()


@pytest.mark.parametrize("method", ["Resolve", "BatchResolve", "ListHandles"])
@pytest.mark.parametrize(
    ("signs", "other", "reason"),
    [
        (STRANGER, {}, Reason.KEY_UNKNOWN),
        (SUSPENDED, {}, Reason.NODE_NOT_ENABLED),
        (HOLDER, {"actor": "88.1110"}, Reason.ACTOR_MISMATCH),
        (HOLDER, {"node": "89"}, Reason.AUDIENCE_WRONG),
        (HOLDER, {"method": f"{SERVICE}/GetNodeInfo"}, Reason.AUDIENCE_WRONG),
        (HOLDER, {"request": octets_field(1, b"88.111/b")}, Reason.SIGNATURE_INVALID),
        (HOLDER, {"now": NOW - 3_600}, Reason.ENVELOPE_EXPIRED),
        (HOLDER, {"now": NOW + 3_600}, Reason.ENVELOPE_NOT_YET_VALID),
        (HOLDER, {"lifetime": 3_600}, Reason.ENVELOPE_LIFETIME),
    ],
)
async def test_a_signature_that_proves_nothing_is_refused(
    front: Running, caller: Caller, method: str, signs: Signs, other: dict[str, Any], reason: Reason
) -> None:
    """And is not passed over: who signs wants more than the public is shown, and is told why not."""
    metadata = signs.metadata(method, **{"request": REQUEST, **other})
    code, fault = await refused(caller.raw(method, REQUEST, metadata=(metadata,)))
    assert fault.reason is reason
    if reason in (Reason.ENVELOPE_EXPIRED, Reason.ENVELOPE_NOT_YET_VALID):
        assert abs(int(fault.variables["server_time"]) - time.time()) < 60
    assert not front.below.chain.asked
    labels = {"method": method, "code": code.name}
    assert front.below.registry.get_sample_value("topnode_resolver_calls_total", labels) == 1


@pytest.mark.parametrize("method", ["Resolve", "BatchResolve", "ListHandles"])
async def test_a_damaged_or_repeated_signature_is_refused(front: Running, caller: Caller, method: str) -> None:
    key, octets = HOLDER.metadata(method, REQUEST)
    envelope = Envelope.from_bytes(octets)
    (signature,) = envelope.signatures
    forged = replace(envelope, signatures=(replace(signature, sig=bytes(64)),))
    for damaged, reason in (
        (((key, b""),), Reason.ENVELOPE_MALFORMED),
        (((key, octets[:-1]),), Reason.ENVELOPE_MALFORMED),
        (((key, octets), (key, octets)), Reason.ENVELOPE_MALFORMED),
        (((key, forged.to_bytes()),), Reason.SIGNATURE_INVALID),
    ):
        _, fault = await refused(caller.raw(method, REQUEST, metadata=damaged))
        assert fault.reason is reason
    assert not front.below.chain.asked


async def test_calls_with_and_without_a_signature_are_counted_together(front: Running, caller: Caller) -> None:
    await caller.raw("Resolve", REQUEST)
    await caller.raw("Resolve", REQUEST, metadata=(HOLDER.metadata("Resolve", REQUEST),))
    labels = {"method": "Resolve", "code": "OK"}
    assert front.below.registry.get_sample_value("topnode_resolver_calls_total", labels) == 2


# --- what went wrong ------------------------------------------------------------------------------------------------


async def test_a_refusal_of_the_chain_is_told_with_its_retry_time(front: Running, caller: Caller) -> None:
    front.below.chain.fault = Fault(Reason.RATE_LIMITED, retry_after=0.5, variables={"per_second": "10"})
    for call in (caller.resolve, caller.batch):
        code, fault = await refused(call("88.111/a"))
        assert (code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.RATE_LIMITED)
        assert (fault.retry_after, fault.variables) == (0.5, {"per_second": "10"})


async def test_a_mistake_of_the_node_is_logged_under_an_id_and_stays_inside(
    front: Running, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    front.below.chain.fault = RuntimeError("the password is 1234")
    for call in (caller.resolve, caller.batch):
        caplog.clear()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call("88.111/a")
        fault = fault_of_rpc_error(raised.value)
        assert (raised.value.code(), fault.reason) == (grpc.StatusCode.INTERNAL, Reason.INTERNAL)
        assert "1234" not in repr(raised.value) + repr(raised.value.trailing_metadata())
        (logged,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert fault.variables["request_id"] in logged.getMessage()
        assert logged.exc_info
        assert logged.exc_info[1] is front.below.chain.fault


# --- the way of an answer ------------------------------------------------------------------------------------------


async def _trailing(running: Running, method: str, request: bytes) -> dict[str, Any]:
    async with open_channel(running.address, ChannelSettings()) as channel:
        unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/{method}")
        call = unary(request)
        trailing = await call.trailing_metadata()
        return dict(trailing)


@pytest.mark.parametrize("method", ["Resolve", "BatchResolve"])
async def test_a_trace_is_told_to_whoever_asks(front: Running, method: str) -> None:
    options = octets_field(2, pb.Options(trace=True).SerializeToString())
    request = octets_field(1, b"88.111/a")
    traced = await _trailing(front, method, request + options)
    (step,) = wire.trace_steps(traced[TRACE_KEY])
    assert (step.node, step.tier, step.verdict) == ("88", "shelf", "looked")
    assert TRACE_KEY not in await _trailing(front, method, request)


async def test_a_call_that_fails_tells_its_trace_too(front: Running) -> None:
    front.below.chain.fault = Fault(Reason.STORE_UNAVAILABLE)
    options = octets_field(2, pb.Options(trace=True).SerializeToString())
    trailing = await _trailing(front, "Resolve", octets_field(1, b"88.111/a") + options)
    assert wire.trace_steps(trailing[TRACE_KEY])
    assert "grpc-status-details-bin" in trailing


# --- listing --------------------------------------------------------------------------------------------------------


LISTED: Final = Index(
    *(f"88.111/Part-{number}" for number in range(250)),
    *(f"88.111.{below}/Part-{number}" for below in (1, 2, 3) for number in range(3)),
    "88.1110/other",
)


def _routes(*changed: Prefix) -> RouteTable:
    routes = RouteTable()
    routes.put([Prefix("88.111", "88.111"), Prefix("88.1110", "88.1110"), *changed])
    return routes


async def _all_pages(caller: Caller, prefix: str, **wanted: Any) -> list[list[str]]:
    pages = []
    token = ""
    while True:
        page = await caller.list(prefix, page_token=token, **wanted)
        pages.append(list(page.identifiers))
        token = page.next_page_token
        if not token:
            return pages


async def test_pages_join_to_the_whole_listing(front_start: Start) -> None:
    async with calling(await front_start(index=LISTED, routes=_routes()), signs=HOLDER) as caller:
        pages = await _all_pages(caller, "88.111", page_size=99)
        assert [len(page) for page in pages] == [99, 99, 52]
        listed = list(itertools.chain(*pages))
        assert sorted(listed) == sorted({f"88.111/Part-{number}" for number in range(250)})
        assert [len(page) for page in await _all_pages(caller, "88.111")] == [100, 100, 50]


async def test_a_page_is_never_longer_than_its_bound(front_start: Start) -> None:
    """Whatever is asked for: one identifier more than a page may have comes on a page of its own."""
    index = Index(*(f"88.111/Part-{number}" for number in range(bounds.LIST_PAGE + 1)))
    async with calling(await front_start(index=index, routes=_routes()), signs=HOLDER) as caller:
        for size in (1_000_000, 2**31 - 1, bounds.LIST_PAGE):
            pages = await _all_pages(caller, "88.111", page_size=size)
            assert [len(page) for page in pages] == [1_000, 1]
        assert len({*itertools.chain(*pages)}) == 1_001


async def test_derived_prefixes_are_those_by_segments(front_start: Start) -> None:
    async with calling(await front_start(index=LISTED, routes=_routes()), signs=HOLDER) as caller:
        listed = list(itertools.chain(*await _all_pages(caller, "88.111", derived=True)))
        assert len(listed) == 259
        assert "88.1110/other" not in listed
        assert list(itertools.chain(*await _all_pages(caller, "88.111.2"))) == [
            f"88.111.2/Part-{number}" for number in range(3)
        ]


async def test_nothing_is_listed_where_nothing_is_said(front_start: Start) -> None:
    routes = _routes(
        Prefix("88.111.2", "88.111.2", state=PrefixState.DISABLED),
        Prefix("88.111.3", "88.111.3", hosting=Hosting.DELEGATED, expires_at=1),
    )
    routes.tell_time(2)
    async with calling(await front_start(index=LISTED, routes=routes), signs=OPERATOR) as caller:
        listed = list(itertools.chain(*await _all_pages(caller, "88.111", derived=True)))
        assert {text.partition("/")[0] for text in listed} == {"88.111", "88.111.1"}
        for prefix, reason in (
            ("88.111.2", Reason.PREFIX_DISABLED),
            ("88.111.3", Reason.PREFIX_EXPIRED),
            ("88.111.3.4", Reason.PREFIX_EXPIRED),
            ("99", Reason.PREFIX_NOT_ALLOCATED),
        ):
            code, fault = await refused(caller.list(prefix))
            assert (code, fault.reason) == (grpc.StatusCode.FAILED_PRECONDITION, reason)
            assert fault.field == "prefix"


@pytest.mark.parametrize(
    ("signs", "prefix", "is_admitted"),
    [
        (HOLDER, "88.111", True),
        # Below an allocation that is another's too: the prefix above is this one's.
        (HOLDER, "88.111.2", True),
        (HOLDER, "88.111.2.7", True),
        (HOLDER, "88.1110", False),
        (HOLDER, "88", False),
        (BELOW, "88.111.2", True),
        (BELOW, "88.111", False),
        (BELOW, "88.111.3", False),
        (OTHER, "88.111", False),
        (OPERATOR, "88.111", True),
        (OPERATOR, "88.1110", True),
        (None, "88.111", False),
        (None, "99", False),
    ],
)
async def test_holders_list_what_is_theirs_or_below_and_operators_everything(
    front_start: Start, signs: Signs | None, prefix: str, *, is_admitted: bool
) -> None:
    running = await front_start(index=LISTED, routes=_routes(Prefix("88.111.2", "88.111.2")))
    async with calling(running, signs=signs) as caller:
        if is_admitted:
            await caller.list(prefix)
            return
        code, fault = await refused(caller.list(prefix))
        assert (code, fault.reason) == (grpc.StatusCode.PERMISSION_DENIED, Reason.LISTING_NOT_ALLOWED)
        assert fault.variables == ({"identity": signs.actor} if signs else {})


async def test_an_application_does_not_make_a_holder(front_start: Start) -> None:
    routes = _routes(Prefix("88.111.2", "88.111.2", state=PrefixState.PENDING))
    async with calling(await front_start(index=LISTED, routes=routes), signs=BELOW) as caller:
        _, fault = await refused(caller.list("88.111.2"))
        assert fault.reason is Reason.LISTING_NOT_ALLOWED


@pytest.mark.parametrize(
    ("name", "is_admitted"),
    [("88.111", True), ("88.1110", False), ("88.222", False), ("alice", False), ("88", False)],
)
async def test_a_certificate_lets_list_by_its_nodes_rights(
    front_start: Start, authority: Authority, name: str, *, is_admitted: bool
) -> None:
    """Of enabled nodes only; an operator's name in a certificate makes no operator, this node's name no holder."""
    node = authority.issue("node", alternatives=("node.test",))
    client = authority.issue(name, to="client")
    tls = ServerTls(certificate=node.certificate, key=node.key, client_ca=authority.path)
    serving = ServingSettings(address="127.0.0.1:0", tls=tls)
    routes = _routes(Prefix("88.222", "88.222"), Prefix("88.333", CARD.node))
    running = await front_start(index=LISTED, routes=routes, serving=serving)
    proven = ClientTls(server_ca=authority.path, certificate=client.certificate, key=client.key)
    async with calling(running, proven) as caller:
        if is_admitted:
            assert (await caller.list("88.111")).identifiers
        for prefix in ("88.222", "88.333"):
            _, fault = await refused(caller.list(prefix))
            assert fault.reason is Reason.LISTING_NOT_ALLOWED
            assert fault.variables == {"identity": name}


async def test_nothing_is_listed_while_nobody_knows_who_is_suspended(front_start: Start) -> None:
    running = await front_start(index=LISTED, routes=_routes(), is_current=lambda: False)
    for signs, reason in ((HOLDER, Reason.STORE_UNAVAILABLE), (OTHER, Reason.LISTING_NOT_ALLOWED)):
        async with calling(running, signs=signs) as caller:
            _, fault = await refused(caller.list("88.111"))
            assert fault.reason is reason


@pytest.mark.parametrize(
    ("wanted", "reason", "field"),
    [
        ({"page_size": -1}, Reason.FIELD_OUT_OF_RANGE, "page_size"),
        ({"page_token": "forged"}, Reason.PAGE_TOKEN_INVALID, "page_token"),
        ({"page_token": "A" * 10_000}, Reason.PAGE_TOKEN_INVALID, "page_token"),
        ({"prefix": ""}, Reason.IDENTIFIER_EMPTY, "prefix"),
        ({"prefix": "88.111/a"}, Reason.PREFIX_HAS_SLASH, "prefix"),
        ({"prefix": "88..111"}, Reason.PREFIX_EMPTY_SEGMENT, "prefix"),
    ],
)
async def test_a_listing_that_cannot_be_is_refused(
    front_start: Start, wanted: dict[str, Any], reason: Reason, field: str
) -> None:
    async with calling(await front_start(index=LISTED, routes=_routes()), signs=HOLDER) as caller:
        code, fault = await refused(caller.list(**{"prefix": "88.111", **wanted}))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert (fault.reason, fault.field) == (reason, field)


async def test_a_token_is_good_for_its_own_listing_only(front_start: Start) -> None:
    async with calling(await front_start(index=LISTED, routes=_routes()), signs=OPERATOR) as caller:
        token = (await caller.list("88.111")).next_page_token
        assert (await caller.list("88.111", page_token=token, page_size=7)).identifiers
        for prefix, wanted in (("88.1110", {}), ("88.111", {"derived": True})):
            _, fault = await refused(caller.list(prefix, page_token=token, **wanted))
            assert fault.reason is Reason.PAGE_TOKEN_INVALID


# --- who the node is, and what is counted ----------------------------------------------------------------------


async def test_a_node_tells_who_it_is_and_what_it_bounds(caller: Caller) -> None:
    told = pb.GetNodeInfoResponse.FromString(await caller.raw("GetNodeInfo", b""))
    assert (told.node, told.tier, told.software_version) == ("88", "top", "1.2.3")
    assert (told.wire_version, told.store_format, told.applied_index) == ("topnode.resolver.v1", FORMAT, 42)
    assert not told.recursion_available
    assert list(told.answer_tiers) == ["memory", "store"]
    assert told.bounds.answers_kept_seconds == 7_776_000  # 90 days, which clients rely on
    for field in pb.Bounds.DESCRIPTOR.fields:
        name = field.name.removesuffix("_seconds").upper()
        assert getattr(told.bounds, field.name) == getattr(bounds, name)


@pytest.mark.parametrize("front_start", ["grpcio"], indirect=True)
async def test_reflection_tells_the_service_as_callers_know_it(front: Running) -> None:
    async with open_channel(front.address, ChannelSettings()) as channel:
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
        ]
        listed, told = [each async for each in reflection.ServerReflectionInfo(iter(asked))]
    assert SERVICE in {service.name for service in listed.list_services_response.service}
    files = [FileDescriptorProto.FromString(octets) for octets in told.file_descriptor_response.file_descriptor_proto]
    (file,) = [each for each in files if each.service]
    methods = {method.name for method in file.service[0].method}
    assert methods == {"Resolve", "BatchResolve", "StreamResolve", "ListHandles", "GetNodeInfo"}


async def test_health_answers_for_the_service(front: Running) -> None:
    async with open_channel(front.address, ChannelSettings()) as channel:
        told = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert told.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("seconds", [0, -1, 3_600])
def test_a_deadline_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(Fault, match="SETTING_INVALID") as raised:
        FrontSettings(deadline=Duration(seconds))
    assert raised.value.field == "deadline"


async def test_calls_and_identifiers_are_counted(front: Running, caller: Caller) -> None:
    await caller.resolve("88.111/a")
    await refused(caller.resolve("no slash"))
    await caller.batch("88.111/a", "88.111/b", "88.111/nothing", "no slash")
    await refused(caller.batch())
    value = front.below.registry.get_sample_value
    calls = "topnode_resolver_calls_total"
    for method in ("Resolve", "BatchResolve"):
        assert value(calls, {"method": method, "code": "OK"}) == 1
        assert value(calls, {"method": method, "code": "INVALID_ARGUMENT"}) == 1
        assert value("topnode_resolver_call_seconds_count", {"method": method}) == 2
        assert value("topnode_resolver_call_seconds_bucket", {"method": method, "le": "+Inf"}) == 2
    counted = {
        outcome: value("topnode_resolver_identifiers_total", {"outcome": outcome})
        for outcome in ("found", "absent", "fault", "not_here", "referral")
    }
    assert counted == {"found": 3, "absent": 1, "fault": 2, "not_here": 0, "referral": 0}


class Held(Shelf):
    """A chain that never answers: `begun` and `ended` tell of what it was asked."""

    def __init__(self) -> None:
        super().__init__(BODIES, SystemClock())
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def resolve(self, query: Query) -> Sequence[Ready]:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return await super().resolve(query)


async def test_a_call_whose_caller_went_away_is_counted_as_cancelled(front_start: Start) -> None:
    running = await front_start(chain=(held := Held()))
    async with calling(running) as caller:
        call = asyncio.ensure_future(caller.raw("Resolve", octets_field(1, b"88.111/a")))
        await held.begun.wait()
        call.cancel()
        labels = {"method": "Resolve", "code": "CANCELLED"}
        async with asyncio.timeout(10):
            while running.below.registry.get_sample_value("topnode_resolver_calls_total", labels) != 1:
                await caller.raw("GetNodeInfo", b"")


@pytest.mark.parametrize("front_start", ["grpcio"], indirect=True)
async def test_what_nobody_waits_for_any_more_is_ended(front_start: Start) -> None:
    """Where nothing is merged: another front lets go on what several may have asked for, by its own deadline."""
    running = await front_start(chain=(held := Held()))
    async with calling(running) as caller:
        call = asyncio.ensure_future(caller.raw("Resolve", octets_field(1, b"88.111/a")))
        await held.begun.wait()
        call.cancel()
        await asyncio.wait_for(held.ended.wait(), 10)
