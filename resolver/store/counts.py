"""What a store keeps of counts: figures by source, day and prefix, each delta added once.

A source is whoever counted, and has its own numbers: a resolver process in one life ("worker ..."), the journal of
this node ("journal"), a node below ("node 88.111"). What was sent upward is a source too ("sent"), so that what is
still owed is a difference. Sources never write each other's rows, which is why nothing here needs a writer's turn.

The suite in tests/contracts/ says what each implementation must do.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from operator import itemgetter
from typing import Final, Protocol

from msgspec import Struct

from resolver.counting import Figures
from resolver.errors import Fault, Reason

DAYS_KEPT: Final = 400
"""Days of which counts are kept: a year and what it takes to be asked about it. Totals are kept for ever."""

ROWS_READ: Final = 1_000
"""Rows that are read at once."""

JOURNAL: Final = "journal"
"""The source of what was registered here."""

SENT: Final = "sent"
"""The source of what was made a report to the node above, taken or not."""

TAKEN: Final = "taken"
"""The source of how far such reports were taken: it has numbers, and no rows."""

READ_AGAIN: Final = 10
"""Times that a source's day is read while it is being added to."""

_WORKER: Final = "worker "
_NODE: Final = "node "
_PREFIX: Final = itemgetter(0)
_RETRY_SECONDS: Final = 1.0


def worker_source(boot: str) -> str:
    """Name the source of a resolver process in one life."""
    return _WORKER + boot


def boot_of(source: str) -> str:
    """Give the life of the resolver process whose source this is."""
    return source.removeprefix(_WORKER)


def node_source(node: str) -> str:
    """Name the source of what a node below has reported."""
    return _NODE + node


def node_of(source: str) -> str:
    """Give the node below whose reports this source is, empty where it is another source."""
    return source.removeprefix(_NODE) if source.startswith(_NODE) else ""


def is_own(source: str) -> bool:
    """Was this counted by this node itself?"""
    return source == JOURNAL or source.startswith(_WORKER)


class Delta(Struct, frozen=True, kw_only=True):
    """What a source adds to its counts of a day (0: in total), by folded prefix.

    `sequence` is 1 or more and goes up with each delta of this source and day; the same number is the same delta.
    `follows`, where there may be two who give this source's: the number on which it follows, else it is refused.
    `kept` are bytes that stand beside the source's day until its next delta. `is_partial` marks the day.
    """

    source: str
    sequence: int
    day: int
    rows: Sequence[tuple[bytes, Figures]] = ()
    follows: int | None = None
    kept: bytes = b""
    is_partial: bool = False


class SourceDay(Struct, frozen=True, array_like=True):
    """How far a source is on one day: its newest delta, what that had kept, and whether the day is marked."""

    sequence: int = 0
    kept: bytes = b""
    is_partial: bool = False


class Life(Struct, frozen=True, array_like=True, kw_only=True):
    """A resolver process, as it is remembered: its source, its machine, and the last day on which it was alive."""

    source: str
    host: str
    day: int
    has_ended: bool = False


class CountsReader(Protocol):
    """Reads counts."""

    async def reached(self, source: str, day: int) -> SourceDay:
        """Give how far a source is on a day."""

    async def days(self) -> list[int]:
        """Give the days of which there is anything, in order; 0 (in total) is among them."""

    async def sources(self, day: int) -> list[str]:
        """Give those who have counts of this day, in order."""

    async def rows(self, source: str, day: int, after: bytes | None, limit: int) -> list[tuple[bytes, Figures]]:
        """Give at most `limit` rows of a source's day behind this prefix, in the order of prefixes."""

    async def lives(self) -> list[Life]:
        """Give the processes that are remembered."""


class Counts(CountsReader, Protocol):
    """Keeps counts. All of it may be done by any process that may write them at all, whosever turn it is to write."""

    async def add(self, deltas: Sequence[Delta]) -> None:
        """Add what was not added yet: each delta whole or not at all, durable when this returns.

        Raises:
            Fault: STORE_FULL, STORE_UNAVAILABLE: some may have been added, and the same deltas can be given again;
                the latter also for one that follows on another number than is reached.
        """

    async def mark(self, source: str, day: int, *, is_partial: bool) -> None:
        """Say that a source's counts of a day are not all, or that they are after all."""

    async def put_life(self, life: Life) -> None:
        """Remember a process; of one source only the last is remembered."""

    async def forget(self, before: int) -> None:
        """Forget the days before this one, but not what is kept in total, and the processes that ended by then."""


class Counted(Protocol):
    """A store that keeps counts, too."""

    @property
    def counts(self) -> Counts:
        """What is counted beside the journal."""


def overtaken(delta: Delta) -> Fault:
    """Make the Fault of a delta that does not follow on what is reached."""
    return Fault(
        Reason.STORE_UNAVAILABLE,
        f"Counts of {delta.source} are being added by another process.",
        retry_after=_RETRY_SECONDS,
    )


async def copy_counts(origin: CountsReader, target: Counts) -> None:
    """Copy all counts to where nothing was counted yet; a source's day is held in memory while it is copied.

    Raises:
        Fault: the stores'; STORE_UNAVAILABLE where a source's day is added to faster than it can be read.
    """
    for life in await origin.lives():
        await target.put_life(life)
    for day in await origin.days():
        for source in await origin.sources(day):
            await _copy_day(origin, target, source, day)


async def _copy_day(origin: CountsReader, target: Counts, source: str, day: int) -> None:
    for _ in range(READ_AGAIN):
        reached = await origin.reached(source, day)
        rows = [(row.prefix, row.by_source[source]) async for row in rows_of(origin, day, [source])]
        # Rows that are newer than the number beside them would be added a second time.
        if await origin.reached(source, day) == reached:
            break
    else:
        detail = f"Counts of {source} change faster than they are read."
        raise Fault(Reason.STORE_UNAVAILABLE, detail, retry_after=_RETRY_SECONDS)
    if reached.sequence:
        await target.add([Delta(source=source, sequence=reached.sequence, day=day, rows=rows, kept=reached.kept)])
    if reached.is_partial:
        await target.mark(source, day, is_partial=True)


class Row(Struct, frozen=True):
    """The figures of one prefix, by source."""

    prefix: bytes
    by_source: dict[str, Figures]


async def rows_of(
    counts: CountsReader, day: int, sources: Sequence[str], *, after: bytes | None = None
) -> AsyncIterator[Row]:
    """Go through the prefixes of a day in their order, behind this one, with what each of these sources has."""
    pages = [_Page(counts, source, day) for source in sources]
    for page in pages:
        await page.read(after)
    while any(page.rows for page in pages):
        # In order, all is known up to where the first page ends behind which there may be more.
        end = min((page.rows[-1][0] for page in pages if page.has_more), default=None)
        found: dict[bytes, dict[str, Figures]] = {}
        for page in pages:
            for prefix, figures in page.take(end):
                found.setdefault(prefix, {})[page.source] = figures
        for prefix in sorted(found):
            yield Row(prefix, found[prefix])
        for page in pages:
            if page.has_more and not page.rows:
                await page.read(end)


class _Page:
    """Rows of one source that are at hand. Where there may be more behind them, they are not empty but for a read."""

    def __init__(self, counts: CountsReader, source: str, day: int) -> None:
        self.source = source
        self.rows: list[tuple[bytes, Figures]] = []
        self.has_more = True
        self._counts = counts
        self._day = day

    async def read(self, after: bytes | None) -> None:
        self.rows = await self._counts.rows(self.source, self._day, after, ROWS_READ)
        self.has_more = len(self.rows) == ROWS_READ

    def take(self, end: bytes | None) -> list[tuple[bytes, Figures]]:
        """Take what is up to this prefix, or all."""
        place = len(self.rows) if end is None else bisect_right(self.rows, end, key=_PREFIX)
        taken, self.rows = self.rows[:place], self.rows[place:]
        return taken
