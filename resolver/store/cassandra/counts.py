"""Counts on a ring. Any process may write those of its own sources, whosever turn it is to write the journal.

A delta is read against what a quorum holds and written as sums, in one batch of one partition. Whether an earlier
attempt at the same delta has landed is seen by the rows themselves, whose timestamps are numbers of deltas: so one
whose outcome nobody knows is simply given again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from resolver.counting import IN_TOTAL, NOTHING, Figures
from resolver.store.cassandra.asking import Asking, Row
from resolver.store.cassandra.carrying import Carrier, Request
from resolver.store.cassandra.statements import (
    COUNT_DAYS,
    COUNT_LIVES,
    COUNT_REACHED,
    COUNT_ROWS,
    COUNT_ROWS_OF,
    COUNT_SOURCES,
    DROP_COUNT_DAY,
    DROP_COUNT_LIFE,
    DROP_COUNT_SOURCES,
    DROP_COUNTS,
    PUT_COUNT,
    PUT_COUNT_DAY,
    PUT_COUNT_LIFE,
    PUT_COUNT_MARK,
    PUT_COUNT_REACHED,
    PUT_COUNT_SOURCE,
    Statement,
)
from resolver.store.counts import Delta, Life, SourceDay, overtaken

WIDTH: Final = 250
"""Prefixes in one list; all of them lie in one partition."""

FOR_GOOD: Final = 1 << 62
"""The timestamp with which a day is forgotten: above all that was ever written of it."""

_DAYS_SEEN: Final = 4_096
"""Days of sources that this process knows to be listed."""

_MICROSECONDS: Final = 1_000_000

Ask = Callable[[Statement, Sequence[Any]], Awaitable[Sequence[Row]]]
"""Asks the ring, and gives the rows."""

_encoder: Final = msgspec.msgpack.Encoder()
_figures_decoder: Final = msgspec.msgpack.Decoder(Figures)
_life_decoder: Final = msgspec.msgpack.Decoder(Life)


class CassandraCountsReader:
    """Counts as they are on a ring now, one quorum's answer after the other."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def reached(self, source: str, day: int) -> SourceDay:
        rows = await self._ask(COUNT_REACHED, (source, day))
        if not rows:
            return SourceDay()
        sequence, kept, is_partial = rows[0]
        return SourceDay(sequence or 0, kept or b"", bool(is_partial))

    async def days(self) -> list[int]:
        return [day for (day,) in await self._ask(COUNT_DAYS, ())]

    async def sources(self, day: int) -> list[str]:
        return [source for (source,) in await self._ask(COUNT_SOURCES, (day,))]

    async def rows(self, source: str, day: int, after: bytes | None, limit: int) -> list[tuple[bytes, Figures]]:
        found = await self._ask(COUNT_ROWS, (source, day, after or b"", limit))
        return [(prefix, _figures_decoder.decode(figures)) for prefix, figures in found]

    async def lives(self) -> list[Life]:
        return [_life_decoder.decode(row) for (row,) in await self._ask(COUNT_LIVES, ())]


class CassandraCounts(CassandraCountsReader):
    """Counts over an open session, for its event loop."""

    def __init__(self, asking: Asking, carrier: Carrier) -> None:
        super().__init__(carrier.ask)
        self._asking = asking
        self._carrier = carrier
        self._turn = asyncio.Lock()
        self._listed: set[tuple[str, int]] = set()

    async def add(self, deltas: Sequence[Delta]) -> None:
        async with self._turn:
            for delta in deltas:
                await self._add(delta)

    async def mark(self, source: str, day: int, *, is_partial: bool) -> None:
        async with self._turn:
            await self._list(source, day)
            await self._carrier.carry([[self._mark(source, day, is_partial=is_partial)]])

    async def put_life(self, life: Life) -> None:
        await self._carrier.carry([[(PUT_COUNT_LIFE, (life.source, _encoder.encode(life), self._now()))]])

    async def forget(self, before: int) -> None:
        for day in [day for day in await self.days() if IN_TOTAL < day < before]:
            sources = await self.sources(day)
            await self._carrier.carry([(DROP_COUNTS, (FOR_GOOD, source, day))] for source in sources)
            # The lists go last: what is interrupted before that is found again.
            await self._carrier.carry([[(DROP_COUNT_SOURCES, (FOR_GOOD, day))]])
            await self._carrier.carry([[(DROP_COUNT_DAY, (FOR_GOOD, day))]])
        over = [life.source for life in await self.lives() if life.has_ended and life.day < before]
        await self._carrier.carry([(DROP_COUNT_LIFE, (FOR_GOOD, source))] for source in over)

    async def _add(self, delta: Delta) -> None:
        source, day, sequence = delta.source, delta.day, delta.sequence
        reached = (await self.reached(source, day)).sequence
        if sequence <= reached:
            return
        if delta.follows not in {None, reached}:
            raise overtaken(delta)
        held = await self._held(delta)
        await self._list(source, day)
        if delta.is_partial:
            await self._carrier.carry([[self._mark(source, day, is_partial=True)]])
        await self._carrier.carry([list(_batch(delta, held))])

    async def _held(self, delta: Delta) -> Mapping[bytes, Figures | None]:
        """Give the sums that are held, None where this delta is in one already."""
        prefixes = [prefix for prefix, _ in delta.rows]
        lists = [prefixes[first : first + WIDTH] for first in range(0, len(prefixes), WIDTH)]
        found = await asyncio.gather(
            *(self._carrier.ask(COUNT_ROWS_OF, (delta.source, delta.day, each)) for each in lists)
        )
        held: dict[bytes, Figures | None] = {}
        for prefix, figures, written in chain.from_iterable(found):
            if delta.follows is not None and delta.follows < written < delta.sequence:
                raise overtaken(delta)
            held[prefix] = None if written >= delta.sequence else _figures_decoder.decode(figures)
        return held

    async def _list(self, source: str, day: int) -> None:
        """Have a source's day be found."""
        if (source, day) in self._listed:
            return
        await self._carrier.carry([[(PUT_COUNT_DAY, (day, 1))], [(PUT_COUNT_SOURCE, (day, source, 1))]])
        if len(self._listed) >= _DAYS_SEEN:
            self._listed.clear()
        self._listed.add((source, day))

    def _mark(self, source: str, day: int, *, is_partial: bool) -> Request:
        return PUT_COUNT_MARK, (source, day, is_partial, self._now())

    def _now(self) -> int:
        return int(self._asking.clock.wall() * _MICROSECONDS)


def _batch(delta: Delta, held: Mapping[bytes, Figures | None]) -> Iterator[Request]:
    """Give the statements of one delta: how far its source is, and the sums that are not there yet."""
    source, day, sequence = delta.source, delta.day, delta.sequence
    yield PUT_COUNT_REACHED, (source, day, sequence, delta.kept, sequence)
    for prefix, figures in delta.rows:
        before = held.get(prefix, NOTHING)
        if before is not None:
            yield PUT_COUNT, (source, day, prefix, _encoder.encode(before + figures), sequence)
