"""All children that are asked: made when first asked, bounded, and closed at the end; their metrics."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from resolver.clock import Clock
from resolver.federation.child import Child, Ledger
from resolver.federation.driver import Drivers
from resolver.federation.endpoint import ChildEndpoint
from resolver.federation.hearsay import Hearsay
from resolver.federation.settings import FederationSettings
from resolver.routes import Endpoint
from resolver.rpc.calls import LATENCY_BUCKETS


class Children:
    """Children by holder and endpoints. Of more than are remembered, those asked longest ago are closed."""

    def __init__(
        self, drivers: Drivers, *, settings: FederationSettings, clock: Clock, registry: CollectorRegistry
    ) -> None:
        self.ledger = Ledger()
        self._drivers = drivers
        self._settings = settings
        self._clock = clock
        self._hearsay = Hearsay(clock)
        self._children: OrderedDict[tuple[str, tuple[Endpoint, ...]], Child] = OrderedDict()
        self._leaving: set[asyncio.Task[None]] = set()
        registry.register(_ChildrenMetrics(self))

    def __len__(self) -> int:
        return len(self._children)

    def reaches(self, endpoints: Sequence[Endpoint]) -> bool:
        """Is there one of them at which something is spoken that this node speaks?"""
        return any(map(self._drivers.speaks, endpoints))

    def child(self, name: str, endpoints: tuple[Endpoint, ...], *, label: str = "") -> Child:
        """Give the child with this name and these endpoints; those that speak something else are left out.

        `label` is what metrics call it: its name, unless that is another child's word.
        """
        key = name, endpoints
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._made(name, endpoints, label or name)
            if len(self._children) > self._settings.children:
                self._part(self._children.popitem(last=False)[1])
        else:
            self._children.move_to_end(key)
        return child

    def hear(self, silent: Mapping[Endpoint, float], until: float) -> None:
        """Hear from a prober at which endpoints nobody answers: they are left alone, as `Hearsay` has it.

        It says of each when the first of the probes in a row began that nobody has answered, and counts until a
        moment; both are on the monotonic clock.
        """
        self._hearsay.hear(silent, until)
        if silent:
            for child in self.snapshot():
                child.heard()

    def snapshot(self) -> list[Child]:
        """Give all children that are remembered now."""
        return list(self._children.values())

    async def close(self) -> None:
        """Close all connections."""
        while self._children:
            await self._children.popitem()[1].close()
        if self._leaving:
            await asyncio.wait(tuple(self._leaving))

    def _made(self, name: str, endpoints: Sequence[Endpoint], label: str) -> Child:
        reached = [
            ChildEndpoint(each, drivers=self._drivers, clock=self._clock, hearsay=self._hearsay)
            for each in endpoints
            if self._drivers.speaks(each)
        ]
        return Child(name, reached, label=label, ledger=self.ledger, clock=self._clock, settings=self._settings)

    def _part(self, child: Child) -> None:
        """Close a child that is forgotten; what is in flight may land."""
        task = asyncio.get_running_loop().create_task(child.close(float(self._settings.deadline)))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


class _ChildrenMetrics(Collector):
    """Children are some hundreds, so each may have its own line."""

    def __init__(self, children: Children) -> None:
        self._children = children

    def collect(self) -> Iterator[Metric]:
        up: Counter[str] = Counter()
        calls: Counter[tuple[str, str]] = Counter()
        refused: Counter[tuple[str, str]] = Counter()
        untrusted: Counter[str] = Counter()
        for child in self._children.snapshot():
            up[child.label] += child.is_up
            untrusted[child.label] += child.untrusted
            calls.update({(child.label, outcome): count for outcome, count in child.outcomes.items()})
            refused.update({(child.label, why): count for why, count in child.refused.items()})
        ups = GaugeMetricFamily(
            "topnode_child_up", "Is there an endpoint of this child that is asked?", labels=("child",)
        )
        for label, count in up.items():
            ups.add_metric((label,), min(1, count))
        yield ups
        # An endpoint may stand in the routes of several prefixes.
        told_down = {endpoint for child in self._children.snapshot() for endpoint in child.told_down}
        yield GaugeMetricFamily(
            "topnode_child_told_down_endpoints",
            "Endpoints that are left alone on the prober's word alone.",
            value=len(told_down),
        )
        called = CounterMetricFamily(
            "topnode_child_calls",
            "Calls to children: answered, failed, turned_away (no endpoint is asked, or too many calls).",
            labels=("child", "outcome"),
        )
        for labels, count in calls.items():
            called.add_metric(labels, count)
        yield called
        dropped = CounterMetricFamily(
            "topnode_child_refused_answers",
            "Answers dropped because the child may not say that.",
            labels=("child", "why"),
        )
        for labels, count in refused.items():
            dropped.add_metric(labels, count)
        yield dropped
        forged = CounterMetricFamily(
            "topnode_child_untrusted_answers", "Answers whose signature does not fit.", labels=("child",)
        )
        for label, count in untrusted.items():
            forged.add_metric((label,), count)
        yield forged
        ledger = self._children.ledger
        limits = (*(str(limit) for limit in LATENCY_BUCKETS), "+Inf")
        seconds = HistogramMetricFamily("topnode_child_seconds", "How long calls to children took.")
        seconds.add_metric((), list(zip(limits, accumulate(ledger.buckets), strict=True)), ledger.seconds)
        yield seconds
        yield CounterMetricFamily(
            "topnode_child_hedges", "Calls sent a second time, because the answer was late.", value=ledger.hedges
        )
