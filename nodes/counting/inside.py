"""Handing on within a node: what resolvers say to the process that owns the store, over its Unix socket."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc
from prometheus_client import CollectorRegistry

from nodes.counting.handing import Keeper
from nodes.counting.spool import NumberedTally
from nodes.serving.admin import OWNER
from nodes.serving.inside import INSIDE
from nodes.v1 import nodes_pb2 as pb
from resolver.clock import Clock
from resolver.counting import Figures, Tally
from resolver.rpc.calls import Calls, Context, parse
from resolver.rpc.channels import ChannelSettings, open_channel
from resolver.rpc.errors import fault_of_rpc_error
from resolver.rpc.serving import Server

SERVICE: Final = pb.DESCRIPTOR.services_by_name["CountingService"].full_name

TAKEN_WITHIN: Final = 5.0
"""Seconds within which what was handed on is in the store, else it is handed on again."""


class OwnerKeeper:
    """A Keeper that is another process: the one whose socket lies beside this one's."""

    def __init__(self, socket: str) -> None:
        self._channel = open_channel(f"unix:{Path(socket).with_name(f'{OWNER}.sock')}", ChannelSettings(), INSIDE)
        self._add = self._channel.unary_unary(
            f"/{SERVICE}/AddCounts",
            request_serializer=pb.AddCountsRequest.SerializeToString,
            response_deserializer=pb.AddCountsResponse.FromString,
        )

    async def take(self, boot: str, tallies: Sequence[NumberedTally], *, is_last: bool) -> None:
        request = pb.AddCountsRequest(boot=boot, deltas=[_message(each) for each in tallies], is_last=is_last)
        try:
            await self._add(request, timeout=TAKEN_WITHIN)
        except grpc.aio.AioRpcError as error:
            raise fault_of_rpc_error(error) from None

    async def close(self) -> None:
        """Let go of it."""
        await self._channel.close()


@asynccontextmanager
async def owner_keeper(socket: str) -> AsyncIterator[OwnerKeeper]:
    """Reach the process that owns the store, whose socket lies beside this one."""
    keeper = OwnerKeeper(socket)
    try:
        yield keeper
    finally:
        await keeper.close()


class KeeperService:
    """Offers a Keeper to the other processes of the node, on the servers of this one's socket."""

    def __init__(self, keeper: Keeper, clock: Clock, registry: CollectorRegistry) -> None:
        self._keeper = keeper
        calls = Calls("counting", clock, registry)
        self._methods = {"AddCounts": calls.serve("AddCounts", self._add_counts)}

    def add_to(self, server: Server) -> None:
        """Offer it on a server that does not listen yet."""
        server.add(SERVICE, self._methods)

    async def _add_counts(self, octets: bytes, _context: Context) -> bytes:
        request = parse(pb.AddCountsRequest, octets)
        tallies = [_numbered(each) for each in request.deltas]
        await self._keeper.take(request.boot, tallies, is_last=request.is_last)
        return pb.AddCountsResponse().SerializeToString()


def _message(numbered: NumberedTally) -> pb.CountDelta:
    tally = numbered.tally
    rows = [
        pb.PrefixCount(
            prefix=prefix,
            queries=figures.queries,
            found=figures.found,
            recursive_queries=figures.recursive_queries,
            recursive_found=figures.recursive_found,
        )
        for prefix, figures in tally.rows.items()
    ]
    return pb.CountDelta(sequence=numbered.sequence, day=tally.day, rows=rows, is_partial=tally.is_partial)


def _numbered(message: pb.CountDelta) -> NumberedTally:
    rows = {
        row.prefix: Figures(row.queries, row.found, row.recursive_queries, row.recursive_found)
        for row in message.rows
    }
    return NumberedTally(message.sequence, Tally(message.day, rows, message.is_partial))
