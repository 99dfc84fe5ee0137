"""Rows of a file, cut into the pieces that are signed one by one. Nothing is sent here."""

from collections.abc import AsyncIterator, Iterator
from typing import Final

import msgspec
from msgspec import Struct

from nodes.client.bulk import ROWS_BYTES
from nodes.loading.inputs import Input
from nodes.loading.rejects import Reject
from registry.bodies import malformed
from registry.identifiers import Row
from registry.rows import BYTE_ORDER_MARK, ROW_BYTES
from resolver.bounds import ENVELOPE_ROWS
from resolver.errors import Fault, Reason

LINES_MAX: Final = 10 * ENVELOPE_ROWS
"""Lines of a piece, with those that are refused here."""

_CUT_SHORT: Final = "Input data was truncated"
_decode: Final = msgspec.json.Decoder(Row).decode


class Piece(Struct, frozen=True, kw_only=True):
    """Rows that go into one envelope, as they stand in the input, with the numbers of their lines.

    `number` counts pieces from 0. `identifiers` are what the rows are about, with case folded. `rejects` are rows
    that no node need see. `end_offset` and `end_line` are the bytes and lines of the input up to the piece's end.
    """

    number: int
    rows: list[bytes]
    lines: list[int]
    identifiers: set[str]
    rejects: list[Reject]
    end_offset: int
    end_line: int


async def pieces(source: Input, *, offset: int, line: int, number: int) -> AsyncIterator[Piece]:
    """Cut what follows on this offset, whose first line has the number `line` + 1, into pieces from `number` on.

    The same input gives the same pieces, wherever a piece's end it is begun at. Rows about the same identifier never
    stand in the same piece.

    Raises:
        Fault: FILE_UNREADABLE; ROW_MALFORMED for a line that is longer than any row may be.
    """
    await source.skip(offset)
    cutting = _Cutting(offset, line, number)
    tail = b""
    while octets := await source.read():
        *whole, tail = (tail + octets).split(b"\n")
        for each in whole:
            for piece in cutting.take(each, is_whole=True):
                yield piece
        if len(tail) > ROW_BYTES:
            raise Fault(Reason.ROW_MALFORMED, f"Line {cutting.line + 1} is longer than {ROW_BYTES} bytes.")
    if tail:
        for piece in cutting.take(tail, is_whole=False):
            yield piece
    for piece in cutting.cut():
        yield piece


class _Cutting:
    """The piece that is being filled."""

    def __init__(self, offset: int, line: int, number: int) -> None:
        self.line = line
        self._offset = offset
        self._number = number
        self._begin()

    def take(self, octets: bytes, *, is_whole: bool) -> Iterator[Piece]:
        """Take the next line, without its end; gives the piece before it where that is full."""
        row = octets.strip()
        if self.line == 0:
            row = row.removeprefix(BYTE_ORDER_MARK)
        read = _read(row, is_whole=is_whole) if row else None
        if self._is_full(row, read):
            yield from self.cut()
        self.line += 1
        self._offset += len(octets) + is_whole
        if isinstance(read, Fault):
            self._rejects.append(Reject(self.line, read, row))
        elif read is not None:
            self._rows.append(row)
            self._lines.append(self.line)
            self._size += len(row) + 1
            if read.identifier:
                self._identifiers.add(read.identifier.upper())

    def cut(self) -> Iterator[Piece]:
        """Give the piece, where there is anything in it, and begin the next one."""
        if self.line == self._first:
            return
        yield Piece(
            number=self._number,
            rows=self._rows,
            lines=self._lines,
            identifiers=self._identifiers,
            rejects=self._rejects,
            end_offset=self._offset,
            end_line=self.line,
        )
        self._number += 1
        self._begin()

    def _begin(self) -> None:
        self._first = self.line
        self._rows: list[bytes] = []
        self._lines: list[int] = []
        self._identifiers: set[str] = set()
        self._rejects: list[Reject] = []
        self._size = 0

    def _is_full(self, row: bytes, read: Row | Fault | None) -> bool:
        if self.line - self._first >= LINES_MAX:
            return True
        if not isinstance(read, Row):
            return False
        is_repeated = bool(read.identifier) and read.identifier.upper() in self._identifiers
        return len(self._rows) >= ENVELOPE_ROWS or self._size + len(row) >= ROWS_BYTES or is_repeated


def _read(row: bytes, *, is_whole: bool) -> Row | Fault:
    """Read a row, or say what is wrong with it; only the last line may lack its end."""
    if len(row) > ROW_BYTES:
        return Fault(Reason.ROW_MALFORMED, f"The row is longer than {ROW_BYTES} bytes.")
    try:
        return _decode(row)
    except UnicodeDecodeError:
        return Fault(Reason.ROW_MALFORMED, "The row is not UTF-8.")
    except msgspec.DecodeError as error:
        said = malformed(str(error), inside="")
        if said.detail.startswith(_CUT_SHORT) and not is_whole:
            return Fault(Reason.ROW_TRUNCATED)
        return Fault(Reason.ROW_MALFORMED, said.detail, field=said.field)
