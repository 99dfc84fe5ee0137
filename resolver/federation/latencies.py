"""How long an endpoint takes: the 95th percentile of its latest answers."""

from collections import deque
from typing import Final

_LATEST: Final = 128
_RECKONED_EVERY: Final = 16
_PERCENT: Final = 95

DELAY_MIN: Final = 0.002
"""Seconds: nothing is late that took less."""


class Latencies:
    """Seconds that answers took. `late_after` is what 95 of 100 do not exceed; None while too few are known."""

    __slots__ = ("_latest", "_noted", "late_after")

    def __init__(self) -> None:
        self.late_after: float | None = None
        self._latest: deque[float] = deque(maxlen=_LATEST)
        self._noted = 0

    def note(self, seconds: float) -> None:
        """Note how long an answer has taken."""
        self._latest.append(seconds)
        self._noted += 1
        if self._noted % _RECKONED_EVERY == 0:
            ordered = sorted(self._latest)
            self.late_after = max(DELAY_MIN, ordered[-(-len(ordered) * _PERCENT // 100) - 1])
