"""Rows written as one JSON object a line.

Nothing here raises for a row that cannot be read: a Fault stands in its place, and reading goes on with the next one.
"""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from registry.rows import BYTE_ORDER_MARK, ROW_BYTES, IdentifierRow, Line, PrefixRow, too_long
from resolver.errors import Fault, Reason

_decode_identifier = msgspec.json.Decoder(IdentifierRow).decode
_decode_prefix = msgspec.json.Decoder(PrefixRow).decode
_CUT_SHORT: Final = "Input data was truncated."
_PLACE: Final = " - at `$"
_NAMED: Final = re.compile(r"Object (?:contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)


def read_ndjson(octets: bytes, first_line: int) -> Iterator[Line]:
    """Read lines of one JSON object each; empty ones are passed over.

    Only the last line of an input may lack its line end, and is complete if its object is.
    """
    if first_line == 1:
        octets = octets.removeprefix(BYTE_ORDER_MARK)
    *lines, tail = octets.split(b"\n")
    for number, line in enumerate(lines, first_line):
        row = _json_row(line)
        if row is not None:
            yield Line(number, line, row)
    row = _json_row(tail)
    if row is not None:
        is_cut = isinstance(row, Fault) and row.detail == _CUT_SHORT
        yield Line(first_line + len(lines), tail, Fault(Reason.ROW_TRUNCATED) if is_cut else row)


def _json_row(line: bytes) -> IdentifierRow | PrefixRow | Fault | None:
    if len(line) > ROW_BYTES:
        return too_long()
    try:
        return _decode_identifier(line)
    except _UNREADABLE as error:
        return None if not line or line.isspace() else _other_row(line, error)


def _other_row(line: bytes, error: Exception) -> PrefixRow | Fault:
    """Read what is no row of an identifier; where it is no row of a prefix either, say what is wrong with it."""
    try:
        return _decode_prefix(line)
    except _UNREADABLE as other:
        is_prefix = b'"prefix"' in line and b'"identifier"' not in line
        return _unreadable(other if is_prefix else error)


def _unreadable(error: Exception) -> Fault:
    """Say what msgspec says, with the path of the field in it as the fault's field."""
    if isinstance(error, UnicodeDecodeError):
        return Fault(Reason.ROW_MALFORMED, "The row is not UTF-8.")
    what, _, place = str(error).partition(_PLACE)
    path = place.removesuffix("`").removeprefix(".")
    named = _NAMED.fullmatch(what)
    if named:
        path = f"{path}.{named['name']}" if path else named["name"]
    return Fault(Reason.ROW_MALFORMED, f"{what}.", field=path)
