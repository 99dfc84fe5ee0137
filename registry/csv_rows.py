"""Rows written as comma-separated values under a header (RFC 4180).

Nothing here raises for a row that cannot be read: a Fault stands in its place, and reading goes on with the next one.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Self

from msgspec import Struct

from registry.rows import ROW_BYTES, IdentifierRow, Line, ValueRow, too_long
from resolver.bounds import RECORD_VALUES, VALUE_DATA_BYTES
from resolver.errors import Fault, Reason
from resolver.record import Value

_ROW: Final = 64
_VALUE: Final = 48
"""What a row, and a value, come to in a chunk, beside what stands in them."""


class Column(NamedTuple):
    """A column that holds values: its name in the header, and index and type of the values in it."""

    name: str
    number: int
    type: str


class Columns(Struct, frozen=True, kw_only=True):
    """The header of a CSV input: `identifier`, perhaps `registrant`, and columns of values.

    A column of values is called `TYPE` or `INDEX:TYPE`; without an index it has its place among them, from 1.
    """

    names: tuple[str, ...]
    identifier: int
    registrant: int | None
    values: dict[int, Column]

    @classmethod
    def from_names(cls, names: Sequence[str]) -> Self:
        """Read a header.

        Raises:
            Fault: ROW_MALFORMED, VALUE_INVALID; the field is the name of the column.
        """
        places = {name: place for place, name in enumerate(names)}
        if len(places) < len(names):
            twice = next(name for place, name in enumerate(names) if places[name] != place)
            raise Fault(Reason.ROW_MALFORMED, f"The column {twice!r} stands twice in the header.", field=twice)
        if "identifier" not in places:
            raise Fault(Reason.ROW_MALFORMED, "The header has no column `identifier`.", field="identifier")
        identifier, registrant = places.pop("identifier"), places.pop("registrant", None)
        values = {place: _column(name, number) for number, (name, place) in enumerate(places.items(), 1)}
        _check_indexes(values.values())
        return cls(names=tuple(names), identifier=identifier, registrant=registrant, values=values)

    @property
    def row_content(self) -> int:
        """What a row with the most values comes to in a chunk, beside its data, in bytes."""
        types = max((len(column.type.encode()) for column in self.values.values()), default=0)
        return _ROW + min(len(self.values), RECORD_VALUES) * (_VALUE + types)

    def row(self, cells: Sequence[str]) -> IdentifierRow:
        """Read the cells of one row; empty ones make no value.

        Raises:
            Fault: ROW_MALFORMED, VALUE_INVALID; the field is the name of the column; RECORD_TOO_LARGE.
        """
        if len(cells) != len(self.names):
            raise Fault(Reason.ROW_MALFORMED, f"The row has {len(cells)} cells; the header has {len(self.names)}.")
        values = [
            ValueRow(index=column.number, type=column.type, data_base64=_octets(column.name, cells[place]))
            for place, column in self.values.items()
            if cells[place]
        ]
        _check_count(values)
        identifier = _octets("identifier", cells[self.identifier]).decode()
        registrant = "" if self.registrant is None else _octets("registrant", cells[self.registrant]).decode()
        return IdentifierRow(identifier=identifier, values=values, registrant=registrant)


def _check_count(values: Sequence[ValueRow]) -> None:
    if len(values) > RECORD_VALUES:
        detail = f"The record has {len(values)} values; {RECORD_VALUES} are allowed."
        raise Fault(Reason.RECORD_TOO_LARGE, detail, field="values")


def _column(name: str, number: int) -> Column:
    index, colon, kind = name.partition(":")
    column = Column(name, int(index), kind) if colon and index.isdecimal() else Column(name, number, name)
    try:
        Value(index=column.number, type=column.type, data=b"")
    except Fault as fault:
        raise fault.anew(field=name) from None
    return column


def _check_indexes(columns: Iterable[Column]) -> None:
    seen: dict[int, str] = {}
    for column in columns:
        other = seen.setdefault(column.number, column.name)
        if other != column.name:
            raise Fault(
                Reason.ROW_MALFORMED,
                f"The columns {other!r} and {column.name!r} have the same index, {column.number}.",
                field=column.name,
            )


def _octets(column: str, cell: str) -> bytes:
    try:
        octets = cell.encode()
    except UnicodeEncodeError:
        # Bytes that are no UTF-8 were read as lone surrogates.
        raise Fault(Reason.ROW_MALFORMED, "The cell is not UTF-8.", field=column) from None
    if len(octets) > VALUE_DATA_BYTES:
        raise Fault(
            Reason.VALUE_INVALID,
            f"The cell has {len(octets)} bytes; {VALUE_DATA_BYTES} are allowed.",
            field=column,
        )
    return octets


class CsvRow(NamedTuple):
    """One row's cells, or the Fault in their place; its bytes; how many lines that is, and whether the last ended."""

    cells: list[str] | Fault
    octets: bytes
    lines: int
    is_ended: bool


def split_csv(octets: bytes) -> Iterator[CsvRow]:
    """Split lines into rows; a quoted cell may hold line ends.

    A row that cannot be read is given up with its first line, and reading goes on with the second.
    """
    *whole, tail = octets.decode("utf-8", "surrogateescape").split("\n")
    lines = [f"{line}\n" for line in whole]
    if tail:
        lines.append(tail)
    start = 0
    while start < len(lines):
        for row in _rows(lines, start):
            start += row.lines
            yield row


def _rows(lines: Sequence[str], start: int) -> Iterator[CsvRow]:
    """Give rows up to the end, or up to the first one that cannot be read."""
    reader = csv.reader(map(lines.__getitem__, range(start, len(lines))), strict=True)
    first = start
    try:
        for cells in reader:
            end = start + reader.line_num
            yield _row(cells, lines[first:end])
            first = end
    except csv.Error as error:
        yield _row(Fault(Reason.ROW_MALFORMED, f"The row is not CSV: {error}."), lines[first : first + 1])


def _row(cells: list[str] | Fault, lines: Sequence[str]) -> CsvRow:
    text = "".join(lines)
    return CsvRow(cells, text.encode("utf-8", "surrogateescape"), len(lines), text.endswith("\n"))


def read_csv(octets: bytes, first_line: int, columns: Columns) -> Iterator[Line[IdentifierRow]]:
    """Read rows under a header; empty ones are passed over.

    The last row of an input must have its line end too: without one nobody can tell whether it was cut off.
    """
    number = first_line
    for cells, row, lines, is_ended in split_csv(octets):
        if len(row) > ROW_BYTES:
            yield Line(number, row, too_long())
        elif not is_ended:
            yield Line(number, row, _not_ended())
        elif isinstance(cells, Fault):
            yield Line(number, row, cells)
        elif cells:
            yield Line(number, row, _identifier_row(cells, columns))
        number += lines


def _identifier_row(cells: Sequence[str], columns: Columns) -> IdentifierRow | Fault:
    try:
        return columns.row(cells)
    except Fault as fault:
        return fault


def _not_ended() -> Fault:
    return Fault(
        Reason.ROW_TRUNCATED,
        "The last row has no line end, so it may have been cut off. Add one if the row is whole.",
    )
