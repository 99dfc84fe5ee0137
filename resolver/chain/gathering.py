"""Gathering: one batch of what many callers ask in one turn of the event loop, one flight of what several want.

A flight is a batch on its way below. It has its own deadline, and no caller ends it: whoever gives up leaves, the
others get their answers.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter, Gauge

from resolver.answer import Failed, Ready
from resolver.bounds import BATCH_IDENTIFIERS
from resolver.cache.memory import SCAN
from resolver.chain.link import Link
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.following import Following
from resolver.query import Query
from resolver.units import Duration

_RETRY_AFTER: Final = 0.1
"""Seconds after which a caller may try again when too much is in the air: some flights will have landed."""


class GatheringSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How batches are asked of the store."""

    deadline: Duration = Duration(2)
    """A batch that the store has not answered by then counts as not answered."""

    identifiers: int = 100_000
    """Identifiers that are asked of the store at once, in all batches together."""

    def __post_init__(self) -> None:
        if self.deadline <= 0:
            raise Fault(Reason.SETTING_INVALID, "A deadline is above 0.", field="deadline")
        if self.identifiers < BATCH_IDENTIFIERS:
            raise Fault(Reason.SETTING_INVALID, "At least one whole batch must fit (1,000).", field="identifiers")


class GatheringMetrics:
    """What is in the air and what was saved."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.flights = Counter("topnode_gathering_flights_total", "Batches asked of the store.", registry=registry)
        self.joined = Counter(
            "topnode_gathering_joined_total", "Identifiers that were being asked already.", registry=registry
        )
        self.in_flight = Gauge(
            "topnode_gathering_in_flight_identifiers", "Identifiers being asked of the store.", registry=registry
        )


class _Flight:
    """One batch on its way below, and who waits for it. Keys and answers stand in the same order."""

    __slots__ = ("answers", "board", "error", "has_landed", "is_shared", "keys", "largest", "waiters")

    def __init__(self, board: "dict[bytes, _Flight]") -> None:
        self.keys: list[bytes] = []
        self.board = board
        self.waiters: list[asyncio.Future[bool]] = []
        self.answers: Sequence[Ready] = ()
        self.error: BaseException | None = None
        self.has_landed = False
        self.is_shared = True
        self.largest = 0

    def result(self) -> Sequence[Ready]:
        """Give the answers, or raise what went wrong: a Fault afresh for each who waited."""
        error = self.error
        if error is None:
            return self.answers
        if isinstance(error, Fault):
            raise error.anew()
        raise error

    def by_key(self) -> dict[bytes, Ready]:
        """Give an answer for each key; where there is a Fault instead, that for each."""
        try:
            return dict(zip(self.keys, self.result(), strict=True))
        except Fault as fault:
            return dict.fromkeys(self.keys, Failed(fault=fault.with_traceback(None)))


class Gathering:
    """Merges queries that everybody may share; each of the others flies alone.

    Raises:
        Fault: DEADLINE_SPENT when the caller's deadline ends first, STORE_UNAVAILABLE when the flight's does,
            TOO_MANY_IN_FLIGHT, NODE_DRAINING, else as below.
    """

    def __init__(
        self,
        below: Link,
        *,
        keep: Callable[[Sequence[bytes], Sequence[Ready]], object],
        following: Following,
        clock: Clock,
        settings: GatheringSettings,
        registry: CollectorRegistry,
    ) -> None:
        """Make it; `keep` takes what everybody may share of what has landed: keys, each once, and their answers.

        A flight's at once, because single ones cost four times as much.
        """
        self._below = below
        self._keep = keep
        self._following = following
        self._clock = clock
        self._settings = settings
        self._metrics = GatheringMetrics(registry)
        self._metrics.in_flight.set_function(lambda: self._in_flight)
        self._in_flight = 0
        self._tasks: set[asyncio.Task[Sequence[Ready]]] = set()
        self._board: dict[bytes, _Flight] = {}
        self._boarded_at = -1
        self._boarding: _Flight | None = None
        self._is_closed = False

    async def resolve(self, query: Query) -> Sequence[Ready]:
        if self._is_closed:
            raise Fault(Reason.NODE_DRAINING)
        if query.trace:
            query.trace.step("gathering", "alone")
        if query.trace or not query.is_shared:
            return await self._fly_alone(query)
        keys = query.identifiers
        board = self._current_board()
        if not board.keys().isdisjoint(keys):
            return await self._join(query, board)
        flight = self._flight_for(keys)
        seat = len(flight.keys) - len(keys)
        await self._arrival(flight, query.deadline)
        answers = flight.result()
        return answers if len(answers) == len(keys) else answers[seat : seat + len(keys)]

    async def close(self) -> None:
        """Take no more and wait for what is in the air."""
        self._is_closed = True
        while self._in_flight:
            # What is boarding departs in this turn of the loop.
            await asyncio.sleep(0)
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _fly_alone(self, query: Query) -> Sequence[Ready]:
        self._check_room(query.identifiers)
        flight = _Flight({})
        self._seat(flight, query.identifiers)
        self._depart(flight, query)
        await self._arrival(flight, query.deadline)
        return flight.result()

    async def _join(self, query: Query, board: dict[bytes, _Flight]) -> Sequence[Ready]:
        """Wait for the flights that some of the keys are on, and for one with the rest."""
        flights = dict.fromkeys(board[key] for key in query.identifiers if key in board)
        rest = [key for key in query.identifiers if key not in board]
        self._metrics.joined.inc(len(query.identifiers) - len(rest))
        if rest:
            flights[self._flight_for(rest)] = None
        answers: dict[bytes, Ready] = {}
        for flight in flights:
            await self._arrival(flight, query.deadline)
            answers.update(flight.by_key())
        if all(flight.error for flight in flights):
            next(iter(flights)).result()
        return [answers[key] for key in query.identifiers]

    def _current_board(self) -> dict[bytes, _Flight]:
        """Give what is in the air by key, without flights that began before the last change that is known here.

        They may carry what was true before it, and who asks after a change is told what is true after it.
        """
        if self._boarded_at != self._following.applied:
            self._boarded_at = self._following.applied
            self._board = {}
            self._boarding = None
        return self._board

    def _flight_for(self, keys: Sequence[bytes]) -> _Flight:
        """Put keys that are not in the air on the flight that departs at the end of this turn, as its last ones."""
        self._check_room(keys)
        flight = self._boarding
        if flight is None or len(flight.keys) + len(keys) > BATCH_IDENTIFIERS:
            flight = self._boarding = _Flight(self._board)
            asyncio.get_running_loop().call_soon(self._depart_shared, flight)
        self._seat(flight, keys)
        return flight

    def _check_room(self, keys: Sequence[bytes]) -> None:
        if self._in_flight + len(keys) > self._settings.identifiers:
            raise Fault(Reason.TOO_MANY_IN_FLIGHT, retry_after=_RETRY_AFTER)

    def _seat(self, flight: _Flight, keys: Sequence[bytes]) -> None:
        self._in_flight += len(keys)
        flight.largest = max(flight.largest, len(keys))
        flight.keys += keys
        flight.board.update(dict.fromkeys(keys, flight))

    def _depart_shared(self, flight: _Flight) -> None:
        if self._boarding is flight:
            self._boarding = None
        self._depart(flight, Query(identifiers=flight.keys, deadline=0))

    def _depart(self, flight: _Flight, query: Query) -> None:
        deadline = float(self._settings.deadline)
        loop = asyncio.get_running_loop()
        flight.is_shared = query.is_shared
        sent = replace(query, identifiers=flight.keys, deadline=self._clock.monotonic() + deadline)
        task = loop.create_task(self._below.resolve(sent))
        self._tasks.add(task)
        self._metrics.flights.inc()
        overdue = loop.call_later(deadline, self._give_up, flight, task)
        task.add_done_callback(partial(self._land, flight, overdue))

    def _give_up(self, flight: _Flight, task: asyncio.Task[Sequence[Ready]]) -> None:
        seconds = float(self._settings.deadline)
        flight.error = Fault(
            Reason.STORE_UNAVAILABLE,
            f"The store has not answered within {seconds:g} s.",
            retry_after=seconds,
            variables={"seconds": f"{seconds:g}"},
        )
        task.cancel()

    def _land(self, flight: _Flight, overdue: asyncio.TimerHandle, task: asyncio.Task[Sequence[Ready]]) -> None:
        overdue.cancel()
        self._tasks.discard(task)
        self._in_flight -= len(flight.keys)
        if len(flight.board) == len(flight.keys):
            flight.board.clear()
        else:
            for key in flight.keys:
                flight.board.pop(key, None)
        if task.cancelled():
            flight.error = flight.error or Fault(Reason.NODE_DRAINING)
        elif task.exception():
            flight.error = task.exception()
        else:
            flight.answers, flight.error = task.result(), None
            # Before anybody is told: whoever asks again after that finds it.
            self._keep_landed(flight)
        flight.has_landed = True
        for waiter in flight.waiters:
            if not waiter.done():
                waiter.set_result(True)

    def _keep_landed(self, flight: _Flight) -> None:
        """Have what everybody may share kept. What many asked for in small queries is not to pass for a scan."""
        keys, answers = flight.keys, flight.answers
        step = SCAN if flight.largest <= SCAN else len(keys)
        for first in range(0, len(keys) if flight.is_shared else 0, step):
            self._keep(keys[first : first + step], answers[first : first + step])

    async def _arrival(self, flight: _Flight, deadline: float) -> None:
        """Wait until a flight has landed, but not beyond the caller's own deadline.

        Each caller waits on a future of its own, so that a cancelled one ends nobody else's waiting.
        """
        if flight.has_landed:
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        flight.waiters.append(waiter)
        left = deadline - self._clock.monotonic()
        timer = loop.call_later(max(0.0, left), _spend, waiter) if left < self._settings.deadline else None
        try:
            has_landed = await waiter
        finally:
            if timer:
                timer.cancel()
        if not has_landed:
            raise Fault(Reason.DEADLINE_SPENT)


def _spend(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
