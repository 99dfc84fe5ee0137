"""Loads: registrations in bulk, part by part, each of them durable before the next is taken.

A load has a name. Under it the store keeps how far the load has come, in the same commit as the rows themselves, so
that an interrupted one goes on behind the last durable row.
"""

import asyncio
import collections
from collections.abc import Iterator
from typing import Final, Protocol

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter

from registry.csv_rows import Columns, read_csv
from registry.intake import Draft, Intake, Manner, Reject
from registry.ndjson_rows import read_ndjson
from registry.parts import Part
from registry.prefixes import Became, Store
from registry.rows import Line, RowFormat
from resolver.errors import Fault, Reason
from resolver.store import Checkpoint, Committed, Written

NAME_LENGTH: Final = 256
"""Characters in the name of a load."""


class Taken(Struct, frozen=True, kw_only=True):
    """What became of a part's rows, and the journal index of the (last) commit: durable when this is given.

    After an interruption within a part, rows of it that were durable already count as unchanged.
    """

    registered: int
    replaced: int
    unchanged: int
    rejects: list[Reject]
    index: int


class TakesLoads(Protocol):
    """Takes loads, here or in the process that owns the store."""

    async def begin(self, name: str, *, restart: bool = False) -> Checkpoint:
        """Begin a load, or find where an interrupted one stands; `restart` forgets where that was.

        Raises:
            Fault: FIELD_OUT_OF_RANGE for a name that cannot be one; STORE_UNAVAILABLE, STORE_FULL.
        """

    async def take(self, name: str, part: Part, manner: Manner) -> Taken:
        """Take the part that follows on what the load has taken so far.

        Raises:
            Fault: LOAD_OUT_OF_STEP when it does not follow; ROW_MALFORMED, VALUE_INVALID for the columns of a CSV
                input; STORE_FULL, STORE_UNAVAILABLE: then the same part may be given again.
        """


class LoadingMetrics:
    """Rows by what became of them, and refused ones by their reason."""

    def __init__(self, registry: CollectorRegistry) -> None:
        rows = Counter(
            "topnode_load_rows_total", "Rows of loads, by what became of them.", ("verdict",), registry=registry
        )
        self._taken = {became: rows.labels(became.value) for became in Became}
        self._rejected = rows.labels("rejected")
        self._reasons = Counter(
            "topnode_load_rejects_total", "Rows that were refused, by reason.", ("reason",), registry=registry
        )

    def count(self, draft: Draft) -> None:
        for became, count in draft.counts.items():
            self._taken[became].inc(count)
        self._rejected.inc(len(draft.rejects))
        reasons = collections.Counter(reject.fault.reason.name for reject in draft.rejects)
        for reason, count in reasons.items():
            self._reasons.labels(reason).inc(count)


class Loading:
    """Takes loads in the process that owns the store. Parts of several loads are taken one after another."""

    def __init__(self, store: Store, intake: Intake, registry: CollectorRegistry) -> None:
        self._store = store
        self._intake = intake
        self._metrics = LoadingMetrics(registry)
        self._turn = asyncio.Lock()

    async def begin(self, name: str, *, restart: bool = False) -> Checkpoint:
        _check_name(name)
        async with self._turn:
            if restart:
                await self._store.forget(name)
            return await self._store.checkpoint(name)

    async def take(self, name: str, part: Part, manner: Manner) -> Taken:
        _check_name(name)
        async with self._turn:
            reached = await self._store.checkpoint(name)
            _check_step(reached, part)
            try:
                return await self._write(name, part, manner, reached)
            except BaseException:
                self._intake.forget()
                raise

    async def _write(self, name: str, part: Part, manner: Manner, reached: Checkpoint) -> Taken:
        draft = await self._intake.draft(_lines(part, manner), manner)
        committed = await self._store.load(
            list(draft.writes.values()),
            draft.prefixes,
            name=name,
            checkpoint=_advance(reached, part, draft),
        )
        _check_written(committed)
        self._intake.written(committed.index)
        self._metrics.count(draft)
        counts = draft.counts
        return Taken(
            registered=counts[Became.REGISTERED],
            replaced=counts[Became.REPLACED],
            unchanged=counts[Became.UNCHANGED],
            rejects=draft.rejects,
            index=committed.index,
        )


def _lines(part: Part, manner: Manner) -> Iterator[Line]:
    if manner.format is RowFormat.CSV:
        return read_csv(part.rows, part.first_line, Columns.from_names(manner.columns))
    return read_ndjson(part.rows, part.first_line)


def _advance(reached: Checkpoint, part: Part, draft: Draft) -> Checkpoint:
    return Checkpoint(
        offset=part.end_offset,
        lines=part.last_line,
        registered=reached.registered + draft.counts[Became.REGISTERED],
        replaced=reached.replaced + draft.counts[Became.REPLACED],
        unchanged=reached.unchanged + draft.counts[Became.UNCHANGED],
        rejected=reached.rejected + len(draft.rejects),
    )


def _check_name(name: str) -> None:
    if not 0 < len(name) <= NAME_LENGTH or not name.isprintable():
        raise Fault(
            Reason.FIELD_OUT_OF_RANGE, f"The name of a load is 1 to {NAME_LENGTH} printable characters.", field="load"
        )


def _check_step(reached: Checkpoint, part: Part) -> None:
    if part.offset != reached.offset:
        raise Fault(
            Reason.LOAD_OUT_OF_STEP,
            f"The load has come to byte {reached.offset}; these rows begin at byte {part.offset}.",
            field="offset",
            variables={"offset": str(part.offset), "reached": str(reached.offset)},
        )


def _check_written(committed: Committed) -> None:
    """Refuse to count what somebody else registered between the look at the store and the writing."""
    if Written.EXISTS in committed.written or Written.DELETED in committed.written:
        raise Fault(
            Reason.LOAD_OUT_OF_STEP, "Others registered some of these identifiers while the rows were being checked."
        )
