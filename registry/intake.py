"""What may be registered, and what a row comes to: checked against prefixes and against what is held already.

Nothing is written here, but rows of prefixes with a case rule of their own (see `registry.prefixes`).
"""

import asyncio
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final, NamedTuple

from msgspec import UNSET, Struct, field
from msgspec.structs import replace

from registry.prefixes import Became, Prefixes, Store
from registry.rows import IdentifierRow, Line, PrefixRow, RowFormat
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.handle import Handle, canonical
from resolver.record import Record, Value
from resolver.routes import Prefix
from resolver.store import Write
from resolver.wire import decode_record, record_body

SLICE: Final = 128
"""Rows between two turns of the event loop: 2 ms. With more of them at once their objects outgrow the core's cache,
and a row takes a tenth longer."""


class Manner(Struct, frozen=True, kw_only=True):
    """How a load's rows are to be read and taken.

    `columns` are the names in the header of a CSV input. `overwrite` replaces what is registered already.
    `registrant` is who registers where a row does not say; empty: the holder of the prefix.
    """

    format: RowFormat = RowFormat.NDJSON
    columns: tuple[str, ...] = ()
    overwrite: bool = False
    registrant: str = ""


class Reject(NamedTuple):
    """A row that was not taken: the number of its first line, why, and its bytes."""

    line: int
    fault: Fault
    row: bytes


class Draft(Struct):
    """What the rows of a part come to, as if they were written one after another; not written yet.

    A key stands once in `writes`, with the last of its rows that was taken.
    """

    writes: dict[bytes, Write] = field(default_factory=dict)
    prefixes: tuple[Prefix, ...] = ()
    counts: dict[Became, int] = field(default_factory=lambda: dict.fromkeys(Became, 0))
    rejects: list[Reject] = field(default_factory=list)


class _Admitted(Struct, frozen=True, gc=False):
    """A row that may be registered as far as the prefixes are concerned."""

    line: Line
    row: IdentifierRow
    record: Record
    write: Write


class Intake:
    """Turns rows into what is to be written. One call at a time."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._prefixes = Prefixes(store)

    async def draft(self, lines: Iterable[Line], manner: Manner) -> Draft:
        """Check rows in their order and say what they come to.

        Whoever takes the draft says afterwards that it is `written`, or has it forgotten.

        Raises:
            Fault: the store's.
        """
        now = self._clock.wall()
        await self._prefixes.begin(now)
        draft = Draft()
        for batch in _slices(lines):
            await self._take(batch, manner, draft, int(now))
            await asyncio.sleep(0)
        draft.prefixes = tuple(self._prefixes.unwritten.values())
        draft.rejects.sort(key=attrgetter("line"))
        return draft

    def written(self, index: int) -> None:
        """Note that the draft is in the store, whose journal index is this one now."""
        self._prefixes.written(index)

    def forget(self) -> None:
        """Note that the draft may not be in the store, or not all of it."""
        self._prefixes.forget()

    async def _take(self, lines: Sequence[Line], manner: Manner, draft: Draft, now: int) -> None:
        admitted: list[_Admitted] = []
        for line in lines:
            row = line.row
            if isinstance(row, IdentifierRow):
                try:
                    admitted.append(self._admit(line, row, manner, now))
                except Fault as fault:
                    draft.rejects.append(Reject(line.number, fault, line.octets))
                continue
            if isinstance(row, PrefixRow):
                # Identifiers before it are settled before it.
                await self._settle(admitted, manner, draft)
                admitted = []
                became = await self._prefixes.allocate(row, overwrite=manner.overwrite, keys=draft.writes)
            else:
                became = row
            _note(draft, line, became)
        await self._settle(admitted, manner, draft)

    def _admit(self, line: Line, row: IdentifierRow, manner: Manner, now: int) -> _Admitted:
        """Check what can be checked without knowing what is registered.

        Raises:
            Fault: IDENTIFIER_*, PREFIX_*, VALUE_INVALID, ROW_MALFORMED, RECORD_TOO_LARGE.
        """
        prefix, slash, suffix = row.identifier.partition("/")
        handle = Handle(prefix, suffix) if slash else Handle.from_text(row.identifier)
        place = self._prefixes.place(prefix)
        if place.refused:
            raise Fault(place.refused, place.detail, field="identifier")
        record = Record(
            identifier=handle,
            values=row.to_values(now),
            registrant=row.registrant or manner.registrant or place.holder,
            registered_at=now,
            updated_at=now,
        )
        octets = row.identifier.encode()
        key = (
            canonical(octets, prefix_length=len(prefix.encode()), case_sensitive=True)
            if place.case_sensitive
            else octets.upper()
        )
        return _Admitted(line, row, record, _write(key, record, overwrite=False))

    async def _settle(self, admitted: Sequence[_Admitted], manner: Manner, draft: Draft) -> None:
        """Compare with what is registered, in the store or by an earlier row."""
        if not admitted:
            return
        writes = draft.writes
        stored = await self._held([each.write.key for each in admitted])
        registered = 0
        for each in admitted:
            key = each.write.key
            if key not in stored and key not in writes:
                writes[key] = each.write
                registered += 1
            else:
                earlier = writes.get(key)
                held = stored[key] if earlier is None else earlier.full or earlier.public
                _note(draft, each.line, _settle_held(held, each, manner, writes))
        draft.counts[Became.REGISTERED] += registered

    async def _held(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Fetch the full bodies of what is registered under these keys; usually nothing is."""
        fetched = await self._store.public(keys)
        held = [key for key, body in zip(keys, fetched.bodies, strict=True) if body is not None]
        bodies = (await self._store.full(held)).bodies if held else ()
        return {key: body for key, body in zip(held, bodies, strict=True) if body is not None}


def _note(draft: Draft, line: Line, became: Became | Fault) -> None:
    if isinstance(became, Fault):
        draft.rejects.append(Reject(line.number, became, line.octets))
    else:
        draft.counts[became] += 1


def _slices(lines: Iterable[Line]) -> Iterator[list[Line]]:
    rest = iter(lines)
    while batch := list(islice(rest, SLICE)):
        yield batch


def _write(key: bytes, record: Record, *, overwrite: bool) -> Write:
    public = record_body(record, public=True)
    full = b"" if record.is_public else record_body(record, public=False)
    return Write(key, public, full, overwrite)


def _settle_held(
    held: bytes, each: _Admitted, manner: Manner, writes: MutableMapping[bytes, Write]
) -> Became | Fault:
    try:
        write = _over(decode_record(held), each, manner)
    except Fault as fault:
        return fault
    if write is None:
        return Became.UNCHANGED
    writes[write.key] = write
    return Became.REPLACED


def _over(held: Record, each: _Admitted, manner: Manner) -> Write | None:
    """Say what is to be written over a held record, None where the row changes nothing.

    Raises:
        Fault: IDENTIFIER_EXISTS, IDENTIFIER_DELETED.
    """
    if held.tombstone:
        if not manner.overwrite:
            raise Fault(Reason.IDENTIFIER_DELETED, field="identifier")
        return replace(each.write, overwrite=True)
    said = {value.index for value in each.row.values if value.timestamp is not UNSET}
    renewed = renew(held, each.record, said)
    if renewed == held:
        return None
    if not manner.overwrite:
        raise Fault(Reason.IDENTIFIER_EXISTS, field="identifier")
    return _write(each.write.key, replace(renewed, updated_at=each.record.updated_at), overwrite=True)


def renew(held: Record, row: Record, said: set[int]) -> Record:
    """Put a row's content in the place of a held record's; its times stay, and its version.

    A value that does not change keeps its time stamp, unless the row says another one: `said` are the indexes of the
    values whose time stamps stand in the row. A row that changes nothing gives the held record.
    """
    before = {value.index: value for value in held.values}
    values = tuple(
        value if value.index in said else _with_time_of(before.get(value.index), value) for value in row.values
    )
    return replace(held, identifier=row.identifier, values=values, registrant=row.registrant)


def _with_time_of(before: Value | None, value: Value) -> Value:
    if before is None:
        return value
    same = replace(value, timestamp=before.timestamp)
    return same if same == before else value
