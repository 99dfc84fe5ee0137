"""When a client asks again, and after what time: one decision, without I/O. The client owns the deadline."""

from typing import Final

from resolver.errors import Fault, Kind

ATTEMPTS: Final = 4
"""Calls in all, the first one included."""

FIRST_WAIT: Final = 0.05
"""Seconds before the second attempt; twice as many before each further one. Half of a wait is left to chance."""


def wait_before_retry(fault: Fault, attempt: int, left: float, chance: float) -> float | None:
    """Say how long to wait after a failed attempt, in seconds, None where the fault is final.

    Only what a node says will pass is tried again: it was not reached or stops (UNAVAILABLE), or it has too much to
    do and says when to come back. `attempt` counts from 1, `left` is the time until the deadline, `chance` is 0 to 1.
    """
    is_passing = fault.kind is Kind.UNAVAILABLE or (
        fault.kind is Kind.RESOURCE_EXHAUSTED and fault.retry_after is not None
    )
    if not is_passing or attempt >= ATTEMPTS:
        return None
    backoff: float = FIRST_WAIT * 2 ** (attempt - 1)
    wait = max(fault.retry_after or 0.0, backoff / 2) + chance * backoff / 2
    return wait if wait < left else None
