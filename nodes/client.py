"""The client of a node: identifiers in, answers out, as nouns. Batches, deadlines and retries are its business."""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
from google.protobuf.message import Message
from msgspec import Struct

from nodes.asking.retries import wait_before_retry
from resolver.answer import Answer
from resolver.bounds import BATCH_IDENTIFIERS, IDENTIFIER_BYTES
from resolver.clock import Clock, SystemClock
from resolver.errors import Fault, Reason
from resolver.handle import check_text, encoded
from resolver.query import Mode
from resolver.rpc.channels import ChannelSettings, open_channel
from resolver.rpc.errors import fault_of, fault_of_rpc_error
from resolver.trace import Step
from resolver.units import Duration
from resolver.v1 import resolver_pb2 as pb
from resolver.wire import answer_from_message, trace_steps

SERVICE: Final = pb.DESCRIPTOR.services_by_name["ResolverService"].full_name

TRACE_KEY: Final = "topnode-trace-bin"
"""The trailing metadata with a Trace (resolver.proto, Options.trace)."""

BATCHES_AT_ONCE: Final = 4

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


class ClientSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a client talks to its node."""

    channel: ChannelSettings = ChannelSettings()
    """How the node is reached."""

    timeout: Duration = Duration(5)
    """A call may take this long, its retries included. Many identifiers are many calls."""


class Options(Struct, frozen=True, kw_only=True):
    """What is wanted of each identifier; the fields are those of `resolver.query.Query`."""

    types: tuple[str, ...] = ()
    indexes: tuple[int, ...] = ()
    mode: Mode = Mode.LOCAL
    authoritative: bool = False
    with_copy: bool = False


class Traced(Struct, frozen=True):
    """An answer, or the Fault in its place, and the way it took; `seconds` is the whole call as seen from here."""

    answer: Answer | Fault
    steps: list[Step]
    seconds: float


class NodeInfo(Struct, frozen=True, kw_only=True):
    """What a node says of itself. `bounds` are named as in the proto."""

    node: str
    tier: str
    software_version: str
    wire_version: str
    store_format: int
    bounds: dict[str, int]
    recursion_available: bool
    answer_tiers: tuple[str, ...]
    applied_index: int


_EVERYTHING: Final = Options()


class Client:
    """Asks one node. Made within a running loop; used as a context, or closed.

    Whatever goes wrong is a Fault. Where a node says that it will pass, it is asked again within the deadline.
    """

    def __init__(self, address: str, settings: ClientSettings | None = None, *, clock: Clock | None = None) -> None:
        """Reach a node at `host:port` or `unix:path`; it is connected with the first call.

        Raises:
            Fault: FILE_UNREADABLE naming the TLS file that is missing or does not fit.
        """
        settings = settings or ClientSettings()
        self._timeout = float(settings.timeout)
        self._clock = clock or SystemClock()
        self._channel = open_channel(address, settings.channel)
        self._resolve = self._method("Resolve", pb.ResolveRequest, pb.ResolveResponse)
        self._batch_resolve = self._method("BatchResolve", pb.BatchResolveRequest, pb.BatchResolveResponse)
        self._list_handles = self._method("ListHandles", pb.ListHandlesRequest, pb.ListHandlesResponse)
        self._get_node_info = self._method("GetNodeInfo", pb.GetNodeInfoRequest, pb.GetNodeInfoResponse)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in flight end."""
        await self._channel.close()

    async def resolve(self, identifier: str, options: Options = _EVERYTHING) -> Answer:
        """Resolve one identifier.

        Raises:
            Fault: the node's, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        request = pb.ResolveRequest(identifier=_sendable(identifier), options=_message(options))
        response = await self._call(self._resolve, request)
        return answer_from_message(response.answer)

    async def resolve_traced(self, identifier: str, options: Options = _EVERYTHING) -> Traced:
        """Resolve one identifier, and tell the way of its answer; it is asked once, without retries."""
        began = self._clock.monotonic()
        steps: list[Step] = []
        try:
            request = pb.ResolveRequest(identifier=_sendable(identifier), options=_message(options, trace=True))
            call = self._resolve(request, timeout=self._timeout)
            steps = _steps(await call.trailing_metadata())
            answer: Answer | Fault = answer_from_message((await call).answer)
        except grpc.aio.AioRpcError as error:
            answer = fault_of_rpc_error(error)
        except Fault as fault:
            answer = fault
        return Traced(answer, steps, self._clock.monotonic() - began)

    async def resolve_batch(self, identifiers: Sequence[str], options: Options = _EVERYTHING) -> list[Answer | Fault]:
        """Resolve any number of identifiers: an answer or a Fault for each, in their order.

        When a call fails altogether, its Fault stands for each identifier that it asked for.
        """
        results: dict[int, Answer | Fault] = {}
        asked = []
        for position, identifier in enumerate(identifiers):
            try:
                asked.append((position, _sendable(identifier)))
            except Fault as fault:
                results[position] = fault
        pending = deque(_split(asked, BATCH_IDENTIFIERS))

        async def work() -> None:
            while pending:
                batch = pending.popleft()
                answers = await self._ask([identifier for _, identifier in batch], options)
                results.update((position, answer) for (position, _), answer in zip(batch, answers, strict=True))
                pending.extend(_again(batch, answers))

        await _all(work() for _ in range(BATCHES_AT_ONCE))
        return [results[position] for position in range(len(identifiers))]

    async def list_handles(self, prefix: str, *, derived: bool = False, page_size: int = 0) -> AsyncIterator[str]:
        """Give what is registered below a prefix, in the registered spelling; fetched page by page.

        Raises:
            Fault: LISTING_NOT_ALLOWED and others of the node's, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        request = _listing(prefix, derived=derived, page_size=page_size)
        while True:
            page = await self._call(self._list_handles, request)
            for identifier in page.identifiers:
                yield identifier
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def node_info(self) -> NodeInfo:
        """Ask the node who it is.

        Raises:
            Fault: NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        told = await self._call(self._get_node_info, pb.GetNodeInfoRequest())
        return NodeInfo(
            node=told.node,
            tier=told.tier,
            software_version=told.software_version,
            wire_version=told.wire_version,
            store_format=told.store_format,
            bounds={field.name: int(value) for field, value in told.bounds.ListFields()},
            recursion_available=told.recursion_available,
            answer_tiers=tuple(told.answer_tiers),
            applied_index=told.applied_index,
        )

    def _method(
        self, name: str, request: type[_Request], response: type[_Response]
    ) -> "grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]":
        return self._channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    async def _ask(self, identifiers: Sequence[str], options: Options) -> list[Answer | Fault]:
        request = pb.BatchResolveRequest(identifiers=identifiers, options=_message(options))
        try:
            response = await self._call(self._batch_resolve, request)
        except Fault as fault:
            return [fault] * len(identifiers)
        return [_result(result) for result in response.results]

    async def _call(
        self, method: "grpc.aio.UnaryUnaryMultiCallable[_Request, _Response]", request: _Request
    ) -> _Response:
        """Call, and again where the failure passes within the deadline."""
        deadline = self._clock.monotonic() + self._timeout
        attempt = 1
        while True:
            left = deadline - self._clock.monotonic()
            try:
                return await method(request, timeout=left)
            except grpc.aio.AioRpcError as error:
                fault = fault_of_rpc_error(error)
            left = deadline - self._clock.monotonic()
            wait = wait_before_retry(fault, attempt, left, random.random())  # noqa: S311 - so that clients spread
            if wait is None:
                raise fault
            await asyncio.sleep(wait)
            attempt += 1


def _sendable(identifier: str) -> str:
    """Give an identifier that a request can carry; the rest of its rules are the node's to check.

    Raises:
        Fault: IDENTIFIER_NOT_UTF8, IDENTIFIER_TOO_LONG.
    """
    octets = encoded(identifier)
    if len(octets) > IDENTIFIER_BYTES:
        check_text(octets)
    return identifier


def _split(batch: list[tuple[int, str]], size: int) -> Iterator[list[tuple[int, str]]]:
    for first in range(0, len(batch), size):
        yield batch[first : first + size]


def _again(batch: list[tuple[int, str]], answers: list[Answer | Fault]) -> Iterator[list[tuple[int, str]]]:
    """Give what did not fit into its answer, in smaller batches; an answer always has room for the first one."""
    left_out = [each for each, answer in zip(batch, answers, strict=True) if _is_too_large(answer)]
    return _split(left_out, (len(left_out) + 1) // 2) if 0 < len(left_out) < len(batch) else iter(())


def _is_too_large(answer: Answer | Fault) -> bool:
    return isinstance(answer, Fault) and answer.reason is Reason.ANSWER_TOO_LARGE


def _result(result: pb.BatchResult) -> Answer | Fault:
    if result.HasField("error"):
        return fault_of(result.error)
    try:
        return answer_from_message(result.answer)
    except Fault as fault:
        return fault


def _message(options: Options, *, trace: bool = False) -> pb.Options:
    try:
        return pb.Options(
            types=options.types,
            indexes=options.indexes,
            mode=pb.Mode.Name(options.mode),
            authoritative=options.authoritative,
            with_copy=options.with_copy,
            trace=trace,
        )
    except ValueError as error:
        # What no request can carry; everything else is the node's to refuse.
        raise Fault(Reason.FIELD_OUT_OF_RANGE, f"{error}.", field="options") from None


def _listing(prefix: str, *, derived: bool, page_size: int) -> pb.ListHandlesRequest:
    try:
        return pb.ListHandlesRequest(
            prefix=encoded(prefix, field="prefix").decode(), derived=derived, page_size=page_size
        )
    except ValueError as error:
        raise Fault(Reason.FIELD_OUT_OF_RANGE, f"{error}.", field="page_size") from None


def _steps(metadata: grpc.aio.Metadata) -> list[Step]:
    for key, value in metadata or ():
        if key == TRACE_KEY and isinstance(value, bytes):
            return trace_steps(value)
    return []


async def _all(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Wait for all of them; none goes on when one fails."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
