"""Clients of other languages, at both fronts: each gets what grpcio's client in Python gets.

A program in Go and one in Java (tests/services/grpc_go and grpc_java; `make clients` builds them) are told by a plan
what to ask, and tell what they got. All of them ask at the same time, and most of it is waiting: for keepalive pings,
which neither library sends more often than every ten seconds.
"""

import asyncio
import functools
import itertools
import signal
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import grpc
import msgspec
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from msgspec import Struct

from deploy import certificates
from resolver import bounds
from resolver.encoding import varint
from resolver.v1 import resolver_pb2 as pb
from tests.fronts import FRONTS, GRPCIO, KINDS, NATIVE, Front
from tests.running_node import RunningNode, load, wait_until
from tests.services import programs

PROGRAMS: Final = {"go": programs.grpc_go, "java": programs.grpc_java}
CLIENTS: Final = [pytest.param(name, marks=pytest.mark.needs(f"grpc-{name}")) for name in PROGRAMS]

SERVICE: Final = "/topnode.resolver.v1.ResolverService"
SECONDS: Final = 120.0
"""A bound for a busy machine."""

QUIET: Final = 16.0
"""Seconds without a call: a ping after 10, and after 5 more a client has left whoever did not answer it."""

AGE: Final = "500ms"
CONNECTIONS: Final = 4
MANY: Final = 200
STREAMS: Final = 256

PREFIX: Final = "88.111"
LARGE: Final = f"{PREFIX}/LARGE"
LARGE_BYTES: Final = 3 * 64 * 1024


# --- what a program is told, and what it tells ---------------------------------------------------------------------


class Endpoint(Struct, frozen=True):
    """Where a node listens, and the files for it; without an authority nothing is encrypted."""

    address: str
    authority: str = ""
    certificate: str = ""
    key: str = ""


class Ask(Struct, frozen=True):
    """One call: a whole message to a method. With `streaming` it is the only one of a call that could take more."""

    name: str
    method: str
    request: bytes
    streaming: bool = False
    gzip: bool = False


class Crowd(Struct, frozen=True):
    """Calls that are made at the same time, each of them so many times."""

    calls: Sequence[Ask]
    times: int


class Plan(Struct, frozen=True):
    """What a program does.

    At each endpoint, on one channel: all calls; each crowd; a call without a message, overdue after so many seconds;
    so many such calls that it cancels; the first call again. On another channel it asks, is quiet for so many
    seconds, and asks again; and on one it shows no certificate. Where connections age it asks until it has had so
    many of them.
    """

    endpoints: Mapping[str, Endpoint]
    aging: Endpoint
    calls: Sequence[Ask]
    crowds: Sequence[Crowd]
    overdue: float = 0.2
    abandoned: int = 3 * 100
    quiet: float = QUIET
    connections: int = CONNECTIONS


class Reply(Struct, frozen=True):
    """What came of a call; `details` is what grpc-status-details-bin carried."""

    code: int
    message: str = ""
    details: bytes | None = None
    answers: tuple[bytes, ...] = ()

    @property
    def status(self) -> grpc.StatusCode:
        (status,) = (each for each in grpc.StatusCode if each.value[0] == self.code)
        return status

    @property
    def carried(self) -> tuple[tuple[str, bytes], ...]:
        status = status_pb2.Status.FromString(self.details or b"")
        return tuple((each.type_url, each.value) for each in status.details)

    @property
    def reason(self) -> str:
        """The reason of ours that it carries, if any."""
        info = error_details_pb2.ErrorInfo()
        for each in status_pb2.Status.FromString(self.details or b"").details:
            if each.Unpack(info):
                return str(info.reason)
        return ""

    def is_same_as(self, other: "Reply") -> bool:
        """Is it the same, whatever a library makes of a status on its way?"""
        mine, theirs = ((it.code, it.message, it.carried, it.answers) for it in (self, other))
        return mine == theirs


class Busy(Struct, frozen=True):
    """What was seen on the channel on which much was asked; of each crowd, the different replies to each call."""

    calls: dict[str, Reply]
    crowds: list[list[list[Reply]]]
    overdue: Reply
    abandoned: dict[int, int]
    again: Reply
    connections: int


class Quiet(Struct, frozen=True):
    """What was seen on the channel that was quiet."""

    before: Reply
    after: Reply
    connections: int


class AtEndpoint(Struct, frozen=True):
    """What was seen at one endpoint; the stranger is who shows no certificate."""

    busy: Busy
    quiet: Quiet
    stranger: Reply


class Aged(Struct, frozen=True):
    """What was seen where connections age."""

    asked: int
    failed: list[Reply]
    connections: int


class Seen(Struct, frozen=True):
    """What a program tells."""

    endpoints: dict[str, AtEndpoint]
    aging: Aged


# --- what is asked -------------------------------------------------------------------------------------------------


def resolve(name: str, identifier: str, options: pb.Options | None = None) -> Ask:
    request = pb.ResolveRequest(identifier=identifier, options=options)
    return Ask(name, f"{SERVICE}/Resolve", request.SerializeToString())


def octets(name: str, *, length: int = 0, identifier: bytes = b"") -> Ask:
    """Ask to resolve what need not be a text, or be of any length."""
    identifier = identifier or b"88.111/" + b"x" * length
    return Ask(name, f"{SERVICE}/Resolve", b"\x0a" + varint(len(identifier)) + identifier)


def batch(name: str, identifiers: Iterable[str], *, gzip: bool = False) -> Ask:
    request = pb.BatchResolveRequest(identifiers=identifiers)
    return Ask(name, f"{SERVICE}/BatchResolve", request.SerializeToString(), gzip=gzip)


def health(name: str, service: str) -> Ask:
    request = health_pb2.HealthCheckRequest(service=service)
    return Ask(name, "/grpc.health.v1.Health/Check", request.SerializeToString())


def serial(number: int) -> str:
    return f"{PREFIX}/SN-{number}"


MIXED: Final = [serial(number % MANY) for number in range(bounds.BATCH_IDENTIFIERS - 2)] + [
    "no slash",
    f"{PREFIX}/no",
]
STREAMED: Final = pb.StreamResolveRequest(batch=pb.BatchResolveRequest(identifiers=MIXED))
LONG: Final = [
    f"{PREFIX}/{number}-".ljust(bounds.IDENTIFIER_BYTES, "x") for number in range(bounds.BATCH_IDENTIFIERS)
]

CALLS: Final = (
    resolve("found", serial(1)),
    resolve("found and kept", serial(1)),
    resolve("another spelling", serial(1).lower()),
    resolve("with options", serial(1), pb.Options(types=["URL"], trace=True)),
    resolve("absent", f"{PREFIX}/no"),
    resolve("not here", "99.1/no"),
    resolve("no slash", "no slash"),
    octets("not UTF-8", identifier=b"88.111/\xff"),
    Ask("no request", f"{SERVICE}/Resolve", b"\xff"),
    batch("a thousand", MIXED),
    batch("ten thousand", MIXED * 10),
    batch("long identifiers", LONG),
    batch("large", [LARGE] * 3),
    batch("larger than an answer", [LARGE] * 20),
    octets("larger than a request", length=bounds.LOOKUP_BYTES),
    octets("larger than a message", length=2 * bounds.REQUEST_BYTES),
    batch("compressed", MIXED, gzip=True),
    Ask("streaming", f"{SERVICE}/StreamResolve", STREAMED.SerializeToString(), streaming=True),
    Ask("listing", f"{SERVICE}/ListHandles", pb.ListHandlesRequest(prefix=PREFIX).SerializeToString()),
    Ask("the node", f"{SERVICE}/GetNodeInfo", b""),
    Ask("no method", f"{SERVICE}/Nothing", b""),
    health("health", ""),
    health("health of a service", SERVICE[1:]),
    health("health of nothing", "nothing"),
)

CROWD: Final = Crowd([resolve(serial(number), serial(number)) for number in range(MANY)], 10)
HUNDREDS: Final = [(f"a hundred from {first}", range(first, first + 100)) for first in range(50)]
CROWDS: Final = (
    CROWD,
    # Answers of 10 KiB and of 192: many windows full, in which libraries measure the way with pings of their own.
    Crowd([batch(name, map(serial, numbers)) for name, numbers in HUNDREDS], 4),
    Crowd([resolve("a large one", LARGE)], 30),
)

SAID: Final = {
    "no slash": (grpc.StatusCode.INVALID_ARGUMENT, "IDENTIFIER_NO_SLASH"),
    "not UTF-8": (grpc.StatusCode.INVALID_ARGUMENT, "IDENTIFIER_NOT_UTF8"),
    "no request": (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED"),
    "ten thousand": (grpc.StatusCode.INVALID_ARGUMENT, "BATCH_TOO_LARGE"),
    "larger than a request": (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE"),
    "listing": (grpc.StatusCode.PERMISSION_DENIED, "LISTING_NOT_ALLOWED"),
    "no method": (grpc.StatusCode.UNIMPLEMENTED, ""),
    "health of nothing": (grpc.StatusCode.NOT_FOUND, ""),
}
"""Code and reason of the calls that fail at both fronts."""

SAID_BY: Final = {
    GRPCIO.name: {
        "compressed": (grpc.StatusCode.UNIMPLEMENTED, ""),
        "larger than a message": (grpc.StatusCode.RESOURCE_EXHAUSTED, ""),
    },
    NATIVE.name: {
        "streaming": (grpc.StatusCode.UNIMPLEMENTED, ""),
        "larger than a message": (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE"),
    },
}


def rows() -> Iterator[dict[str, object]]:
    yield {"prefix": PREFIX, "holder": PREFIX}
    for number in range(MANY):
        values = [{"index": 1, "type": "URL", "data": f"https://example.org/{number}"}]
        yield {"identifier": serial(number), "values": values}
    values = [{"index": index, "type": "TEXT", "data": "x" * (LARGE_BYTES // 3)} for index in (1, 2, 3)]
    yield {"identifier": LARGE, "values": values}


# --- the nodes and the programs ------------------------------------------------------------------------------------


class Site:
    """Three nodes with every front that can be had: without TLS, with it, and one whose connections age."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.fronts = [front for front in FRONTS if front is not NATIVE or find_spec("topnode_front")]
        issued = folder / "certificates"
        certificates.init(issued, "test")
        certificates.issue(issued, "node", ips=["127.0.0.1"])
        certificates.issue(issued, "client")
        tls = {
            "TOPNODE_SERVING__TLS__CERTIFICATE": str(issued / "node.pem"),
            "TOPNODE_SERVING__TLS__KEY": str(issued / "node.key"),
            "TOPNODE_SERVING__TLS__CLIENT_CA": str(issued / "authority.pem"),
        }
        files = str(issued / "authority.pem"), str(issued / "client.pem"), str(issued / "client.key")
        self._files = {"plain": (), "secured": files, "aging": files}
        # Who is silent is probed by the node, too.
        probing = {"TOPNODE_SERVING__KEEPALIVE": "1s", "TOPNODE_SERVING__STREAMS": str(STREAMS)}
        settings = {
            "plain": probing,
            "secured": {**probing, **tls},
            "aging": {**tls, "TOPNODE_SERVING__CONNECTION_AGE": AGE},
        }
        # A call may take as long as a busy machine makes it take.
        everywhere = {"TOPNODE_FRONT__DEADLINE": "1min"}
        self.nodes = {}
        for name, environment in settings.items():
            node = RunningNode(
                folder / name, folder / f"{name}.log", ["--workers", "0"], {**everywhere, **environment}
            )
            stack.callback(node.stop)
            self.nodes[name] = node

    async def fill(self) -> None:
        """Wait until all serve, register what is asked for, and wait until it is found."""
        for node in self.nodes.values():
            node.wait_ready()
        await asyncio.gather(*(load(node.data, *rows()) for node in self.nodes.values()))
        for front, name in itertools.product(self.fronts, self.nodes):
            with opened(self.endpoint(front, name)) as channel:
                wait_until(functools.partial(has_all, channel))

    def endpoint(self, front: Front, name: str) -> Endpoint:
        started = self.nodes[name].started
        return Endpoint(started.address if front is NATIVE else started.streaming, *self._files[name])

    def plan(self, front: Front) -> Plan:
        endpoints = {name: self.endpoint(front, name) for name in ("plain", "secured")}
        return Plan(endpoints, self.endpoint(front, "aging"), CALLS, CROWDS)


class Program:
    """A client that asks one front."""

    def __init__(self, command: Sequence[str], plan: Plan, folder: Path) -> None:
        self._told, self._log = folder / "seen.json", folder / "log"
        folder.mkdir(parents=True)
        (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
        with (folder / "plan.json").open() as read, self._told.open("w") as told, self._log.open("w") as log:
            self._running = subprocess.Popen(command, stdin=read, stdout=told, stderr=log)
        self._seen: Seen | None = None

    @property
    def seen(self) -> Seen:
        """What it saw, when it has ended."""
        if self._seen is None:
            assert self._running.wait(SECONDS) == 0, self._log.read_text()
            self._seen = msgspec.json.decode(self._told.read_bytes(), type=Seen)
        return self._seen

    def stop(self) -> None:
        self._running.kill()
        self._running.wait()


class Run:
    """All programs at all fronts, and what Python gets there."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.site = Site(folder, stack)
        asyncio.run(self.site.fill())
        self.programs = {}
        for client, command in PROGRAMS.items():
            for front in self.site.fronts if command() else ():
                program = Program(command(), self.site.plan(front), folder / f"{client}-{front}")
                stack.callback(program.stop)
                self.programs[client, front.name] = program
        self._replies: dict[tuple[str, str], dict[str, Reply]] = {}

    def seen(self, client: str, front: Front) -> Seen:
        return self.programs[client, front.name].seen

    def replies(self, front: Front, name: str) -> Mapping[str, Reply]:
        """Give what Python gets at an endpoint."""
        key = front.name, name
        if key not in self._replies:
            with opened(self.site.endpoint(front, name)) as channel:
                self._replies[key] = {
                    ask.name: reply(channel, ask)
                    for ask in (*CALLS, *(ask for crowd in CROWDS for ask in crowd.calls))
                }
        return self._replies[key]


def opened(endpoint: Endpoint) -> grpc.Channel:
    options = [("grpc.use_local_subchannel_pool", 1)]
    if not endpoint.authority:
        return grpc.insecure_channel(endpoint.address, options)
    authority, certificate, key = (
        Path(file).read_bytes() for file in (endpoint.authority, endpoint.certificate, endpoint.key)
    )
    return grpc.secure_channel(
        endpoint.address, grpc.ssl_channel_credentials(authority, key, certificate), options=options
    )


def reply(channel: grpc.Channel, ask: Ask) -> Reply:
    compression = grpc.Compression.Gzip if ask.gzip else None
    answers: list[bytes] = []
    try:
        if ask.streaming:
            stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(ask.method)
            answers.extend(stream(iter([ask.request]), timeout=SECONDS))
        else:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(ask.method)
            answers.append(call(ask.request, timeout=SECONDS, compression=compression))
    except grpc.RpcError as error:
        return refused(error, answers)  # type: ignore[arg-type] # it has the same methods
    return Reply(grpc.StatusCode.OK.value[0], answers=tuple(answers))


def has_all(channel: grpc.Channel) -> bool:
    """Does a node find what was registered last?"""
    return outcome(reply(channel, resolve("the last one", LARGE))) == pb.OUTCOME_FOUND


def outcome(got: Reply) -> pb.Outcome:
    (answer,) = got.answers
    return pb.ResolveResponse.FromString(answer).answer.outcome


def refused(error: grpc.Call, answers: Iterable[bytes]) -> Reply:
    carried = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    assert not isinstance(carried, str)
    return Reply(error.code().value[0], error.details() or "", carried, tuple(answers))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with ExitStack() as stack:
        yield Run(tmp_path_factory.mktemp("clients"), stack)


# --- what they get -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("front", KINDS, ids=str)
@pytest.mark.parametrize("name", ["plain", "secured"])
def test_what_python_gets(run: Run, front: Front, name: str) -> None:
    """So that nobody is compared with something else."""
    replies = run.replies(front, name)
    failing = {**SAID, **SAID_BY[front.name]}
    told = {ask: (got.status, got.reason) for ask, got in replies.items() if got.code}
    assert told == failing
    outcomes = {"found": pb.OUTCOME_FOUND, "absent": pb.OUTCOME_ABSENT, "not here": pb.OUTCOME_NOT_HERE}
    assert {ask: outcome(replies[ask]) for ask in outcomes} == outcomes
    assert [len(results(replies[ask])) for ask in ("a thousand", "large")] == [bounds.BATCH_IDENTIFIERS, 3]
    (answer,) = replies["larger than an answer"].answers
    assert bounds.ANSWER_BYTES - LARGE_BYTES < len(answer) <= bounds.ANSWER_BYTES
    if front is NATIVE:
        assert replies["streaming"].message == f"This method is served at {run.site.nodes[name].started.streaming}."
        assert results(replies["compressed"]) == results(replies["a thousand"])
    else:
        (streamed,) = replies["streaming"].answers
        assert list(pb.StreamResolveResponse.FromString(streamed).batch.results) == results(replies["a thousand"])


@pytest.mark.parametrize("front", KINDS, ids=str)
def test_what_python_gets_of_two_thousand_calls_at_once(run: Run, front: Front) -> None:
    expected = run.replies(front, "plain")
    with opened(run.site.endpoint(front, "plain")) as channel:
        got = together([channel], times=CROWD.times)
    assert got == {ask.name: set(expected[ask.name].answers) for ask in CROWD.calls}


@pytest.mark.parametrize("front", KINDS, ids=str)
def test_all_that_came_while_a_node_was_held_up_is_answered(run: Run, front: Front) -> None:
    """From twenty connections at the same time, each with no more calls than it may have."""
    expected = run.replies(front, "plain")
    node = run.site.nodes["plain"]
    with ExitStack() as stack:
        channels = [stack.enter_context(opened(run.site.endpoint(front, "plain"))) for _ in range(20)]
        for channel in channels:
            reply(channel, CROWD.calls[0])
        stack.callback(node.signal, signal.SIGCONT)
        node.signal(signal.SIGSTOP)
        got = together(channels, begun=lambda: node.signal(signal.SIGCONT))
    assert got == {ask.name: set(expected[ask.name].answers) for ask in CROWD.calls}


def together(
    channels: Sequence[grpc.Channel], *, times: int = 1, begun: Callable[[], None] = lambda: None
) -> dict[str, set[bytes | grpc.StatusCode]]:
    """Make all calls of the crowd at the same time, so many times on each channel: what came of each."""
    asking: list[grpc.UnaryUnaryMultiCallable[bytes, bytes]] = [
        channel.unary_unary(CROWD.calls[0].method) for channel in channels
    ]
    calls = [
        (ask, call.future(ask.request, timeout=SECONDS))
        for _ in range(times)
        for ask in CROWD.calls
        for call in asking
    ]
    begun()
    came: defaultdict[str, set[bytes | grpc.StatusCode]] = defaultdict(set)
    for ask, call in calls:
        came[ask.name].add(call.code() if call.exception() else call.result())
    return came


def results(got: Reply) -> list[pb.BatchResult]:
    (answer,) = got.answers
    return list(pb.BatchResolveResponse.FromString(answer).results)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("front", KINDS, ids=str)
@pytest.mark.parametrize("name", ["plain", "secured"])
class TestAClient:
    """One client at one front, without TLS or with it and a certificate of the client's own."""

    def test_each_call_ends_as_it_does_for_python(self, run: Run, client: str, front: Front, name: str) -> None:
        expected = run.replies(front, name)
        got = run.seen(client, front).endpoints[name].busy.calls
        assert got.keys() == {ask.name for ask in CALLS}
        # Without the answers, which may be megabytes.
        assert {ask: (it.status, it.message, it.carried) for ask, it in got.items()} == {
            ask: (it.status, it.message, it.carried) for ask, it in expected.items() if ask in got
        }
        assert [ask for ask, it in got.items() if not it.is_same_as(expected[ask])] == []

    def test_of_many_calls_at_once_all_are_answered(self, run: Run, client: str, front: Front, name: str) -> None:
        expected = run.replies(front, name)
        for crowd, replies in zip(CROWDS, run.seen(client, front).endpoints[name].busy.crowds, strict=True):
            came = {ask.name: got for ask, got in zip(crowd.calls, replies, strict=True)}
            failed = {(it.status, it.message) for got in came.values() for it in got if it.code}
            assert failed == set()
            assert [ask for ask, got in came.items() if not all(it.is_same_as(expected[ask]) for it in got)] == []

    def test_calls_that_end_too_soon_take_nothing_with_them(
        self, run: Run, client: str, front: Front, name: str
    ) -> None:
        """More are cancelled than one connection may have at once, and all of this was one connection."""
        busy = run.seen(client, front).endpoints[name].busy
        assert busy.overdue.status is grpc.StatusCode.DEADLINE_EXCEEDED
        assert busy.abandoned == {grpc.StatusCode.CANCELLED.value[0]: run.site.plan(front).abandoned}
        assert busy.abandoned[1] > STREAMS
        assert busy.again.is_same_as(busy.calls["found"])
        assert busy.connections == 1

    def test_who_is_silent_but_for_pings_keeps_the_connection(
        self, run: Run, client: str, front: Front, name: str
    ) -> None:
        quiet = run.seen(client, front).endpoints[name].quiet
        assert quiet.before.is_same_as(quiet.after)
        assert (quiet.before.status, quiet.connections) == (grpc.StatusCode.OK, 1)

    def test_who_shows_no_certificate_is_refused_where_one_is_asked_for(
        self, run: Run, client: str, front: Front, name: str
    ) -> None:
        stranger = run.seen(client, front).endpoints[name].stranger
        expected = {"plain": grpc.StatusCode.OK, "secured": grpc.StatusCode.UNAVAILABLE}
        assert stranger.status is expected[name]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("front", KINDS, ids=str)
def test_no_call_fails_while_connections_age(run: Run, client: str, front: Front) -> None:
    aging = run.seen(client, front).aging
    assert aging.failed == []
    assert aging.connections >= CONNECTIONS


@pytest.mark.needs("native-front")
def test_the_native_front_has_sent_nobody_away(run: Run) -> None:
    for program in run.programs.values():
        assert program.seen
    for node in run.site.nodes.values():
        unwanted = ("calmed", "stalled", "panics")
        assert [node.sample(f"topnode_native_{name}_total") for name in unwanted] == [0, 0, 0]
