"""Carrying out many statements: so many at once, each sent again until it is answered or patience is over.

Only for statements that may be sent again: all that are written with a timestamp of their own.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.asking import Asking, Row
from resolver.store.cassandra.statements import Statement

Request: TypeAlias = tuple[Statement, Sequence[Any]]
Bundle: TypeAlias = Sequence[Request]
"""Statements that are sent together: one, or several of one partition."""

IN_FLIGHT: Final = 128
"""Bundles that are sent at once."""

AGAIN_SECONDS: Final = 0.1
"""How long a statement that was not answered rests before it is sent again."""


class CarryingMetrics:
    """What was sent, and what of it again."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sent = Counter(
            "topnode_cassandra_writes_total", "Statements that were sent for commits.", registry=registry
        )
        self.again = Counter(
            "topnode_cassandra_writes_again_total",
            "Of these, by bundles: what was sent again because it was not answered.",
            registry=registry,
        )


class Carrier:
    """Sends for one commit after the other. `patience` is in seconds, from the last answer on.

    Failure policy: what is not answered is sent again, counted, until nothing has been answered for as long as
    patience lasts; then the first fault is raised, and whatever was sent may be done or not.
    """

    def __init__(self, asking: Asking, *, patience: float, clock: Clock, metrics: CarryingMetrics) -> None:
        self._asking = asking
        self._patience = patience
        self._clock = clock
        self._metrics = metrics

    async def carry(self, bundles: Iterable[Bundle], *, in_flight: int = IN_FLIGHT) -> None:
        """Send all of these; returns when each is answered.

        Raises:
            Fault: STORE_UNAVAILABLE, or what is wrong with the store for good.
        """
        await _Load(self._asking, self._patience, self._clock, self._metrics, in_flight).carry(bundles)

    async def ask(self, statement: Statement, values: Sequence[Any]) -> Sequence[Row]:
        """Ask and give the rows, with the same patience.

        Raises:
            Fault: as `carry`.
        """
        until = self._clock.monotonic() + self._patience
        while True:
            try:
                return await self._asking.ask(statement, values)
            except Fault as fault:
                if not is_worth_repeating(fault) or self._clock.monotonic() >= until:
                    raise
                self._metrics.again.inc()
            await asyncio.sleep(AGAIN_SECONDS)


def is_worth_repeating(fault: Fault) -> bool:
    """May the same be answered when it is sent again? Not when this process has closed the store itself."""
    return fault.reason is Reason.STORE_UNAVAILABLE and fault.retry_after is not None


class _Load:
    """What one call carries: bundles in flight, and those that rest before they are sent again."""

    def __init__(
        self, asking: Asking, patience: float, clock: Clock, metrics: CarryingMetrics, in_flight: int
    ) -> None:
        self._asking = asking
        self._patience = patience
        self._clock = clock
        self._metrics = metrics
        self._most = in_flight
        self._loop = asyncio.get_running_loop()
        self._flying = 0
        self._sent = 0
        self._resting: deque[Bundle] = deque()
        self._fault: Fault | None = None
        self._answered_at = clock.monotonic()
        self._room: asyncio.Future[None] | None = None

    async def carry(self, bundles: Iterable[Bundle]) -> None:
        try:
            await self._carry(bundles)
        finally:
            # Once for all: counting each takes some hundredths of what sending it takes.
            self._metrics.sent.inc(self._sent)

    async def _carry(self, bundles: Iterable[Bundle]) -> None:
        for bundle in bundles:
            self._send(bundle)
            while self._flying >= self._most and self._fault is None:
                await self._landing()
            if self._resting:
                await self._carry_again()
            if self._fault is not None:
                break
        while self._flying:
            await self._landing()
            if self._resting:
                await self._carry_again()
        if self._fault is not None:
            raise self._fault

    async def _carry_again(self) -> None:
        """Send what rests once more, after a pause: while the ring does not answer, nothing new is sent."""
        await asyncio.sleep(AGAIN_SECONDS)
        while self._resting and self._fault is None:
            self._metrics.again.inc()
            self._send(self._resting.popleft())
        self._resting.clear()

    def _send(self, bundle: Bundle) -> None:
        self._flying += 1
        self._sent += len(bundle)
        landed = partial(self._landed, bundle)
        if len(bundle) == 1:
            self._asking.send(*bundle[0], landed)
        else:
            self._asking.send_together(bundle, landed)

    async def _landing(self) -> None:
        """Wait until something lands."""
        self._room = self._loop.create_future()
        await self._room

    def _landed(self, bundle: Bundle, _rows: Sequence[Row], fault: Fault | None) -> None:
        self._flying -= 1
        if fault is None:
            self._answered_at = self._clock.monotonic()
        elif is_worth_repeating(fault) and self._clock.monotonic() - self._answered_at < self._patience:
            self._resting.append(bundle)
        elif self._fault is None:
            self._fault = fault
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
