"""What every front answers by: encoded requests in, ready bytes out. It knows the wire, and neither gRPC nor sockets.

A front hands over a request's bytes and what it knows of the call; what a record means is known below. Resolve and
BatchResolve are the hot methods: they read identifiers as bytes and pass answers on as they are cached.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily

from resolver import bounds
from resolver.answer import FOUND, Failed, Outcome, Ready
from resolver.chain import Link
from resolver.clock import Clock
from resolver.counting import Counting
from resolver.errors import Fault, Reason
from resolver.front.batches import field_of, join
from resolver.front.listing import Listing, Wanted
from resolver.query import NO_PATH, Asker, Mode, Path, Query
from resolver.rpc.calls import parse
from resolver.rpc.errors import error_frame, status_of
from resolver.store import FORMAT
from resolver.trace import Trace
from resolver.trust.answers import ANSWER_KEY, AnswerSigner
from resolver.units import Duration
from resolver.v1 import octets_pb2
from resolver.v1 import resolver_pb2 as pb
from resolver.wire import mode_from_wire, path_from_wire, trace_message, unary

SERVICE: Final = "topnode.resolver.v1.ResolverService"
WIRE_VERSION: Final = "topnode.resolver.v1"

ALLOWED: Final = {
    "Resolve": bounds.LOOKUP_BYTES,
    "BatchResolve": bounds.BATCH_BYTES,
    "StreamResolve": bounds.BATCH_BYTES,
    "ListHandles": bounds.LOOKUP_BYTES,
    "GetNodeInfo": bounds.LOOKUP_BYTES,
}
"""Bytes that a request of each method has at most; of StreamResolve each message. Fronts keep to it."""

TRACE_KEY: Final = "topnode-trace-bin"
"""The trailing metadata that carries a Trace, for a call that asked for one."""

TRACE_STEPS: Final = 64
"""Steps that a Trace tells: clients take 8 KiB of metadata."""

Metadata = tuple[tuple[str, bytes], ...]
Read = Callable[[bytes, float, Asker], Query]
Write = Callable[[Sequence[Ready]], bytes]


class FrontSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the front allows."""

    deadline: Duration = Duration(5)
    """A call may take this long: where its caller sets no deadline, and where it sets a later one."""

    streaming: str = "127.0.0.1:3640"
    """Host and port (port 0: any free one) where StreamResolve, the watching of health and reflection are to be had
    beside everything else, whichever front serves at `serving.address`."""

    def __post_init__(self) -> None:
        if not 0 < self.deadline < 3_600:
            raise Fault(Reason.SETTING_INVALID, "A deadline is more than 0 and less than 1h.", field="deadline")


class NodeCard(Struct, frozen=True, kw_only=True):
    """Who this node is. `answer_tiers` are those that an answer may come from, nearest first."""

    node: str
    tier: str
    software_version: str
    recursion_available: bool = False
    answer_tiers: tuple[str, ...] = ()


class Call(Struct):
    """What a front knows of a call: who asks, and until when (on the monotonic clock, in seconds).

    `beside` is what goes back beside the answer, or beside the fault.
    """

    deadline: float
    asker: Asker
    beside: Metadata = ()


Answer = Callable[[bytes, Call], Awaitable[bytes]]
"""Answers an encoded request; what goes wrong is a Fault."""


class IdentifierCounts:
    """Identifiers by what the chain said of each, also of one whose answer then did not fit into its batch."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.by_outcome = [0] * len(Outcome)
        self.beside: Callable[[], Sequence[int]] = tuple
        """Gives what a front has counted by itself, likewise."""
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "topnode_resolver_identifiers", "Identifiers answered, by outcome.", labels=("outcome",)
        )
        beside = self.beside() or [0] * len(Outcome)
        for outcome, count, more in zip(Outcome, self.by_outcome, beside, strict=True):
            family.add_metric((outcome.name.lower(),), count + more)
        return (family,)

    describe = collect


class Core:
    """Answers the methods of topnode.resolver.v1.ResolverService over a chain, for any front."""

    def __init__(  # noqa: PLR0913 - what a composition root puts together
        self,
        *,
        chain: Link,
        listing: Listing,
        node: NodeCard,
        applied_index: Callable[[], int],
        settings: FrontSettings,
        clock: Clock,
        registry: CollectorRegistry,
        signer: AnswerSigner | None = None,
        counting: Counting | None = None,
    ) -> None:
        """Answer over this chain; what is answered is counted where there is somebody who takes the tallies.

        `signer` signs responses for calls that want it.
        """
        self.longest = float(settings.deadline)
        """Seconds that a call may take."""
        self._chain = chain
        self._count = counting.count if counting else _uncounted
        self._node = node
        self._applied_index = applied_index
        self._clock = clock
        self._listing = listing
        self._signer = signer
        self.identifiers = IdentifierCounts(registry)
        self.resolve = self._hot("Resolve", self._read_one, self._write_one)
        self.batch_resolve = self._hot("BatchResolve", self._read_batch, self._write_batch)

    async def ready(
        self, identifiers: Sequence[bytes], deadline: float, asker: Asker, options: bytes = b""
    ) -> Sequence[Ready]:
        """Answer identifiers for a front that counts and joins the answers itself. `options` have mode and path only.

        Raises:
            Fault: as the chain does; FIELD_OUT_OF_RANGE.
        """
        mode, path = _way(options) if options else (Mode.LOCAL, NO_PATH)
        return await self._chain.resolve(
            Query(identifiers=identifiers, deadline=deadline, asker=asker, mode=mode, path=path)
        )

    async def stream_resolve(self, octets: bytes, call: Call) -> bytes:
        """Answer one message of StreamResolve, as BatchResolve does."""
        began = self._clock.monotonic()
        request = parse(octets_pb2.StreamResolveRequestOctets, octets)
        allowed = min(self.longest, request.within_ms / 1_000 or self.longest)
        query = self._read_batch(request.batch, began + allowed, call.asker)
        answers = await self._chain.resolve(query)
        self._count(answers, query.mode)
        said = octets_pb2.StreamResolveResponseOctets(batch=self._write_batch(answers))
        if query.trace or query.signed:
            beside = dict(self._beside(query, f"{SERVICE}/StreamResolve", request.batch, said.batch))
            said.trace, said.signature = beside.get(TRACE_KEY, b""), beside.get(ANSWER_KEY, b"")
        return said.SerializeToString()

    async def list_handles(self, octets: bytes, call: Call) -> bytes:
        """Answer ListHandles."""
        page = await self._listing.page(_wanted(parse(pb.ListHandlesRequest, octets)), call.asker)
        return pb.ListHandlesResponse(
            identifiers=page.identifiers, next_page_token=page.next_page_token
        ).SerializeToString()

    async def get_node_info(self, octets: bytes, _call: Call) -> bytes:
        """Answer GetNodeInfo."""
        parse(pb.GetNodeInfoRequest, octets)
        return pb.GetNodeInfoResponse(
            node=self._node.node,
            tier=self._node.tier,
            software_version=self._node.software_version,
            wire_version=WIRE_VERSION,
            store_format=FORMAT,
            bounds=_bounds_message(),
            recursion_available=self._node.recursion_available,
            answer_tiers=self._node.answer_tiers,
            applied_index=self._applied_index(),
        ).SerializeToString()

    def _hot(self, name: str, read: Read, write: Write) -> Answer:
        """Make a hot method: everything of ours in one coroutine, around the one of the chain."""
        method_name = f"{SERVICE}/{name}"
        resolve, count = self._chain.resolve, self._count

        async def answer(octets: bytes, call: Call) -> bytes:
            query = read(octets, call.deadline, call.asker)
            try:
                answers = await resolve(query)
                count(answers, query.mode)
                said = write(answers)
            except Exception:
                # The way of a call that failed is told too.
                call.beside = _told(query.trace)
                raise
            if query.trace or query.signed:
                call.beside = self._beside(query, method_name, octets, said)
            return said

        return answer

    def _beside(self, query: Query, method: str, request: bytes, response: bytes) -> Metadata:
        """Give what goes beside an answer: its way, and a signature."""
        told = _told(query.trace)
        if not query.signed or self._signer is None:
            return told
        signature = self._signer.sign(method, request, response)
        return (*told, (ANSWER_KEY, signature)) if signature else told

    def _read_one(self, octets: bytes, deadline: float, asker: Asker) -> Query:
        # Nearly every request is the field `identifier` (tag 0x0a, length below 128) and nothing else.
        if 2 < len(octets) < 130 and octets[0] == 0x0A and octets[1] == len(octets) - 2:
            return Query(identifiers=(octets[2:],), deadline=deadline, asker=asker)
        request = parse(octets_pb2.ResolveRequestOctets, octets)
        return self._query((request.identifier,), request, deadline, asker)

    def _write_one(self, answers: Sequence[Ready]) -> bytes:
        (ready,) = answers
        self.identifiers.by_outcome[ready.outcome] += 1
        if isinstance(ready, Failed):
            raise ready.fault.anew(field="identifier")
        return unary(ready.frame)

    def _read_batch(self, octets: bytes, deadline: float, asker: Asker) -> Query:
        request = parse(octets_pb2.BatchResolveRequestOctets, octets)
        identifiers: Sequence[bytes] = request.identifiers
        # Too many are counted and refused by admission: two mebibytes hold a million, which nobody need copy.
        if len(identifiers) <= bounds.BATCH_IDENTIFIERS:
            identifiers = identifiers[:]
        return self._query(identifiers, request, deadline, asker)

    def _write_batch(self, answers: Sequence[Ready]) -> bytes:
        frames = [ready.frame for ready in answers]
        outcomes = [ready.outcome for ready in answers]
        found = outcomes.count(FOUND)
        self.identifiers.by_outcome[FOUND] += found
        if found < len(outcomes):
            for outcome in set(outcomes) - {FOUND}:
                self.identifiers.by_outcome[outcome] += outcomes.count(outcome)
            _fill_errors(frames, answers)
        return join(frames)

    def _query(self, identifiers: Sequence[bytes], request: Any, deadline: float, asker: Asker) -> Query:
        """Build a query with everything that a caller can ask for.

        Raises:
            Fault: ENUM_UNKNOWN, FIELD_OUT_OF_RANGE.
        """
        if not request.HasField("options"):
            return Query(identifiers=identifiers, deadline=deadline, asker=asker)
        options = request.options
        return Query(
            identifiers=identifiers,
            deadline=deadline,
            asker=asker,
            # One more than the bound is enough to be refused by.
            types=tuple(options.types[: bounds.FILTER_TERMS + 1]),
            indexes=tuple(options.indexes[: bounds.FILTER_TERMS + 1]),
            mode=mode_from_wire(options.mode),
            authoritative=options.authoritative,
            with_copy=options.with_copy,
            trace=Trace(self._node.node, self._clock) if options.trace else None,
            signed=options.signed,
            path=path_from_wire(options.path) if options.HasField("path") else NO_PATH,
        )


def _fill_errors(frames: list[bytes], answers: Sequence[Ready]) -> None:
    """Put an error frame in the place of each identifier that went wrong."""
    for position, ready in enumerate(answers):
        if isinstance(ready, Failed):
            frames[position] = error_frame(ready.fault.anew(field=field_of(position)))


def turn_refusal(fault: Fault) -> bytes:
    """Make the message of StreamResolve that says a fault."""
    said = octets_pb2.StreamResolveResponseOctets()
    said.error.CopyFrom(status_of(fault))
    return said.SerializeToString()


@lru_cache(1_024)
def _way(octets: bytes) -> tuple[Mode, Path]:
    """Read how far to go. Whoever asks all day long comes by the same ways."""
    options = parse(pb.Options, octets)
    return mode_from_wire(options.mode), path_from_wire(options.path)


def _uncounted(_answers: Sequence[Ready], _mode: Mode) -> None:
    """Count nothing."""


def _wanted(request: pb.ListHandlesRequest) -> Wanted:
    return Wanted(
        prefix=request.prefix,
        derived=request.derived,
        page_size=request.page_size,
        page_token=request.page_token,
    )


def _told(trace: Trace | None) -> Metadata:
    return ((TRACE_KEY, trace_message(trace.steps[:TRACE_STEPS])),) if trace else ()


def _bounds_message() -> pb.Bounds:
    return pb.Bounds(
        identifier_bytes=bounds.IDENTIFIER_BYTES,
        value_data_bytes=bounds.VALUE_DATA_BYTES,
        record_bytes=bounds.RECORD_BYTES,
        record_values=bounds.RECORD_VALUES,
        batch_identifiers=bounds.BATCH_IDENTIFIERS,
        answer_bytes=bounds.ANSWER_BYTES,
        list_page=bounds.LIST_PAGE,
        request_bytes=bounds.REQUEST_BYTES,
        envelope_bytes=bounds.ENVELOPE_BYTES,
        envelope_rows=bounds.ENVELOPE_ROWS,
        chunk_bytes=bounds.CHUNK_BYTES,
        answers_kept_seconds=bounds.ANSWERS_KEPT,
        batch_bytes=bounds.BATCH_BYTES,
        lookup_bytes=bounds.LOOKUP_BYTES,
    )
