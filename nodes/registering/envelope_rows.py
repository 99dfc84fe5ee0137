"""Rows of a file, cut into those of one envelope after the other. Nothing is signed or sent here."""

from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from typing import Final

import msgspec
from msgspec import Struct

from nodes.client.bulk import ROWS_BYTES
from nodes.loading.inputs import Input
from nodes.loading.pieces import read_parts
from nodes.loading.rejects import Reject
from registry.identifiers import Row
from registry.ndjson_rows import read_ndjson
from registry.parts import Cutter, Part, PartBounds
from registry.rows import ROW_BYTES, Line, RowFormat
from resolver.bounds import ENVELOPE_ROWS
from resolver.errors import Fault
from resolver.store import Checkpoint

LINES_MAX: Final = 10 * ENVELOPE_ROWS
"""Lines that go into one envelope, with those that are refused here."""

_BOUNDS: Final = PartBounds(lines=ENVELOPE_ROWS)
_decode: Final = msgspec.json.Decoder(Row).decode


class EnvelopeRows(Struct, frozen=True, kw_only=True):
    """Rows that go into one envelope, encoded as they stand in the input, with the numbers of their lines.

    `number` counts envelopes from 0. `identifiers` are what the rows are about, with case folded. `rejects` are rows
    that no node need see. `end_offset` and `end_line` are the bytes and lines of the input up to the end of these.
    """

    number: int
    encoded: list[bytes]
    lines: list[int]
    identifiers: set[str]
    rejects: list[Reject]
    end_offset: int
    end_line: int


async def read_envelopes(source: Input, *, offset: int, line: int, number: int) -> AsyncIterator[EnvelopeRows]:
    """Cut what follows on this offset, whose first line has the number `line` + 1, into envelopes from `number` on.

    The same input is cut the same, at the end of whichever envelope it is begun and however it comes. Rows about the
    same identifier never go into the same envelope.

    Raises:
        Fault: FILE_UNREADABLE, LOAD_OUT_OF_STEP for a place that is not in the input.
    """
    filling = _Filling(line, offset, number)
    cutter = Cutter(RowFormat.NDJSON, _BOUNDS)
    async for part in read_parts(source, cutter, Checkpoint(offset=offset, lines=line)):
        for full in filling.take(part):
            yield full
    for last in filling.cut():
        yield last


class _Filling:
    """The envelope that is being filled."""

    def __init__(self, line: int, offset: int, number: int) -> None:
        self._line = line
        self._offset = offset
        self._number = number
        self._begin()

    def take(self, part: Part) -> Iterator[EnvelopeRows]:
        """Take the lines of a part; gives the envelopes that they fill."""
        # Only of the first row of a part may something have been left out.
        end = part.end_offset - len(part.rows)
        for number, octets in enumerate(BytesIO(part.rows), part.first_line):
            end += len(octets)
            read = next(read_ndjson(octets, number, _decode), None)
            if self._is_full(read):
                yield from self.cut()
            if read is not None:
                self._add(read)
            self._line, self._offset = number, end

    def cut(self) -> Iterator[EnvelopeRows]:
        """Give the rows of the envelope, where there is any line of it, and begin the next one."""
        if self._line == self._first:
            return
        yield EnvelopeRows(
            number=self._number,
            encoded=self._encoded,
            lines=self._lines,
            identifiers=self._identifiers,
            rejects=self._rejects,
            end_offset=self._offset,
            end_line=self._line,
        )
        self._number += 1
        self._begin()

    def _begin(self) -> None:
        self._first = self._line
        self._encoded: list[bytes] = []
        self._lines: list[int] = []
        self._identifiers: set[str] = set()
        self._rejects: list[Reject] = []
        self._size = 0

    def _add(self, read: Line[Row]) -> None:
        if isinstance(read.row, Fault):
            # How much there is of a row that is too long depends on how the input came.
            self._rejects.append(Reject(read.number, read.row, read.octets[: ROW_BYTES + 1]))
            return
        self._encoded.append(read.octets)
        self._lines.append(read.number)
        self._size += len(read.octets) + 1
        if read.row.identifier:
            self._identifiers.add(read.row.identifier.upper())

    def _is_full(self, read: Line[Row] | None) -> bool:
        if self._line - self._first >= LINES_MAX:
            return True
        if read is None or isinstance(read.row, Fault):
            return False
        is_repeated = bool(read.row.identifier) and read.row.identifier.upper() in self._identifiers
        has_no_room = self._size + len(read.octets) >= ROWS_BYTES
        return is_repeated or has_no_room or len(self._encoded) >= ENVELOPE_ROWS
