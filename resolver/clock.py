"""The only place that reads a clock. Everything else is given a Clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one to compare with other machines, one to measure with."""

    def wall(self) -> float:
        """Unix time in seconds; may jump when the machine's clock is set."""

    def monotonic(self) -> float:
        """Seconds since some moment of this machine's boot; never goes back."""


class SystemClock:
    """The machine's own clocks."""

    wall = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class SetClock:
    """A clock that stands still until it is moved: for tests, which do not wait for time."""

    def __init__(self, wall: float = 1_800_000_000.0, monotonic: float = 1_000.0) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let both clocks go on by this many seconds."""
        self._wall += seconds
        self._monotonic += seconds
