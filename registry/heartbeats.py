"""The last signs of life of the nodes below, in memory: who gave them, when, and how far their journals are."""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.trust.heads import LIFETIME, SKEW

NODES_MAX: Final = 4_096
"""Nodes whose signs are kept, and shown as metrics; the one that is silent for longest is forgotten first."""

VERSION_CHARACTERS: Final = 64


class Heartbeat(Struct, frozen=True, kw_only=True):
    """One sign of life. Times are Unix milliseconds: `heard_at` by this machine's clock, `given_at` by the node's."""

    heard_at: int
    given_at: int
    applied_index: int
    software_version: str


class Heartbeats:
    """Keeps the last one of each node, and shows their age as a metric."""

    def __init__(self, clock: Clock, registry: CollectorRegistry) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, Heartbeat]] = {}
        self._heard = 0
        self._passed_over = 0
        registry.register(_Ages(self))

    def hear(self, node: str, *, given_at: int, applied_index: int, software_version: str) -> Heartbeat:
        """Take one of a node that has proven who it is; one that is older than what is kept changes nothing.

        Raises:
            Fault: FIELD_OUT_OF_RANGE; ENVELOPE_EXPIRED, ENVELOPE_NOT_YET_VALID where it was not given just now.
        """
        if len(software_version) > VERSION_CHARACTERS or not software_version.isprintable():
            detail = f"A version is printable text of at most {VERSION_CHARACTERS} characters."
            raise Fault(Reason.FIELD_OUT_OF_RANGE, detail, field="software_version")
        _check_time(given_at / 1_000, self._clock.wall())
        heard = Heartbeat(
            heard_at=int(self._clock.wall() * 1_000),
            given_at=given_at,
            applied_index=applied_index,
            software_version=software_version,
        )
        held = self._kept.pop(node, None)
        if held is not None and held[1].given_at >= given_at:
            # The same bytes may come again as long as their signature is fresh: they prove nothing new.
            self._kept[node] = held
            self._passed_over += 1
            return held[1]
        self._heard += 1
        self._kept[node] = (self._clock.monotonic(), heard)
        if len(self._kept) > NODES_MAX:
            del self._kept[next(iter(self._kept))]
        return heard

    def of(self, node: str) -> Heartbeat | None:
        """Give the last one of a node."""
        held = self._kept.get(node)
        return None if held is None else held[1]

    def ages(self) -> Iterator[tuple[str, float]]:
        """Give how long ago each node gave one, in seconds."""
        now = self._clock.monotonic()
        return ((node, now - at) for node, (at, _) in self._kept.items())

    @property
    def heard(self) -> int:
        """How many were taken."""
        return self._heard

    @property
    def passed_over(self) -> int:
        """How many were no newer than what was kept."""
        return self._passed_over


def _check_time(given_at: float, now: float) -> None:
    """Check that it was given just now: one of a clock that is ahead would make all later ones look old."""
    if now - LIFETIME - SKEW <= given_at <= now + SKEW:
        return
    reason = Reason.ENVELOPE_NOT_YET_VALID if given_at > now else Reason.ENVELOPE_EXPIRED
    detail = "The sign of life was not given just now, by the clock of whoever gives it."
    raise Fault(reason, detail, field="time", variables={"server_time": str(int(now))})


class _Ages:
    """Shows them when metrics are collected: a silent node grows old without anybody's doing."""

    def __init__(self, heartbeats: Heartbeats) -> None:
        self._heartbeats = heartbeats

    def collect(self) -> Iterable[Metric]:
        ages = GaugeMetricFamily(
            "topnode_child_heartbeat_age_seconds", "Time since a node below gave a sign of life.", labels=["child"]
        )
        for node, age in self._heartbeats.ages():
            ages.add_metric([node], age)
        yield ages
        counted = CounterMetricFamily(
            "topnode_registry_heartbeats_total",
            "Signs of life of nodes below, by whether they were newer than the last one.",
            labels=["outcome"],
        )
        counted.add_metric(["heard"], self._heartbeats.heard)
        counted.add_metric(["passed_over"], self._heartbeats.passed_over)
        yield counted
