"""Keeping: what resolvers hand on is put into the store, and a day is marked of whose counts something is missing.

A resolver that ends as it should says so. One that is not heard of any more was killed: what it has left in its spool
is adopted, what it had counted since then is lost, and the days on which that may have been are marked. Should it
come back after all, nothing was lost, and the mark is taken away.
"""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter

from nodes.counting.handing import EVERY_SECONDS
from nodes.counting.spool import Left, NumberedTally, adopted, left_behind
from resolver.clock import Clock
from resolver.counting import day_of
from resolver.errors import Fault, Reason
from resolver.store.counts import DAYS_KEPT, Counts, Delta, Life, boot_of, worker_source

SILENT_SECONDS: Final = 15.0
"""A resolver that is not heard of for so long is dead: it speaks twice a second, and waits 5 s for an answer."""

WATCH_SECONDS: Final = 1.0

FORGET_SECONDS: Final = 3_600.0
"""How often old days are looked for."""

STRAYED_DAYS: Final = 2
"""A resolver of another machine that was last alive so many days ago is dead as well: each is noted every day."""

_NEVER: Final = 0
"""The last day on which somebody was alive of whom nothing was ever heard."""

_log: Final = logging.getLogger(__name__)


class _Heard(Struct):
    """A resolver that was heard of: its row, when (on the monotonic clock, and by the wall), and the days marked."""

    life: Life
    at: float
    wall: float
    marked: set[int] = field(default_factory=set)


class Keeping:
    """Keeps what the resolvers of one machine count. `run` is the task; `host` names the machine and the node on it.

    Their spools lie in the folder `spools`.
    Failure policy: what the store does not take is refused, and handed on again, or adopted later.
    """

    def __init__(self, counts: Counts, host: str, spools: Path, clock: Clock, registry: CollectorRegistry) -> None:
        self._counts = counts
        self._host = host
        self._spools = spools
        self._clock = clock
        self._heard: dict[str, _Heard] = {}
        self._killed = Counter(
            "topnode_counts_processes_lost_total",
            "Resolvers that ended without handing on what they had counted; their days are marked.",
            registry=registry,
        )
        self._adopted = Counter(
            "topnode_counts_adopted_total",
            "Spools of resolvers that are gone, kept in their place.",
            registry=registry,
        )
        self.failures = Counter(
            "topnode_counts_keeping_failures_total",
            "Times that the store could not be asked about counts, beside those that were handed on.",
            registry=registry,
        )

    async def take(self, boot: str, tallies: Sequence[NumberedTally], *, is_last: bool) -> None:
        source = worker_source(boot)
        heard = await self._hear(source, [each.tally.day for each in tallies])
        if tallies:
            await self._counts.add([_delta(source, each) for each in tallies])
        if is_last:
            await self._counts.put_life(replace(heard.life, has_ended=True))
            self._heard.pop(source, None)

    async def run(self) -> None:
        """Watch who is not heard of any more, and forget old days, until cancelled."""
        looked = False
        forget_at = self._clock.monotonic()
        while True:
            try:
                if not looked:
                    await self._look()
                    looked = True
                await self._watch()
                if self._clock.monotonic() >= forget_at:
                    await self._counts.forget(day_of(self._clock.wall()) - DAYS_KEPT)
                    forget_at = self._clock.monotonic() + FORGET_SECONDS
            except Fault as fault:
                self.failures.inc()
                _log.warning("counts cannot be looked after", extra={"cause": str(fault)})
            await asyncio.sleep(WATCH_SECONDS)

    async def watch(self) -> None:
        """Look once who is not heard of any more, also among those who were there before this process.

        Raises:
            Fault: the store's.
        """
        await self._look()
        await self._watch()

    async def _hear(self, source: str, days: Sequence[int]) -> _Heard:
        """Note that a resolver lives, in the store too where that is news."""
        wall = self._clock.wall()
        day = max([day_of(wall), *days])
        heard = self._heard.get(source)
        if heard is None or heard.life.day < day or heard.life.has_ended:
            came_back = heard is not None and heard.life.has_ended
            life = Life(source=source, host=self._host, day=day)
            await self._counts.put_life(life)
            if came_back and heard is not None:
                await self._unmark(heard)
            heard = self._heard[source] = _Heard(life, self._clock.monotonic(), wall)
        heard.at, heard.wall = self._clock.monotonic(), wall
        return heard

    async def _look(self) -> None:
        """Take up the resolvers that were there before this process: they have as long as all others to be heard."""
        today, now = day_of(self._clock.wall()), self._clock.monotonic()
        for life in await self._counts.lives():
            is_own = life.host == self._host or life.day <= today - STRAYED_DAYS
            if is_own and not life.has_ended and life.source not in self._heard:
                self._heard[life.source] = _Heard(life, now, 0.0)

    async def _watch(self) -> None:
        self._look_at_spools()
        dead = self._clock.monotonic() - SILENT_SECONDS
        for heard in [each for each in self._heard.values() if each.at < dead and not each.life.has_ended]:
            await self._bury(heard)
        # Whoever has not come back for an hour will not.
        gone = self._clock.monotonic() - FORGET_SECONDS
        self._heard = {name: each for name, each in self._heard.items() if each.at >= gone or not each.life.has_ended}

    def _look_at_spools(self) -> None:
        """Take up those as well who have a spool and were never heard of."""
        for boot in left_behind(self._spools):
            source = worker_source(boot)
            if source not in self._heard:
                life = Life(source=source, host=self._host, day=_NEVER)
                self._heard[source] = _Heard(life, self._clock.monotonic(), 0.0)

    async def _bury(self, heard: _Heard) -> None:
        """Keep what a resolver has left, and mark the days on which it may have counted more."""
        try:
            with adopted(self._spools, boot_of(heard.life.source)) as left:
                await self._keep(heard, left)
        except Fault as fault:
            if fault.reason is not Reason.FILE_UNREADABLE:
                raise
            self.failures.inc()
            _log.error("a spool of counts is lost", extra={"cause": str(fault)})
            await self._keep(heard, None)

    async def _keep(self, heard: _Heard, left: Left | None) -> None:
        source = heard.life.source
        if left is not None:
            await self._counts.add([_delta(source, each) for each in left.tallies])
            self._adopted.inc()
            _log.warning("counts of a resolver that is gone were adopted", extra={"counts": source})
        if left is None or not left.has_ended:
            for day in _days(left.written) if left else _last_days(heard):
                await self._mark(heard, day)
            self._killed.inc()
            _log.warning("a resolver was lost with what it had counted last", extra={"counts": source})
        heard.life = replace(heard.life, has_ended=True)
        await self._counts.put_life(heard.life)

    async def _mark(self, heard: _Heard, day: int) -> None:
        # A day that is marked for another reason stays so, whoever comes back.
        if not (await self._counts.reached(heard.life.source, day)).is_partial:
            heard.marked.add(day)
            await self._counts.mark(heard.life.source, day, is_partial=True)

    async def _unmark(self, heard: _Heard) -> None:
        for day in heard.marked:
            await self._counts.mark(heard.life.source, day, is_partial=False)


def _last_days(heard: _Heard) -> list[int]:
    """Give the days on which it may have counted what is lost: the last one, and the next if that was beginning."""
    days = {heard.life.day, *(_days(heard.wall) if heard.wall else ())}
    return sorted(days - {_NEVER})


def _days(wall: float) -> list[int]:
    """Give the days on which somebody may have counted something who was there at this time, and a second later."""
    return sorted({day_of(wall), day_of(wall + 2 * EVERY_SECONDS)})


def _delta(source: str, numbered: NumberedTally) -> Delta:
    tally = numbered.tally
    return Delta(
        source=source,
        sequence=numbered.sequence,
        day=tally.day,
        rows=list(tally.rows.items()),
        is_partial=tally.is_partial,
    )
