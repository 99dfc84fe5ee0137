"""The gRPC front: requests in, ready bytes out. It knows the wire; what a record means is known below.

Resolve and BatchResolve are the hot methods: they read identifiers as bytes and pass answers on as they are cached.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import grpc
from msgspec import Struct
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily

from resolver import bounds
from resolver.answer import FOUND, Failed, Outcome, Ready
from resolver.chain import Link
from resolver.clock import Clock
from resolver.counting import Counting
from resolver.errors import Fault, Reason
from resolver.front.askers import AskerOf, proven_asker, public_asker, signatures_of, signing_asker
from resolver.front.batches import field_of, join
from resolver.front.listing import Listing, Wanted
from resolver.front.paging import PageTokens
from resolver.holders import Holders
from resolver.query import NO_PATH, Asker, Mode, Query
from resolver.routes import RouteTable
from resolver.rpc.calls import Body, Calls, Context, Method, parse, too_large
from resolver.rpc.errors import error_frame, status_of
from resolver.rpc.serving import Server
from resolver.rpc.turns import Turn
from resolver.store import FORMAT, RecordReader
from resolver.trace import Trace
from resolver.trust.answers import ANSWER_KEY, AnswerSigner
from resolver.trust.queries import QUERY_KEY, QueryVerifier
from resolver.units import Duration
from resolver.v1 import octets_pb2
from resolver.v1 import resolver_pb2 as pb
from resolver.wire import mode_from_wire, path_from_wire, trace_message, unary

SERVICE: Final = "topnode.resolver.v1.ResolverService"
WIRE_VERSION: Final = "topnode.resolver.v1"

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


class IdentifierCounts:
    """Identifiers by what the chain said of each, also of one whose answer then did not fit into its batch."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.by_outcome = [0] * len(Outcome)
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "topnode_resolver_identifiers", "Identifiers answered, by outcome.", labels=("outcome",)
        )
        for outcome, count in zip(Outcome, self.by_outcome, strict=True):
            family.add_metric((outcome.name.lower(),), count)
        return (family,)

    describe = collect


class ResolverFront:
    """Serves topnode.resolver.v1.ResolverService over a chain."""

    def __init__(  # noqa: PLR0913 - what a composition root puts together
        self,
        *,
        chain: Link,
        records: RecordReader,
        routes: RouteTable,
        holders: Holders,
        signatures: QueryVerifier,
        node: NodeCard,
        applied_index: Callable[[], int],
        settings: FrontSettings,
        secret: bytes,
        clock: Clock,
        registry: CollectorRegistry,
        signer: AnswerSigner | None = None,
        counting: Counting | None = None,
    ) -> None:
        """Serve over this chain; what is answered is counted where there is somebody who takes the tallies.

        `signer` signs responses for calls that want it.
        """
        self._chain = chain
        self._count = counting.count if counting else _uncounted
        self._node = node
        self._applied_index = applied_index
        self._deadline = float(settings.deadline)
        self._clock = clock
        self._listing = Listing(records, routes, PageTokens(secret), holders)
        self._signatures = signatures
        self._signer_of_answers = signer
        self._calls = Calls("resolver", clock, registry)
        self._identifiers = IdentifierCounts(registry)

    def add_to(self, server: Server) -> None:
        """Offer the service on a server that has not started."""
        asker_of = proven_asker if server.proves_clients else public_asker
        calls = self._calls
        resolve = calls.method("Resolve"), self._read_one, self._write_one
        batch = calls.method("BatchResolve"), self._read_batch, self._write_batch
        methods = {
            "Resolve": self._hot(*resolve, asker_of),
            "BatchResolve": self._hot(*batch, asker_of),
            "StreamResolve": server.turns.serve(calls.method("StreamResolve"), self._turn(asker_of), _refusal),
            "ListHandles": calls.serve("ListHandles", self._list_handles(asker_of)),
            "GetNodeInfo": calls.serve("GetNodeInfo", self._get_node_info),
        }
        # Signed calls have methods of their own, so that no other call is even asked whether it is signed.
        signed = {
            "Resolve": self._hot(*resolve, self._signer("Resolve")),
            "BatchResolve": self._hot(*batch, self._signer("BatchResolve")),
        }
        server.add(SERVICE, methods, marked=signed, mark=QUERY_KEY)

    def _signer(self, method: str) -> AskerOf:
        return signing_asker(self._signatures, f"{SERVICE}/{method}")

    def _hot(
        self, method: Method, read: Read, write: Write, asker_of: AskerOf
    ) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Make a hot method: everything of ours in one coroutine, around the one of the chain."""
        method_name = f"{SERVICE}/{method.name}"
        resolve, count = self._chain.resolve, self._count
        monotonic = self._clock.monotonic
        longest = self._deadline

        async def call(octets: bytes, context: Context) -> bytes:
            began = monotonic()
            query = None
            try:
                if len(octets) > bounds.REQUEST_BYTES:
                    raise too_large(octets)
                # None where the caller sets no deadline, whatever the stubs say; 0 where it is past.
                remaining: float | None = context.time_remaining()
                allowed = longest if remaining is None or remaining > longest else remaining
                query = read(octets, began + allowed, asker_of(context, octets))
                answers = await resolve(query)
                count(answers, query.mode)
                answer = write(answers)
            except BaseException as error:  # noqa: BLE001 - the outermost; told apart there
                if query and query.trace:
                    context.set_trailing_metadata(_told(query.trace))
                await method.failed(error, began, context)
            if query.trace or query.signed:
                context.set_trailing_metadata(self._beside(query, method_name, octets, answer))
            method.ended(began)
            return answer

        return grpc.unary_unary_rpc_method_handler(call)

    def _turn(self, asker_of: AskerOf) -> Turn:
        """Make what answers one message of StreamResolve, as BatchResolve does."""
        resolve, monotonic = self._chain.resolve, self._clock.monotonic

        async def turn(octets: bytes, context: Context) -> bytes:
            began = monotonic()
            if len(octets) > bounds.REQUEST_BYTES:
                raise too_large(octets)
            request = parse(octets_pb2.StreamResolveRequestOctets, octets)
            allowed = min(self._deadline, request.within_ms / 1_000 or self._deadline)
            query = self._read_batch(request.batch, began + allowed, asker_of(context, octets))
            answers = await resolve(query)
            self._count(answers, query.mode)
            said = octets_pb2.StreamResolveResponseOctets(batch=self._write_batch(answers))
            if query.trace or query.signed:
                beside = dict(self._beside(query, f"{SERVICE}/StreamResolve", request.batch, said.batch))
                said.trace, said.signature = beside.get(TRACE_KEY, b""), beside.get(ANSWER_KEY, b"")
            return said.SerializeToString()

        return turn

    def _beside(self, query: Query, method: str, request: bytes, response: bytes) -> Metadata:
        """Give what goes beside an answer: its way, and a signature."""
        told = _told(query.trace) if query.trace else ()
        if not query.signed or self._signer_of_answers is None:
            return told
        signature = self._signer_of_answers.sign(method, request, response)
        return (*told, (ANSWER_KEY, signature)) if signature else told

    def _read_one(self, octets: bytes, deadline: float, asker: Asker) -> Query:
        # Nearly every request is the field `identifier` (tag 0x0a, length below 128) and nothing else.
        if 2 < len(octets) < 130 and octets[0] == 0x0A and octets[1] == len(octets) - 2:
            return Query(identifiers=(octets[2:],), deadline=deadline, asker=asker)
        request = parse(octets_pb2.ResolveRequestOctets, octets)
        return self._query((request.identifier,), request, deadline, asker)

    def _write_one(self, answers: Sequence[Ready]) -> bytes:
        (ready,) = answers
        self._identifiers.by_outcome[ready.outcome] += 1
        if isinstance(ready, Failed):
            raise ready.fault.anew(field="identifier")
        return unary(ready.frame)

    def _read_batch(self, octets: bytes, deadline: float, asker: Asker) -> Query:
        request = parse(octets_pb2.BatchResolveRequestOctets, octets)
        identifiers: Sequence[bytes] = request.identifiers
        # Too many are counted and refused by admission: four mebibytes hold two million, which nobody need copy.
        if len(identifiers) <= bounds.BATCH_IDENTIFIERS:
            identifiers = identifiers[:]
        return self._query(identifiers, request, deadline, asker)

    def _write_batch(self, answers: Sequence[Ready]) -> bytes:
        frames = [ready.frame for ready in answers]
        outcomes = [ready.outcome for ready in answers]
        found = outcomes.count(FOUND)
        self._identifiers.by_outcome[FOUND] += found
        if found < len(outcomes):
            for outcome in set(outcomes) - {FOUND}:
                self._identifiers.by_outcome[outcome] += outcomes.count(outcome)
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

    def _list_handles(self, asker_of: AskerOf) -> Body:
        signer = self._signer("ListHandles")

        async def list_handles(octets: bytes, context: Context) -> bytes:
            who = signer if signatures_of(context) else asker_of
            wanted = _wanted(parse(pb.ListHandlesRequest, octets))
            page = await self._listing.page(wanted, who(context, octets))
            return pb.ListHandlesResponse(
                identifiers=page.identifiers, next_page_token=page.next_page_token
            ).SerializeToString()

        return list_handles

    async def _get_node_info(self, octets: bytes, context: Context) -> bytes:  # noqa: ARG002 - a method's shape
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


def _fill_errors(frames: list[bytes], answers: Sequence[Ready]) -> None:
    """Put an error frame in the place of each identifier that went wrong."""
    for position, ready in enumerate(answers):
        if isinstance(ready, Failed):
            frames[position] = error_frame(ready.fault.anew(field=field_of(position)))


def _refusal(fault: Fault) -> bytes:
    said = octets_pb2.StreamResolveResponseOctets()
    said.error.CopyFrom(status_of(fault))
    return said.SerializeToString()


def _uncounted(_answers: Sequence[Ready], _mode: Mode) -> None:
    """Count nothing."""


def _wanted(request: pb.ListHandlesRequest) -> Wanted:
    return Wanted(
        prefix=request.prefix,
        derived=request.derived,
        page_size=request.page_size,
        page_token=request.page_token,
    )


def _told(trace: Trace) -> Metadata:
    return ((TRACE_KEY, trace_message(trace.steps[:TRACE_STEPS])),)


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
    )
