"""A bound on things that end by themselves: so many at once, told from when they were begun."""

from resolver.clock import Clock


class Turnover:
    """At most `count` at any time of things that last `seconds` each, or less.

    Counted by spans of that length: what was begun in this one and the one before is all that can be there still.
    """

    def __init__(self, count: int, seconds: float, clock: Clock) -> None:
        self._count = count
        self._seconds = seconds
        self._monotonic = clock.monotonic
        self._span = 0
        self._now = self._before = 0

    def takes_one(self) -> bool:
        """Begin one more, if there is room."""
        span = int(self._monotonic() / self._seconds)
        if span != self._span:
            self._before = self._now if span == self._span + 1 else 0
            self._span, self._now = span, 0
        if self._now + self._before >= self._count:
            return False
        self._now += 1
        return True
