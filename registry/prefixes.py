"""The prefixes by which rows are checked: those in the store, and those that the rows before brought along."""

import asyncio
from collections.abc import Collection
from enum import Enum
from typing import Final, NamedTuple, Protocol

from msgspec.structs import replace

from registry.rows import PrefixRow
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule, check_prefix
from resolver.routes import Prefix, PrefixState, RouteTable, Verdict, verdict
from resolver.store import StoreReader, StoreWriter

PLACES_MAX: Final = 65_536
"""Prefixes as they are spelled in rows, remembered with what holds below them."""

_PAGE: Final = 2_000


class Store(StoreReader, StoreWriter, Protocol):
    """What the writing process has: both sides of a store."""


class Became(Enum):
    """What became of a row that was taken."""

    REGISTERED = "registered"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


class Place(NamedTuple):
    """What holds below one prefix: why nothing may be registered there, if so; else the case rule and the holder."""

    refused: Reason | None
    detail: str
    case_sensitive: bool = False
    holder: str = ""


class Prefixes:
    """All prefixes, for one task at a time. `unwritten` are rows that were taken and are still to be written."""

    def __init__(self, store: Store) -> None:
        self.unwritten: dict[bytes, Prefix] = {}
        self._store = store
        self._table = RouteTable()
        self._head = -1
        self._places: dict[str, Place] = {}

    async def begin(self, wall: float) -> None:
        """Be up to date: read the store's rows where anything was written to it, and let terms end."""
        self.unwritten.clear()
        head = await self._store.head()
        if head != self._head:
            table, after = RouteTable(), None
            while page := await self._store.prefixes(after, _PAGE):
                table.put(page)
                after = page[-1].key
                await asyncio.sleep(0)
            self._table.adopt(table)
            self._head = head
        self._table.tell_time(wall)
        self._places.clear()

    def written(self, index: int) -> None:
        """Note that all rows are in the store, whose journal index is this one now."""
        self._table.put(replace(prefix, epoch=index) for prefix in self.unwritten.values())
        self.unwritten.clear()
        self._head = index

    def forget(self) -> None:
        """Note that rows may not have been written: the next time all are read again."""
        self._head = -1

    def place(self, spelled: str) -> Place:
        """Give what holds below a checked prefix, as it is spelled in a row."""
        place = self._places.get(spelled)
        if place is None:
            if len(self._places) >= PLACES_MAX:
                self._places.clear()
            place = self._places[spelled] = self._find(spelled)
        return place

    async def allocate(self, row: PrefixRow, *, overwrite: bool, keys: Collection[bytes]) -> Became | Fault:
        """Take the row of a prefix, or say why not; what follows is checked by it.

        `keys` are those of the records that are still to be written. A row that changes the case rule for what is
        below it is written at once: the store itself makes sure, in the same transaction, that nothing is registered
        there by the other rule.

        Raises:
            Fault: the store's.
        """
        try:
            held, prefix = self._read(row)
            if prefix == held:
                return Became.UNCHANGED
            _check_change(held, prefix, overwrite=overwrite)
            changes_rule = self._changes_rule(held, prefix)
            if changes_rule:
                _check_below(prefix, keys)
        except Fault as fault:
            return fault
        if changes_rule:
            return await self._write_rule(held, prefix)
        self.unwritten[prefix.key] = prefix
        return self._take(held, prefix)

    def _find(self, spelled: str) -> Place:
        scope = self._table.scope(spelled.encode().upper())
        allocated = scope.prefix
        if allocated is None or scope.verdict is Verdict.NOT_ALLOCATED:
            return Place(Reason.PREFIX_NOT_ALLOCATED, f"No allocated prefix covers {spelled}.")
        if scope.verdict is Verdict.REFUSE_EXPIRED:
            return Place(Reason.PREFIX_EXPIRED, f"The term of the prefix over {spelled} has ended.")
        if scope.verdict is Verdict.REFUSE_DISABLED:
            return Place(Reason.PREFIX_DISABLED, f"The prefix over {spelled} is disabled.")
        if allocated.state is not PrefixState.ENABLED:
            return Place(Reason.PREFIX_DISABLED, f"The prefix {allocated.text} is about to be deleted.")
        return Place(None, "", scope.case_sensitive, allocated.holder)

    def _read(self, row: PrefixRow) -> tuple[Prefix | None, Prefix]:
        """Give the held row and the new one, with the epoch of the held one.

        Raises:
            Fault: PREFIX_*, IDENTIFIER_* (of a prefix that cannot be one), FIELD_OUT_OF_RANGE.
        """
        key = check_prefix(row.prefix.encode())
        held = self._table.allocation(key)
        prefix = row.to_prefix(held.case if held else self._inherited(key))
        return held, replace(prefix, epoch=held.epoch) if held else prefix

    def _inherited(self, key: bytes) -> CaseRule:
        above = key.rpartition(b".")[0]
        return CaseRule(self._table.scope(above).case_sensitive) if above else CaseRule.INSENSITIVE

    def _changes_rule(self, held: Prefix | None, prefix: Prefix) -> bool:
        """Does the coming or going of this row change the rule of what is below it?"""
        return prefix.case is not self._inherited(prefix.key) and _is_allocated(held) is not _is_allocated(prefix)

    async def _write_rule(self, held: Prefix | None, prefix: Prefix) -> Became | Fault:
        if self.unwritten:
            # The store must know the prefixes above it.
            committed = await self._store.commit(prefixes=tuple(self.unwritten.values()))
            self.written(committed.index)
        try:
            committed = await self._store.commit(prefixes=[prefix])
        except Fault as fault:
            if fault.reason is Reason.PREFIX_RULE_FIXED:
                return fault
            raise
        return self._take(held, replace(prefix, epoch=committed.index))

    def _take(self, held: Prefix | None, prefix: Prefix) -> Became:
        self._table.put([prefix])
        self._places.clear()
        return Became.REPLACED if held else Became.REGISTERED


def _check_change(held: Prefix | None, prefix: Prefix, *, overwrite: bool) -> None:
    if held is None:
        return
    if held.case is not prefix.case:
        raise Fault(
            Reason.PREFIX_RULE_FIXED,
            f"The prefix {held.text} was created with the case rule {held.case.name.lower()}.",
            field="case",
        )
    if not overwrite:
        raise Fault(Reason.PREFIX_EXISTS, field="prefix")


def _check_below(prefix: Prefix, keys: Collection[bytes]) -> None:
    below = (prefix.key + b".", prefix.key + b"/")
    if any(key.startswith(below) for key in keys):
        raise Fault(
            Reason.PREFIX_RULE_FIXED,
            f"Earlier rows register identifiers below {prefix.text} by the other case rule.",
            field="case",
        )


def _is_allocated(prefix: Prefix | None) -> bool:
    return prefix is not None and verdict(prefix.state, is_expired=False) is not Verdict.NOT_ALLOCATED
