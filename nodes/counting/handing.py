"""Handing on: what a resolver counts goes to whoever keeps it, twice a second, in deltas that are added once.

A delta that was made is sent unchanged until it is taken, and the next one goes after it: so nothing is counted twice
or passed over, whichever of the two processes was away meanwhile. With a process that is killed is lost what it had
not handed on.
"""

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Final, Protocol

from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter, Gauge

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

_log: Final = logging.getLogger(__name__)


class NumberedTally(Struct, frozen=True):
    """What is handed on under a number, which goes up by one with each."""

    sequence: int
    tally: Tally


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


class Handing:
    """Hands on for one process, under a name made by chance. `run` is the task; `end` hands on the rest.

    Failure policy: what is not taken waits, bounded, and is told in metrics; answers never wait for it.
    """

    def __init__(self, counting: Counting, keeper: Keeper, clock: Clock, registry: CollectorRegistry) -> None:
        self.boot = secrets.token_hex(16)
        self._counting = counting
        self._keeper = keeper
        self._clock = clock
        self._metrics = HandingMetrics(registry)
        self._metrics.waiting.set_function(self._waiting_rows)
        self.failures = self._metrics.failed
        self._sequence = 0
        self._merged: dict[int, Tally] = {}
        self._numbered: deque[NumberedTally] = deque()
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Hand on again and again, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            # Apart, so that a day ends on time while what was counted before is still on its way.
            tasks.create_task(self._keep_gathering())
            tasks.create_task(self._keep_handing_on())

    async def end(self, within: float) -> bool:
        """Hand on everything that was counted, trying for so many seconds, and tell whether that was done.

        For after the last answer was given.
        """
        until = self._clock.monotonic() + within
        while not await self._hand_on(is_last=True):
            if self._clock.monotonic() >= until:
                _log.error("counts were not handed on; the day will be marked", extra={"rows": self._waiting_rows()})
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

    def _number(self) -> None:
        """Make deltas of what waits, once those before are taken: so long it can still be put together."""
        for tally in self._merged.values():
            rows = list(tally.rows.items())
            for first in range(0, len(rows), DELTA_ROWS):
                self._sequence += 1
                part = Tally(tally.day, dict(rows[first : first + DELTA_ROWS]), tally.is_partial)
                self._numbered.append(NumberedTally(self._sequence, part))
        self._merged.clear()

    async def _hand_on(self, *, is_last: bool = False) -> bool:
        """Have everything taken that was counted by now, and tell whether it was."""
        async with self._turn:
            self._gather()
            while True:
                if not self._numbered:
                    self._number()
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
                    return True

    def _waiting_rows(self) -> int:
        merged = sum(len(tally.rows) for tally in self._merged.values())
        return merged + sum(len(each.tally.rows) for each in self._numbered)
