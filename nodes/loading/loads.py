"""A load: an input, read in pieces, each of them signed and sent as one chunk of an import. Prints nothing."""

import asyncio
import hashlib
from collections.abc import Callable
from operator import attrgetter

from msgspec import Struct

from nodes.loading.imports import Taken, TakesImports
from nodes.loading.inputs import Input
from nodes.loading.pieces import Piece, read_pieces
from nodes.loading.rejects import Reject
from registry.chunks import manifest_with
from registry.imports import Import
from registry.rows import RowFormat
from resolver.store import Checkpoint


class Manner(Struct, frozen=True, kw_only=True):
    """How a load's rows are to be read and taken.

    `overwrite` replaces what is registered already. `registrant` is who registers where a row does not say; empty:
    the holder of the prefix.
    """

    format: RowFormat = RowFormat.NDJSON
    overwrite: bool = False
    registrant: str = ""


OnBegin = Callable[[Checkpoint], None]
OnTaken = Callable[[Piece, Taken], None]


def default_name(source: Input, manner: Manner) -> str | None:
    """Name a load by its input and the manner in which its rows are taken; None where the input has no name.

    Loading the same file in another manner is another load.
    """
    fingerprint = source.fingerprint()
    if fingerprint is None:
        return None
    said = f"{fingerprint} {manner.format} {manner.overwrite} {manner.registrant}"
    return hashlib.sha256(said.encode(errors="surrogateescape")).hexdigest()[:32]


async def run_load(
    source: Input,
    imports: TakesImports,
    name: str,
    manner: Manner,
    *,
    restart: bool,
    on_begin: OnBegin,
    on_taken: OnTaken,
) -> None:
    """Load an input to its end, from where the load of this name has come; the next time it begins afresh.

    While a chunk is taken the next one is made.

    Raises:
        Fault: as `TakesImports` and `read_pieces`; the same call goes on behind the last chunk that was taken.
    """
    stands = await imports.reached(name)
    reached = Checkpoint() if restart else stands
    on_begin(reached)
    number, manifest = reached.chunks, reached.manifest
    pieces = read_pieces(source, manner.format, reached)
    piece = await anext(pieces, None)
    while piece is not None:
        number += 1
        begins_afresh = restart and number == 1
        body = body_of(piece, manner, manifest, name=name, number=number, restart=begins_afresh)
        manifest = bytes.fromhex(body.manifest_sha256)
        following = asyncio.ensure_future(anext(pieces, None))
        try:
            on_taken(piece, await imports.take(body, piece.chunk))
            piece = await following
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def rejects_of(piece: Piece, taken: Taken) -> list[Reject]:
    """Give all rows of a piece that were not taken, in their order: unreadable ones, and those that were refused."""
    refused = [Reject(piece.rows[row][0], fault, piece.rows[row][1]) for row, fault in taken.refusals.items()]
    return sorted((*piece.rejects, *refused), key=attrgetter("line"))


def body_of(
    piece: Piece, manner: Manner, manifest: bytes, *, name: str, number: int, restart: bool = False
) -> Import:
    """Say which chunk of an import this is, behind those of this manifest.

    With `restart` the import begins afresh with it.
    """
    part, digest = piece.part, hashlib.sha256(piece.chunk).digest()
    return Import(
        name=name,
        number=number,
        chunk_sha256=digest.hex(),
        manifest_sha256=manifest_with(manifest, digest).hex(),
        chunk_bytes=len(piece.chunk),
        rows=len(piece.rows),
        first_line=part.first_line,
        lines=part.last_line,
        offset=part.offset,
        end_offset=part.end_offset,
        rejected=len(piece.rejects),
        overwrite=manner.overwrite,
        registrant=manner.registrant,
        is_last=part.is_last,
        restart=restart,
    )
