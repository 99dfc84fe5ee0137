"""A node below as drivers see it: a gRPC server that a test answers for, and the questions that it is asked."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.federation.driver import Question
from resolver.query import Path
from resolver.rpc.calls import Method
from resolver.rpc.errors import status_of
from resolver.rpc.turns import Turn, Turns
from resolver.trust.answers import ANSWER_KEY
from resolver.v1 import octets_pb2

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


@asynccontextmanager
async def child(
    answering: Answering,
    credentials: grpc.ServerCredentials | None = None,
    *,
    port: int = 0,
    knows_long_calls: bool = False,
) -> AsyncIterator[int]:
    """Serve all methods by one function, and give the port."""
    server = grpc.aio.server()
    methods: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(answering) for name in ("BatchResolve", "GetNodeInfo")
    }
    if knows_long_calls:
        methods["StreamResolve"] = served_in_turn(Turns(), answering)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    address = f"localhost:{port}"
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


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
