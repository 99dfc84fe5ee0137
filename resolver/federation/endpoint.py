"""One endpoint of a child: its driver, how it fares, and its mending while it is not asked.

Failure policy: an endpoint that fails too often is left alone, and its connection given up; so is one at which nobody
answers a prober, while nothing that was answered here says otherwise. It is probed over fresh connections, with
back-off, and asked again once a probe was answered: no caller waits for a trial.
"""

import asyncio
import logging
from typing import Final

from resolver.clock import Clock
from resolver.errors import Fault, Kind, Reason
from resolver.federation.breaker import Breaker
from resolver.federation.driver import Driver, Drivers, Question, Reply
from resolver.federation.hearsay import Hearsay, place
from resolver.federation.latencies import Latencies
from resolver.routes import Endpoint

PATIENCE: Final = 0.25
"""Seconds. A call that was given less and ran out of it says nothing of the endpoint: its caller was in a hurry."""

PROBE_WITHIN: Final = 2.0
"""Seconds for a probe."""

PROBES_UNASKED: Final = 20
"""After so many probes during which nobody wanted the endpoint it is not probed until somebody does."""

_GRACE: Final = 2.0
"""Seconds for what is in flight over a connection that is given up."""

_TROUBLES: Final = frozenset(
    {Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED, Kind.RESOURCE_EXHAUSTED, Kind.INTERNAL, Kind.UNIMPLEMENTED}
)

_log: Final = logging.getLogger(__name__)


def is_trouble(fault: Fault) -> bool:
    """Does it speak against the endpoint, so that another one might do better?

    What a child refuses for good, another endpoint of it would refuse too.
    """
    return fault.kind in _TROUBLES or fault.reason in {Reason.FILE_UNREADABLE, Reason.CHILD_ANSWER_REFUSED}


class ChildEndpoint:
    """Asks over one endpoint. `route` is where it is; `place` is the same without its priority."""

    def __init__(
        self,
        route: Endpoint,
        *,
        drivers: Drivers,
        clock: Clock,
        hearsay: Hearsay,
        probes_unasked: int = PROBES_UNASKED,
    ) -> None:
        self.route = route
        self.place = place(route)
        self.in_flight = 0
        self.latencies = Latencies()
        self._hearsay = hearsay
        self._drivers = drivers
        self._probes_unasked = probes_unasked
        self._monotonic = clock.monotonic
        self._breaker = Breaker()
        self._answered_at = float("-inf")
        self._is_wanted = False
        self._driver: Driver | None = None
        self._mending: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def is_down(self) -> bool:
        """Is it left alone?"""
        return self._breaker.is_open or self._hearsay.is_against(self.place, self._answered_at)

    @property
    def is_told_down(self) -> bool:
        """Is it left alone on a prober's word, and not for what was seen here?"""
        return self.is_down and not self._breaker.is_open

    def heard(self) -> None:
        """Take note of a prober's word: what is silent for it may be a connection here that died without a word.

        Whoever asks when the word is over, after a hand-back for example, must not wait on that.
        """
        if self.is_told_down:
            self._give_up()

    def want(self) -> None:
        """Take note that a caller would have asked it, were it not down: so it is probed before long."""
        self._is_wanted = True
        if self._mending is None or self._mending.done():
            self._give_up()
            self._begin_mending(rests=False)

    async def ask(self, question: Question) -> Reply:
        """Ask once, by the question's deadline.

        Raises:
            Fault: as drivers do.
        """
        if self._is_closed:
            raise Fault(Reason.NODE_UNREACHABLE, "It was forgotten among many children, while this call waited.")
        began = self._monotonic()
        self.in_flight += 1
        try:
            if self._driver is None:
                self._driver = self._drivers.open(self.route)
            reply = await self._driver.ask(question)
        except Fault as fault:
            self._note(fault, question.deadline - began)
            raise
        finally:
            self.in_flight -= 1
        self._breaker.succeeded()
        self._answered_at = self._monotonic()
        self.latencies.note(self._answered_at - began)
        return reply

    async def close(self, grace: float = 0) -> None:
        """Close its connections and wait until they are gone; what is in flight may take this many seconds."""
        self._is_closed = True
        if self._mending:
            self._mending.cancel()
            await asyncio.wait((self._mending,))
        if self._driver is not None:
            driver, self._driver = self._driver, None
            await driver.close(grace)
        if self._leaving:
            await asyncio.wait(tuple(self._leaving))

    def _note(self, fault: Fault, allowed: float) -> None:
        if not is_trouble(fault):
            self._breaker.succeeded()
            self._answered_at = self._monotonic()
            return
        if fault.kind is Kind.DEADLINE_EXCEEDED and allowed < PATIENCE:
            return
        if self._breaker.failed() and not self._is_closed:
            _log.warning("the endpoint %s:%d is left alone: %s", self.route.address, self.route.port, fault.detail)
            self._give_up()
            if self._mending is None or self._mending.done():
                self._begin_mending(rests=True)

    def _begin_mending(self, *, rests: bool) -> None:
        if not self._is_closed:
            self._mending = asyncio.get_running_loop().create_task(self._mend(rests=rests))

    async def _mend(self, *, rests: bool) -> None:
        """Probe until one is answered, or nobody wants it; `rests` tells whether the first one waits too."""
        unasked = 0
        while self.is_down and unasked < self._probes_unasked:
            if rests:
                await asyncio.sleep(self._breaker.rest())
            rests = True
            unasked = 0 if self._is_wanted else unasked + 1
            self._is_wanted = False
            if await self._is_well():
                self._answered_at = self._monotonic()
                self._breaker.close()
                _log.info("the endpoint %s:%d is asked again", self.route.address, self.route.port)

    async def _is_well(self) -> bool:
        """Probe over a fresh connection, which is kept when it works, and when none was made meanwhile."""
        driver: Driver | None = None
        try:
            driver = self._drivers.open(self.route)
            await driver.probe(PROBE_WITHIN)
        except Fault:
            return False
        else:
            if self._driver is None:
                self._driver, driver = driver, None
            return True
        finally:
            if driver is not None:
                await driver.close()

    def _give_up(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            task = asyncio.get_running_loop().create_task(driver.close(_GRACE))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
