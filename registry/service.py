"""RegistryService: requests in, answers out. Translation only; what is decided is decided at the desk and below."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from prometheus_client import CollectorRegistry

from registry.answers import Answer
from registry.heartbeats import Heartbeats
from registry.methods import SERVICE
from registry.opening import Registry
from registry.operating import check_operator, signer_of
from registry.settings import RegistrySettings
from registry.v1 import registry_pb2 as pb
from registry.verify import Verified
from resolver.bounds import CHUNK_BYTES
from resolver.clock import Clock
from resolver.encoding import field
from resolver.errors import Fault, Reason
from resolver.handle import check_prefix
from resolver.routes import Prefix
from resolver.rpc.calls import Calls, Context, parse
from resolver.rpc.serving import Server
from resolver.trust.actors import Node, NodeState
from resolver.trust.queries import QUERY_KEY
from resolver.trust.receipts import Receipt
from resolver.trust.signers import Signer

NODES_PAGE: Final = 100
"""Nodes on a page where the caller names no size."""

NODES_MAX: Final = 1_000
"""Nodes on a page."""

IMPORTS_WAITING: Final = 16
"""Imports that wait until another one's chunk has been taken; one chunk is held at a time."""

_SCANNED_MAX: Final = 10_000
"""Nodes that are looked at for one page; where few are in the wanted state, it has fewer than asked for."""

_RETRY_SECONDS: Final = 1.0
_RESULT: Final = b"\x0a"  # SubmitResponse field 1


class RegistryService:
    """Offers the registry of one process, on any number of its servers.

    Methods for operators are open to whoever calls through a Unix socket: those lie in a folder that only the
    node's own user may enter. Elsewhere their callers sign (`resolver.trust.queries`).
    """

    def __init__(
        self, registered: Registry, settings: RegistrySettings, clock: Clock, registry: CollectorRegistry
    ) -> None:
        self._registry = registered
        self._import_time = float(settings.import_time)
        self._importing = asyncio.Semaphore(1)
        self._imports = 0
        self._clock = clock
        self._heartbeats = Heartbeats(clock, registry)
        calls = Calls("registry", clock, registry)
        unary = {
            "Submit": self._submit,
            "GetImport": self._get_import,
            "GetReceipt": self._get_receipt,
            "GetCheckpoint": self._get_checkpoint,
            "GetNode": self._get_node,
            "GetPrefix": self._get_prefix,
            "ListNodes": self._list_nodes,
            "Heartbeat": self._heartbeat,
        }
        self._methods: dict[str, Any] = {name: calls.serve(name, body) for name, body in unary.items()}
        self._methods["Import"] = calls.serve_stream("Import", self._import)

    def add_to(self, server: Server) -> None:
        """Offer it on a server that does not listen yet."""
        server.add(SERVICE, self._methods)

    async def _submit(self, octets: bytes, _context: Context) -> bytes:
        answer = await self._registry.submit(octets)
        response = pb.SubmitResponse(receipt=_receipt_message(answer), repeated_answer=answer.is_repeated)
        # The result as it was kept, so that it is the same bytes each time.
        return field(_RESULT, answer.result) + response.SerializeToString()

    async def _import(self, requests: AsyncIterator[bytes], _context: Context) -> bytes:
        async with self._time_to_arrive():
            envelope = _envelope(await anext(requests, b""))
        admitted = await self._registry.admit_import(envelope)
        answer = admitted if isinstance(admitted, Answer) else await self._take_chunk(admitted, requests)
        rest = pb.ImportResponse(receipt=_receipt_message(answer), repeated_answer=answer.is_repeated)
        return answer.result + rest.SerializeToString()

    async def _take_chunk(self, verified: Verified, requests: AsyncIterator[bytes]) -> Answer:
        async with self._turn():
            async with self._time_to_arrive():
                chunk = await _collect(requests)
            return await self._registry.take_import(verified, chunk)

    async def _get_import(self, octets: bytes, context: Context) -> bytes:
        request = parse(pb.GetImportRequest, octets)
        self._check_operator("GetImport", octets, context)
        reached = await self._registry.store.checkpoint(request.name)
        return pb.GetImportResponse(
            offset=reached.offset,
            lines=reached.lines,
            chunks=reached.chunks,
            registered=reached.registered,
            replaced=reached.replaced,
            unchanged=reached.unchanged,
            rejected=reached.rejected,
            manifest_sha256=reached.manifest,
        ).SerializeToString()

    async def _get_receipt(self, octets: bytes, _context: Context) -> bytes:
        request = parse(pb.GetReceiptRequest, octets)
        receipt = await self._registry.journal.receipt(request.index)
        return pb.GetReceiptResponse(receipt=receipt_message(receipt)).SerializeToString()

    async def _get_checkpoint(self, octets: bytes, _context: Context) -> bytes:
        parse(pb.GetCheckpointRequest, octets)
        journal = self._registry.journal
        return pb.GetCheckpointResponse(
            checkpoint=journal.checkpoint, verifier_key=journal.verifier_key
        ).SerializeToString()

    async def _get_node(self, octets: bytes, _context: Context) -> bytes:
        request = parse(pb.GetNodeRequest, octets)
        node = self._registry.state.stored_node(request.node)
        if node is None:
            raise Fault(Reason.NODE_UNKNOWN, field="node", variables={"node": request.node})
        return pb.GetNodeResponse(node=node_message(node)).SerializeToString()

    async def _get_prefix(self, octets: bytes, _context: Context) -> bytes:
        request = parse(pb.GetPrefixRequest, octets)
        prefix = self._registry.state.stored_prefix(check_prefix(request.prefix.encode()))
        if prefix is None:
            raise Fault(
                Reason.PREFIX_NOT_ALLOCATED,
                f"No row is there of {request.prefix}.",
                field="prefix",
                variables={"prefix": request.prefix},
            )
        return pb.GetPrefixResponse(prefix=prefix_message(prefix)).SerializeToString()

    async def _list_nodes(self, octets: bytes, context: Context) -> bytes:
        request = parse(pb.ListNodesRequest, octets)
        self._check_operator("ListNodes", octets, context)
        nodes, next_after = await self._page(
            request.after or None, _page_size(request.page_size), _states(request.states)
        )
        return pb.ListNodesResponse(
            nodes=[self._with_heartbeat(node) for node in nodes], next_after=next_after
        ).SerializeToString()

    async def _heartbeat(self, octets: bytes, context: Context) -> bytes:
        request = parse(pb.HeartbeatRequest, octets)
        signer = self._signer("Heartbeat", octets, context)
        if signer is None or signer.node is None:
            raise Fault(Reason.NOT_AUTHORISED, f"A node gives it itself, signed in the metadata {QUERY_KEY}.")
        if signer.name != request.node:
            raise Fault(Reason.ACTOR_MISMATCH, field="node", variables={"actor": signer.name})
        self._heartbeats.hear(
            request.node,
            given_at=request.time,
            applied_index=request.applied_index,
            software_version=request.software_version,
        )
        now = int(self._clock.wall() * 1_000)
        return pb.HeartbeatResponse(time=now, index=self._registry.journal.size).SerializeToString()

    def _with_heartbeat(self, node: Node) -> pb.Node:
        message = node_message(node)
        heard = self._heartbeats.of(node.node)
        if heard is not None:
            message.heartbeat.heard_at = heard.heard_at
            message.heartbeat.given_at = heard.given_at
            message.heartbeat.applied_index = heard.applied_index
            message.heartbeat.software_version = heard.software_version
        return message

    async def _page(self, after: str | None, size: int, states: frozenset[NodeState]) -> tuple[list[Node], str]:
        found: list[Node] = []
        for _ in range(0, _SCANNED_MAX, NODES_MAX):
            rows = await self._registry.store.nodes(after, NODES_MAX)
            for row in rows:
                after = row.node
                found += [row] if row.state in states else []
                if len(found) == size:
                    return found, after
            if len(rows) < NODES_MAX:
                return found, ""
            await asyncio.sleep(0)
        return found, after or ""

    def _check_operator(self, method: str, octets: bytes, context: Context) -> None:
        """Check that an operator calls.

        Raises:
            Fault: NOT_AUTHORISED; as `QueryVerifier.signer`.
        """
        check_operator(self._registry.queries, f"{SERVICE}/{method}", octets, context)

    def _signer(self, method: str, octets: bytes, context: Context) -> Signer | None:
        """Tell who signed this call of a method, None where nobody did."""
        return signer_of(self._registry.queries, f"{SERVICE}/{method}", octets, context)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Hold one chunk at a time; a bounded number of others wait."""
        if self._imports > IMPORTS_WAITING:
            raise Fault(
                Reason.TOO_MANY_IN_FLIGHT, f"{self._imports} imports are under way.", retry_after=_RETRY_SECONDS
            )
        self._imports += 1
        try:
            async with self._importing:
                yield
        finally:
            self._imports -= 1

    @asynccontextmanager
    async def _time_to_arrive(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._import_time):
                yield
        except TimeoutError:
            raise Fault(
                Reason.DEADLINE_SPENT, f"The import did not arrive within {self._import_time:g} seconds."
            ) from None


def receipt_message(receipt: Receipt) -> pb.Receipt:
    """Say a receipt on the wire."""
    return pb.Receipt(
        index=receipt.index,
        statement=receipt.statement,
        leaf_hash=receipt.leaf_hash,
        checkpoint=receipt.checkpoint,
        inclusion_proof=receipt.proof,
    )


def node_message(node: Node) -> pb.Node:
    """Say what is registered of a node on the wire."""
    keys = [pb.NodeKey(keyid=key.key_id, spki=key.spki, since=key.since, until=key.until) for key in node.keys]
    return pb.Node(
        node=node.node,
        tier=f"TIER_{node.tier.name}",
        state=f"NODE_STATE_{node.state.name}",
        parent=node.parent,
        organisation=node.organisation,
        industry=node.industry,
        keys=keys,
        applied_at=node.applied_at,
        changed_at=node.changed_at,
        reason=node.reason,
        version=node.epoch,
        takeover=node.takeover,
        agreement=node.agreement,
        takeover_automatic=node.takeover_automatic,
        takeover_since=node.takeover_since,
        takeover_reason=node.takeover_reason,
    )


def prefix_message(prefix: Prefix) -> pb.Prefix:
    """Say what is registered of a prefix on the wire, in the words of the JSON of bodies."""
    endpoints = [
        pb.Endpoint(
            protocol=each.protocol.name.lower(),
            address=each.address,
            port=each.port,
            priority=each.priority,
            tls_name=each.tls_name,
        )
        for each in prefix.endpoints
    ]
    return pb.Prefix(
        prefix=prefix.text,
        holder=prefix.holder,
        state=prefix.state.name.lower(),
        case=prefix.case.name.lower(),
        hosting=prefix.hosting.name.lower(),
        expires_at=prefix.expires_at,
        endpoints=endpoints,
        version=prefix.epoch,
    )


def _receipt_message(answer: Answer) -> pb.Receipt | None:
    return None if answer.receipt is None else receipt_message(answer.receipt)


def _envelope(first: bytes) -> bytes:
    request = parse(pb.ImportRequest, first)
    if request.WhichOneof("part") != "envelope":
        raise Fault(Reason.REQUEST_MALFORMED, "An import begins with its envelope.", field="envelope")
    return request.envelope


async def _collect(requests: AsyncIterator[bytes]) -> bytes:
    """Take in a chunk, and not more than a chunk may have."""
    pieces: list[bytes] = []
    size = 0
    async for octets in requests:
        request = parse(pb.ImportRequest, octets)
        if request.WhichOneof("part") != "chunk":
            raise Fault(Reason.REQUEST_MALFORMED, "Behind the envelope come pieces of one chunk.", field="chunk")
        pieces.append(request.chunk)
        size += len(request.chunk)
        if size > CHUNK_BYTES:
            raise Fault(Reason.CHUNK_MISMATCH, f"A chunk has at most {CHUNK_BYTES} bytes.", field="chunk")
    if not size:
        raise Fault(Reason.REQUEST_MALFORMED, "The import came without its chunk.", field="chunk")
    return b"".join(pieces)


def _page_size(asked: int) -> int:
    if asked < 0:
        raise Fault(Reason.FIELD_OUT_OF_RANGE, f"A page size is not negative; {asked} is.", field="page_size")
    return min(asked or NODES_PAGE, NODES_MAX)


def _states(numbers: Any) -> frozenset[NodeState]:
    try:
        return frozenset(NodeState(number) for number in numbers) or frozenset(NodeState)
    except ValueError:
        raise Fault(Reason.ENUM_UNKNOWN, "A state is 1 to 5.", field="states") from None
