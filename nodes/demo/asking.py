"""Asking a node and comparing its answers.

Times are those of the calls, to the last byte of the answer: decoding and comparing wait until they are over.
"""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import grpc
from msgspec import Struct

from nodes.demo.expectations import Expected
from nodes.demo.questions import batches
from resolver.answer import Answer
from resolver.bounds import REQUEST_BYTES
from resolver.clock import Clock
from resolver.errors import Fault
from resolver.query import Mode
from resolver.rpc.errors import fault_of, fault_of_rpc_error
from resolver.v1 import resolver_pb2 as pb
from resolver.wire import answer_from_message

CALL_SECONDS: Final = 10.0
"""A call that takes longer has failed."""

SHOWN: Final = 20
"""Wrong answers that are kept word for word."""

_Octets = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["ResolverService"].full_name


class Verdicts:
    """How many answers were compared, and what was wrong with those that were."""

    def __init__(self) -> None:
        self.right = 0
        self.wrong = 0
        self.differences: list[str] = []

    def compare(self, expected: Sequence[Expected], got: Sequence[Answer | Fault]) -> None:
        """Compare answers with what they must be, in the order asked."""
        for each, answer in zip(expected, got, strict=True):
            self._count(each.difference(answer))

    def insist(self, subject: str, breach: str) -> None:
        """Count one more thing that must be right: with an empty breach it is."""
        self._count(breach and f"{subject}: {breach}")

    def _count(self, difference: str) -> None:
        if not difference:
            self.right += 1
            return
        self.wrong += 1
        if len(self.differences) < SHOWN:
            self.differences.append(difference)


class Measured(Struct, frozen=True, kw_only=True):
    """A number of calls of one size. Times are in seconds; a rate is identifiers a second."""

    batch: int
    in_flight: int
    calls: int
    identifiers: int
    rate: float
    p50: float
    p99: float


class Connection:
    """A connection of its own to the node: the kernel gives it to one of the resolvers, and there it stays."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", REQUEST_BYTES),
                # Without a pool of its own a channel shares the connection of another to the same address.
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )
        self._resolve: _Octets = self._channel.unary_unary(f"/{_SERVICE}/Resolve")
        self._batch_resolve: _Octets = self._channel.unary_unary(f"/{_SERVICE}/BatchResolve")

    async def send(self, identifiers: Sequence[str], mode: Mode, *, with_copy: bool = False) -> bytes | Fault:
        """Ask in one call: a single identifier for itself, more as a batch."""
        options = pb.Options(mode=pb.Mode.Name(mode), with_copy=with_copy)
        try:
            if len(identifiers) == 1:
                single = pb.ResolveRequest(identifier=identifiers[0], options=options)
                return await self._resolve(single.SerializeToString(), timeout=CALL_SECONDS)
            batch = pb.BatchResolveRequest(identifiers=identifiers, options=options)
            return await self._batch_resolve(batch.SerializeToString(), timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            return fault_of_rpc_error(error)

    async def close(self) -> None:
        """Close it."""
        await self._channel.close()


def read(reply: bytes | Fault, count: int) -> list[Answer | Fault]:
    """Decode what came back for so many identifiers; a call that failed is the fault of each of them."""
    if isinstance(reply, Fault):
        return [reply] * count
    if count == 1:
        return [answer_from_message(pb.ResolveResponse.FromString(reply).answer)]
    results = pb.BatchResolveResponse.FromString(reply).results
    return [fault_of(each.error) if each.HasField("error") else answer_from_message(each.answer) for each in results]


class Asker:
    """One client of the node, who knows what must be answered."""

    def __init__(self, connections: Sequence[Connection], clock: Clock, verdicts: Verdicts) -> None:
        self._connections = connections
        self._clock = clock
        self._verdicts = verdicts

    async def ask(self, questions: Sequence[Expected], mode: Mode = Mode.LOCAL) -> None:
        """Ask in one call, and compare."""
        reply = await self._connections[0].send([each.asked for each in questions], mode)
        self._verdicts.compare(questions, read(reply, len(questions)))

    async def measure(
        self, questions: Iterator[Expected], *, batch: int, in_flight: int, mode: Mode = Mode.LOCAL
    ) -> Measured:
        """Ask everything in calls of this size, so many at once."""
        times: list[float] = []
        busy, identifiers = 0.0, 0
        calls = batches(questions, batch)
        while together := list(islice(calls, in_flight)):
            began = self._clock.monotonic()
            replies = await asyncio.gather(*(self._timed(each, place, mode) for place, each in enumerate(together)))
            busy += self._clock.monotonic() - began
            for expected, (reply, took) in zip(together, replies, strict=True):
                times.append(took)
                identifiers += len(expected)
                self._verdicts.compare(expected, read(reply, len(expected)))
        times.sort()
        return Measured(
            batch=batch,
            in_flight=in_flight,
            calls=len(times),
            identifiers=identifiers,
            rate=identifiers / busy,
            p50=times[len(times) // 2],
            p99=times[len(times) * 99 // 100],
        )

    async def _timed(self, questions: Sequence[Expected], place: int, mode: Mode) -> tuple[bytes | Fault, float]:
        identifiers = [each.asked for each in questions]
        connection = self._connections[place % len(self._connections)]
        began = self._clock.monotonic()
        reply = await connection.send(identifiers, mode)
        return reply, self._clock.monotonic() - began
