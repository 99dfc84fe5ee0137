"""The rows of prefixes as one request changes them, above the state. The rules are in `registry.allocation`."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from registry.planned_keys import PlannedKeys
from registry.plans import Outcome, Plan
from registry.prefix_states import PRESENT
from registry.rows import PrefixRow
from registry.state import State
from resolver.handle import CaseRule, ancestors, check_prefix, encoded, lineage
from resolver.routes import Prefix, Scope, Verdict


class Change(NamedTuple):
    """The held row of a prefix, what is to take its place (with the held one's epoch), and the scope above it."""

    held: Prefix | None
    prefix: Prefix
    above: Scope

    @property
    def is_coming(self) -> bool:
        """Is this the beginning of an allocation?"""
        return self.prefix.state in PRESENT and not self.was_present

    @property
    def is_going(self) -> bool:
        """Is this the end of an allocation?"""
        return self.was_present and self.prefix.state not in PRESENT

    @property
    def was_present(self) -> bool:
        return self.held is not None and self.held.state in PRESENT


class Draft:
    """What the rows of one request come to so far.

    `rows` are those that were taken, by folded prefix. `keys` are those of the records that the same request writes.
    """

    def __init__(self, state: State, keys: Collection[bytes] = ()) -> None:
        self.state = state
        self.rows: dict[bytes, Prefix] = {}
        self._keys = PlannedKeys(keys)

    def allocation(self, prefix: bytes) -> Prefix | None:
        """Give the row of exactly this folded prefix, whatever its state."""
        taken = self.rows.get(prefix)
        return self.state.routes.allocation(prefix) if taken is None else taken

    def scope(self, prefix: bytes) -> Scope:
        """Give what holds directly below a folded prefix; its epoch means nothing."""
        if not self.rows:
            return self.state.scope(prefix)
        scope = _nowhere()
        for key in lineage(prefix, len(prefix)):
            scope = scope.below(self.allocation(key), touched=0, now=self.state.now)
        return scope

    def above(self, prefix: bytes) -> Scope:
        """Give what holds directly below the prefix above this folded one."""
        above = prefix.rpartition(b".")[0]
        return self.scope(above) if above else _nowhere()

    def allocated_above(self, prefix: bytes) -> Iterator[Prefix]:
        """Give the allocations above this folded prefix, whatever their states and terms, the longest first."""
        for key in ancestors(prefix.rpartition(b".")[0]):
            row = self.allocation(key)
            if row is not None and row.state in PRESENT:
                yield row

    async def holds_below(self, prefix: bytes) -> bool:
        """Tell whether any record, a tombstone too, stands below this folded prefix or its derived ones.

        Raises:
            Fault: the store's.
        """
        return self._keys.holds_below(prefix) or await self.state.holds_below(prefix)

    def read(self, row: PrefixRow) -> Change:
        """Read what a row would change. Without a case rule it has that of the allocation, or of the prefix above.

        Raises:
            Fault: PREFIX_*, IDENTIFIER_* (of a prefix that cannot be one), FIELD_OUT_OF_RANGE.
        """
        key = check_prefix(encoded(row.prefix, field="prefix"))
        held, above = self.allocation(key), self.above(key)
        rule = held.case if held is not None and held.state in PRESENT else CaseRule(above.case_sensitive)
        prefix = row.to_prefix(rule)
        return Change(held, prefix if held is None else replace(prefix, epoch=held.epoch), above)

    def take(self, change: Change) -> Outcome:
        """Have a change hold for all that is planned after it."""
        if change.prefix == change.held:
            return Outcome.UNCHANGED
        self.rows[change.prefix.key] = change.prefix
        return Outcome.REGISTERED if change.held is None else Outcome.REPLACED

    def plan(self, *outcomes: Outcome) -> Plan:
        """Plan what was taken."""
        return Plan(outcomes=outcomes, prefixes=tuple(self.rows.values()))


def _nowhere() -> Scope:
    return Scope(None, Verdict.NOT_ALLOCATED, 0)
