"""The registry of a running node, reached through the Unix socket of the process that owns its store."""

from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import grpc

from nodes.client.receipts import node_of
from nodes.loading.imports import ImportSigner, Operator, Taken, taken_of
from registry.imports import Import
from registry.methods import SERVICE
from registry.v1 import registry_pb2 as pb
from resolver.clock import Clock
from resolver.rpc.errors import fault_of_rpc_error
from resolver.store import Checkpoint

BEGIN_SECONDS: Final = 10.0
"""Within this time a node that has just taken the store must listen too."""

TAKE_SECONDS: Final = 120.0
"""A chunk takes half a second; a slow disk that also serves resolvers, some."""

PIECE_BYTES: Final = 1024 * 1024
"""Bytes of a chunk in one message."""

_Answer = TypeVar("_Answer")


@asynccontextmanager
async def open_remote(socket: str, operator: Operator, data: Path, clock: Clock) -> AsyncIterator["RemoteImports"]:
    """Reach the node at this socket.

    Raises:
        Fault: NODE_UNREACHABLE; FILE_UNREADABLE, KEY_INVALID.
    """
    # The process at the other end is trusted, and its answer to a chunk with nothing but refused rows is long.
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"unix:{socket}", options=options) as channel:
        node = await _node(channel)
        yield RemoteImports(channel, ImportSigner(operator, data, node, clock))


class RemoteImports:
    """Takes imports through the socket of the process that owns the store."""

    def __init__(self, channel: grpc.aio.Channel, signer: ImportSigner) -> None:
        self._signer = signer
        self._get_import = channel.unary_unary(
            f"/{SERVICE}/GetImport", pb.GetImportRequest.SerializeToString, pb.GetImportResponse.FromString
        )
        self._import = channel.stream_unary(
            f"/{SERVICE}/Import", pb.ImportRequest.SerializeToString, pb.ImportResponse.FromString
        )

    async def reached(self, name: str) -> Checkpoint:
        reached = await _call(self._get_import(pb.GetImportRequest(name=name), timeout=BEGIN_SECONDS))
        return Checkpoint(
            offset=reached.offset,
            lines=reached.lines,
            registered=reached.registered,
            replaced=reached.replaced,
            unchanged=reached.unchanged,
            rejected=reached.rejected,
            chunks=reached.chunks,
            manifest=reached.manifest_sha256,
        )

    async def take(self, body: Import, chunk: bytes) -> Taken:
        requests = _requests(self._signer.sign(body), chunk)
        response = await _call(self._import(requests, timeout=TAKE_SECONDS))
        return taken_of(response, response.receipt.index)


async def _node(channel: grpc.aio.Channel) -> str:
    """Ask for the node's identifier: the name of its journal says it."""
    get_checkpoint = channel.unary_unary(
        f"/{SERVICE}/GetCheckpoint", pb.GetCheckpointRequest.SerializeToString, pb.GetCheckpointResponse.FromString
    )
    response = await _call(get_checkpoint(pb.GetCheckpointRequest(), timeout=BEGIN_SECONDS, wait_for_ready=True))
    return node_of(response.verifier_key)


def _requests(envelope: bytes, chunk: bytes) -> Iterator[pb.ImportRequest]:
    yield pb.ImportRequest(envelope=envelope)
    for first in range(0, len(chunk), PIECE_BYTES):
        yield pb.ImportRequest(chunk=chunk[first : first + PIECE_BYTES])


async def _call(call: Awaitable[_Answer]) -> _Answer:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise fault_of_rpc_error(error) from None
