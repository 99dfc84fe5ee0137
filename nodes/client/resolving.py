"""The client that resolves: identifiers in, answers out, as nouns. Batches, deadlines, retries are its business."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, Self

import grpc
from msgspec import Struct

from nodes.client.calls import Calls
from nodes.client.counts import Counts
from nodes.client.gathering import BATCHES_AT_ONCE, Gathering
from nodes.client.questions import Questions
from nodes.client.received import received
from nodes.client.signing import NodeTime, Signer
from resolver.answer import Answer
from resolver.bounds import BATCH_IDENTIFIERS, IDENTIFIER_BYTES
from resolver.clock import Clock, SystemClock
from resolver.errors import Fault, Reason
from resolver.handle import check_text, encoded
from resolver.query import Mode
from resolver.rpc.channels import ChannelSettings
from resolver.rpc.errors import fault_of, fault_of_rpc_error
from resolver.trace import Step
from resolver.units import Duration
from resolver.v1 import resolver_pb2 as pb
from resolver.wire import trace_steps

SERVICE: Final = pb.DESCRIPTOR.services_by_name["ResolverService"].full_name

TRACE_KEY: Final = "topnode-trace-bin"
"""The trailing metadata with a Trace (resolver.proto, Options.trace)."""


class ClientSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a client talks to its node."""

    channel: ChannelSettings = ChannelSettings()
    """How the node is reached."""

    timeout: Duration = Duration(5)
    """A call may take this long, its retries and whatever has to be asked before it included. Many identifiers are
    many calls."""


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

    def __init__(
        self,
        address: str,
        settings: ClientSettings | None = None,
        *,
        signer: Signer | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Reach a node at `host:port` or `unix:path`; it is connected with the first call.

        With a signer every question is signed: a holder is shown also those values of its own identifiers that
        nobody else may read, and may list them.

        Raises:
            Fault: FILE_UNREADABLE naming the TLS file that is missing or does not fit.
        """
        settings = settings or ClientSettings()
        self._timeout = float(settings.timeout)
        self._node = ""
        self._calls = Calls(address, settings.channel, SERVICE, clock or SystemClock())
        time = NodeTime(self._calls.clock, self._calls.counts)
        self._questions = Questions(self._calls, signer, time, self._audience, self._timeout)
        self._resolve = self._calls.method("Resolve", pb.ResolveResponse)
        self._batch_resolve = self._calls.method("BatchResolve", pb.BatchResolveResponse)
        self._list_handles = self._calls.method("ListHandles", pb.ListHandlesResponse)
        self._get_node_info = self._calls.method("GetNodeInfo", pb.GetNodeInfoResponse)
        self._gathering: Gathering[Options] = Gathering(self._ask, at_once=BATCHES_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in flight end."""
        await self._gathering.close()
        await self._calls.close()

    @property
    def counts(self) -> Counts:
        """What was counted so far."""
        return self._calls.counts

    async def resolve(self, identifier: str, options: Options = _EVERYTHING) -> Answer:
        """Resolve one identifier. Those that are asked for at the same time travel in batches.

        Raises:
            Fault: the node's, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        return await self._gathering.join(_sendable(identifier), options)

    async def resolve_traced(self, identifier: str, options: Options = _EVERYTHING) -> Traced:
        """Resolve one identifier, and tell the way of its answer; it is asked once, without retries."""
        began, patience = self._calls.clock.monotonic(), self._questions.patience()
        steps: list[Step] = []
        try:
            request = _resolve_request(_sendable(identifier), options, trace=True).SerializeToString()
            metadata = await self._questions.signature("Resolve", request, patience.left)
            call = self._resolve(request, timeout=patience.left, metadata=metadata)
            steps = _steps(await call.trailing_metadata())
            answer: Answer | Fault = received((await call).answer)
        except grpc.aio.AioRpcError as error:
            answer = fault_of_rpc_error(error)
        except Fault as fault:
            answer = fault
        return Traced(answer, steps, self._calls.clock.monotonic() - began)

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
                answers = await self._ask_batch([identifier for _, identifier in batch], options)
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
            page = await self._questions.ask("ListHandles", self._list_handles, request)
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
        return await self._node_info(self._timeout)

    async def _node_info(self, seconds: float) -> NodeInfo:
        told = await self._calls.call(self._get_node_info, b"", seconds)
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

    async def _ask(self, identifiers: Sequence[str], options: Options) -> Sequence[Answer | Fault]:
        """Ask for what was gathered: one for itself, more as a batch, and what did not fit into its answer again."""
        if len(identifiers) == 1:
            return [await self._ask_one(identifiers[0], options)]
        answers = await self._ask_batch(identifiers, options)
        left_out = [position for position, answer in enumerate(answers) if _is_too_large(answer)]
        if 0 < len(left_out) < len(answers):
            again = await self.resolve_batch([identifiers[position] for position in left_out], options)
            for position, answer in zip(left_out, again, strict=True):
                answers[position] = answer
        return answers

    async def _ask_one(self, identifier: str, options: Options) -> Answer | Fault:
        try:
            request = _resolve_request(identifier, options)
            response = await self._questions.ask("Resolve", self._resolve, request)
            return received(response.answer)
        except Fault as fault:
            return fault

    async def _ask_batch(self, identifiers: Sequence[str], options: Options) -> list[Answer | Fault]:
        try:
            request = pb.BatchResolveRequest(identifiers=identifiers, options=_message(options))
            response = await self._questions.ask("BatchResolve", self._batch_resolve, request)
        except Fault as fault:
            return [fault] * len(identifiers)
        return [_result(result) for result in response.results]

    async def _audience(self, seconds: float) -> str:
        if not self._node:
            self._node = (await self._node_info(seconds)).node
        return self._node


def _resolve_request(identifier: str, options: Options, *, trace: bool = False) -> pb.ResolveRequest:
    return pb.ResolveRequest(identifier=identifier, options=_message(options, trace=trace))


def _sendable(identifier: str) -> str:
    """Give an identifier that a request can carry; the rest of its rules are the node's to check.

    Raises:
        Fault: IDENTIFIER_NOT_UTF8, IDENTIFIER_TOO_LONG.
    """
    if not identifier.isascii() or len(identifier) > IDENTIFIER_BYTES:
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
        return received(result.answer)
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
