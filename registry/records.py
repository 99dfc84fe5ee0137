"""Rows as records: encoded straight from the row where nothing is held yet, as nouns where something is."""

from collections.abc import Sequence
from typing import Final

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from registry.rows import PERMISSIONS_UNSAID, ValueRow, to_values
from resolver import wire
from resolver.answer import Outcome
from resolver.bounds import RECORD_BYTES, RECORD_VALUES, VALUE_DATA_BYTES
from resolver.encoding import DATA, IDENTIFIER, INDEX, VALUE, Heads, record_origin, value_terms, value_type
from resolver.errors import Fault
from resolver.handle import Handle
from resolver.record import DEFAULT_PERMISSIONS, DEFAULT_TTL, Record, Relative, Value
from resolver.store import Write

_FOUND: Final = wire.bare_body(Outcome.FOUND)
_RECORD: Final = Heads(b"\x12")  # Answer field 2

_Moment = int | UnsetType


class RecordMaker:
    """Makes records of rows, all at one moment (Unix seconds). For one request.

    Most rows are new, and their values plain. Those are encoded without a noun in between; what comes out is the
    same, byte for byte, and a property test holds it to that.
    """

    def __init__(self, now: int) -> None:
        self._now = now
        self._heads: dict[tuple[int, str], bytes] = {}
        self._terms: dict[tuple[_Moment, _Moment], bytes] = {}
        self._usual_terms = self._said_terms(UNSET, UNSET)
        self._origins: dict[str, bytes] = {}

    def write(self, key: bytes, identifier: str, octets: bytes, values: Sequence[ValueRow], registrant: str) -> Write:
        """Make the write of a new record. The identifier is a checked one, `octets` is the same in UTF-8.

        Raises:
            Fault: VALUE_INVALID, ROW_MALFORMED, RECORD_TOO_LARGE; the field is a path within the row.
        """
        pieces = self._plain_values(values)
        if pieces is not None:
            origin = self._origins.get(registrant) or self._origin(registrant)
            encoded = b"".join((IDENTIFIER[len(octets)], octets, *pieces, origin))
            if origin and len(encoded) <= RECORD_BYTES:
                return Write(key, _FOUND + _RECORD[len(encoded)] + encoded, is_new=True)
        return write_of(key, self.record(Handle.from_text(identifier), values, registrant), is_new=True)

    def record(self, identifier: Handle, values: Sequence[ValueRow], registrant: str) -> Record:
        """Make the record itself.

        Raises:
            Fault: as `write`.
        """
        return Record(
            identifier=identifier,
            values=to_values(values, self._now),
            registrant=registrant,
            registered_at=self._now,
            updated_at=self._now,
        )

    def _plain_values(self, rows: Sequence[ValueRow]) -> list[bytes] | None:
        """Encode values, None where one of them is out of the ordinary, or wrong."""
        if len(rows) > RECORD_VALUES:
            return None
        pieces: list[bytes] = []
        heads, usual = self._heads, self._usual_terms
        last = 0
        for row in rows:
            index, text, octets = row.index, row.data, row.data_base64
            if text is not UNSET:
                octets = text.encode() if octets is UNSET else UNSET
            if (
                octets is UNSET
                or len(octets) > VALUE_DATA_BYTES
                or index <= last
                or row.permissions is not PERMISSIONS_UNSAID
                or row.expires_at is not UNSET
                or row.references
            ):
                return None
            last = index
            terms = usual
            if row.ttl is not UNSET or row.timestamp is not UNSET:
                terms = self._terms.get((row.ttl, row.timestamp)) or self._said_terms(row.ttl, row.timestamp)
            head = heads.get((index, row.type)) or self._head(index, row.type)
            if not head or not terms:
                return None
            length = DATA[len(octets)]
            pieces += (VALUE[len(head) + len(length) + len(octets) + len(terms)], head, length, octets, terms)
        return pieces

    # Where the noun's rules are broken these give nothing: then the noun is built, and says what is wrong.

    def _head(self, index: int, kind: str) -> bytes:
        try:
            Value(index=index, type=kind, data=b"")
        except Fault:
            return b""
        head = self._heads[index, kind] = INDEX[index] + value_type(kind)
        return head

    def _said_terms(self, ttl: _Moment, timestamp: _Moment) -> bytes:
        lifetime = Relative(DEFAULT_TTL if ttl is UNSET else ttl)
        at = self._now if timestamp is UNSET else timestamp
        try:
            Value(index=1, type="T", data=b"", lifetime=lifetime, timestamp=at)
        except Fault:
            return b""
        terms = self._terms[ttl, timestamp] = value_terms(lifetime, at, DEFAULT_PERMISSIONS)
        return terms

    def _origin(self, registrant: str) -> bytes:
        if not registrant.isprintable():
            return b""
        origin = self._origins[registrant] = record_origin(registrant, self._now, self._now)
        return origin


def write_of(key: bytes, record: Record, *, is_new: bool = False) -> Write:
    """Make the write of a record, with a body for holders where not everybody may read all of it.

    Raises:
        Fault: RECORD_TOO_LARGE.
    """
    public = wire.record_body(record, public=True)
    full = b"" if record.is_public else wire.record_body(record, public=False)
    return Write(key, public, full, is_new)


def stamped(rows: Sequence[ValueRow]) -> set[int]:
    """Give the indexes of the values whose time stamps stand in the row."""
    return {row.index for row in rows if row.timestamp is not UNSET}


def renew(held: Record, row: Record, said: set[int]) -> Record:
    """Put a row's content in the place of a held record's; its times stay, and its version.

    A value that does not change keeps its time stamp, unless the row says another one: `said` are the indexes of the
    values whose time stamps stand in the row. A row that changes nothing gives the held record.
    """
    values = renew_values(held.values, row.values, said)
    return replace(held, identifier=row.identifier, values=values, registrant=row.registrant)


def renew_values(held: Sequence[Value], values: Sequence[Value], said: set[int]) -> tuple[Value, ...]:
    """Give these values, with the times of the held ones where nothing else changes."""
    before = {value.index: value for value in held}
    return tuple(value if value.index in said else _with_time_of(before.get(value.index), value) for value in values)


def _with_time_of(before: Value | None, value: Value) -> Value:
    if before is None:
        return value
    same = replace(value, timestamp=before.timestamp)
    return same if same == before else value
