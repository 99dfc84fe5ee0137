"""Whether an endpoint is asked at all: a pure account of how its calls ended. Knows no clock and asks nobody."""

import random
from collections import deque
from typing import Final

FAILURES: Final = 5
"""So many failures in a row open it."""

LATEST: Final = 20
"""More than half of this many calls failed: that opens it too."""

REST_MIN: Final = 0.5
REST_MAX: Final = 30.0
"""Seconds between two probes of an endpoint that is not asked."""


class Breaker:
    """Closed while an endpoint is asked, open while it is only probed. `is_open` tells."""

    __slots__ = ("_failures", "_latest", "_rest", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        self._failures = 0
        self._latest: deque[bool] = deque(maxlen=LATEST)
        self._rest = REST_MIN

    def succeeded(self) -> None:
        """Note a call that was answered."""
        self._failures = 0
        self._latest.append(True)

    def failed(self) -> bool:
        """Note a call that failed, and tell whether that has opened it."""
        self._failures += 1
        self._latest.append(False)
        is_bad = len(self._latest) == LATEST and self._latest.count(False) * 2 > LATEST
        if self.is_open or not (is_bad or self._failures >= FAILURES):
            return False
        self.is_open, self._rest = True, REST_MIN
        return True

    def rest(self) -> float:
        """Give the seconds until the next probe: longer each time, and by chance up to a half shorter."""
        rest, self._rest = self._rest, min(2 * self._rest, REST_MAX)
        # By chance, so that a thousand resolvers do not probe in step.
        return rest * random.uniform(0.5, 1)  # noqa: S311 - nothing secret

    def close(self) -> None:
        """Ask again, with nothing held against it."""
        self.is_open = False
        self._failures = 0
        self._latest.clear()
        self._rest = REST_MIN
