"""One batch to each child in a turn of the event loop, and one flight for what several callers want at once.

Like the link that gathers, for children. What came by different ways is never merged: a question that runs in a ring
would wait for itself.

Who finds nothing in the air to a child flies at once and by himself, without a task and a turn of the loop for it.
Who comes meanwhile is gathered, and such a flight has its own deadline and is ended by no caller: so single questions
are answered soonest, and many go together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, TypeAlias

import prometheus_client
from msgspec import Struct
from prometheus_client import CollectorRegistry, Gauge

from resolver.answer import Failed, Ready
from resolver.bounds import BATCH_IDENTIFIERS
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.federation.checking import Wanted
from resolver.federation.child import Child
from resolver.query import Path

_RETRY_AFTER: Final = 0.1
"""Seconds after which a caller may try again when too much is in the air."""


class Trip(Struct, frozen=True):
    """Whom to ask, by which path, and the journal index applied here: after a change, no older flight is joined."""

    child: Child
    path: Path
    applied: int


Fly: TypeAlias = Callable[[Trip, Sequence[Wanted], float], Awaitable[Sequence[Ready]]]
"""Asks for a batch by a deadline on the monotonic clock, and gives answers in its order."""


class _Waiting:
    """A caller who waits for several flights; `left` are those that have not landed."""

    __slots__ = ("future", "left")

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future
        self.left = 0

    def has_one(self) -> None:
        """One of them has landed."""
        self.left -= 1
        if not self.left:
            self.end()

    def end(self) -> None:
        """Wait no more."""
        if not self.future.done():
            self.future.set_result(None)


class _Flight:
    """A batch on its way. `until` is its deadline; `answers`, or an error, are there once it has landed."""

    __slots__ = ("answers", "error", "has_departed", "has_landed", "trip", "until", "waiting", "wanted")

    def __init__(self, trip: Trip) -> None:
        self.trip = trip
        self.has_departed = self.has_landed = False
        self.until = 0.0
        self.wanted: list[Wanted] = []
        self.waiting: list[_Waiting] = []
        self.answers: dict[bytes, Ready] = {}
        self.error: BaseException | None = None

    def given(self, keys: Sequence[bytes]) -> dict[bytes, Ready]:
        """Give the answers to these keys that it has brought, once it has landed; what ended it is a failure of each.

        Raises:
            Exception: it ended by a mistake.
        """
        if isinstance(self.error, Fault):
            failed = Failed(fault=self.error.anew())
            return dict.fromkeys(keys, failed)
        if self.error:
            raise self.error
        return {key: self.answers[key] for key in keys if key in self.answers}


class Flights:
    """Merges what is asked of children. At most so many `identifiers` are asked at once."""

    def __init__(self, fly: Fly, *, identifiers: int, clock: Clock, registry: CollectorRegistry) -> None:
        self.in_flight = 0
        self._joined = prometheus_client.Counter(
            "topnode_federation_joined_total",
            "Identifiers that a child was being asked for already.",
            registry=registry,
        )
        in_flight = Gauge(
            "topnode_federation_in_flight_identifiers", "Identifiers being asked of children.", registry=registry
        )
        in_flight.set_function(lambda: self.in_flight)
        self._fly = fly
        self._identifiers_max = identifiers
        self._of_child: dict[Child, int] = {}
        self._monotonic = clock.monotonic
        self._boards: dict[Trip, dict[bytes, _Flight]] = {}
        self._boarding: dict[Trip, _Flight] = {}
        self._tasks: set[asyncio.Task[Sequence[Ready]]] = set()

    async def take(self, trips: Mapping[Trip, Sequence[Wanted]], until: float) -> dict[bytes, Ready]:
        """Give what is answered by then (monotonic), by key; a key that is missing was not.

        Of a child of which too much is asked already, TOO_MANY_IN_FLIGHT is the answer.
        """
        if len(trips) == 1:
            ((trip, wanted),) = trips.items()
            if trip not in self._boards and self._has_room(trip.child, len(wanted)):
                return await self._fly_oneself(trip, wanted, until)
        now = self._monotonic()
        answers: dict[bytes, Ready] = {}
        seats: dict[_Flight, list[bytes]] = {}
        for trip, wanted in trips.items():
            if not self._has_room(trip.child, len(wanted)):
                busy = Failed(fault=Fault(Reason.TOO_MANY_IN_FLIGHT, retry_after=_RETRY_AFTER))
                answers.update((each.key, busy) for each in wanted)
                continue
            for each in wanted:
                seats.setdefault(self._flight_for(trip, each, until, now), []).append(each.key)
        if seats:
            await self._arrivals(seats, until - now)
        for flight, keys in seats.items():
            if flight.has_landed:
                answers |= flight.given(keys)
        return answers

    def _has_room(self, child: Child, count: int) -> bool:
        """May so many more be asked? Half of all is for others than this child."""
        limit = self._identifiers_max
        return self.in_flight + count <= limit and 2 * (self._of_child.get(child, 0) + count) <= limit

    async def close(self) -> None:
        """End what is in the air, but for those who fly themselves: they end with their callers."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _fly_oneself(self, trip: Trip, wanted: Sequence[Wanted], until: float) -> dict[bytes, Ready]:
        """Fly in the caller's own task. If that ends while others wait for it, the flight sets off anew for them."""
        flight = _Flight(trip)
        flight.has_departed, flight.until, flight.wanted = True, until, list(wanted)
        self._boards[trip] = dict.fromkeys([each.key for each in wanted], flight)
        self._count(trip.child, len(wanted))
        try:
            answers = await self._fly(trip, wanted, until)
        except asyncio.CancelledError:
            if any(not each.future.done() for each in flight.waiting):
                self._set_off(flight)
            else:
                self._end(flight)
            raise
        except BaseException as error:
            flight.error = error
            self._end(flight)
            raise
        flight.answers = {each.key: ready for each, ready in zip(wanted, answers, strict=False)}
        self._end(flight)
        return flight.answers

    async def _arrivals(self, flights: Iterable[_Flight], seconds: float) -> None:
        """Wait until all have landed, for so many seconds at most: on a future of this caller's own."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(loop.create_future())
        for flight in flights:
            flight.waiting.append(waiting)
            waiting.left += 1
        timer = loop.call_later(seconds, waiting.end)
        try:
            await waiting.future
        finally:
            timer.cancel()

    def _flight_for(self, trip: Trip, wanted: Wanted, until: float, now: float) -> _Flight:
        """Find the flight that brings this, or put it on the one that departs at the end of this turn."""
        board = self._boards.setdefault(trip, {})
        flight = board.get(wanted.key)
        if flight is not None and (not flight.has_departed or 2 * (flight.until - now) >= until - now):
            if not flight.has_departed:
                flight.until = max(flight.until, until)
            self._joined.inc()
            return flight
        # Nobody is there yet, or only somebody in a hurry, whose flight would end long before this one must.
        flight = self._boarding.get(trip)
        if flight is None or len(flight.wanted) >= BATCH_IDENTIFIERS:
            flight = self._boarding[trip] = _Flight(trip)
            asyncio.get_running_loop().call_soon(self._depart, flight)
        flight.until = max(flight.until, until)
        flight.wanted.append(wanted)
        board[wanted.key] = flight
        self._count(trip.child, 1)
        return flight

    def _count(self, child: Child, more: int) -> None:
        self.in_flight += more
        now = self._of_child.pop(child, 0) + more
        if now:
            self._of_child[child] = now

    def _depart(self, flight: _Flight) -> None:
        flight.has_departed = True
        if self._boarding.get(flight.trip) is flight:
            del self._boarding[flight.trip]
        self._set_off(flight)

    def _set_off(self, flight: _Flight) -> None:
        task = asyncio.ensure_future(self._fly(flight.trip, flight.wanted, flight.until))
        self._tasks.add(task)
        task.add_done_callback(partial(self._land, flight))

    def _land(self, flight: _Flight, task: asyncio.Task[Sequence[Ready]]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            flight.error = Fault(Reason.NODE_DRAINING)
        elif error := task.exception():
            flight.error = error
        else:
            flight.answers = {each.key: ready for each, ready in zip(flight.wanted, task.result(), strict=False)}
        self._end(flight)

    def _end(self, flight: _Flight) -> None:
        """Take a flight from the boards, and tell those who wait for it."""
        self._count(flight.trip.child, -len(flight.wanted))
        board = self._boards.get(flight.trip, {})
        for each in flight.wanted:
            if board.get(each.key) is flight:
                del board[each.key]
        if not board:
            self._boards.pop(flight.trip, None)
        flight.has_landed = True
        for waiting in flight.waiting:
            waiting.has_one()
