"""An input cut into parts of whole rows, each with its place. Nothing here reads a file, or a row."""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from registry.csv_rows import Columns, split_csv
from registry.rows import BYTE_ORDER_MARK, ROW_BYTES, RowFormat
from resolver.bounds import CHUNK_BYTES
from resolver.errors import Fault, Reason


class PartBounds(Struct, frozen=True, kw_only=True):
    """How large a part may be: others wait for its transaction, some 100 ms where its rows lie scattered."""

    octets: int = 8 * 1024 * 1024
    """Bytes of its rows."""

    lines: int = 8_192
    """Lines of its rows, or fewer, where that many rows would be too much for one chunk."""

    row: int = ROW_BYTES
    """Bytes of a row; of a longer one a single byte more is kept."""


BOUNDS: Final = PartBounds()

_CONTENT: Final = CHUNK_BYTES // 4 * 3
"""What the rows of a part may come to in a chunk, beside the data in them."""


class Part(Struct, frozen=True, kw_only=True):
    """Whole rows. Where they begin and end in the input, in bytes, and the number of their first line, from 1.

    Only the last part of an input may end without a line end; it may also have no row at all. Of a row that is too
    long just enough is kept to see that it is.
    """

    offset: int
    end_offset: int
    first_line: int
    rows: bytes
    is_last: bool = False

    @property
    def last_line(self) -> int:
        """The number of the last line; that of the line before, where there is none."""
        return self.first_line + self.rows.count(b"\n", 0, -1) - (not self.rows)


class Cutter:
    """Takes an input's bytes as they come, gives parts of whole rows.

    `columns` are the names in the header of a CSV input, None as long as it is not there yet.
    """

    def __init__(self, row_format: RowFormat, bounds: PartBounds = BOUNDS) -> None:
        self.columns: tuple[str, ...] | None = None if row_format is RowFormat.CSV else ()
        self._format = row_format
        self._bounds = bounds
        self._lines_max = bounds.lines
        self._buffer = bytearray()
        self._line_ends = 0
        self._offset = 0
        self._line = 1
        self._dropped = 0
        self._is_ended = False
        self._is_due = False

    def add(self, octets: bytes) -> None:
        """Take the next bytes.

        Raises:
            Fault: ROW_MALFORMED or VALUE_INVALID when the header is none.
        """
        self._buffer += octets
        self._line_ends += octets.count(b"\n")
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
        """Give the parts that are complete; at the end of the input, all that is left.

        A part is not complete before a byte behind it is there: so that it is known which one is the last.
        """
        while self._is_full or (self._is_ended and self._buffer):
            end = self._whole_rows()
            if end:
                yield self._cut(end)
            elif len(self._buffer) > self._bounds.octets:
                self._shorten()
            else:
                return
        if self._is_ended and self._is_due:
            # A load that had come to this place before it was interrupted still has to be ended.
            yield self._cut(0)

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
        self._line_ends -= self._buffer.count(b"\n", 0, passed)
        del self._buffer[:passed]
        self._offset, self._line, self._dropped = offset, lines + 1, 0
        self._is_due = True
        return offset - begin - passed

    @property
    def _is_full(self) -> bool:
        return len(self._buffer) > self._bounds.octets or self._line_ends > self._lines_max

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
        columns = Columns.from_names(header.cells)
        self.columns = columns.names
        self._lines_max = max(1, min(self._lines_max, _CONTENT // columns.row_content))
        # The first part begins where the input does: nothing of the input is in no part.
        self._dropped = len(header.octets) + (len(BYTE_ORDER_MARK) if window.startswith(BYTE_ORDER_MARK) else 0)
        self._line += header.lines
        self._line_ends -= self._buffer.count(b"\n", 0, self._dropped)
        del self._buffer[: self._dropped]

    def _whole_rows(self) -> int:
        """Give the length of the whole rows that make the next part, 0 where the first one does not end in it."""
        window = bytes(self._buffer[: self._bounds.octets])
        is_last = self._is_ended and len(window) == len(self._buffer)
        if self._format is RowFormat.CSV:
            return self._end_of_csv(window, is_last=is_last)
        if self._line_ends > self._lines_max and window.count(b"\n") > self._lines_max:
            return len(window) - len(window.split(b"\n", self._lines_max)[-1])
        return len(window) if is_last else window.rfind(b"\n") + 1

    def _end_of_csv(self, window: bytes, *, is_last: bool) -> int:
        """Give the end of the rows that surely end in this window.

        A row that cannot be read may end behind the window. It ends the part, so that the next window begins with it;
        if it cannot be read where there is room for the longest row that is allowed, it never can.
        """
        end = lines = 0
        has_room = len(window) > self._bounds.row
        for row in split_csv(window):
            is_uncertain = not row.is_ended or (isinstance(row.cells, Fault) and (end or not has_room))
            if lines >= self._lines_max or (is_uncertain and not is_last):
                break
            end += len(row.octets)
            lines += row.lines
        return end

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
            is_last=self._is_ended and end == len(self._buffer),
        )
        del self._buffer[:end]
        self._line_ends -= part.rows.count(b"\n")
        self._is_due = not part.is_last
        self._offset, self._line, self._dropped = part.end_offset, part.last_line + 1, 0
        return part
