"""What may be registered, and what a row comes to: checked against prefixes and against what is held already.

Of what a part comes to, nothing is written here but rows of prefixes with another case rule than the prefix above
(see `Intake._allocate`). The rest is for `registry.loading`.
"""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

from msgspec import UNSET, Struct
from msgspec.structs import replace

from registry.rows import IdentifierRow, Line, PrefixRow, RowFormat
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule, Handle, canonical, check_prefix
from resolver.record import Record, Value
from resolver.routes import Prefix, PrefixState, RouteTable, Verdict, verdict
from resolver.store import StoreReader, StoreWriter, Write
from resolver.wire import decode_record, record_body

SLICE: Final = 128
"""Rows between two turns of the event loop: 2 ms. With more of them at once their objects outgrow the core's cache,
and a row takes a tenth longer."""

PLACES_MAX: Final = 65_536
"""Prefixes as they are spelled in rows, remembered with what holds below them."""

_PAGE: Final = 2_000


class Store(StoreReader, StoreWriter, Protocol):
    """What the writing process has: both sides of a store."""


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


class Draft:
    """What the rows of a part come to, as if they were written one after another; not written yet.

    A key stands once in `writes`, with the last of its rows that was taken; likewise in `prefixes`.
    """

    def __init__(self) -> None:
        self.writes: dict[bytes, Write] = {}
        self.prefixes: dict[bytes, Prefix] = {}
        self.registered = 0
        self.replaced = 0
        self.unchanged = 0
        self.rejects: list[Reject] = []


class _Place(NamedTuple):
    """What holds below one prefix: why nothing may be registered there, if so; else the case rule and the holder."""

    refused: Reason | None
    detail: str
    case_sensitive: bool = False
    holder: str = ""


class _Admitted(Struct, frozen=True, gc=False):
    """A row that may be registered as far as the prefixes are concerned."""

    line: Line
    row: IdentifierRow
    record: Record
    write: Write


class Intake:
    """Turns rows into what is to be written; holds the prefixes for that. One call at a time."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._table = RouteTable()
        self._head = -1
        self._places: dict[str, _Place] = {}

    async def refresh(self) -> None:
        """Read the prefixes out of the store, where anything was written since they were read."""
        head = await self._store.head()
        if head == self._head:
            return
        table, after = RouteTable(), None
        while page := await self._store.prefixes(after, _PAGE):
            table.put(page)
            after = page[-1].key
            await asyncio.sleep(0)
        self._table.adopt(table)
        self._head = head
        self._places.clear()

    def settled(self, draft: Draft, index: int) -> None:
        """Note that a draft is written, the journal index being this one now."""
        self._table.put(replace(prefix, epoch=index) for prefix in draft.prefixes.values())
        self._head = index

    def forget(self) -> None:
        """Note that a draft was not written, or not all of it: the prefixes are read again at the next refresh."""
        self._head = -1

    async def draft(self, lines: Iterable[Line], manner: Manner) -> Draft:
        """Check rows in their order and say what they come to.

        Raises:
            Fault: the store's.
        """
        now = self._clock.wall()
        self._table.tell_time(now)
        self._places.clear()
        draft = Draft()
        for batch in _slices(lines):
            await self._take(batch, manner, draft, int(now))
            await asyncio.sleep(0)
        draft.rejects.sort(key=attrgetter("line"))
        return draft

    async def _take(self, lines: Sequence[Line], manner: Manner, draft: Draft, now: int) -> None:
        admitted: list[_Admitted] = []
        for line in lines:
            row = line.row
            try:
                if isinstance(row, IdentifierRow):
                    admitted.append(self._admit(line, row, manner, now))
                elif isinstance(row, PrefixRow):
                    await self._settle(admitted, manner, draft)
                    admitted = []
                    await self._allocate(row, manner, draft)
                else:
                    raise row
            except Fault as fault:
                draft.rejects.append(Reject(line.number, fault, line.octets))
        await self._settle(admitted, manner, draft)

    # --- identifiers -------------------------------------------------------------------------------------------

    def _admit(self, line: Line, row: IdentifierRow, manner: Manner, now: int) -> _Admitted:
        """Check what can be checked without knowing what is registered.

        Raises:
            Fault: IDENTIFIER_*, PREFIX_*, VALUE_INVALID, ROW_MALFORMED, RECORD_TOO_LARGE.
        """
        prefix, slash, suffix = row.identifier.partition("/")
        handle = Handle(prefix, suffix) if slash else Handle.from_text(row.identifier)
        place = self._places.get(prefix) or self._place(prefix)
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

    def _place(self, spelled: str) -> _Place:
        scope = self._table.scope(spelled.encode().upper())
        allocated = scope.prefix
        if allocated is None or scope.verdict is Verdict.NOT_ALLOCATED:
            place = _Place(Reason.PREFIX_NOT_ALLOCATED, f"No allocated prefix covers {spelled}.")
        elif scope.verdict is Verdict.REFUSE_EXPIRED:
            place = _Place(Reason.PREFIX_EXPIRED, f"The term of the prefix over {spelled} has ended.")
        elif scope.verdict is Verdict.REFUSE_DISABLED:
            place = _Place(Reason.PREFIX_DISABLED, f"The prefix over {spelled} is disabled.")
        elif allocated.state is not PrefixState.ENABLED:
            place = _Place(Reason.PREFIX_DISABLED, f"The prefix {allocated.text} is about to be deleted.")
        else:
            place = _Place(None, "", scope.case_sensitive, allocated.holder)
        if len(self._places) >= PLACES_MAX:
            self._places.clear()
        self._places[spelled] = place
        return place

    async def _settle(self, admitted: Sequence[_Admitted], manner: Manner, draft: Draft) -> None:
        """Compare with what is registered, in the store or by an earlier row."""
        if not admitted:
            return
        writes = draft.writes
        stored = await self._held([each.write.key for each in admitted])
        for each in admitted:
            key = each.write.key
            if key not in stored and key not in writes:
                writes[key] = each.write
                draft.registered += 1
            else:
                earlier = writes.get(key)
                _settle_held(stored[key] if earlier is None else earlier.full or earlier.public, each, manner, draft)

    async def _held(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Fetch the full bodies of what is registered under these keys; usually nothing is."""
        fetched = await self._store.public(keys)
        held = [key for key, body in zip(keys, fetched.bodies, strict=True) if body is not None]
        bodies = (await self._store.full(held)).bodies if held else ()
        return {key: body for key, body in zip(held, bodies, strict=True) if body is not None}

    # --- prefixes ----------------------------------------------------------------------------------------------

    async def _allocate(self, row: PrefixRow, manner: Manner, draft: Draft) -> None:
        """Take the row of a prefix; what follows is checked by it.

        A row that changes the case rule for what is below it is written at once: the store itself makes sure, in the
        same transaction, that nothing is registered there by the other rule.

        Raises:
            Fault: PREFIX_*, IDENTIFIER_* (of a prefix that cannot be one), FIELD_OUT_OF_RANGE.
        """
        key = check_prefix(row.prefix.encode())
        held = self._table.allocation(key)
        above = self._table.scope(key.rpartition(b".")[0]) if b"." in key else None
        inherited = CaseRule(above.case_sensitive) if above else CaseRule.INSENSITIVE
        prefix = row.to_prefix(held.case if held else inherited)
        if held is not None:
            prefix = replace(prefix, epoch=held.epoch)
            if prefix == held:
                draft.unchanged += 1
                return
            _check_change(held, prefix, manner)
        if prefix.case is not inherited and _is_allocated(held) is not _is_allocated(prefix):
            prefix = await self._write_rule(prefix, draft)
        else:
            draft.prefixes[key] = prefix
        self._table.put([prefix])
        self._places.clear()
        if held is None:
            draft.registered += 1
        else:
            draft.replaced += 1

    async def _write_rule(self, prefix: Prefix, draft: Draft) -> Prefix:
        below = (prefix.key + b".", prefix.key + b"/")
        if any(key.startswith(below) for key in draft.writes):
            raise Fault(
                Reason.PREFIX_RULE_FIXED,
                f"Earlier rows register identifiers below {prefix.text} by the other case rule.",
                field="case",
            )
        if draft.prefixes:
            # The store must know the prefixes above it.
            earlier = tuple(draft.prefixes.values())
            committed = await self._store.commit(prefixes=earlier)
            self._table.put(replace(each, epoch=committed.index) for each in earlier)
            draft.prefixes.clear()
        committed = await self._store.commit(prefixes=[prefix])
        return replace(prefix, epoch=committed.index)


def _slices(lines: Iterable[Line]) -> Iterator[list[Line]]:
    rest = iter(lines)
    while batch := list(islice(rest, SLICE)):
        yield batch


def _write(key: bytes, record: Record, *, overwrite: bool) -> Write:
    public = record_body(record, public=True)
    full = b"" if record.is_public else record_body(record, public=False)
    return Write(key, public, full, overwrite)


def _settle_held(held: bytes, each: _Admitted, manner: Manner, draft: Draft) -> None:
    try:
        write = _over(decode_record(held), each, manner)
    except Fault as fault:
        draft.rejects.append(Reject(each.line.number, fault, each.line.octets))
        return
    if write is None:
        draft.unchanged += 1
    else:
        draft.writes[write.key] = write
        draft.replaced += 1


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


def _check_change(held: Prefix, prefix: Prefix, manner: Manner) -> None:
    if held.case is not prefix.case:
        raise Fault(
            Reason.PREFIX_RULE_FIXED,
            f"The prefix {held.text} was created with the case rule {held.case.name.lower()}.",
            field="case",
        )
    if not manner.overwrite:
        raise Fault(Reason.PREFIX_EXISTS, field="prefix")


def _is_allocated(prefix: Prefix | None) -> bool:
    return prefix is not None and verdict(prefix.state, is_expired=False) is not Verdict.NOT_ALLOCATED
