"""Reporting: what this node has counted itself is owed to the node above, and sent there each day, or on demand.

A report says what came since the last one. It is put into the store before it is sent, in the same step by which that
is no longer owed, and sent until it is answered: a report that is sent again gets its first answer there, so that
after any crash the sum of all reports is what was counted. What is refused because the node above does not know the
prefix as this node's is owed again, and goes with the next reports, a day later or on demand.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from itertools import islice
from typing import Final

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge

from nodes.client import RegistryClient
from nodes.client.signing import Draft
from registry.counts import KIND, CountsReport, CountsRow
from registry.plans import Outcome
from resolver.bounds import ENVELOPE_ROWS
from resolver.clock import Clock
from resolver.counting import IN_TOTAL, NOTHING, Figures, day_of, day_to_text
from resolver.errors import Fault, Kind, Reason
from resolver.store.counts import DAYS_KEPT, SENT, TAKEN, Counts, Delta, is_own, rows_of

SETTLING_SECONDS: Final = 120
"""Seconds after the end of a day before it is reported: whoever has counted has handed on by then, or is dead."""

LOOK_SECONDS: Final = 30.0
"""How often it is looked whether a day has ended, and whether what was not taken is taken now."""

FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 300.0
"""Seconds before what failed is tried again, doubled each time."""

AWAITED: Final = frozenset((Reason.PREFIX_NOT_ALLOCATED, Reason.PREFIX_NOT_HELD))
"""Why a row is refused that may be taken later: there, the prefix is not this node's yet."""

_MILLISECONDS: Final = 1_000
_log: Final = logging.getLogger(__name__)

Connect = Callable[[], AbstractAsyncContextManager[RegistryClient]]
"""Reaches the registry of the node above, as this node."""


class Reported(Struct, frozen=True):
    """What was reported at one time: reports and rows that were taken, and rows that were refused, also for now."""

    reports: int = 0
    rows: int = 0
    refused: int = 0

    def __add__(self, other: "Reported") -> "Reported":
        return Reported(self.reports + other.reports, self.rows + other.rows, self.refused + other.refused)


class ReportingMetrics:
    """What was reported, and since when nothing was."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.reports = Counter(
            "topnode_counts_reports_total", "Reports of counts that the node above has taken.", registry=registry
        )
        self.refused = Counter(
            "topnode_counts_refused_rows_total",
            "Rows of such reports that the node above has refused for good.",
            registry=registry,
        )
        self.owed_again = Counter(
            "topnode_counts_owed_again_rows_total",
            "Rows of such reports that the node above does not take yet; they go with the next reports.",
            registry=registry,
        )
        self.failed = Counter(
            "topnode_counts_reporting_failures_total", "Times that reporting was broken off.", registry=registry
        )
        self.reported_at = Gauge(
            "topnode_counts_reported_timestamp_seconds",
            "When everything that was due was reported last; 0: not since this process runs.",
            registry=registry,
        )


class Report(Struct, frozen=True):
    """A report as it is sent: of which day, under which number of the source `SENT`, and its body."""

    day: int
    number: int
    body: bytes


class Reporting:
    """Reports to the node above. `run` is the task; `report_now` is for whoever does not wait for the day's end.

    Failure policy: what is not answered is sent again for as long as it takes, nothing else before it. A report that
    the node above will never take as it is is logged, counted, and done with, so that it does not hold up the rest.
    A prefix that is not this node's there costs one refused row each time that there is reported, however many days
    are owed of it.
    """

    def __init__(self, counts: Counts, connect: Connect, clock: Clock, registry: CollectorRegistry) -> None:
        self._counts = counts
        self._connect = connect
        self._clock = clock
        self._metrics = ReportingMetrics(registry)
        self.failures = self._metrics.failed
        self._turn = asyncio.Lock()
        self._reported: int | None = None
        self._wait = FIRST_WAIT

    async def run(self) -> None:
        """Report what is due again and again, until cancelled."""
        while True:
            wait = await self.step()
            await asyncio.sleep(wait)

    async def step(self) -> float:
        """Report what is due, if anything is, and give the seconds after which to look again."""
        due = self._due()
        if self._reported == due:
            return LOOK_SECONDS
        try:
            await self._report(due)
        except Fault as fault:
            self._metrics.failed.inc()
            _log.warning("counts are not reported yet", extra={"cause": str(fault)})
            wait, self._wait = self._wait, min(2 * self._wait, LONGEST_WAIT)
            return wait
        self._reported, self._wait = due, FIRST_WAIT
        return LOOK_SECONDS

    async def report_now(self) -> Reported:
        """Report everything that is owed by now, of today too.

        Raises:
            Fault: the store's or that of the node above; what was taken until then stays taken.
        """
        return await self._report(day_of(self._clock.wall()))

    def _due(self) -> int:
        """Give the last day that has ended, long enough ago."""
        return day_of(self._clock.wall() - SETTLING_SECONDS) - 1

    async def _report(self, until: int) -> Reported:
        """Report what is owed of the days up to this one, and in total."""
        done = Reported()
        untaken: set[bytes] = set()
        async with self._turn, self._connect() as client:
            for day in [day for day in await self._counts.days() if day <= until]:
                async for report in self._reports(day, untaken):
                    done += await self._send(client, report, untaken)
        self._metrics.reported_at.set(self._clock.wall())
        return done

    async def _reports(self, day: int, untaken: Container[bytes]) -> AsyncIterator[Report]:
        """Give the reports of one day, one after the other: first the one that was not answered, if there is one.

        `untaken` are prefixes of which nothing was taken just now, and of which nothing more is reported therefore.
        """
        sent, taken = await self._counts.reached(SENT, day), await self._counts.reached(TAKEN, day)
        # Nothing is kept where its rows are owed again: it was answered.
        if sent.kept and sent.sequence > taken.sequence:
            yield Report(day, sent.sequence, sent.kept)
        if self._is_forgotten_above(day):
            return
        sources = [source for source in await self._counts.sources(day) if is_own(source)]
        is_partial = any([(await self._counts.reached(source, day)).is_partial for source in sources])
        has_said_so = sent.is_partial or not is_partial
        owed = self._owed(day, sources, untaken)
        while rows := [row async for row in _some(owed, ENVELOPE_ROWS)]:
            yield await self._put(day, rows, is_partial=is_partial)
            has_said_so = True
        if not has_said_so:
            yield await self._put(day, [], is_partial=True)

    def _is_forgotten_above(self, day: int) -> bool:
        return day != IN_TOTAL and day <= day_of(self._clock.wall()) - DAYS_KEPT

    async def _owed(
        self, day: int, sources: Sequence[str], untaken: Container[bytes]
    ) -> AsyncIterator[tuple[bytes, Figures]]:
        """Go through what was counted and not made a report of."""
        async for row in rows_of(self._counts, day, [*sources, SENT]):
            counted = sum((row.by_source.get(source, NOTHING) for source in sources), NOTHING)
            figures = counted - row.by_source.get(SENT, NOTHING)
            if figures and row.prefix not in untaken:
                yield row.prefix, figures

    async def _put(self, day: int, rows: Sequence[tuple[bytes, Figures]], *, is_partial: bool) -> Report:
        """Make a report, and with that no longer owe what is in it."""
        report = CountsReport(day=day_to_text(day), rows=[CountsRow.of(*each) for each in rows], partial=is_partial)
        body = msgspec.json.encode(report)
        reached = await self._counts.reached(SENT, day)
        # By the time, so that of two processes in turn the later one's numbers are the higher.
        number = max(reached.sequence + 1, int(self._clock.wall() * _MILLISECONDS))
        await self._counts.add(
            [
                Delta(
                    source=SENT,
                    sequence=number,
                    day=day,
                    rows=rows,
                    follows=reached.sequence,
                    kept=body,
                    is_partial=is_partial,
                )
            ]
        )
        return Report(day, number, body)

    async def _send(self, client: RegistryClient, report: Report, untaken: set[bytes]) -> Reported:
        """Send one report until it is answered, note that it was, and add the prefixes that are owed again."""
        # By number and content: the same report is the same request, and one made after a restore is another.
        request_id = f"counts-{report.day}-{report.number}-{sha256(report.body).hexdigest()[:32]}"
        rows = msgspec.json.decode(report.body, type=CountsReport).rows
        again: list[CountsRow] = []
        try:
            submitted = await client.send(Draft(kind=KIND, body=report.body, request_id=request_id))
        except Fault as fault:
            if fault.kind is not Kind.INVALID_ARGUMENT or fault.reason is Reason.ENVELOPE_LIFETIME:
                raise
            told = {"day": day_to_text(report.day), "cause": str(fault)}
            _log.error("a report of counts is refused for good", extra=told)
            done = Reported(refused=len(rows))
        else:
            refused = submitted.count(Outcome.REFUSED)
            for position, each in islice(submitted.refusals.items(), 1):
                _log.warning(
                    "rows of counts are refused", extra={"row": position, "count": refused, "cause": str(each)}
                )
            again = [rows[position] for position, each in submitted.refusals.items() if each.reason in AWAITED]
            # Without a receipt nothing was written: every row was refused.
            done = Reported(int(submitted.receipt is not None), len(rows) - refused, refused)
        await self._counts.add(_answered(report, again))
        untaken.update(row.prefix.encode() for row in again)
        self._metrics.reports.inc(done.reports)
        self._metrics.owed_again.inc(len(again))
        self._metrics.refused.inc(done.refused - len(again))
        return done


def _answered(report: Report, again: Sequence[CountsRow]) -> list[Delta]:
    """Make the deltas that note that a report was answered; these rows of it are owed again with that."""
    if not again:
        return [Delta(source=TAKEN, sequence=report.number, day=report.day)]
    # Always under the same number: whoever is given the same answer once more takes back nothing more.
    number = report.number + 1
    rows = [(row.prefix.encode(), NOTHING - row.figures) for row in again]
    return [
        Delta(source=SENT, sequence=number, day=report.day, rows=rows, follows=report.number),
        Delta(source=TAKEN, sequence=number, day=report.day),
    ]


async def _some(rows: AsyncIterator[tuple[bytes, Figures]], count: int) -> AsyncIterator[tuple[bytes, Figures]]:
    """Take so many rows, or what there is."""
    if count:
        async for row in rows:
            yield row
            count -= 1
            if not count:
                return
