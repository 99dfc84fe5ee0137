"""Counts out of the journal: what was registered here, and what nodes below have reported. Each entry is added once.

The journal comes first, and counts follow: how far they have come stands with them in the store, so that after a
crash, or in the hands of another writer, they go on there. Nothing waits for them.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, Protocol

from google.protobuf.message import DecodeError
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge

from registry import counts
from registry.journal import Store
from registry.kinds import IMPORT
from registry.v1 import registry_pb2 as pb
from resolver.counting import IN_TOTAL, NOTHING, Figures, day_of
from resolver.errors import Fault
from resolver.store import Kept
from resolver.store.counts import JOURNAL, Counted, Delta, node_source
from resolver.trust.envelopes import Envelope
from resolver.trust.heads import Payload

POLL_SECONDS: Final = 0.5
"""How often it is looked whether the journal has grown."""

GROUP_ENTRIES: Final = 256
"""Entries that are read, and added, together."""

_log: Final = logging.getLogger(__name__)


class CountedStore(Store, Counted, Protocol):
    """The store of the process that writes, with its counts."""


class Told(Struct, frozen=True):
    """What one entry adds to the counts of its day."""

    index: int
    day: int
    rows: Sequence[tuple[bytes, Figures]]


class JournalCounting:
    """Follows the journal of one store. `run` is the task; for one process at a time, which writes.

    Failure policy: where the store does not answer, the same is tried again a moment later, counted. An entry that
    cannot be read is left out, counted and told with its reason.
    """

    def __init__(self, store: CountedStore, registry: CollectorRegistry, *, group: int = GROUP_ENTRIES) -> None:
        self._store = store
        self._group = group
        self._counts = store.counts
        self._after: int | None = None
        self._reached: dict[int, int] = {}
        lag = Gauge(
            "topnode_counts_journal_entries_behind",
            "Entries of the journal that are not in the counts.",
            registry=registry,
        )
        lag.set_function(lambda: self._lag)
        self.failures = Counter(
            "topnode_counts_journal_failures_total",
            "Times that counts could not be brought up to the journal.",
            registry=registry,
        )
        self.skipped = Counter(
            "topnode_counts_journal_skipped_entries_total",
            "Entries of the journal that are in no counts because they cannot be read.",
            registry=registry,
        )
        self._lag = 0

    async def run(self) -> None:
        """Bring counts up to the journal again and again, until cancelled."""
        while True:
            try:
                await self.catch_up()
            except Fault as fault:
                # What is in the store is read anew before anything more is added.
                self._after = None
                self.failures.inc()
                _log.warning("counts lag behind the journal", extra={"cause": str(fault)})
            await asyncio.sleep(POLL_SECONDS)

    async def catch_up(self) -> int:
        """Add everything that is in the journal by now, and give the index up to which that is.

        Raises:
            Fault: the store's.
        """
        if self._after is None:
            self._reached.clear()
            # Totals are written last: what is in them is in everything.
            self._after = await self._reach(IN_TOTAL)
        while (head := await self._store.head()) > self._after:
            self._lag = head - self._after
            kept = await self._store.told(self._after, self._group)
            await self._take(kept)
            self._after = kept[-1].index
            await asyncio.sleep(0)
        self._lag = 0
        return self._after

    async def _take(self, group: Sequence[Kept]) -> None:
        registered: list[Told] = []
        reported: list[Delta] = []
        skipped: list[tuple[int, Exception]] = []
        for kept in group:
            # What cannot be read today cannot be read tomorrow either: it must not hold up all that follows.
            try:
                statement = pb.Statement.FromString(kept.statement)
                rows = list(_tallies(statement.kind, kept.result))
            except DecodeError as error:
                skipped.append((kept.index, error))
                continue
            if statement.kind == counts.KIND:
                envelope = await self._envelope(kept.index)
                try:
                    reported.append(_report(kept.index, statement, envelope))
                except Fault as fault:
                    skipped.append((kept.index, fault))
            elif rows:
                registered.append(Told(kept.index, day_of(statement.accepted_at), rows))
        self._skip(skipped)
        last = group[-1].index
        deltas = [*reported]
        for day, told in groupby(sorted(registered, key=_day), key=_day):
            deltas += await self._delta(day, list(told), last)
        deltas += await self._delta(IN_TOTAL, registered, last)
        await self._counts.add(deltas)
        for delta in deltas:
            if delta.source == JOURNAL:
                self._reached[delta.day] = delta.sequence

    async def _delta(self, day: int, told: Sequence[Told], last: int) -> list[Delta]:
        """Make the delta of one day of registrations, up to this entry; what was added before is left out."""
        reached = await self._reach(day)
        if reached >= last:
            return []
        sums: dict[bytes, Figures] = {}
        for each in told:
            for prefix, figures in each.rows if each.index > reached else ():
                sums[prefix] = sums.get(prefix, NOTHING) + figures
        return [Delta(source=JOURNAL, sequence=last, day=day, rows=list(sums.items()), follows=reached)]

    async def _reach(self, day: int) -> int:
        reached = self._reached.get(day)
        if reached is None:
            reached = self._reached[day] = (await self._counts.reached(JOURNAL, day)).sequence
        return reached

    async def _envelope(self, index: int) -> bytes:
        (kept,) = await self._store.entries(index - 1, 1)
        return kept.artefacts[0] if kept.artefacts else b""

    def _skip(self, skipped: Sequence[tuple[int, Exception]]) -> None:
        """Tell of the entries of a group that cannot be read, with the reason of the first."""
        if not skipped:
            return
        self.skipped.inc(len(skipped))
        index, cause = skipped[0]
        told = {"entries": len(skipped), "first": index, "cause": str(cause)}
        _log.error("entries of the journal are in no counts, as they cannot be read", extra=told)


def _report(index: int, statement: pb.Statement, envelope: bytes) -> Delta:
    """Make the delta of a node's report, whose rows stand in its envelope.

    Raises:
        Fault: ENVELOPE_MALFORMED, PAYLOAD_MALFORMED, FIELD_OUT_OF_RANGE and others: what it holds is no report.
    """
    day, report = counts.read(Payload.from_bytes(Envelope.from_bytes(envelope).payload).body)
    sums: dict[bytes, Figures] = {}
    for prefix, figures in counts.taken_rows(report, statement.refused):
        sums[prefix] = sums.get(prefix, NOTHING) + figures
    return Delta(
        source=node_source(statement.actor),
        sequence=index,
        day=day,
        rows=list(sums.items()),
        is_partial=report.partial,
    )


def _day(told: Told) -> int:
    return told.day


def _tallies(kind: str, result: bytes) -> Iterator[tuple[bytes, Figures]]:
    """Read what an entry's result says of registrations."""
    told = (pb.ImportResponse if kind == IMPORT else pb.Result).FromString(result)
    for tally in told.tallies:
        figures = Figures(registered=tally.registered, deleted=tally.deleted, allocated=tally.allocated)
        yield tally.prefix.encode(), figures
