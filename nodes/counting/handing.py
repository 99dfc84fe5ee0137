"""Handing on: what a resolver counts goes to whoever keeps it, twice a second, in deltas that are added once.

A delta that was made is sent unchanged until it is taken, and the next one goes after it: so nothing is counted twice
or passed over, whichever of the two processes was away meanwhile. What nobody takes for longer than usual stands in a
spool as well: with a process that is killed is lost what it counted in its last second.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter, Gauge

from nodes.counting.spool import NumberedTally, Spool
from resolver.clock import Clock
from resolver.counting import Counting, Tally, day_ends
from resolver.errors import Fault

EVERY_SECONDS: Final = 0.5
"""How often what was counted is handed on: with the way and the disk it is there well within a second."""

DELTA_ROWS: Final = 1_000
"""Prefixes in one delta."""

DELTAS_AT_ONCE: Final = 16
"""Deltas in one message: a megabyte."""

WAITING_ROWS: Final = 262_144
"""Prefixes that wait while nobody takes them, over all days; of those beyond nothing is kept, and a day is marked."""

OVERDUE_SECONDS: Final = 1.2 * EVERY_SECONDS
"""What nobody has taken for so long is put into the spool."""

_log: Final = logging.getLogger(__name__)


class Keeper(Protocol):
    """Takes what a resolver has counted."""

    async def take(self, boot: str, tallies: Sequence[NumberedTally], *, is_last: bool) -> None:
        """Keep what was not kept before, durable when this returns; `is_last`: nothing more comes under this name.

        Raises:
            Fault: it was perhaps not kept; the same can be given again.
        """


class HandingMetrics:
    """What waits, and what was lost."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.waiting = Gauge(
            "topnode_counts_waiting_rows", "Counts of prefixes that are not handed on yet.", registry=registry
        )
        self.failed = Counter(
            "topnode_counts_handing_failures_total", "Times that counts could not be handed on.", registry=registry
        )
        self.left_out = Counter(
            "topnode_counts_left_out_total",
            "Identifiers answered that are in no counts, because too many prefixes waited.",
            registry=registry,
        )
        self.unspooled = Counter(
            "topnode_counts_spool_failures_total",
            "Times that counts which nobody took could not be written to a file either.",
            registry=registry,
        )


class Handing:
    """Hands on for one process, under a name made by chance. `run` is the task; `end` hands on the rest.

    Failure policy: what is not taken waits, bounded, here and in the spool in the folder `spools`, and is told in
    metrics; answers never wait for it.
    """

    def __init__(
        self, counting: Counting, keeper: Keeper, spools: Path, clock: Clock, registry: CollectorRegistry
    ) -> None:
        self.boot = secrets.token_hex(16)
        self._counting = counting
        self._keeper = keeper
        self._spool = Spool(spools, self.boot)
        self._clock = clock
        self._metrics = HandingMetrics(registry)
        self._metrics.waiting.set_function(self._waiting_rows)
        self.failures = self._metrics.failed
        self._sequence = 0
        self._merged: dict[int, Tally] = {}
        self._numbered: deque[NumberedTally] = deque()
        self._taken_at = clock.monotonic()
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Hand on again and again, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            # Apart, so that a day ends on time while what was counted before is still on its way.
            tasks.create_task(self._keep_gathering())
            tasks.create_task(self._keep_handing_on())
            tasks.create_task(self._keep_spooling())

    async def end(self, within: float) -> bool:
        """Hand on everything that was counted, trying for so many seconds, and tell whether that was done.

        For after the last answer was given.
        """
        until = self._clock.monotonic() + within
        while not await self._hand_on(is_last=True):
            if self._clock.monotonic() >= until:
                rows = self._waiting_rows()
                if await self._put_in_spool(has_ended=True):
                    _log.warning("counts were not handed on; they are in the spool", extra={"rows": rows})
                else:
                    _log.error("counts were not handed on; the day will be marked", extra={"rows": rows})
                return False
            await asyncio.sleep(EVERY_SECONDS)
        return True

    async def _keep_gathering(self) -> None:
        while True:
            left = day_ends(self._counting.day) - self._clock.wall()
            await asyncio.sleep(min(EVERY_SECONDS, max(0.0, left)))
            self._gather()

    async def _keep_handing_on(self) -> None:
        while True:
            await self._hand_on()
            await asyncio.sleep(EVERY_SECONDS)

    async def _keep_spooling(self) -> None:
        """Apart too: what is handed on may hang for seconds before it fails."""
        while True:
            # So often that what was taken last is never a second old when the rest stands in the spool.
            await asyncio.sleep(EVERY_SECONDS / 2)
            if self._clock.monotonic() - self._taken_at > OVERDUE_SECONDS:
                self._gather()
                await self._put_in_spool()

    def _gather(self) -> None:
        """Take what was counted, and put it with what waits of the same day."""
        taken = self._counting.take()
        if not taken.rows:
            return
        waiting = self._merged.setdefault(taken.day, Tally(taken.day, {}))
        room = WAITING_ROWS - self._waiting_rows()
        left_out = 0
        for prefix, figures in taken.rows.items():
            held = waiting.rows.get(prefix)
            if held is not None:
                waiting.rows[prefix] = held + figures
            elif room > 0:
                waiting.rows[prefix] = figures
                room -= 1
            else:
                left_out += figures.queries + figures.recursive_queries
        if left_out:
            self._metrics.left_out.inc(left_out)
            self._merged[taken.day] = replace(waiting, is_partial=True)

    async def _number(self) -> None:
        """Make deltas of what waits, once those before are taken: so long it can still be put together."""
        made = list(_numbered(self._merged.values(), self._sequence + 1))
        if made:
            self._sequence = made[-1].sequence
            self._numbered += made
        self._merged.clear()
        if made and self._spool.is_there and not await self._put_in_spool():
            # There it has other numbers, under which it must not be adopted when some of it was taken.
            await self._clear_spool()

    async def _put_in_spool(self, *, has_ended: bool = False) -> bool:
        """Put everything that waits into the spool, under the numbers that it has or would get, and tell whether."""
        tallies = [*self._numbered, *_numbered(self._merged.values(), self._sequence + 1)]
        try:
            await self._spool.write(self._clock.wall(), tallies, has_ended=has_ended)
        except Fault as fault:
            self._metrics.unspooled.inc()
            _log.warning("counts that are not taken cannot be kept in a file", extra={"cause": str(fault)})
            return False
        return True

    async def _clear_spool(self) -> None:
        try:
            await self._spool.clear()
        except Fault as fault:
            self._metrics.unspooled.inc()
            _log.warning("the spool of counts cannot be removed", extra={"cause": str(fault)})

    async def _hand_on(self, *, is_last: bool = False) -> bool:
        """Have everything taken that was counted by now, and tell whether it was."""
        async with self._turn:
            self._gather()
            while True:
                if not self._numbered:
                    await self._number()
                some = list(islice(self._numbered, DELTAS_AT_ONCE))
                has_ended = is_last and not some
                try:
                    await self._keeper.take(self.boot, some, is_last=has_ended)
                except Fault as fault:
                    self._metrics.failed.inc()
                    _log.warning("counts are not taken yet", extra={"cause": str(fault)})
                    return False
                for _ in some:
                    self._numbered.popleft()
                if has_ended or not (is_last or self._numbered or self._merged):
                    self._taken_at = self._clock.monotonic()
                    if self._spool.is_there:
                        await self._clear_spool()
                    return True

    def _waiting_rows(self) -> int:
        merged = sum(len(tally.rows) for tally in self._merged.values())
        return merged + sum(len(each.tally.rows) for each in self._numbered)


def _numbered(tallies: Iterable[Tally], first: int) -> Iterator[NumberedTally]:
    """Make deltas of tallies, with numbers from this one on: the same again for the same tallies."""
    number = first
    for tally in tallies:
        rows = list(tally.rows.items())
        for begin in range(0, len(rows), DELTA_ROWS):
            yield NumberedTally(number, Tally(tally.day, dict(rows[begin : begin + DELTA_ROWS]), tally.is_partial))
            number += 1
