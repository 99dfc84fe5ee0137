"""The cache that resolvers share: what is done with Redis, whether one server, behind sentinels, or a cluster."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from secrets import token_bytes
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Counter
from redis.asyncio import Connection

from resolver.cache.redis.border import Ledger, Trouble
from resolver.cache.redis.hearing import Hearing
from resolver.cache.redis.layout import Layout, command
from resolver.cache.redis.line import Line
from resolver.cache.redis.scripts import FILL, MARK, RAISE
from resolver.cache.redis.servers import Servers
from resolver.cache.redis.settings import RedisSettings
from resolver.cache.redis.turnover import Turnover
from resolver.clock import Clock
from resolver.shelves import ERA_BYTES, Fill, Shelf, State, number

_Item = TypeVar("_Item")

ENTRY_MAX: Final = 8 * 1024
"""A larger body (bytes) is not kept: a thousand of them must arrive before the deadline."""

_FILLS: Final = 100
"""Entries that one script keeps: a third of a millisecond in which the server does nothing else."""

_FILL_BYTES: Final = 256 * 1024
"""Bytes of bodies that one script keeps, about: reads wait on the same connection meanwhile."""

_MARKERS: Final = 250
"""Markers that one script leaves."""

_JITTER: Final = 0.1


class RedisCache:
    """A SharedCache and a MarkedCache; `run` connects it.

    Failure policy: open. What Redis does not answer, or not in time, is as if it held nothing.
    """

    def __init__(self, settings: RedisSettings, *, clock: Clock, registry: CollectorRegistry) -> None:
        ledger = Ledger(registry)
        self._servers = Servers(settings, clock=clock, ledger=ledger)
        self._hearing = Hearing(self._servers, settings, ledger, registry)
        self._settings = settings
        self._layout = Layout.of(settings)
        self._deadline = float(settings.deadline)
        self._patience = float(settings.connect_within)
        self._absences = Turnover(settings.absent_entries, settings.absent_for * (1 + _JITTER), clock)
        fills = Counter(
            "topnode_redis_fills_total",
            "Entries that were to be kept: kept, refused as older than what is there, or dropped for want of room.",
            ("verdict",),
            registry=registry,
        )
        self._kept, self._refused, self._dropped = map(fills.labels, ("kept", "refused", "dropped"))

    async def run(self) -> None:
        """Find the servers and stay connected with them, until cancelled."""
        await self._servers.run()

    async def hear(self, tell: Callable[[int], None]) -> None:
        """Hand on each index that is published, until cancelled."""
        await self._hearing.run(tell)

    async def get(self, keys: Sequence[bytes]) -> list[Shelf]:
        spread = self._layout.spread(keys)
        if len(spread) == 1:
            ((shelf, places),) = spread
            return [await self._look(shelf, places, keys)]
        looks = [self._look(shelf, places, [keys[place] for place in places]) for shelf, places in spread]
        return await asyncio.gather(*looks)

    async def fill(self, fills: Sequence[Fill]) -> None:
        wanted = [fill for fill in fills if self._has_room(fill)]
        self._dropped.inc(len(fills) - len(wanted))
        for shelf, places in self._layout.spread([fill.key for fill in wanted]):
            for some in _parcels([wanted[place] for place in places]):
                await self._fill(shelf, some)

    async def marked(self) -> int | None:
        return await self._on_all(self._read_mark)

    async def mark(self, changed: Sequence[tuple[bytes, int]], *, below: int, after: int, upto: int) -> int | None:
        by_shelf = {
            shelf: [changed[place] for place in places]
            for shelf, places in self._layout.spread([key for key, _ in changed])
        }

        async def mark(shelf: int, line: Line) -> int:
            # All by one connection: another one may lead to a server that has forgotten the first markers.
            by = line.connection
            if await self._leave_markers(shelf, line, by_shelf.get(shelf, ()), after=after, by=by):
                return await self._raise(shelf, line, below=below, after=after, upto=upto, by=by)
            return await self._read_mark(shelf, line)

        return await self._on_all(mark)

    async def begin(self, index: int, *, anew: bool) -> bool:
        condition = () if anew else (b"NX",)

        async def begin(shelf: int, line: Line) -> int:
            state = State(era=token_bytes(ERA_BYTES), since=index, below=0, marked=index)
            parts = (b"SET", self._layout.tags[shelf], state.to_bytes(), *condition)
            await line.ask(command(*parts), within=self._patience, writes=True)
            return index

        return await self._on_all(begin) is not None

    async def publish(self, index: int) -> bool:
        line = self._servers.line(0)
        if line is None:
            return False
        try:
            await line.ask(command(b"PUBLISH", self._layout.channel, b"%d" % index), within=self._patience)
        except Trouble:
            return False
        return True

    async def _look(self, shelf: int, places: Sequence[int], keys: Sequence[bytes]) -> Shelf:
        line = self._servers.line(shelf)
        if line is None:
            return Shelf(places, (), None)
        try:
            values = await line.ask(self._layout.batch(shelf, keys), within=self._deadline)
        except Trouble:
            return Shelf(places, (), None)
        state = State.from_bytes(values.pop(0) or b"")
        return Shelf(places, values if state else (), state)

    def _has_room(self, fill: Fill) -> bool:
        if fill.body is None:
            return self._absences.takes_one()
        return len(fill.body) <= ENTRY_MAX

    async def _fill(self, shelf: int, fills: Sequence[Fill]) -> None:
        line = self._servers.line(shelf)
        keys = [fill.key for fill in fills]
        values = [part for fill in fills for part in (fill.to_bytes(), self._life(fill))]
        try:
            if line is None:
                raise Trouble("left_alone", "its server was not found")
            kept = await line.ask(self._script(FILL, shelf, keys, values), within=self._patience, writes=True)
        except Trouble:
            self._dropped.inc(len(fills))
            return
        self._kept.inc(kept)
        self._refused.inc(len(fills) - kept)

    def _life(self, fill: Fill) -> bytes:
        """Give the milliseconds that an entry lives, each a little other, so that they do not all end at once."""
        seconds = self._settings.absent_for if fill.body is None else self._settings.positive_for
        return b"%d" % (seconds * 1_000 * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - nothing secret

    async def _leave_markers(
        self,
        shelf: int,
        line: Line,
        changed: Sequence[tuple[bytes, int]],
        *,
        after: int,
        by: Connection | None,
    ) -> bool:
        """Tell whether they were left: not where the shelf has forgotten what came before them."""
        life = b"%d" % (self._settings.markers_for * 1_000)
        for some in _parts(changed, _MARKERS):
            values = [number(after), life, *(number(index) for _, index in some)]
            script = self._script(MARK, shelf, [key for key, _ in some], values)
            if not await line.ask(script, within=self._patience, writes=True, by=by):
                return False
        return True

    async def _raise(
        self, shelf: int, line: Line, *, below: int, after: int, upto: int, by: Connection | None = None
    ) -> int:
        script = self._script(RAISE, shelf, [], [number(below), number(after), number(upto)])
        marked: int = await line.ask(script, within=self._patience, by=by)
        return marked

    async def _read_mark(self, shelf: int, line: Line) -> int:
        return await self._raise(shelf, line, below=0, after=0, upto=0)

    async def _on_all(self, act: Callable[[int, Line], Awaitable[int]]) -> int | None:
        """Do it on all shelves, and give the least number that one gives; None where one could not be reached."""

        async def attempt(shelf: int) -> int | None:
            line = self._servers.line(shelf)
            try:
                return None if line is None else await act(shelf, line)
            except Trouble:
                return None

        least: int | None = None
        for given in await asyncio.gather(*map(attempt, range(len(self._layout.tags)))):
            if given is None:
                return None
            least = given if least is None else min(least, given)
        return least

    def _script(self, script: bytes, shelf: int, keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
        names = [self._layout.tags[shelf], *(self._layout.name(shelf, key) for key in keys)]
        return command(b"EVAL", script, b"%d" % len(names), *names, *values)


def _parcels(fills: Sequence[Fill]) -> Iterator[Sequence[Fill]]:
    """Cut into what one script keeps."""
    parcel: list[Fill] = []
    octets = 0
    for fill in fills:
        parcel.append(fill)
        octets += len(fill.body or b"")
        if len(parcel) == _FILLS or octets >= _FILL_BYTES:
            yield parcel
            parcel, octets = [], 0
    if parcel:
        yield parcel


def _parts(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    return (items[first : first + size] for first in range(0, len(items), size))
