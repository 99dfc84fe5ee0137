"""The way of one answer through a node, step by step, for whoever asked for it."""

from msgspec import Struct

from resolver.clock import Clock


class Step(Struct, frozen=True):
    """One tier's part: what it said, and the microseconds from the call's arrival to the end of the step."""

    node: str
    tier: str
    verdict: str
    microseconds: int


class Trace:
    """Collects the steps of one call. Lives as long as the call."""

    def __init__(self, node: str, clock: Clock) -> None:
        self.steps: list[Step] = []
        self._node = node
        self._clock = clock
        self._began = clock.monotonic()

    def step(self, tier: str, verdict: str) -> None:
        """Note what a tier said, now."""
        elapsed = self._clock.monotonic() - self._began
        self.steps.append(Step(self._node, tier, verdict, round(elapsed * 1_000_000)))
