"""StreamResolve: each message is answered as BatchResolve answers it, one after the other, in one call."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from resolver import bounds
from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.front.core import SERVICE, FrontSettings
from resolver.routes import RouteTable
from resolver.rpc.channels import ChannelSettings, open_channel
from resolver.rpc.errors import fault_of
from resolver.units import Duration
from resolver.v1 import octets_pb2
from resolver.v1 import resolver_pb2 as pb
from tests.contracts.test_front import (
    BODIES,
    Below,
    Caller,
    Running,
    Shelf,
    Start,
    caller,
    calling,
    front,
    grpcio_server,
    members,
    octets_field,
    starting,
)

__all__ = ["caller", "front"]


@pytest.fixture
async def front_start() -> AsyncIterator[Start]:
    """Start a front that takes long calls: a native one says where they are taken."""
    async with starting("grpcio") as start:
        yield start


class Talk:
    """One long call."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call: Any = channel.stream_stream(f"/{SERVICE}/StreamResolve")()

    async def raw(self, message: bytes) -> pb.StreamResolveResponse:
        await self.call.write(message)
        return pb.StreamResolveResponse.FromString(await self.call.read())

    async def ask(self, batch: bytes, within_ms: int = 0) -> pb.StreamResolveResponse:
        message = octets_pb2.StreamResolveRequestOctets(batch=batch, within_ms=within_ms)
        return await self.raw(message.SerializeToString())

    async def refused(self, batch: bytes) -> Fault:
        """Ask what is refused as a whole."""
        said = await self.ask(batch)
        assert said.WhichOneof("result") == "error"
        return fault_of(said.error)


@asynccontextmanager
async def talking(running: Running) -> AsyncIterator[Talk]:
    async with open_channel(running.address, ChannelSettings()) as channel:
        talk = Talk(channel)
        yield talk
        talk.call.cancel()


ASKED = octets_field(1, b"88.111/a") + octets_field(1, b"nonsense") + octets_field(1, b"88.111/NO")


async def test_messages_are_answered_as_batches_are(front: Running, caller: Caller) -> None:
    batch = pb.BatchResolveResponse.FromString(await caller.raw("BatchResolve", ASKED))
    async with talking(front) as talk:
        for _ in range(3):
            said = await talk.ask(ASKED)
            assert said == pb.StreamResolveResponse(batch=batch)
        await talk.call.done_writing()
        assert await talk.call.read() is grpc.aio.EOF
        assert await talk.call.code() is grpc.StatusCode.OK
    labels = {"method": "StreamResolve", "code": "OK"}
    assert front.below.registry.get_sample_value("topnode_resolver_calls_total", labels) == 3


async def test_what_is_refused_as_a_whole_is_told_and_the_call_goes_on(front: Running) -> None:
    async with talking(front) as talk:
        assert (await talk.refused(b"")).reason is Reason.BATCH_EMPTY
        assert (await talk.refused(b"\xff\xff")).reason is Reason.REQUEST_MALFORMED
        assert fault_of((await talk.raw(b"\xff\xff")).error).reason is Reason.REQUEST_MALFORMED
        large = octets_field(1, b"88.111/a") * (bounds.BATCH_BYTES // 10 + 1)
        assert (await talk.refused(large)).reason is Reason.REQUEST_TOO_LARGE
        front.below.chain.fault = Fault(Reason.TOO_MANY_IN_FLIGHT, retry_after=0.5)
        told = await talk.refused(ASKED)
        assert (told.reason, told.retry_after) == (Reason.TOO_MANY_IN_FLIGHT, 0.5)
        front.below.chain.fault = ValueError("nobody foresaw it")
        told = await talk.refused(ASKED)
        assert (told.reason, "request_id" in told.variables) == (Reason.INTERNAL, True)
        front.below.chain.fault = None
        assert len((await talk.ask(ASKED)).batch.results) == 3
    labels = {"method": "StreamResolve", "code": "INVALID_ARGUMENT"}
    assert front.below.registry.get_sample_value("topnode_resolver_calls_total", labels) == 3


async def test_the_way_of_an_answer_is_told_beside_it(front: Running) -> None:
    request = pb.BatchResolveRequest(identifiers=["88.111/a"], options=pb.Options(trace=True)).SerializeToString()
    async with talking(front) as talk:
        said = await talk.ask(request)
        assert [step.verdict for step in said.trace.steps] == ["looked"]
        assert not (await talk.ask(ASKED)).HasField("trace")


async def test_a_message_says_how_long_it_waits_within_the_fronts_deadline(front_start: Start) -> None:
    clock = SetClock()
    running = await front_start(clock=clock, settings=FrontSettings(deadline=Duration(30)))
    async with talking(running) as talk:
        for within, allowed in ((0, 30), (20_000, 20), (3_600_000, 30)):
            await talk.ask(ASKED, within)
            assert running.asked.deadline == clock.monotonic() + allowed


class Slow(Shelf):
    """Takes a while."""

    async def resolve(self, query: Any) -> Any:
        await asyncio.sleep(0.3)
        return await super().resolve(query)


@pytest.mark.parametrize("is_answering", [True, False])
async def test_a_drain_ends_long_calls_behind_their_answer_and_well(*, is_answering: bool) -> None:
    clock = SystemClock()
    below = Below(
        chain=Slow(BODIES, clock), routes=RouteTable(), nodes=members(), clock=clock, registry=CollectorRegistry()
    )
    server = grpcio_server(below)
    await server.start()
    async with open_channel(f"127.0.0.1:{server.port}", ChannelSettings()) as channel:
        talk = Talk(channel)
        await talk.ask(ASKED)
        asked = asyncio.ensure_future(talk.ask(ASKED)) if is_answering else None
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await server.drain()
        assert time.monotonic() - began < 2
        if asked:
            assert len((await asked).batch.results) == 3
        assert await talk.call.read() is grpc.aio.EOF
        assert await talk.call.code() is grpc.StatusCode.OK


async def test_a_caller_that_goes_away_takes_his_question_with_him(front_start: Start) -> None:
    running = await front_start(chain=Slow(BODIES, SystemClock()))
    labels = {"method": "StreamResolve", "code": "CANCELLED"}
    async with talking(running) as talk:
        await talk.call.write(octets_pb2.StreamResolveRequestOctets(batch=ASKED).SerializeToString())
        await asyncio.sleep(0.1)
    for _ in range(100):
        if running.below.registry.get_sample_value("topnode_resolver_calls_total", labels):
            break
        await asyncio.sleep(0.02)
    assert running.below.registry.get_sample_value("topnode_resolver_calls_total", labels) == 1
    assert running.below.chain.asked == []
    async with calling(running) as caller:
        assert (await caller.resolve("88.111/a")).answer.outcome == pb.OUTCOME_FOUND
