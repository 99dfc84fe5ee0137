"""The driver for nodes of this project over grpcio, with answers left as the bytes that came."""

import asyncio
from typing import Any, Final

import grpc

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.federation.driver import Question, Reply
from resolver.federation.messages import BATCH, NODE, STREAM, Replies, batch_request, seconds_left
from resolver.federation.talks import Talks
from resolver.routes import Endpoint
from resolver.rpc.channels import ChannelSettings, Options, open_channel
from resolver.rpc.errors import fault_of_rpc_error
from resolver.rpc.tls import ClientTls
from resolver.trust.answers import AnswerVerifier
from resolver.units import Duration
from resolver.v1 import octets_pb2

_KEEPALIVE: Final = Duration(15)
"""Seldom enough for servers of this project, which send a client away that asks more than every ten seconds."""

_OPTIONS: Final[Options] = (
    # A connection of its own: one that was given up must not come back through gRPC's pool.
    ("grpc.use_local_subchannel_pool", 1),
    # Who tries again, and when, is the breaker's business.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # For gRPC that is how long connecting may take: with TLS that is several times the way there and back.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),
)


class GrpcDriver:
    """Asks over one channel: by StreamResolve, in long calls, and by BatchResolve where that is not to be had."""

    def __init__(
        self, endpoint: Endpoint, tls: ClientTls | None, clock: Clock, verifier: AnswerVerifier | None = None
    ) -> None:
        """Make it within the running loop.

        Raises:
            Fault: FILE_UNREADABLE naming a TLS file.
        """
        settings = ChannelSettings(keepalive=_KEEPALIVE)
        if endpoint.tls_name:
            settings = ChannelSettings(tls=tls or ClientTls(), tls_name=endpoint.tls_name, keepalive=_KEEPALIVE)
        self._monotonic = clock.monotonic
        self._replies = Replies(verifier)
        self._is_closed = False
        self._channel = open_channel(_target(endpoint), settings, _OPTIONS)
        self._batch: Any = self._channel.unary_unary(BATCH)
        self._talks = Talks(self._channel.stream_stream(STREAM), clock)
        self._node: Any = self._channel.unary_unary(NODE)

    async def ask(self, question: Question) -> Reply:
        request = batch_request(question)
        left = seconds_left(question, self._monotonic())
        message = octets_pb2.StreamResolveRequestOctets(batch=request, within_ms=max(1, round(left * 1_000)))
        said = await self._talks.send(message.SerializeToString(), left)
        if said is not None:
            return self._replies.of_message(question, request, said)
        if self._is_closed:
            raise Fault(Reason.NODE_UNREACHABLE, "The connection was given up.")
        call = self._batch(request, timeout=seconds_left(question, self._monotonic()))
        octets = await _called(call)
        beside = await call.trailing_metadata() if question.trace or question.signer else ()
        return self._replies.of_call(question, request, octets, beside or ())

    async def probe(self, within: float) -> None:
        await _called(self._node(b"", timeout=within))

    async def close(self, grace: float = 0) -> None:
        self._is_closed = True
        self._talks.close()
        await self._channel.close(grace or None)


async def _called(call: Any) -> bytes:
    """Wait for a call's response.

    Raises:
        Fault: what the child or gRPC says of it.
    """
    try:
        octets: bytes = await call
    except grpc.aio.AioRpcError as error:
        raise fault_of_rpc_error(error) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Not this task was cancelled: the channel was closed under the call.
        raise Fault(Reason.NODE_UNREACHABLE, "The connection was given up.") from None
    return octets


def _target(endpoint: Endpoint) -> str:
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return f"{host}:{endpoint.port}"
