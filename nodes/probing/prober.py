"""The prober of a node: it watches the children, decides by the 51 % rule, and has done what is due.

Failure policy: what it cannot read or write it tries again later, and counts; callers are answered without it.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import islice
from typing import Final, Protocol

import aiohttp
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nodes.probing.children import Child, Children, Store
from nodes.probing.deciding import Decisions, Due, Evidence, Rule, Standing, decide
from nodes.probing.seen import NodesSeen
from nodes.probing.settings import ProbingSettings
from nodes.probing.vantage import Vantage, tally_of
from nodes.probing.watch import MakeProbe, Watch
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.routes import Endpoint

_log: Final = logging.getLogger(__name__)

AT_ONCE: Final = 256
"""Children that are probed at the same moment; others wait for one of them."""

STEP: Final = 1.0
"""Seconds between two decisions, at most: so old is what is told at most."""

TRY_AGAIN: Final = 10.0
"""Seconds until the same is asked of the registry again, whether it was refused or is not known here yet."""

SILENT_MOST: Final = 4_096
"""Silent endpoints that resolvers are told of, at most; callers find the others silent."""

_BACK_OFF: Final = 5.0
_NOTHING: Final = Decisions(due={}, suspects_itself=False, failing=0, counted=0)
_FOR_OPERATORS: Final = frozenset((Due.OPERATOR_TAKES_OVER, Due.OPERATOR_HANDS_BACK))


class Acting(Protocol):
    """Has done what is due (`nodes.probing.acting`)."""

    async def take_over(self, node: str, reason: str) -> object:
        """Have this node answer in the place of another, or raise a Fault."""

    async def hand_back(self, node: str, reason: str) -> object:
        """Have a node answer for itself again, or raise a Fault."""


class Prober:
    """Watches the children of the node `own` as long as `run` runs."""

    def __init__(
        self,
        store: Store,
        acting: Acting,
        settings: ProbingSettings,
        clock: Clock,
        registry: CollectorRegistry,
        *,
        own: str,
        make_probe: MakeProbe,
    ) -> None:
        self._own = own
        self._acting = acting
        self._settings = settings
        self._clock = clock
        self._make_probe = make_probe
        self._children = Children(store, clock, own=own, most=settings.children, pause=settings.every)
        self._rule = Rule(least=settings.least, settle=settings.settle)
        self._limit = asyncio.Semaphore(AT_ONCE)
        self._watches: dict[str, Watch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        lasts = 2 * settings.every + settings.timeout
        self._vantage = [Vantage(each, clock, timeout=settings.timeout, lasts=lasts) for each in settings.vantage]
        self._decisions = _NOTHING
        self._unsuspected_at = clock.monotonic()
        self._suspected_at = float("-inf")
        self._is_told = False
        self._acts = Counter(
            "topnode_probe_takeovers_total",
            "Takeovers and hand-backs that were asked of the registry, by what came of it.",
            ["act", "outcome"],
            registry=registry,
        )
        self._unread = Counter(
            "topnode_probe_read_failures_total", "Times that the store could not be read.", registry=registry
        )
        registry.register(_ProberMetrics(self))

    async def run(self) -> None:
        """Watch until cancelled."""
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            if self._vantage:
                session = await stack.enter_async_context(aiohttp.ClientSession())
                tasks.create_task(self._ask_vantage(session))
            step = min(STEP, float(self._settings.every))
            while True:
                await asyncio.sleep(step if await self._follow(tasks) else max(step, _BACK_OFF))
                self._decide(tasks)

    def seen(self) -> NodesSeen:
        """Tell of all children, as of the last decisions."""
        return NodesSeen(
            node=self._own,
            at=int(self._clock.wall()),
            every=float(self._settings.every),
            window=float(self._settings.window),
            suspects_itself=self._decisions.suspects_itself,
            failing=self._decisions.failing,
            counted=self._decisions.counted,
            left_out=self._children.left_out,
            vantage=[each.seen for each in self._vantage],
            children=[watch.seen() for _, watch in sorted(self._watches.items())],
        )

    def silent(self) -> dict[Endpoint, float]:
        """Give the endpoints at which nobody answers, each with how many seconds ago the first of the probes began.

        Nothing while this node suspects itself, nor before each child has been probed once more after that.
        """
        now = self._clock.monotonic()
        if now - self._suspected_at <= self._rule.settle:
            return {}
        every = (each for watch in self._watches.values() for each in watch.silent(now).items())
        return {endpoint: now - since for endpoint, since in islice(every, SILENT_MOST)}

    @property
    def watches(self) -> Sequence[Watch]:
        """Everybody who is watched."""
        return list(self._watches.values())

    @property
    def decisions(self) -> Decisions:
        """What was decided last."""
        return self._decisions

    @property
    def left_out(self) -> int:
        """Children that are not probed because there are too many."""
        return self._children.left_out

    @property
    def prefixes_left_out(self) -> int:
        """Prefixes that are passed over, because they lead by too many different routes."""
        return self._children.prefixes_left_out

    @property
    def vantage(self) -> Sequence[Vantage]:
        return self._vantage

    async def _follow(self, tasks: asyncio.TaskGroup) -> bool:
        """Learn which children there are; False where the store cannot be read: then those known are watched on."""
        try:
            await self._children.refresh()
        except Fault as fault:
            self._unread.inc()
            _log.warning("children cannot be read: %s", fault)
            return False
        self._watch(self._children.current(), tasks)
        return True

    def _watch(self, children: Mapping[str, Child], tasks: asyncio.TaskGroup) -> None:
        for gone in self._watches.keys() - children.keys():
            self._tasks.pop(gone).cancel()
            del self._watches[gone]
        for name, child in children.items():
            if name in self._watches:
                self._watches[name].become(child)
                continue
            watch = Watch(child, self._settings, self._clock, self._make_probe, self._limit)
            self._watches[name] = watch
            self._tasks[name] = tasks.create_task(watch.run())

    async def _ask_vantage(self, session: aiohttp.ClientSession) -> None:
        while True:
            await asyncio.gather(*(each.ask(session) for each in self._vantage))
            await asyncio.sleep(self._settings.every)

    def _decide(self, tasks: asyncio.TaskGroup) -> None:
        evidence = {name: watch.judge(tally_of(self._vantage, name)) for name, watch in self._watches.items()}
        self._decisions = decide(evidence, self._rule)
        if self._decisions.suspects_itself:
            self._suspected_at = self._clock.monotonic()
        self._tell_suspicion()
        for name, due in self._decisions.due.items():
            self._do(self._watches[name], due, evidence[name], tasks)

    def _do(self, watch: Watch, due: Due, seen: Evidence, tasks: asyncio.TaskGroup) -> None:
        if due is Due.TAKE_OVER and not self._settings.takeover:
            due = Due.OPERATOR_TAKES_OVER
        if due is not watch.due and due in _FOR_OPERATORS:
            _log.warning("an operator should %s", due.value.partition(",")[0], extra={"child": watch.name})
        watch.due = due
        if due in {Due.TAKE_OVER, Due.HAND_BACK} and not watch.is_acting and self._is_time(watch, due):
            watch.is_acting = True
            tasks.create_task(self._act(watch, due, seen))

    def _is_time(self, watch: Watch, due: Due) -> bool:
        return self._clock.monotonic() >= watch.next_act.get(due, float("-inf"))

    async def _act(self, watch: Watch, due: Due, seen: Evidence) -> None:
        said = {"child": watch.name, "probes": seen.tally.probes, "failed": seen.tally.failed}
        reason = f"{seen.tally.failed} of {seen.tally.probes} probes failed"
        act = self._acting.take_over if due is Due.TAKE_OVER else self._acting.hand_back
        outcome = "refused"
        try:
            await act(watch.name, reason)
            outcome = "done"
            _log.warning("a child is taken over" if due is Due.TAKE_OVER else "a child is handed back", extra=said)
        except Fault as fault:
            if fault.reason is Reason.METHOD_UNKNOWN:
                # Of a ring another machine writes, and its prober sees what this one sees.
                outcome = "elsewhere"
            else:
                _log.warning("the registry does not %s: %s", due.value, fault, extra=said)
        finally:
            self._acts.labels(due.name.lower(), outcome).inc()
            watch.next_act[due] = self._clock.monotonic() + TRY_AGAIN
            watch.is_acting = False

    def _tell_suspicion(self) -> None:
        """Log it once, when it has lasted: of one or two children a single lost probe is more than half."""
        now = self._clock.monotonic()
        if not self._decisions.suspects_itself:
            self._unsuspected_at = now
        suspects = now - self._unsuspected_at >= self._rule.settle
        if suspects is self._is_told:
            return
        self._is_told = suspects
        said = {"failing": self._decisions.failing, "counted": self._decisions.counted}
        if suspects:
            sentence = "more than half of all children fail together: this node suspects itself and takes nobody over"
            _log.error(sentence, extra=said)
        else:
            _log.info("this node does not suspect itself any more", extra=said)


class _ProberMetrics(Collector):
    """What the prober has seen, collected when it is asked for."""

    def __init__(self, prober: Prober) -> None:
        self._prober = prober

    def collect(self) -> Iterator[Metric]:
        prober = self._prober
        suspects = prober.decisions.suspects_itself
        yield GaugeMetricFamily("topnode_probe_suspects_itself", "1: more than half of all fail.", value=suspects)
        yield GaugeMetricFamily(
            "topnode_probe_children_left_out", "Children beyond those probed.", value=prober.left_out
        )
        yield GaugeMetricFamily(
            "topnode_probe_prefixes_left_out",
            "Prefixes by more different routes than are remembered.",
            value=prober.prefixes_left_out,
        )
        yield from _standings(prober.watches)
        yield from _children(prober.watches)
        counts = GaugeMetricFamily(
            "topnode_probe_elsewhere_counts", "1: what is seen from there counts just now.", labels=["vantage"]
        )
        failures = CounterMetricFamily(
            "topnode_probe_elsewhere_failures", "Times that a vantage point did not count.", labels=["vantage"]
        )
        for each in prober.vantage:
            counts.add_metric([each.name], each.seen.counts)
            failures.add_metric([each.name], each.failures)
        yield counts
        yield failures


def _standings(watches: Sequence[Watch]) -> Iterator[Metric]:
    standings = GaugeMetricFamily("topnode_probe_children", "Children by how they are.", labels=["standing"])
    for standing in Standing:
        standings.add_metric([standing.value], sum(watch.standing is standing for watch in watches))
    yield standings


def _children(watches: Sequence[Watch]) -> Iterator[Metric]:
    """Children are hundreds, thousands at most: the one place where a node is a label."""
    child = ["child"]
    up = GaugeMetricFamily("topnode_probe_child_up", "0: it is down by the 51 % rule.", labels=child)
    open_ = GaugeMetricFamily("topnode_probe_incident_open", "1: an incident goes on.", labels=child)
    taken_over = GaugeMetricFamily("topnode_probe_takeover", "1: this node answers in its place.", labels=child)
    operators = GaugeMetricFamily("topnode_probe_operator_due", "1: an operator should look at it.", labels=child)
    available = GaugeMetricFamily("topnode_probe_availability_ratio", "Good probes of the window.", labels=child)
    latency = GaugeMetricFamily(
        "topnode_probe_latency_seconds", "What good probes of the window took.", labels=["child", "quantile"]
    )
    probes = CounterMetricFamily("topnode_probe_probes", "Probes.", labels=["child", "outcome"])
    incidents = CounterMetricFamily("topnode_probe_incidents", "Incidents that were opened.", labels=child)
    for watch in watches:
        name = [watch.name]
        up.add_metric(name, watch.standing is not Standing.DOWN)
        open_.add_metric(name, watch.incident is not None)
        taken_over.add_metric(name, watch.child.row.takeover)
        operators.add_metric(name, watch.due in _FOR_OPERATORS)
        if (share := watch.tally.availability) is not None:
            available.add_metric(name, share)
        for percent, seconds in watch.percentiles.items():
            latency.add_metric([watch.name, f"{percent / 100:g}"], seconds)
        probes.add_metric([watch.name, "good"], watch.good)
        probes.add_metric([watch.name, "failed"], watch.failed)
        incidents.add_metric(name, watch.incidents)
    yield from (up, open_, taken_over, operators, available, latency, probes, incidents)
