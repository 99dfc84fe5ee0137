"""A closed loop: so many callers, each with one call under way, until requests or time are used up."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence

import grpc
from msgspec import Struct

from loadtest.cores import cpu_seconds
from resolver.bounds import REQUEST_BYTES

CALL_TIMEOUT = 10.0
"""Seconds after which a single call counts as lost and ends the measurement."""


class Call(Struct, frozen=True):
    """One request, ready to send, and how many identifiers it asks about."""

    method: str
    request: bytes
    identifiers: int = 1


def quantile(latencies: Iterable[float], share: float) -> float:
    """Give the latency below which this share of calls was answered."""
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Driven(Struct, frozen=True):
    """What one run took: latencies in seconds, sorted; CPU seconds are the server's."""

    calls: int
    identifiers: int
    wall: float
    cpu: float
    latencies: list[float]

    def quantile(self, share: float) -> float:
        """The latency in seconds below which this share of calls was answered."""
        return quantile(self.latencies, share)


class Loop:
    """Channels to one server, kept between runs."""

    def __init__(self, port: int, pid: int, *, connections: int) -> None:
        self._pid = pid
        options = [
            ("grpc.max_receive_message_length", 2 * REQUEST_BYTES),
            # Without a pool of their own, channels to one address share one connection.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(connections)]

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def length(self, call: Call) -> int:
        """Send one call and give the length of its answer in bytes."""
        send: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channels[0].unary_unary(call.method)
        return len(await send(call.request, timeout=CALL_TIMEOUT))

    async def run(self, calls: Iterable[Call], *, callers: int, seconds: float) -> Driven:
        """Send the calls in order, shared out among the callers, for at most this many seconds."""
        source = iter(calls)
        latencies: list[float] = []
        counts = [0]
        until = time.perf_counter() + seconds
        cpu, began = cpu_seconds(self._pid), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                channel = self._channels[number % len(self._channels)]
                group.create_task(_caller(channel, source, latencies, counts, until))
        wall = time.perf_counter() - began
        cpu = cpu_seconds(self._pid) - cpu
        latencies.sort()
        return Driven(len(latencies), counts[0], wall, cpu, latencies)

    async def paced(self, calls: Sequence[Call], *, rate: float) -> Driven:
        """Send calls of one method at an even rate, come what may; latencies count from when each was due."""
        latencies: list[float] = []
        methods: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
            channel.unary_unary(calls[0].method) for channel in self._channels
        ]
        cpu, began = cpu_seconds(self._pid), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, call in enumerate(calls):
                due = began + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(_timed(methods[number % len(methods)], call, due, latencies))
        wall = time.perf_counter() - began
        latencies.sort()
        identifiers = sum(call.identifiers for call in calls)
        return Driven(len(latencies), identifiers, wall, cpu_seconds(self._pid) - cpu, latencies)


async def _timed(
    send: "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]", call: Call, due: float, latencies: list[float]
) -> None:
    await send(call.request, timeout=CALL_TIMEOUT)
    latencies.append(time.perf_counter() - due)


async def _caller(
    channel: grpc.aio.Channel, source: Iterator[Call], latencies: list[float], counts: list[int], until: float
) -> None:
    methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
    clock = time.perf_counter
    for call in source:
        send = methods.get(call.method)
        if send is None:
            send = methods[call.method] = channel.unary_unary(call.method)
        began = clock()
        await send(call.request, timeout=CALL_TIMEOUT)
        ended = clock()
        latencies.append(ended - began)
        counts[0] += call.identifiers  # one cell, shared by all callers of a run
        if ended > until:
            return
