"""Rows written as one JSON object a line.

Nothing here raises for a row that cannot be read: a Fault stands in its place, and reading goes on with the next one.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import msgspec

from registry.bodies import malformed
from registry.rows import BYTE_ORDER_MARK, ROW_BYTES, IdentifierRow, Line, PrefixRow, too_long
from resolver.errors import Fault, Reason

_decode_identifier = msgspec.json.Decoder(IdentifierRow).decode
_decode_prefix = msgspec.json.Decoder(PrefixRow).decode
_CUT_SHORT: Final = "Input data was truncated."
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)

_Row = TypeVar("_Row")


def decode_row(line: bytes) -> IdentifierRow | PrefixRow:
    """Read a row of a load.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: what is wrong with it, by what it seems to be a row of.
    """
    try:
        return _decode_identifier(line)
    except _UNREADABLE as error:
        try:
            return _decode_prefix(line)
        except _UNREADABLE as other:
            is_prefix = b'"prefix"' in line and b'"identifier"' not in line
            raise (other if is_prefix else error) from None


def read_ndjson(octets: bytes, first_line: int, decode: Callable[[bytes], _Row]) -> Iterator[Line[_Row]]:
    """Read lines of one JSON object each; empty ones are passed over.

    `decode` reads one, as msgspec does. Only the last line of an input may lack its line end, and is complete if its
    object is.
    """
    if first_line == 1:
        octets = octets.removeprefix(BYTE_ORDER_MARK)
    *lines, tail = octets.split(b"\n")
    for number, line in enumerate(lines, first_line):
        row = _json_row(line, decode)
        if row is not None:
            yield Line(number, line, row)
    row = _json_row(tail, decode)
    if row is not None:
        is_cut = isinstance(row, Fault) and row.detail == _CUT_SHORT
        yield Line(first_line + len(lines), tail, Fault(Reason.ROW_TRUNCATED) if is_cut else row)


def _json_row(line: bytes, decode: Callable[[bytes], _Row]) -> _Row | Fault | None:
    if len(line) > ROW_BYTES:
        return too_long()
    try:
        return decode(line)
    except _UNREADABLE as error:
        return None if not line or line.isspace() else _unreadable(error)


def _unreadable(error: Exception) -> Fault:
    """Say what msgspec says, with the path of the field in it as the fault's field."""
    if isinstance(error, UnicodeDecodeError):
        return Fault(Reason.ROW_MALFORMED, "The row is not UTF-8.")
    return malformed(str(error), inside="", reason=Reason.ROW_MALFORMED)
