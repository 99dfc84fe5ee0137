"""What the probes of the last minutes said of one child: how many, how many failed, how long the good ones took.

Times are those of a monotonic clock, in seconds, and never go back from one call to the next.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

PERCENTILES: Final = (50, 95, 99)
"""Which latencies are told, of 100."""


class Probe(Struct, frozen=True, gc=False):
    """One probe: when it began, how many seconds it took, and whether it was good."""

    at: float
    seconds: float
    is_good: bool


class Tally(Struct, frozen=True, gc=False):
    """Probes that were counted, and how many of them failed. Those of several windows are added up."""

    probes: int = 0
    failed: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.probes + other.probes, self.failed + other.failed)

    @property
    def availability(self) -> float | None:
        """The good ones among all of them, 0 to 1; None where there are none."""
        return None if not self.probes else (self.probes - self.failed) / self.probes


class Window:
    """The probes of the last `length` seconds. `most` bounds how many are kept; beyond it the oldest go first."""

    def __init__(self, length: float, most: int, *, began: float) -> None:
        self._length = length
        self._began = began
        self._probes: deque[Probe] = deque(maxlen=most)
        self._failed = 0

    def add(self, probe: Probe) -> None:
        """Take the newest probe."""
        if len(self._probes) == self._probes.maxlen:
            self._drop_oldest()
        self._probes.append(probe)
        self._failed += not probe.is_good
        self.forget(probe.at)

    def forget(self, now: float) -> None:
        """Let go of what is older than the window."""
        while self._probes and self._probes[0].at <= now - self._length:
            self._drop_oldest()

    @property
    def tally(self) -> Tally:
        return Tally(len(self._probes), self._failed)

    def is_full(self, now: float) -> bool:
        """Tell whether probing has gone on for the whole length of the window."""
        return now - self._began >= self._length

    def percentiles(self) -> dict[int, float]:
        """Give the latencies of good probes in seconds, by nearest rank (`PERCENTILES`); nothing where none is."""
        took = sorted(probe.seconds for probe in self._probes if probe.is_good)
        return {percent: _nearest_rank(took, percent) for percent in PERCENTILES} if took else {}

    def _drop_oldest(self) -> None:
        self._failed -= not self._probes.popleft().is_good


def _nearest_rank(ascending: Sequence[float], percent: int) -> float:
    return ascending[max(0, -(-percent * len(ascending) // 100) - 1)]
