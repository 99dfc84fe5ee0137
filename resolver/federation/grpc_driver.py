"""The driver for nodes of this project: gRPC, with answers left as the bytes that came."""

import asyncio
import secrets
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.federation.driver import Question, Reply
from resolver.federation.talks import Talks
from resolver.routes import Endpoint, Protocol
from resolver.rpc.channels import ChannelSettings, Options, open_channel
from resolver.rpc.errors import fault_of, fault_of_rpc_error
from resolver.rpc.tls import ClientTls
from resolver.trace import Step
from resolver.trust.answers import ANSWER_KEY, AnswerVerifier
from resolver.trust.verdicts import Trust
from resolver.units import Duration
from resolver.v1 import octets_pb2
from resolver.wire import recursive_options, trace_steps

_SERVICE: Final = "/topnode.resolver.v1.ResolverService"
_BATCH: Final = "topnode.resolver.v1.ResolverService/BatchResolve"
_STREAM: Final = "topnode.resolver.v1.ResolverService/StreamResolve"
_TRACE_KEY: Final = "topnode-trace-bin"

NONCE_BYTES: Final = 16
"""Of each question to which a signed answer is wanted."""

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
        self._verifier = verifier
        self._is_closed = False
        self._channel = open_channel(_target(endpoint), settings, _OPTIONS)
        self._batch: Any = self._channel.unary_unary(f"/{_BATCH}")
        self._talks = Talks(self._channel.stream_stream(f"/{_STREAM}"), clock)
        self._node: Any = self._channel.unary_unary(f"{_SERVICE}/GetNodeInfo")

    async def ask(self, question: Question) -> Reply:
        request = octets_pb2.BatchResolveRequestOctets(
            identifiers=question.identifiers,
            options=recursive_options(
                question.path,
                authoritative=question.authoritative,
                trace=question.trace,
                nonce=secrets.token_bytes(NONCE_BYTES) if question.signer else b"",
            ),
        ).SerializeToString()
        left = self._left(question)
        message = octets_pb2.StreamResolveRequestOctets(batch=request, within_ms=max(1, round(left * 1_000)))
        said = await self._talks.send(message.SerializeToString(), left)
        if said is not None:
            return self._told(question, request, said)
        if self._is_closed:
            raise Fault(Reason.NODE_UNREACHABLE, "The connection was given up.")
        call = self._batch(request, timeout=self._left(question))
        octets = await _called(call)
        if not (question.trace or question.signer):
            return Reply(_results(octets), Protocol.GRPC)
        beside = await call.trailing_metadata()
        trust = self._trust(_octets_of(ANSWER_KEY, beside), question.signer, _BATCH, request, octets)
        steps = _steps(_octets_of(_TRACE_KEY, beside)) if question.trace else ()
        return Reply(_results(octets), Protocol.GRPC, steps, trust)

    def _left(self, question: Question) -> float:
        """Give the seconds that are left for an answer.

        Raises:
            Fault: DEADLINE_SPENT.
        """
        left = question.deadline - self._monotonic()
        if left <= 0:
            raise Fault(Reason.DEADLINE_SPENT)
        return left

    def _told(self, question: Question, request: bytes, octets: bytes) -> Reply:
        """Read what came in a long call."""
        try:
            said = octets_pb2.StreamResolveResponseOctets.FromString(octets)
        except DecodeError:
            raise Fault(Reason.CHILD_ANSWER_REFUSED, variables={"why": "malformed"}) from None
        if said.HasField("error"):
            raise fault_of(said.error)
        trust = self._trust(said.signature, question.signer, _STREAM, request, said.batch)
        return Reply(_results(said.batch), Protocol.GRPC, _steps(said.trace) if question.trace else (), trust)

    def _trust(self, envelope: bytes, signer: str, method: str, request: bytes, response: bytes) -> Trust:
        if self._verifier is None or not signer:
            return Trust.UNKNOWN
        return self._verifier.verdict(envelope, node=signer, method=method, request=request, response=response)

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


def _results(octets: bytes) -> list[bytes | Fault]:
    """Read a batch answer, leaving each answer encoded.

    Raises:
        Fault: CHILD_ANSWER_REFUSED where it cannot be read.
    """
    try:
        response = octets_pb2.BatchResolveResponseOctets.FromString(octets)
    except DecodeError:
        raise Fault(Reason.CHILD_ANSWER_REFUSED, variables={"why": "malformed"}) from None
    return [each.answer if each.HasField("answer") else fault_of(each.error) for each in response.results]


def _steps(octets: bytes) -> list[Step]:
    try:
        return trace_steps(octets)
    except DecodeError:
        # A trace is for the curious; an answer is not refused for it.
        return []


def _octets_of(wanted: str, metadata: Any) -> bytes:
    """Give the value of binary metadata; empty where there is none."""
    return next((value for key, value in metadata or () if key == wanted and isinstance(value, bytes)), b"")


def _target(endpoint: Endpoint) -> str:
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return f"{host}:{endpoint.port}"
