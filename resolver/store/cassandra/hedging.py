"""When to ask a second node: after longer than nearly all answers take.

The delay is the 99th percentile of the latest answers: so about one query in a hundred is asked twice, however fast
or slow the ring is, and a node that stops answering costs its callers little more than that delay.
"""

from collections import deque
from typing import Final

from cassandra.metadata import Metadata
from prometheus_client import CollectorRegistry, Counter, Gauge

from resolver.store.cassandra.statements import Way

DELAY_MIN: Final = 0.002
DELAY_MAX: Final = 0.2
"""Seconds. With the longest it begins, before anything was measured."""

_LATEST: Final = 1_024
_RECKONED_EVERY: Final = 256


class HedgingMetrics:
    """How often a second node was asked, and after how long."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.hedged = Counter(
            "topnode_cassandra_hedged_total",
            "Reads for which a second node was asked, because the first one was slow.",
            ["way"],
            registry=registry,
        )
        self.delay = Gauge(
            "topnode_cassandra_hedge_delay_seconds",
            "Time after which a second node is asked.",
            ["way"],
            registry=registry,
        )


class Hedging:
    """The delay for one way of asking, and whether there is another node to ask. `hedged` counts."""

    def __init__(self, way: Way, metrics: HedgingMetrics, *, datacenter: str, metadata: Metadata) -> None:
        self.delay = DELAY_MAX
        self.has_others = False
        self.hedged = metrics.hedged.labels(way.value)
        self._gauge = metrics.delay.labels(way.value)
        self._gauge.set(self.delay)
        self._datacenter = datacenter
        self._metadata = metadata
        self._latest: deque[float] = deque(maxlen=_LATEST)
        self._noted = 0
        self._look()

    def note(self, seconds: float) -> None:
        """Note how long an answer has taken."""
        self._latest.append(seconds)
        self._noted += 1
        if self._noted % _RECKONED_EVERY == 0:
            self.delay = min(max(percentile(self._latest, 99), DELAY_MIN), DELAY_MAX)
            self._gauge.set(self.delay)
            self._look()

    def _look(self) -> None:
        here = [each for each in self._metadata.all_hosts() if each.datacenter == self._datacenter]
        self.has_others = sum(each.is_up is not False for each in here) > 1


def percentile(seconds: "deque[float] | list[float]", which: int) -> float:
    """Give the value that this many hundredths do not exceed."""
    ordered = sorted(seconds)
    return ordered[max(0, -(-len(ordered) * which // 100) - 1)]
