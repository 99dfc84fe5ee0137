"""An input in pieces, each ready to become one chunk of an import: its rows read, encoded and compressed.

The input is read as far as it must be. Nothing here talks to a node.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from msgspec import Struct

from nodes.loading.inputs import Input
from nodes.loading.rejects import Reject
from registry.chunks import ChunkWriter
from registry.csv_rows import Columns, read_csv
from registry.ndjson_rows import decode_row, read_ndjson
from registry.parts import Cutter, Part
from registry.rows import IdentifierRow, Line, PrefixRow, RowFormat
from resolver.errors import Fault
from resolver.store import Checkpoint

_AT_ONCE: Final = 512
"""Rows between two turns of the event loop, in which what was sent before gets on its way: 2 ms."""


class Piece(Struct, frozen=True, kw_only=True):
    """Rows that go together, where they stand in the input, and those that could not be read.

    `rows` are those in the chunk, by their positions in it: the number of the first line, and the bytes.
    """

    part: Part
    chunk: bytes
    rows: list[tuple[int, bytes]]
    rejects: list[Reject]


async def read_pieces(source: Input, row_format: RowFormat, reached: Checkpoint) -> AsyncIterator[Piece]:
    """Read an input to its end, behind the place that a load of it has reached.

    Raises:
        Fault: ROW_MALFORMED or VALUE_INVALID for the header of a CSV input, LOAD_OUT_OF_STEP for a place that is not
            in the input, INPUT_CHANGED, FILE_UNREADABLE.
    """
    cutter = Cutter(row_format)
    async for part in read_parts(source, cutter, reached):
        piece = await piece_of(part, cutter.columns or ())
        source.check_unchanged()
        yield piece


async def read_parts(source: Input, cutter: Cutter, reached: Checkpoint) -> AsyncIterator[Part]:
    """Read an input to its end, behind such a place; the rows as they stand there.

    Raises:
        Fault: as `read_pieces`, but for INPUT_CHANGED.
    """
    while cutter.columns is None and (octets := await source.read()):
        cutter.add(octets)
    if cutter.columns is None:
        cutter.end()
    if reached.offset:
        await source.skip(cutter.skip_to(reached.offset, reached.lines))
    for part in cutter.parts():
        yield part
    while octets := await source.read():
        cutter.add(octets)
        for part in cutter.parts():
            yield part
    cutter.end()
    for part in cutter.parts():
        yield part


async def piece_of(part: Part, columns: Sequence[str] = ()) -> Piece:
    """Read the rows of a part: with the names of columns CSV, else NDJSON."""
    writer = ChunkWriter()
    rows: list[tuple[int, bytes]] = []
    rejects: list[Reject] = []
    for line in _lines(part, columns):
        if isinstance(line.row, Fault):
            rejects.append(Reject(line.number, line.row, line.octets))
            continue
        writer.add(line.number, line.row)
        rows.append((line.number, line.octets))
        if len(rows) % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return Piece(part=part, chunk=writer.finish(), rows=rows, rejects=rejects)


def _lines(part: Part, columns: Sequence[str]) -> Iterator[Line[IdentifierRow | PrefixRow]]:
    if columns:
        return read_csv(part.rows, part.first_line, Columns.from_names(columns))
    return read_ndjson(part.rows, part.first_line, decode_row)
