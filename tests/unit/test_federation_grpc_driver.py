"""The gRPC driver's long calls: how many there are, and what becomes of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from resolver.clock import Clock, SystemClock
from resolver.errors import Fault, Reason
from resolver.federation.grpc_driver import GrpcDriver
from resolver.federation.talks import TALK_SECONDS, TALKS
from resolver.routes import Endpoint, Protocol
from resolver.rpc.turns import Turns
from resolver.v1 import resolver_pb2 as pb
from tests.asked_children import CLOCK, SERVICE, question, reason_of, served_in_turn


@asynccontextmanager
async def driver(port: int, *, clock: Clock = CLOCK) -> AsyncIterator[GrpcDriver]:
    opened = GrpcDriver(Endpoint(Protocol.GRPC, "localhost", port, 0), None, clock)
    try:
        yield opened
    finally:
        await opened.close()


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
