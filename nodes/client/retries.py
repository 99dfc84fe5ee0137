"""When a client asks again, and after what time: the decision, and the patience of one call."""

import asyncio
import random
from typing import Final

from nodes.client.counts import Counts
from resolver.clock import Clock
from resolver.errors import Fault, Kind

ATTEMPTS: Final = 4
"""Calls of a read in all, the first one included."""

FIRST_WAIT: Final = 0.05
"""Seconds before the second attempt; twice as many before each further one. Half of a wait is left to chance."""

LONGEST_WAIT: Final = 2.0
"""Seconds beyond which waits do not grow."""

_DOUBLINGS: Final = 8


def wait_before_retry(
    fault: Fault, attempt: int, left: float, chance: float, *, is_write: bool = False
) -> float | None:
    """Say how long to wait after a failed attempt, in seconds, None where the fault is final.

    Only what a node says will pass is tried again: it was not reached or stops (UNAVAILABLE), or it has too much to
    do and says when to come back. A write is also tried again where one sending had no answer in its own time
    (DEADLINE_EXCEEDED), and as often as there is time: whether it was taken must be known, and nothing is done twice.
    `attempt` counts from 1, `left` is the time until the deadline, `chance` is 0 to 1.
    """
    is_passing = (
        fault.kind is Kind.UNAVAILABLE
        or (fault.kind is Kind.RESOURCE_EXHAUSTED and fault.retry_after is not None)
        or (fault.kind is Kind.DEADLINE_EXCEEDED and is_write)
    )
    if not is_passing or (attempt >= ATTEMPTS and not is_write):
        return None
    backoff: float = min(FIRST_WAIT * 2 ** min(attempt - 1, _DOUBLINGS), LONGEST_WAIT)
    wait = max(fault.retry_after or 0.0, backoff / 2) + chance * backoff / 2
    return wait if wait < left else None


class Patience:
    """The deadline of one call, its retries included."""

    def __init__(self, clock: Clock, seconds: float, counts: Counts, *, is_write: bool = False) -> None:
        self._clock = clock
        self._deadline = clock.monotonic() + seconds
        self._counts = counts
        self._is_write = is_write
        self._attempt = 1

    @property
    def left(self) -> float:
        """Seconds until the deadline; none or fewer when it is over."""
        return self._deadline - self._clock.monotonic()

    async def wait_after(self, fault: Fault) -> None:
        """Wait until the next attempt.

        Raises:
            Fault: this one, where it is final or nothing is left to wait in.
        """
        chance = random.random()  # noqa: S311 - so that clients spread
        wait = wait_before_retry(fault, self._attempt, self.left, chance, is_write=self._is_write)
        if wait is None:
            raise fault
        self._attempt += 1
        self._counts.retries += 1
        await asyncio.sleep(wait)
