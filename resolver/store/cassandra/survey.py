"""Everything that a ring holds, read from one end to the other: for audits and rebuilding.

A ring has no state that could be held on to, so rows are given with the index of the entry that wrote them: whoever
compares them with what the journal comes to sees which of them are newer than what was read of the journal.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, Self

from prometheus_client import CollectorRegistry

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.store import Kept
from resolver.store.cassandra.asking import Row
from resolver.store.cassandra.carrying import ask_patiently
from resolver.store.cassandra.counts import CassandraCountsReader
from resolver.store.cassandra.layout import JOURNAL, PARTS, bucket_of, has_version_of, hash_of, part_of
from resolver.store.cassandra.reader import CassandraReader, Reach
from resolver.store.cassandra.session import Session
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.statements import (
    ENTRIES,
    HEAD,
    IMPORTS,
    LISTED_WITH_TIME,
    SCAN_ANSWERS,
    SCAN_NODES,
    SCAN_NONCES,
    SCAN_PREFIXES,
    SCAN_RECORDS,
    SCAN_TILES,
    SPAN,
    SPANS_BETWEEN,
    Statement,
)
from resolver.store.naming import prefix_of
from resolver.store.scanning import Held, HeldRow

PAGE: Final = 256
"""Rows that one query gives: a record may have a quarter of a mebibyte."""

RANGES: Final = 64
"""Shares of a table's tokens that are read one after the other, AT_ONCE of them beside each other."""

AT_ONCE: Final = 8

PATIENCE: Final = 60.0
"""Seconds for which a page of a whole table is asked again: until the ring has noticed which of its nodes is lost."""

AHEAD_ENTRIES: Final = 64
AHEAD_BYTES: Final = 32 << 20
"""Entries of the journal that are read ahead, and bytes of what stands beside them."""

_FIRST: Final = -(1 << 63)
"""Below every token: the partitioner gives it to no key."""

_BEHIND_ALL: Final = b"\xff"
"""Above every key: those are UTF-8."""


class _Ahead(NamedTuple):
    """An entry that is being read ahead, and how large what stands beside it is."""

    task: "asyncio.Task[Kept]"
    octets: int


class Survey(CassandraReader):
    """Reads the journal up to where it was when this was opened or renewed, and everything else as it is now."""

    def __init__(self, session: Session, settings: CassandraSettings, registry: CollectorRegistry) -> None:
        super().__init__(session, settings, registry)
        self.counts = CassandraCountsReader(partial(ask_patiently, self._asking, patience=PATIENCE))
        self._pinned = Reach(0, b"", ())
        self._next = 0
        self._rows_ahead: deque[Row] = deque()
        self._ahead: deque[_Ahead] = deque()

    @classmethod
    async def open(cls, settings: CassandraSettings, *, clock: Clock, registry: CollectorRegistry) -> Self:
        survey = await super().open(settings, clock=clock, registry=registry)
        try:
            await survey.renew()
        except BaseException:
            survey.close()
            raise
        return survey

    def close(self) -> None:
        self._stop_reading_ahead()
        super().close()

    # --- the journal, in one state -----------------------------------------------------------------------------

    async def renew(self) -> None:
        """Go on to where the journal is now."""
        self._pinned = await super()._reach()

    async def head(self) -> int:
        return self._pinned.size

    async def last(self) -> int:
        """Give the index of the last entry: whatever lies above the head was proposed only."""
        return self._pinned.size

    async def committed(self) -> int:
        """Give the index of the newest entry there is now, applied or not: no row is newer."""
        rows = await self._asking.ask(HEAD, (JOURNAL,))
        size: int = rows[0][1] if rows else 0
        return size

    async def kept(self, index: int) -> Kept:
        """Give one entry; those that follow on it are read meanwhile.

        Raises:
            Fault: JOURNAL_DAMAGED where it, or what stands beside it, is missing.
        """
        if index != self._next:
            self._stop_reading_ahead()
        if not self._ahead and not self._rows_ahead:
            self._rows_ahead.extend(await self._some_entries(index))
        self._read_ahead()
        self._next = index + 1
        return await self._ahead.popleft().task

    async def _some_entries(self, index: int) -> Sequence[Row]:
        """Give this entry and some that follow on it; where one of those is missing, this one alone."""
        try:
            return await self._journal(ENTRIES, index - 1, PAGE)
        except Fault as fault:
            if fault.reason is not Reason.JOURNAL_DAMAGED:
                raise
        return await self._journal(ENTRIES, index - 1, 1)

    def _read_ahead(self) -> None:
        octets = sum(each.octets for each in self._ahead)
        while self._rows_ahead and (not self._ahead or (len(self._ahead) < AHEAD_ENTRIES and octets < AHEAD_BYTES)):
            row = self._rows_ahead.popleft()
            size = sum(row[4] or ())
            self._ahead.append(_Ahead(asyncio.create_task(self._kept(row)), size))
            octets += size

    def _stop_reading_ahead(self) -> None:
        for each in self._ahead:
            each.task.cancel()
        self._ahead.clear()
        self._rows_ahead.clear()

    async def _reach(self) -> Reach:
        return self._pinned

    # --- whole tables ------------------------------------------------------------------------------------------

    async def records(self) -> AsyncIterator[list[Held]]:
        """Go through all records, some at a time, each once. A full body that is void is none."""
        async for rows in self._scan(SCAN_RECORDS):
            yield [
                Held(key, public, full if public is not None and has_version_of(full, public) else public, index or 0)
                for key, public, full, index in rows
            ]

    async def answers(self) -> AsyncIterator[list[HeldRow]]:
        """Go through all requests that were answered: each with the number of the entry that did (8 bytes)."""
        async for rows in self._scan(SCAN_ANSWERS):
            yield [HeldRow(key, (answer or 0).to_bytes(8, "big"), index or 0) for key, answer, index in rows]

    async def nonces(self) -> AsyncIterator[list[HeldRow]]:
        """Go through all nonces that are remembered; the rows are empty and do not tell their entry."""
        async for rows in self._scan(SCAN_NONCES):
            yield [HeldRow(key, b"", 0) for (key,) in rows]

    async def tiles(self) -> AsyncIterator[list[HeldRow]]:
        """Go through all pieces of the tree, by name."""
        async for rows in self._scan(SCAN_TILES):
            yield _held_rows(rows)

    async def imports(self) -> AsyncIterator[list[HeldRow]]:
        """Go through how far all imports have come, by name."""
        yield _held_rows(await self._asking.ask(IMPORTS))

    async def prefix_rows(self) -> AsyncIterator[list[HeldRow]]:
        """Go through all rows of prefixes as they lie there, by key."""
        async for rows in self._parts(SCAN_PREFIXES):
            yield _held_rows(rows)

    async def node_rows(self) -> AsyncIterator[list[HeldRow]]:
        """Go through all rows of nodes as they lie there, by key."""
        async for rows in self._parts(SCAN_NODES):
            yield _held_rows(rows)

    # --- listings ----------------------------------------------------------------------------------------------

    async def spans(self) -> AsyncIterator[list[bytes]]:
        """Go through all prefixes that have a listing."""
        for part in range(PARTS):
            after = b""
            while rows := await self._asking.ask(SPANS_BETWEEN, (part, after, _BEHIND_ALL, PAGE)):
                yield [prefix for prefix, _ in rows]
                after = rows[-1][0]

    async def listing(self, prefix: bytes) -> AsyncIterator[list[HeldRow]]:
        """Go through what is listed below exactly this prefix: keys, with the spelling in UTF-8 as the row."""
        buckets = await self._buckets(prefix)
        for bucket in range(buckets, 2 * buckets):
            after = (_FIRST, b"")
            while rows := await self._asking.ask(LISTED_WITH_TIME, (prefix, bucket, *after, PAGE)):
                yield [_listed_row(buckets, bucket, *row) for row in rows]
                after = rows[-1][:2]

    async def listed(self, keys: Sequence[bytes]) -> list[bool]:
        """Tell for each of these keys, all below one prefix, whether it is listed."""
        if not keys:
            return []
        prefix = prefix_of(keys[0])
        buckets = await self._buckets(prefix)
        return [await self._is_listed(prefix, buckets, key) for key in keys]

    async def _is_listed(self, prefix: bytes, buckets: int, key: bytes) -> bool:
        if not buckets:
            return False
        hashed = hash_of(key)
        place = (prefix, bucket_of(hashed, buckets), hashed - 1, _BEHIND_ALL, PAGE)
        rows = await self._asking.ask(LISTED_WITH_TIME, place)
        return any(key == each for _, each, _, _ in rows)

    async def _buckets(self, prefix: bytes) -> int:
        rows = await self._asking.ask(SPAN, (part_of(prefix), prefix))
        buckets: int = rows[0][0] if rows else 0
        return buckets

    # --- reading on and on -------------------------------------------------------------------------------------

    async def _scan(self, statement: Statement) -> AsyncIterator[list[Row]]:
        """Go through a table by tokens, some ranges of them beside each other; each row stands in one range."""
        waiting = _ranges()
        going = list(islice(waiting, AT_ONCE))
        while going:
            asked = [ask_patiently(self._asking, statement, (*each, PAGE), PATIENCE) for each in going]
            pages = await asyncio.gather(*asked)
            found = [row for rows in pages for row in rows]
            # Two keys may have one token. Where a page ends between them the second is passed over, which whoever
            # counts sees: it happens once in a thousand years.
            behind = [
                (hash_of(rows[-1][0]), end) for (_, end), rows in zip(going, pages, strict=True) if len(rows) == PAGE
            ]
            going = behind + list(islice(waiting, AT_ONCE - len(behind)))
            if found:
                yield found

    async def _parts(self, statement: Statement) -> AsyncIterator[Sequence[Row]]:
        for part in range(PARTS):
            after = b""
            while rows := await self._asking.ask(statement, (part, after, PAGE)):
                yield rows
                after = rows[-1][0]


def _ranges() -> Iterator[tuple[int, int]]:
    """Cut all tokens into RANGES shares: each from behind the one up to the other."""
    width = (1 << 64) // RANGES
    for share in range(RANGES):
        first = _FIRST + share * width
        yield first, first + width - (share == RANGES - 1)


def _listed_row(
    buckets: int, bucket: int, hashed: int, key: bytes, spelling: str | None, index: int | None
) -> HeldRow:
    is_in_its_place = hashed == hash_of(key) and bucket == bucket_of(hashed, buckets)
    return HeldRow(key, (spelling or "").encode() if is_in_its_place else b"", index or 0)


def _held_rows(rows: Sequence[Row]) -> list[HeldRow]:
    return [HeldRow(key, row or b"", index or 0) for key, row, index in rows]
