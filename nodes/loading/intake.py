"""IntakeService, both ends: what the process that owns the store offers, and how a command takes it up.

Translation only; what is offered is in `registry.loading`.
"""

from collections.abc import Awaitable
from typing import Final, TypeVar

import grpc
from prometheus_client import CollectorRegistry

from nodes.v1 import nodes_pb2 as pb
from registry.intake import Manner, Reject
from registry.loading import Taken, TakesLoads
from registry.parts import Part
from registry.rows import RowFormat
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.rpc.calls import Calls, Context, parse
from resolver.rpc.errors import fault_of, fault_of_rpc_error, status_of
from resolver.rpc.serving import Server
from resolver.store import Checkpoint

SERVICE: Final = "topnode.nodes.v1.IntakeService"

BEGIN_SECONDS: Final = 10.0
"""Within this time a node that has just taken the store must listen too."""

TAKE_SECONDS: Final = 120.0
"""A part takes a fraction of a second; a slow disk that also serves resolvers, some."""

_Answer = TypeVar("_Answer")


class IntakeService:
    """Offers loads to the node's operator, on a Unix socket: whoever may open it may register."""

    def __init__(self, loads: TakesLoads, clock: Clock, registry: CollectorRegistry) -> None:
        self._loads = loads
        self._calls = Calls("intake", clock, registry)

    def add_to(self, server: Server) -> None:
        """Offer it on a server that does not listen yet."""
        bodies = {"BeginLoad": self._begin_load, "LoadRows": self._load_rows}
        server.add(SERVICE, {name: self._calls.serve(name, body) for name, body in bodies.items()})

    async def _begin_load(self, octets: bytes, _context: Context) -> bytes:
        request = parse(pb.BeginLoadRequest, octets)
        reached = await self._loads.begin(request.load, restart=request.restart)
        return pb.BeginLoadResponse(
            offset=reached.offset,
            lines=reached.lines,
            registered=reached.registered,
            replaced=reached.replaced,
            unchanged=reached.unchanged,
            rejected=reached.rejected,
        ).SerializeToString()

    async def _load_rows(self, octets: bytes, _context: Context) -> bytes:
        request = parse(pb.LoadRowsRequest, octets)
        part = Part(
            offset=request.offset,
            end_offset=request.end_offset,
            first_line=request.first_line,
            rows=request.rows,
        )
        manner = Manner(
            format=_format(request.format),
            columns=tuple(request.columns),
            overwrite=request.overwrite,
            registrant=request.registrant,
        )
        taken = await self._loads.take(request.load, part, manner)
        return _response(taken).SerializeToString()


class RemoteLoads:
    """Takes loads through the socket of the process that owns the store."""

    def __init__(self, socket: str) -> None:
        # The process at the other end is trusted, and its answer to a part with nothing but refused rows is long.
        options = [("grpc.max_receive_message_length", -1)]
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=options)
        self._begin_load = self._channel.unary_unary(
            f"/{SERVICE}/BeginLoad", pb.BeginLoadRequest.SerializeToString, pb.BeginLoadResponse.FromString
        )
        self._load_rows = self._channel.unary_unary(
            f"/{SERVICE}/LoadRows", pb.LoadRowsRequest.SerializeToString, pb.LoadRowsResponse.FromString
        )

    async def begin(self, name: str, *, restart: bool = False) -> Checkpoint:
        request = pb.BeginLoadRequest(load=name, restart=restart)
        reached = await _call(self._begin_load(request, timeout=BEGIN_SECONDS, wait_for_ready=True))
        return Checkpoint(
            reached.offset,
            reached.lines,
            reached.registered,
            reached.replaced,
            reached.unchanged,
            reached.rejected,
        )

    async def take(self, name: str, part: Part, manner: Manner) -> Taken:
        request = pb.LoadRowsRequest(
            load=name,
            format=pb.RowFormat.Name(manner.format),
            offset=part.offset,
            end_offset=part.end_offset,
            first_line=part.first_line,
            rows=part.rows,
            overwrite=manner.overwrite,
            columns=manner.columns,
            registrant=manner.registrant,
        )
        return _taken(await _call(self._load_rows(request, timeout=TAKE_SECONDS)))

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()


async def _call(call: Awaitable[_Answer]) -> _Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise fault_of_rpc_error(error) from None


def _format(number: int) -> RowFormat:
    try:
        return RowFormat(number)
    except ValueError:
        raise Fault(
            Reason.ENUM_UNKNOWN,
            f"{number} is not a format of rows.",
            field="format",
            variables={"number": str(number)},
        ) from None


def _response(taken: Taken) -> pb.LoadRowsResponse:
    response = pb.LoadRowsResponse(
        registered=taken.registered, replaced=taken.replaced, unchanged=taken.unchanged, index=taken.index
    )
    for line, fault, row in taken.rejects:
        response.rejects.add(line=line, error=status_of(fault), row=row)
    return response


def _taken(response: pb.LoadRowsResponse) -> Taken:
    return Taken(
        registered=response.registered,
        replaced=response.replaced,
        unchanged=response.unchanged,
        rejects=[Reject(each.line, fault_of(each.error), each.row) for each in response.rejects],
        index=response.index,
    )
