"""Carrying out many statements: so many at once, each sent again until it is answered or patience is over.

Only for statements that may be sent again: all that are written with a timestamp of their own.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.asking import Asking, Row
from resolver.store.cassandra.border import closed
from resolver.store.cassandra.statements import Statement, Way

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
            "topnode_cassandra_writes_total", "Statements of commits that were sent.", registry=registry
        )
        self.again = Counter(
            "topnode_cassandra_writes_again_total",
            "Bundles of such statements that were sent again, because they were not answered.",
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
        if self._asking.is_closed:
            raise closed()
        load = _Load(self._asking, bundles, self._patience, self._clock)
        try:
            await load.carry(in_flight)
        finally:
            self._metrics.sent.inc(load.sent)
            self._metrics.again.inc(load.again)

    async def ask(self, statement: Statement, values: Sequence[Any]) -> Sequence[Row]:
        """Ask and give the rows, with the same patience.

        Raises:
            Fault: as `carry`.
        """
        return await ask_patiently(self._asking, statement, values, self._patience)


async def ask_patiently(
    asking: Asking, statement: Statement, values: Sequence[Any], patience: float
) -> Sequence[Row]:
    """Ask and give the rows; what is not answered is asked again for so many seconds.

    Raises:
        Fault: STORE_UNAVAILABLE, or what is wrong with the store for good.
    """
    until = asking.clock.monotonic() + patience
    while True:
        try:
            return await asking.ask(statement, values)
        except Fault as fault:
            if not is_worth_repeating(fault) or asking.clock.monotonic() >= until:
                raise
        await asyncio.sleep(AGAIN_SECONDS)


def is_worth_repeating(fault: Fault) -> bool:
    """May the same be answered when it is sent again? Not when this process has closed the store itself."""
    return fault.reason is Reason.STORE_UNAVAILABLE and fault.retry_after is not None


class _Load:
    """What one call carries, in lanes: each sends one bundle after the other.

    A lane goes on in the driver's thread, with what its answer leaves to be done: so about as many statements are
    sent for a second of CPU as by the driver alone, and the event loop has nothing to do with it. What was not
    answered waits for the loop, which looks from time to time and opens lanes for it; that is the clock here, too.
    """

    def __init__(self, asking: Asking, bundles: Iterable[Bundle], patience: float, clock: Clock) -> None:
        self.sent = 0
        self.again = 0
        self._asking = asking
        self._bundles = iter(bundles)
        self._patience = patience
        self._clock = clock
        self._lock = threading.Lock()
        self._lanes = 0
        self._numbers = count()
        self._looked_at = self._answered_at = clock.monotonic()
        self._flying: dict[int, tuple[Bundle, float]] = {}
        self._failed: deque[tuple[Bundle, BaseException | None]] = deque()
        self._fault: BaseException | None = None
        self._ended: asyncio.Future[None] = asking.loop.create_future()

    async def carry(self, in_flight: int) -> None:
        try:
            for _ in range(in_flight):
                if not self._opens():
                    break
            while not self._ended.done():
                await asyncio.wait((self._ended,), timeout=AGAIN_SECONDS)
                self._look()
        except BaseException as error:
            # No lane goes on any more; what is in flight comes to nobody.
            self._fault = self._fault or error
            raise
        if self._fault is not None:
            raise self._fault

    # --- in the loop -------------------------------------------------------------------------------------------

    def _opens(self, bundle: Bundle | None = None) -> bool:
        """Open a lane, with this bundle or the next one; tell whether there was one."""
        with self._lock:
            self._lanes += 1
        return self._goes_on(bundle)

    def _look(self) -> None:
        """Take up what failed, and what is overdue: it is sent again, or the load is given up."""
        self._looked_at = now = self._clock.monotonic()
        # A copy, which is made at once: a list of the items is made one by one, while lanes go on.
        for number, (_, sent_at) in self._flying.copy().items():
            if now - sent_at > self._asking.patience[Way.WRITE] + AGAIN_SECONDS:
                self._missed(None, number)
        failed = [self._failed.popleft() for _ in range(len(self._failed))]
        faults = [self._fault_of(error) for _, error in failed]
        lasting = [fault for fault in faults if not is_worth_repeating(fault)]
        if failed and (lasting or now - self._answered_at >= self._patience):
            self._fault = self._fault or (lasting or faults)[0]
        if self._fault is None:
            self.again += len(failed)
            for bundle, _ in failed:
                self._opens(bundle)
        self._end_if_done()

    def _fault_of(self, error: BaseException | None) -> Fault:
        if self._asking.is_closed:
            return closed()
        if error is None:
            return self._asking.border.overdue(self._asking.patience[Way.WRITE])
        return self._asking.border.fault(error)

    # --- in the loop and in the driver's thread: what each line does is done at once, in whichever thread ------

    def _goes_on(self, bundle: Bundle | None = None) -> bool:
        """Send the next bundle of a lane, or end the lane; tell which."""
        number = next(self._numbers)
        with self:
            if bundle is None and self._fault is None:
                with self._lock:
                    bundle = next(self._bundles, None)
                    self.sent += len(bundle or ())
            if bundle is not None:
                self._flying[number] = bundle, self._looked_at
                future = self._asking.session.execute_async(self._asking.bound(bundle), execution_profile=Way.WRITE)
                future.add_callbacks(self._landed, self._missed, (number,), None, (number,))
                return True
        self._flying.pop(number, None)
        self._end_lane()
        return False

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        """Have what nobody would hear of in the driver's thread be raised where the load is waited for."""
        self._fault = self._fault or error
        return isinstance(error, Exception)

    def _landed(self, _rows: object, number: int) -> None:
        # Nothing is there any more where it was overdue, and is on its way again.
        if self._flying.pop(number, None) is not None:
            self._answered_at = self._looked_at
            self._goes_on()

    def _missed(self, error: BaseException | None, number: int) -> None:
        missed = self._flying.pop(number, None)
        if missed is not None:
            self._failed.append((missed[0], error))
            self._end_lane()

    def _end_lane(self) -> None:
        with self._lock:
            self._lanes -= 1
        self._end_if_done()

    def _end_if_done(self) -> None:
        is_done = not self._lanes and (not self._failed or self._fault is not None)
        if is_done and not self._asking.loop.is_closed():
            self._asking.loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
