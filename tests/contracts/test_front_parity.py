"""Two fronts over the same chain say the same, octet for octet, whatever they are asked.

The first is always the grpcio front. It is compared with itself too: what then differs is no property of a front, and
the comparison must not look at it. Calls go over plain sockets: so what no client of gRPC would send can be sent.
"""

import asyncio
import base64
import gzip
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from resolver import bounds
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.front.core import SERVICE, TRACE_KEY
from resolver.query import Query
from resolver.routes import RouteTable
from resolver.rpc.errors import DETAILS_KEY
from resolver.v1 import resolver_pb2 as pb
from resolver.wire import trace_steps
from tests.contracts.test_front import (
    BAD_IDENTIFIERS,
    BODIES,
    HOLDER,
    KINDS,
    LONG,
    RUNS,
    STRANGER,
    Below,
    Run,
    Shelf,
    members,
    octets_field,
)
from tests.services import hpack
from tests.services.http2 import Connection, Ended, message

METHODS: Final = ("Resolve", "BatchResolve", "ListHandles", "GetNodeInfo")
SLOW: Final = b"88.111/slow"
MISTAKEN: Final = b"88.111/mistaken"
PATIENCE: Final = 20.0
EXAMPLES: Final = 400
"""Of the kinds of which there are most; two calls each, of a millisecond."""

Pairs = tuple[tuple[bytes, bytes], ...]


# --- what stands below both ----------------------------------------------------------------------------------------


class Ponderous(Shelf):
    """A shelf that holds two more identifiers: one is found late, and one never, by a mistake."""

    async def resolve(self, query: Query) -> Any:
        if SLOW in query.identifiers:
            await asyncio.sleep(2)
        if MISTAKEN in query.identifiers:
            raise RuntimeError("a mistake")
        return await super().resolve(query)


def below(bodies: Mapping[bytes, bytes] = BODIES) -> Below:
    clock = SystemClock()
    return Below(
        chain=Ponderous(bodies, clock),
        routes=RouteTable(),
        nodes=members(),
        clock=clock,
        registry=CollectorRegistry(),
    )


@contextmanager
def running(run: Run, stands_on: Below) -> Iterator[str]:
    """Run a front in a thread of its own, and give its address."""
    address: Future[str] = Future()
    ending: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        ended = asyncio.Event()
        try:
            async with run(stands_on) as listening:
                ending.set_result((asyncio.get_running_loop(), ended))
                address.set_result(listening)
                await ended.wait()
        except BaseException as error:
            if not address.done():
                address.set_exception(error)
            raise

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield address.result(PATIENCE)
    finally:
        if address.exception() is None:
            loop, ended = ending.result()
            loop.call_soon_threadsafe(ended.set)
        thread.join(PATIENCE)


# --- what is asked and what is said --------------------------------------------------------------------------------


class Request(NamedTuple):
    """A call: the path, the message, how it is framed, and what goes beside it."""

    path: str
    octets: bytes
    metadata: Pairs = ()
    flag: int = 0


class Said(NamedTuple):
    """What of an answer has to be the same: all but what is of its moment."""

    status: int | str | None
    text: bytes
    messages: tuple[bytes, ...]
    details: tuple[object, ...]
    metadata: Pairs
    begins: Pairs


OF_TRANSPORT: Final = frozenset({b"grpc-accept-encoding", b"grpc-encoding", b"grpc-status", b"grpc-message"})
"""Headers that are said otherwise, or that a front may leave away."""

OF_THE_MOMENT: Final = frozenset({"request_id", "server_time"})
"""Variables of a fault that are other ones each time."""

DEADLINE: Final = "deadline"
CANCEL: Final = 8


def said(ended: Ended | None) -> Said:
    """Reduce an answer to what has to be the same."""
    if ended is None:
        return Said("no answer", b"", (), (), (), ())
    metadata = dict(ended.headers)
    details = metadata.get(DETAILS_KEY.encode())
    is_late = ended.status == 4 or (ended.status is None and ended.reset == CANCEL)
    if is_late and not details:
        # A server may also reset a call whose time is over: its caller has given it up by itself.
        return Said(DEADLINE, b"", (), (), (), ())
    is_mistake = details is not None and Reason.INTERNAL.name.encode() in _octets(details)
    return Said(
        status=ended.status if ended.reset is None or ended.status is not None else f"reset {ended.reset}",
        text=b"" if is_mistake else unquote_to_bytes(metadata.get(b"grpc-message", b"")),
        messages=ended.messages,
        details=tuple(_details(_octets(details))) if details else (),
        metadata=tuple(sorted(_metadata(ended.headers))),
        begins=tuple(pair for pair in ended.headers if pair[0] in (b":status", b"content-type")),
    )


def _octets(value: bytes) -> bytes:
    return base64.b64decode(value + b"=" * (-len(value) % 4))


def _details(octets: bytes) -> Iterator[object]:
    status = status_pb2.Status.FromString(octets)
    yield status.code
    for detail in status.details:
        yield detail.type_url
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            yield (
                info.reason,
                info.domain,
                sorted((*each,) for each in info.metadata.items() if each[0] not in OF_THE_MOMENT),
            )
        else:
            yield detail.value


def _metadata(headers: hpack.Headers) -> Iterator[tuple[bytes, bytes]]:
    for key, value in headers:
        if key == TRACE_KEY.encode():
            steps = trace_steps(_octets(value))
            yield key, repr([(step.node, step.tier, step.verdict) for step in steps]).encode()
        elif (
            key not in OF_TRANSPORT
            and key != DETAILS_KEY.encode()
            and not key.startswith(b":")
            and key != b"content-type"
        ):
            yield key, _octets(value) if key.endswith(b"-bin") else value


class Asked:
    """A front that is asked over one connection, and over a new one where that has ended."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None

    def say(self, request: Request) -> Said:
        connection = self._connection
        if connection is None or connection.is_closed or connection.goaway is not None:
            self.close()
            connection = self._connection = Connection(self._address)
        framed = message(request.octets, flag=request.flag)
        return said(connection.call(request.path, framed, *request.metadata, seconds=PATIENCE))

    def close(self) -> None:
        if self._connection:
            self._connection.close()


class Pair(NamedTuple):
    """Two fronts over chains that hold the same."""

    names: tuple[str, str]
    fronts: tuple[Asked, Asked]

    def compare(self, request: Request) -> Said:
        """Ask both; they must say the same."""
        one, other = (front.say(request) for front in self.fronts)
        assert one == other, self.names
        return one


@contextmanager
def pair_of(one: str, other: str, *, others: Mapping[bytes, bytes] = BODIES) -> Iterator[Pair]:
    with ExitStack() as opened:
        fronts = []
        for name, bodies in ((one, BODIES), (other, others)):
            asked = Asked(opened.enter_context(running(RUNS[name], below(bodies))))
            opened.callback(asked.close)
            fronts.append(asked)
        first, second = fronts
        yield Pair((one, other), (first, second))


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with pair_of("grpcio", request.param) as made:
        yield made


# --- what has gone wrong somewhere, once ---------------------------------------------------------------------------


def _request(method: str, octets: bytes, *metadata: tuple[bytes, bytes], flag: int = 0) -> Request:
    return Request(f"/{SERVICE}/{method}", octets, metadata, flag)


def _signed(method: str, octets: bytes, signs: Any = HOLDER) -> Request:
    key, envelope = signs.metadata(method, octets)
    return _request(method, octets, (key.encode(), base64.b64encode(envelope)))


def _options(**options: Any) -> bytes:
    return octets_field(2, pb.Options(**options).SerializeToString())


A: Final = octets_field(1, b"88.111/a")
B: Final = octets_field(1, b"88.111/b")
NONE: Final = octets_field(1, b"88.111/nothing")

RECORDED: Final[Mapping[str, Request]] = {
    "found": _request("Resolve", A),
    "another spelling": _request("Resolve", octets_field(1, b"88.111/A")),
    "again": _request("Resolve", octets_field(1, b"88.111/A")),
    "beyond ASCII": _request("Resolve", octets_field(1, "88.111/光".encode())),
    "long": _request("Resolve", octets_field(1, LONG.encode())),
    "absent": _request("Resolve", NONE),
    "empty": _request("Resolve", b""),
    "twice": _request("Resolve", A + B),
    "a later field": _request("Resolve", A + octets_field(15, b"later")),
    "a later field first": _request("Resolve", octets_field(15, b"later") + A),
    "empty options": _request("Resolve", A + octets_field(2, b"")),
    "a length of two octets": _request("Resolve", b"\x0a\x88\x00" + b"88.111/a"),
    "a tag of two octets": _request("Resolve", b"\x8a\x00\x08" + b"88.111/a"),
    "a group": _request("Resolve", A + b"\x7b\x7c"),
    "half a group": _request("Resolve", A + b"\x7b"),
    "the field as a number": _request("Resolve", b"\x08\x01"),
    "the field number 0": _request("Resolve", b"\x02\x00" + A),
    "a disabled prefix": _request("Resolve", octets_field(1, b"77/a")),
    "options": _request("Resolve", A + _options(types=["URL", "PART."], indexes=[1, 7], authoritative=True)),
    "an unknown mode": _request("Resolve", A + _options(mode=99)),
    "an index of 0": _request("Resolve", A + _options(indexes=[0])),
    "options that are not UTF-8": _request("Resolve", A + octets_field(2, octets_field(1, b"URL\xff"))),
    "a trace": _request("Resolve", A + _options(trace=True)),
    "a mistake": _request("Resolve", octets_field(1, MISTAKEN)),
    "a mistake with a trace": _request("Resolve", octets_field(1, MISTAKEN) + _options(trace=True)),
    "a batch": _request("BatchResolve", A + NONE + B + A),
    "a batch of one": _request("BatchResolve", A),
    "a batch of none": _request("BatchResolve", b""),
    "a batch of a thousand": _request("BatchResolve", (A + NONE) * 500),
    "a batch of one too many": _request("BatchResolve", A * 1_001),
    "a batch with all that is wrong": _request(
        "BatchResolve", b"".join(A + octets_field(1, bad) for bad, _ in BAD_IDENTIFIERS)
    ),
    "a batch below a disabled prefix": _request(
        "BatchResolve", A + octets_field(1, b"77/a") + octets_field(1, b"77/b")
    ),
    "a batch with options": _request("BatchResolve", A + B + _options(types=["URL"])),
    "a batch with options in between": _request("BatchResolve", A + _options(trace=True) + B),
    "a batch with a mistake": _request("BatchResolve", A + octets_field(1, MISTAKEN)),
    "a listing": _request("ListHandles", octets_field(1, b"88.111")),
    "a listing that is signed": _signed("ListHandles", octets_field(1, b"88.111")),
    "who the node is": _request("GetNodeInfo", b""),
    "a signature": _signed("Resolve", A),
    "a signature over a batch": _signed("BatchResolve", A + B),
    "a signature of a stranger": _signed("Resolve", A, STRANGER),
    "a signature that is none": _request("Resolve", A, (b"topnode-query-bin", b"AAAA")),
    "a signature that is not base64": _request("Resolve", A, (b"topnode-query-bin", b"!")),
    "too large": _request("Resolve", octets_field(1, b"x" * bounds.LOOKUP_BYTES)),
    "as large as may be": _request("Resolve", octets_field(1, b"x" * (bounds.LOOKUP_BYTES - 4))),
    "too large a batch": _request("BatchResolve", octets_field(1, b"x" * bounds.BATCH_BYTES)),
    "as large a batch as may be": _request("BatchResolve", octets_field(1, b"x" * (bounds.BATCH_BYTES - 5))),
    "far too large": _request("Resolve", octets_field(1, b"x" * bounds.REQUEST_BYTES)),
    "a deadline that is far": _request("Resolve", A, (b"grpc-timeout", b"99999999H")),
    "a deadline that passes": _request("Resolve", octets_field(1, SLOW), (b"grpc-timeout", b"50m")),
    "a deadline that is no time": _request("Resolve", A, (b"grpc-timeout", b"soon")),
    "a deadline without a unit": _request("Resolve", A, (b"grpc-timeout", b"10")),
    "a deadline of nine digits": _request("Resolve", A, (b"grpc-timeout", b"100000000S")),
    "gzip": _request("Resolve", gzip.compress(A), (b"grpc-encoding", b"gzip"), flag=1),
    "gzip, not compressed": _request("Resolve", A, (b"grpc-encoding", b"gzip")),
    "an unknown encoding": _request("Resolve", A, (b"grpc-encoding", b"unheard-of"), flag=1),
    "an unknown method": _request("Unheard", A),
    "no method": _request("", A),
    "a method in small letters": _request("resolve", A),
    "an unknown service": Request("/unheard.of.Service/Resolve", A),
    "no service": Request("/Resolve", A),
    "the root": Request("/", A),
    "a query behind the path": Request(f"/{SERVICE}/Resolve?x=1", A),
    "health": Request("/grpc.health.v1.Health/Check", b""),
    "health of the service": Request("/grpc.health.v1.Health/Check", octets_field(1, SERVICE.encode())),
    "health of an unknown service": Request("/grpc.health.v1.Health/Check", octets_field(1, b"unheard.of")),
    "health of what is no request": Request("/grpc.health.v1.Health/Check", b"\xff"),
    "metadata": _request("Resolve", A, (b"x-some", b"text"), (b"x-some", b"more"), (b"x-octets-bin", b"AAEC")),
    "metadata that are not base64": _request("Resolve", A, (b"x-octets-bin", b"!!")),
    "metadata that look like a signature": _request("Resolve", A, (b"topnode-query", b"text")),
}

UNLIKE: Final[Mapping[str, Mapping[str, str]]] = {
    "native": {
        "gzip": "grpcio is told to take no compression, since it unpacks without a bound; the native one has a bound",
        "gzip, not compressed": "as above",
        "an unknown encoding": "UNIMPLEMENTED, as gRPC has it; grpcio takes it for a damaged header",
        "a deadline that passes": "told with its reason; grpcio ends the call by itself",
        "a signature that is not base64": "likewise",
        "metadata that are not base64": "nobody asks for them here",
        "health of what is no request": "grpcio says what its parser says",
    },
}
"""By front: what it says otherwise than grpcio, and why."""


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_recorded_is_answered_the_same(pair: Pair, name: str) -> None:
    if name in UNLIKE.get(pair.names[1], {}):
        one, other = (front.say(RECORDED[name]) for front in pair.fronts)
        assert one != other, "it is like grpcio now, and comes off the list"
        return
    assert pair.compare(RECORDED[name]).status != "no answer"


def test_what_is_unlike_is_recorded() -> None:
    assert all(names.keys() <= RECORDED.keys() for names in UNLIKE.values())


# --- what nobody thought of ----------------------------------------------------------------------------------------

identifiers = st.one_of(
    st.sampled_from(
        [b"88.111/a", b"88.111/A", b"88.111/b", b"88.111/nothing", b"77/a", LONG.encode(), b"no slash", b""]
    ),
    st.text(max_size=40).map(str.encode),
    st.binary(max_size=40),
    st.tuples(st.sampled_from([b"88.111/", b"88.", b"77/", b"/"]), st.binary(max_size=140)).map(b"".join),
)
options = st.builds(
    pb.Options,
    types=st.lists(st.sampled_from(["URL", "PART.", ""]), max_size=2),
    indexes=st.lists(st.integers(0, 2**32 - 1), max_size=2),
    mode=st.sampled_from([0, 1, 2, 3, 4, -1]),
    authoritative=st.booleans(),
    with_copy=st.booleans(),
    trace=st.booleans(),
    signed=st.booleans(),
).map(lambda each: octets_field(2, each.SerializeToString()))
ways = st.builds(
    pb.Options,
    mode=st.sampled_from([0, 1, 2, 3, 4]),
    path=st.none()
    | st.builds(
        pb.Path,
        visited=st.lists(st.sampled_from(["86", "top", "产", "a b", "", "8" * 70]), max_size=9),
        hops_left=st.integers(0, 9),
    ),
).map(lambda each: octets_field(2, each.SerializeToString()))
"""How far to go, and nothing else: what a native front reads by itself."""

asked_onward = st.tuples(
    st.lists(identifiers.map(lambda each: octets_field(1, each)), min_size=1, max_size=3).map(b"".join), ways
).map(b"".join)
fields = st.one_of(
    identifiers.map(lambda each: octets_field(1, each)),
    options,
    st.tuples(st.integers(1, 15), st.binary(max_size=20)).map(lambda each: octets_field(*each)),
)
valid = st.lists(fields, max_size=6).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a valid request in which something is changed, left out, or put in."""
    octets = bytearray(draw(valid.filter(bool)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(octets)))
        piece = draw(st.binary(max_size=3))
        octets[at : at + draw(st.integers(0, 3))] = piece
    return bytes(octets)


bodies = st.one_of(valid, asked_onward, mutated(), st.binary(max_size=200))
metadata = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([b"x-one", b"x-two", b"x.three_3"]), st.text("ab 09!~,;=", max_size=20).map(str.encode)
        ),
        st.tuples(st.sampled_from([b"x-bin", b"x-two-bin"]), st.binary(max_size=20).map(base64.b64encode)),
        st.tuples(st.just(b"topnode-query-bin"), st.binary(max_size=60).map(base64.b64encode)),
        st.tuples(st.just(b"grpc-timeout"), st.sampled_from([b"5S", b"10000m", b"1H", b"9999999u"])),
    ),
    max_size=3,
    unique_by=lambda each: each[0],
).map(tuple)


@settings(max_examples=EXAMPLES)
@given(method=st.sampled_from(METHODS), octets=bodies)
def test_whatever_is_asked_is_answered_the_same(pair: Pair, method: str, octets: bytes) -> None:
    pair.compare(_request(method, octets))


@settings(max_examples=EXAMPLES)
@given(method=st.sampled_from(("Resolve", "BatchResolve")), octets=valid, beside=metadata)
def test_whatever_stands_beside_it_changes_the_same(pair: Pair, method: str, octets: bytes, beside: Pairs) -> None:
    pair.compare(_request(method, octets, *beside))


@given(
    path=st.one_of(
        st.text("Resolvtpn./18", max_size=20).map(lambda text: f"/{text}"),
        st.text("Resolve", max_size=8).map(lambda text: f"/{SERVICE}/{text}"),
    )
)
def test_whatever_is_called_is_known_or_not_to_both(pair: Pair, path: str) -> None:
    pair.compare(Request(path, A))


# --- can all this fail? --------------------------------------------------------------------------------------------


def test_a_planted_difference_is_found() -> None:
    """In one octet of one record."""
    changed = {**BODIES, b"88.111/A": BODIES[b"88.111/A"][:-1] + b"\x02"}
    with pair_of("grpcio", "grpcio", others=changed) as made:
        made.compare(RECORDED["absent"])
        with pytest.raises(AssertionError):
            made.compare(RECORDED["found"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Fault(Reason.RATE_LIMITED), Fault(Reason.TOO_MANY_IN_FLIGHT)),
        (Fault(Reason.RATE_LIMITED, retry_after=1), Fault(Reason.RATE_LIMITED, retry_after=2)),
        (Fault(Reason.RATE_LIMITED, variables={"a": "1"}), Fault(Reason.RATE_LIMITED, variables={"a": "2"})),
        (Fault(Reason.RATE_LIMITED, "One."), Fault(Reason.RATE_LIMITED, "Another.")),
    ],
)
def test_a_planted_difference_of_two_faults_is_found(one: Fault, other: Fault) -> None:
    assert said(_refusal(one)) == said(_refusal(one))
    assert said(_refusal(one)) != said(_refusal(other))


def _refusal(fault: Fault) -> Ended:
    from resolver.rpc.errors import status_of

    status = status_of(fault)
    headers = (
        (b"grpc-status", str(status.code).encode()),
        (b"grpc-message", status.message.encode()),
        (DETAILS_KEY.encode(), base64.b64encode(status.SerializeToString())),
    )
    return Ended(status.code, headers=headers)
