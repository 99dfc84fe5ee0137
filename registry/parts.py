"""An input cut into parts of whole rows, each with its place. Nothing here reads a file, or a row."""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from registry.csv_rows import Columns, split_csv
from registry.rows import BYTE_ORDER_MARK, ROW_BYTES, RowFormat
from resolver.errors import Fault, Reason


class PartBounds(Struct, frozen=True, kw_only=True):
    """How large a part may be. The longest row fits into a part, and the longest header beside one into a request."""

    octets: int = 2 * 1024 * 1024
    """Bytes of its rows: half of what a request may have."""

    lines: int = 4_096
    """If each of them is refused, the answer still has some megabytes only."""

    row: int = ROW_BYTES
    """Bytes of a row; of a longer one a single byte more is kept."""


BOUNDS: Final = PartBounds()


class Part(Struct, frozen=True, kw_only=True):
    """Whole rows. Where they begin and end in the input, in bytes, and the number of their first line, from 1.

    Only the last part of an input may end without a line end. Of a row that is too long just enough is kept to
    see that it is.
    """

    offset: int
    end_offset: int
    first_line: int
    rows: bytes

    @property
    def last_line(self) -> int:
        """The number of the last line."""
        return self.first_line + self.rows.count(b"\n", 0, -1)


class Cutter:
    """Takes an input's bytes as they come, gives parts of whole rows.

    `columns` are the names in the header of a CSV input, None as long as it is not there yet.
    """

    def __init__(self, row_format: RowFormat, bounds: PartBounds = BOUNDS) -> None:
        self.columns: tuple[str, ...] | None = None if row_format is RowFormat.CSV else ()
        self._format = row_format
        self._bounds = bounds
        self._buffer = bytearray()
        self._offset = 0
        self._line = 1
        self._dropped = 0
        self._is_ended = False

    def add(self, octets: bytes) -> None:
        """Take the next bytes.

        Raises:
            Fault: ROW_MALFORMED or VALUE_INVALID when the header is none.
        """
        self._buffer += octets
        if self.columns is None:
            self._take_header()

    def end(self) -> None:
        """Take the end of the input.

        Raises:
            Fault: as `add`.
        """
        self._is_ended = True
        if self.columns is None:
            self._take_header()

    def parts(self) -> Iterator[Part]:
        """Give the parts that are complete; at the end of the input, all that is left."""
        while len(self._buffer) >= self._bounds.octets or (self._is_ended and self._buffer):
            end = self._whole_rows()
            if end:
                yield self._cut(end)
            else:
                self._shorten()

    def skip_to(self, offset: int, lines: int) -> int:
        """Go on behind this many bytes and lines of the input; gives how many of the bytes were not fed yet.

        Those must be left out when feeding goes on. Nothing has been cut before.

        Raises:
            Fault: LOAD_OUT_OF_STEP when that is within the header.
        """
        begin = self._offset + self._dropped
        if offset < begin:
            raise Fault(Reason.LOAD_OUT_OF_STEP, "The load has come to a place within this input's header.")
        passed = min(offset - begin, len(self._buffer))
        del self._buffer[:passed]
        self._offset, self._line, self._dropped = offset, lines + 1, 0
        return offset - begin - passed

    def _take_header(self) -> None:
        window = bytes(self._buffer[: self._bounds.row + 1])
        header = next(split_csv(window.removeprefix(BYTE_ORDER_MARK)), None)
        is_whole = header is not None and header.is_ended and not isinstance(header.cells, Fault)
        if not is_whole and not self._is_ended and len(window) <= self._bounds.row:
            return
        if header is None or (not header.is_ended and not self._is_ended):
            raise Fault(Reason.ROW_MALFORMED, "A CSV input begins with a header row; there is none.")
        if isinstance(header.cells, Fault):
            raise header.cells
        self.columns = Columns.from_names(header.cells).names
        # The first part begins where the input does: nothing of the input is in no part.
        self._dropped = len(header.octets) + (len(BYTE_ORDER_MARK) if window.startswith(BYTE_ORDER_MARK) else 0)
        self._line += header.lines
        del self._buffer[: self._dropped]

    def _whole_rows(self) -> int:
        """Give the length of the whole rows that make the next part, 0 where the first one does not end in it."""
        window = bytes(self._buffer[: self._bounds.octets])
        is_last = self._is_ended and len(window) == len(self._buffer)
        if self._format is RowFormat.CSV:
            return _end_of_rows(window, self._bounds.lines, is_last=is_last)
        if window.count(b"\n") > self._bounds.lines:
            return len(window) - len(window.split(b"\n", self._bounds.lines)[-1])
        return len(window) if is_last else window.rfind(b"\n") + 1

    def _shorten(self) -> None:
        """Drop what is too much of the first row, as far as it is here."""
        end = self._buffer.find(b"\n", self._bounds.row)
        if end < 0:
            end = len(self._buffer)
        self._dropped += end - self._bounds.row - 1
        del self._buffer[self._bounds.row + 1 : end]

    def _cut(self, end: int) -> Part:
        part = Part(
            offset=self._offset,
            end_offset=self._offset + self._dropped + end,
            first_line=self._line,
            rows=bytes(self._buffer[:end]),
        )
        del self._buffer[:end]
        self._offset, self._line, self._dropped = part.end_offset, part.last_line + 1, 0
        return part


def _end_of_rows(window: bytes, lines_max: int, *, is_last: bool) -> int:
    """Give the end of the rows that surely end in this window.

    A row that cannot be read may end behind the window. It ends the part, so that the next window begins with it and
    has room for the longest row that is allowed: if it cannot be read then, it never can.
    """
    end = lines = 0
    for row in split_csv(window):
        is_uncertain = not row.is_ended or (end and isinstance(row.cells, Fault))
        if lines >= lines_max or (is_uncertain and not is_last):
            break
        end += len(row.octets)
        lines += row.lines
    return end
