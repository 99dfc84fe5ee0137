"""The gRPC driver over real connections: what is sent, what comes back, and how failures are told."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from resolver.clock import Clock, SystemClock
from resolver.errors import Fault, Reason
from resolver.federation.driver import Question
from resolver.federation.grpc_driver import NONCE_BYTES, GrpcDriver
from resolver.federation.talks import TALK_SECONDS, TALKS
from resolver.query import Path
from resolver.routes import Endpoint, Protocol
from resolver.rpc.calls import Method
from resolver.rpc.errors import status_of
from resolver.rpc.tls import ClientTls, ServerTls, server_credentials
from resolver.rpc.turns import Turn, Turns
from resolver.trace import Step
from resolver.trust.actors import Key, Node, NodeState, NodeTable, Tier
from resolver.trust.answers import ANSWER_KEY, AnswerSigner, AnswerVerifier
from resolver.trust.keys import PrivateKey
from resolver.trust.verdicts import Trust
from resolver.v1 import octets_pb2
from resolver.v1 import resolver_pb2 as pb
from resolver.wire import trace_message
from tests.certificates import Authority
from tests.services.ports import free_ports

CLOCK = SystemClock()
SERVICE = "topnode.resolver.v1.ResolverService"

Answering = Callable[[bytes, Any], Awaitable[bytes]]


class Beside:
    """The context of one message in a long call: what is told beside the answer."""

    def __init__(self) -> None:
        self.told: dict[str, bytes] = {}

    def set_trailing_metadata(self, metadata: tuple[tuple[str, bytes], ...]) -> None:
        self.told = dict(metadata)


def in_turn(answering: Answering) -> Turn:
    """Answer messages of long calls by the function that answers calls."""

    async def turn(octets: bytes, _context: Any) -> bytes:
        request = octets_pb2.StreamResolveRequestOctets.FromString(octets)
        assert request.within_ms > 0
        beside = Beside()
        said = octets_pb2.StreamResolveResponseOctets(batch=await answering(request.batch, beside))
        said.trace = beside.told.get("topnode-trace-bin", b"")
        said.signature = beside.told.get(ANSWER_KEY, b"")
        return said.SerializeToString()

    return turn


def served_in_turn(turns: Turns, answering: Answering) -> Any:
    def refusal(fault: Fault) -> bytes:
        return octets_pb2.StreamResolveResponseOctets(error=status_of(fault)).SerializeToString()

    return turns.serve(Method("StreamResolve", CLOCK), in_turn(answering), refusal)


@pytest.fixture(params=[True, False], ids=["long calls", "calls"])
def by_long_calls(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Does the child know long calls?"""
    knows_long_calls.append(request.param)
    yield request.param
    knows_long_calls.pop()


knows_long_calls = [False]


@asynccontextmanager
async def child(answering: Answering, credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[int]:
    """Serve all methods by one function, and give the port."""
    server = grpc.aio.server()
    methods: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(answering) for name in ("BatchResolve", "GetNodeInfo")
    }
    if knows_long_calls[-1]:
        methods["StreamResolve"] = served_in_turn(Turns(), answering)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = (
        server.add_secure_port("localhost:0", credentials) if credentials else server.add_insecure_port("localhost:0")
    )
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def driver(
    port: int,
    *,
    tls_name: str = "",
    tls: ClientTls | None = None,
    verifier: AnswerVerifier | None = None,
    clock: Clock = CLOCK,
) -> AsyncIterator[GrpcDriver]:
    opened = GrpcDriver(Endpoint(Protocol.GRPC, "localhost", port, 0, tls_name), tls, clock, verifier)
    try:
        yield opened
    finally:
        await opened.close()


def question(*keys: bytes, seconds: float = 5, trace: bool = False) -> Question:
    return Question(
        identifiers=keys,
        deadline=CLOCK.monotonic() + seconds,
        path=Path(("top",), 3),
        authoritative=True,
        trace=trace,
    )


async def reason_of(asked: Awaitable[object]) -> Reason:
    with pytest.raises(Fault) as caught:
        await asked
    return caught.value.reason


@pytest.mark.usefixtures("by_long_calls")
async def test_asks_for_recursion_with_the_path_and_leaves_answers_encoded() -> None:
    requests = []
    answer = pb.Answer(outcome=pb.OUTCOME_FOUND, version=7)

    async def answering(octets: bytes, _context: Any) -> bytes:
        requests.append(pb.BatchResolveRequest.FromString(octets))
        response = pb.BatchResolveResponse()
        response.results.add().answer.CopyFrom(answer)
        response.results.add().error.CopyFrom(status_of(Fault(Reason.HOP_LIMIT, "too far")))
        return response.SerializeToString()

    async with child(answering) as port, driver(port) as asked:
        reply = await asked.ask(question(b"88.1/A", b"88.1/B"))
    (request,) = requests
    assert list(request.identifiers) == ["88.1/A", "88.1/B"]
    options = request.options
    assert (options.mode, options.authoritative, options.trace) == (pb.MODE_RECURSIVE, True, False)
    assert (list(options.path.visited), options.path.hops_left) == (["top"], 3)
    given, refused = reply.results
    assert given == answer.SerializeToString()
    assert isinstance(refused, Fault)
    assert (refused.reason, refused.detail) == (Reason.HOP_LIMIT, "too far")
    assert (reply.protocol, list(reply.steps)) == (Protocol.GRPC, [])


@pytest.mark.usefixtures("by_long_calls")
@pytest.mark.parametrize("is_sound", [True, False])
async def test_the_childs_trace_comes_with_the_reply_where_it_can_be_read(*, is_sound: bool) -> None:
    steps = [Step("88.1", "store", "1 held, 0 not held", 12)]

    async def answering(_octets: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("topnode-trace-bin", trace_message(steps) if is_sound else b"\xff\xff"),))
        return b""

    async with child(answering) as port, driver(port) as asked:
        reply = await asked.ask(question(b"88.1/A", trace=True))
    assert list(reply.steps) == (steps if is_sound else [])


@pytest.mark.usefixtures("by_long_calls")
@pytest.mark.parametrize(
    ("signing", "trust"), [("fits", Trust.TRUSTED), ("none", Trust.UNKNOWN), ("another", Trust.NOT_TRUSTED)]
)
async def test_a_signature_is_wanted_and_judged(signing: str, trust: Trust) -> None:
    key, nodes = PrivateKey.generate(), NodeTable()
    held = (Key(key.public.key_id, key.public.spki, 1),)
    nodes.put([Node(node="88.1", tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=held)])
    signer = AnswerSigner("88.1", lambda: key, CLOCK)
    method = "StreamResolve" if knows_long_calls[-1] else "BatchResolve"
    wanted, nonces = [], set()

    async def answering(octets: bytes, context: Any) -> bytes:
        options = pb.BatchResolveRequest.FromString(octets).options
        wanted.append((options.signed, len(options.nonce)))
        nonces.add(options.nonce)
        if signing != "none":
            said = b"" if signing == "fits" else b"something else"
            context.set_trailing_metadata(((ANSWER_KEY, signer.sign(f"{SERVICE}/{method}", octets, said)),))
        return b""

    async with child(answering) as port, driver(port, verifier=AnswerVerifier(nodes)) as asked:
        reply = await asked.ask(replace(question(b"88.1/A"), signer="88.1"))
        unasked = await asked.ask(question(b"88.1/A"))
        await asked.ask(replace(question(b"88.1/A"), signer="88.1"))
    assert wanted == [(True, NONCE_BYTES), (False, 0), (True, NONCE_BYTES)]
    assert len(nonces) == 3
    assert (reply.trust, unasked.trust) == (trust, Trust.UNKNOWN)


@pytest.mark.usefixtures("by_long_calls")
async def test_what_cannot_be_read_is_refused() -> None:
    async def answering(_octets: bytes, _context: Any) -> bytes:
        return b"\xff\xff\xff"

    async with child(answering) as port, driver(port) as asked:
        assert await reason_of(asked.ask(question(b"88.1/A"))) is Reason.CHILD_ANSWER_REFUSED


@pytest.mark.usefixtures("by_long_calls")
async def test_a_child_that_is_late_or_not_there() -> None:
    async def answering(_octets: bytes, _context: Any) -> bytes:
        await asyncio.sleep(5)
        return b""

    async with child(answering) as port, driver(port) as asked:
        assert await reason_of(asked.ask(question(b"88.1/A", seconds=0.1))) is Reason.DEADLINE_SPENT
        assert await reason_of(asked.ask(question(b"88.1/A", seconds=-1))) is Reason.DEADLINE_SPENT
        assert await reason_of(asked.probe(0.1)) is Reason.DEADLINE_SPENT
    (nobody,) = free_ports(1)
    async with driver(nobody) as asked:
        assert await reason_of(asked.ask(question(b"88.1/A"))) is Reason.NODE_UNREACHABLE
        assert await reason_of(asked.probe(1)) is Reason.NODE_UNREACHABLE


@pytest.mark.usefixtures("by_long_calls")
async def test_a_connection_that_is_closed_fails_its_calls_and_cancels_nobody() -> None:
    async def answering(_octets: bytes, _context: Any) -> bytes:
        await asyncio.sleep(5)
        return b""

    async with child(answering) as port, driver(port) as asked:
        waiting = asyncio.ensure_future(asked.ask(question(b"88.1/A")))
        await asyncio.sleep(0.1)
        await asked.close()
        assert await reason_of(waiting) is Reason.NODE_UNREACHABLE


@pytest.mark.usefixtures("by_long_calls")
async def test_a_caller_that_is_cancelled_stays_cancelled() -> None:
    async def answering(_octets: bytes, _context: Any) -> bytes:
        await asyncio.sleep(5)
        return b""

    async with child(answering) as port, driver(port) as asked:
        waiting = asyncio.ensure_future(asked.ask(question(b"88.1/A")))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


class Counted:
    """Answers, and counts calls and messages; each message says how long it takes. `knows`: long calls."""

    def __init__(self) -> None:
        self.knows = True
        self.calls = 0
        self.messages = 0
        self.alone_messages = 0
        self.turns = Turns()
        self.server = grpc.aio.server()

    async def start(self) -> int:
        """Serve, and give the port."""
        serve: Any = served_in_turn(self.turns, self.answering).stream_stream

        async def counted(requests: AsyncIterator[bytes], context: Any) -> None:
            if not self.knows:
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")
            self.calls += 1
            await serve(requests, context)

        methods: dict[str, Any] = {
            "StreamResolve": grpc.stream_stream_rpc_method_handler(counted),
            "BatchResolve": grpc.unary_unary_rpc_method_handler(self.alone),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        port = self.server.add_insecure_port("localhost:0")
        await self.server.start()
        return port

    async def alone(self, octets: bytes, context: Any) -> bytes:
        self.calls += 1
        self.alone_messages += 1
        return await self.answering(octets, context)

    async def answering(self, octets: bytes, _context: Any) -> bytes:
        self.messages += 1
        response = pb.BatchResolveResponse()
        for key in pb.BatchResolveRequest.FromString(octets).identifiers:
            name, _, seconds = key.partition("?")
            await asyncio.sleep(float(seconds or 0))
            if name == "88.1/BUSY":
                raise Fault(Reason.TOO_MANY_IN_FLIGHT)
            response.results.add().answer.CopyFrom(pb.Answer(record=pb.Record(identifier=name)))
        return response.SerializeToString()


@asynccontextmanager
async def counted(clock: Clock = CLOCK) -> AsyncIterator[tuple[Counted, GrpcDriver]]:
    """Have a child that counts, and what asks it."""
    counting = Counted()
    port = await counting.start()
    try:
        async with driver(port, clock=clock) as asked:
            yield counting, asked
    finally:
        counting.turns.drain()
        await counting.server.stop(0)


async def names(asked: GrpcDriver, *keys: str, seconds: float = 5) -> list[str]:
    """Ask, and give the identifiers that were answered."""
    reply = await asked.ask(question(*(key.encode() for key in keys), seconds=seconds))
    return [pb.Answer.FromString(each).record.identifier for each in reply.results if isinstance(each, bytes)]


async def test_one_long_call_carries_questions_one_after_the_other() -> None:
    async with counted() as (counting, asked):
        for number in range(50):
            assert await names(asked, f"88.1/{number}") == [f"88.1/{number}"]
    assert (counting.calls, counting.messages) == (1, 50)


async def test_a_refusal_of_all_leaves_the_long_call_as_it_is() -> None:
    async with counted() as (counting, asked):
        assert await reason_of(names(asked, "88.1/BUSY")) is Reason.TOO_MANY_IN_FLIGHT
        assert await names(asked, "88.1/A") == ["88.1/A"]
    assert counting.calls == 1


async def test_as_many_long_calls_as_questions_at_once_and_no_more_than_a_few() -> None:
    async with counted() as (counting, asked):
        given = await asyncio.gather(*(names(asked, f"88.1/{number}?0.2") for number in range(TALKS + 4)))
        assert given == [[f"88.1/{number}"] for number in range(TALKS + 4)]
        assert counting.calls == TALKS + 4
        await asyncio.gather(*(names(asked, f"88.1/{number}?0.1") for number in range(TALKS)))
        assert counting.calls == TALKS + 4


@pytest.mark.parametrize("leaves", ["deadline", "caller"])
async def test_an_answer_that_nobody_waits_for_is_given_to_nobody_else(leaves: str) -> None:
    async with counted() as (counting, asked):
        assert await names(asked, "88.1/A") == ["88.1/A"]
        late = asyncio.ensure_future(names(asked, "88.1/LATE?0.3", seconds=0.1 if leaves == "deadline" else 5))
        await asyncio.sleep(0.05)
        if leaves == "caller":
            late.cancel()
        await asyncio.wait((late,))
        for number in range(5):
            assert await names(asked, f"88.1/{number}?0.1") == [f"88.1/{number}"]
    assert counting.calls == 2


async def test_a_long_call_that_the_child_has_ended_is_no_failure_of_the_child() -> None:
    """Neither between two questions nor in the middle of one."""
    async with counted() as (counting, asked):
        assert await names(asked, "88.1/A") == ["88.1/A"]
        counting.turns.drain()
        await asyncio.sleep(0.1)
        assert await names(asked, "88.1/B") == ["88.1/B"]
        # It takes no more messages: each is a call of its own.
        assert await names(asked, "88.1/C") == ["88.1/C"]


class Ahead(SystemClock):
    """A clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


async def test_a_long_call_is_not_gone_on_with_for_ever() -> None:
    """Its connection may have been told to end: the next one is on another."""
    clock = Ahead()
    async with counted(clock) as (counting, asked):
        assert await names(asked, "88.1/A") == ["88.1/A"]
        clock.ahead = TALK_SECONDS + 1
        assert await names(asked, "88.1/B", seconds=clock.ahead + 5) == ["88.1/B"]
        assert await names(asked, "88.1/C", seconds=clock.ahead + 5) == ["88.1/C"]
    assert counting.calls == 2


async def test_a_child_is_asked_now_and_then_whether_it_knows_long_calls() -> None:
    clock = Ahead()
    async with counted(clock) as (counting, asked):
        counting.knows = False
        for _ in range(3):
            assert await names(asked, "88.1/A") == ["88.1/A"]
        counting.knows = True
        assert await names(asked, "88.1/A") == ["88.1/A"]
        assert counting.messages == counting.alone_messages == 4
        clock.ahead = TALK_SECONDS + 1
        assert await names(asked, "88.1/A", seconds=clock.ahead + 5) == ["88.1/A"]
        assert (counting.messages, counting.alone_messages) == (5, 4)


async def test_a_place_where_nobody_speaks_is_told_by_the_deadline() -> None:
    """While the connection is being made, too: there gRPC itself forgets who waits."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with driver(port) as asked, asyncio.timeout(3):
            told = [await reason_of(asked.ask(question(b"88.1/A", seconds=0.1))) for _ in range(3)]
    assert told[0] is Reason.DEADLINE_SPENT
    assert set(told) <= {Reason.DEADLINE_SPENT, Reason.NODE_UNREACHABLE}


async def test_a_connection_that_was_given_up_is_not_asked_by_another_call() -> None:
    async with counted() as (counting, asked):
        assert await names(asked, "88.1/A") == ["88.1/A"]
        late = asyncio.ensure_future(names(asked, "88.1/LATE?0.2"))
        await asyncio.sleep(0.05)
        closing = asyncio.ensure_future(asked.close(2))
        await asyncio.sleep(0.01)
        await counting.server.stop(0)
        assert await reason_of(late) is Reason.NODE_UNREACHABLE
        await closing


async def test_a_child_that_is_gone_is_told_of_at_once() -> None:
    async with counted() as (counting, asked):
        assert await names(asked, "88.1/A") == ["88.1/A"]
        await counting.server.stop(0)
        assert await reason_of(names(asked, "88.1/B")) is Reason.NODE_UNREACHABLE


async def test_an_endpoint_with_a_tls_name_must_prove_it(tmp_path: FilePath) -> None:
    async def answering(_octets: bytes, _context: Any) -> bytes:
        return b""

    ours, theirs = Authority(tmp_path), Authority(tmp_path, "stranger")
    files = ours.issue("child", alternatives=("child.example.org",))
    credentials = server_credentials(ServerTls(certificate=files.certificate, key=files.key))
    async with child(answering, credentials) as port:
        known = ClientTls(server_ca=ours.path)
        async with driver(port, tls_name="child.example.org", tls=known) as asked:
            await asked.probe(5)
        async with driver(port, tls_name="other.example.org", tls=known) as asked:
            assert await reason_of(asked.probe(5)) is Reason.NODE_UNREACHABLE
        async with driver(port, tls_name="child.example.org", tls=ClientTls(server_ca=theirs.path)) as asked:
            assert await reason_of(asked.probe(5)) is Reason.NODE_UNREACHABLE
    with pytest.raises(Fault) as unreadable:
        GrpcDriver(Endpoint(Protocol.GRPC, "::1", 1, 0, "x"), ClientTls(server_ca=str(tmp_path / "no.pem")), CLOCK)
    assert unreadable.value.reason is Reason.FILE_UNREADABLE
