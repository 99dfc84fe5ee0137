"""The supervisor of a node: one owner of the store, N resolvers on one port, one prober, one admin endpoint.

It holds no records and answers no lookups; it starts the others, sees that they stay, and stops them in order.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from nodes.listening import Address
from nodes.serving.admin import OWNER, PROBER, Readiness, Seen, admin_endpoint, is_ready
from nodes.serving.exposition import Merged, openmetrics, process_registry
from nodes.serving.orders import Order
from nodes.serving.post import Post
from nodes.serving.restarts import Restarts
from nodes.serving.run_folder import remove_leftovers
from nodes.serving.started import Started
from nodes.serving.stopping import Stopping
from nodes.settings import NodeSettings
from resolver.clock import Clock
from resolver.errors import Fault, Reason

_log: Final = logging.getLogger(__name__)

_MODULES: Final = {OWNER: "nodes.serving.owner", PROBER: "nodes.serving.prober"}
"""What runs in a process, by its name; in all others a resolver."""

STOP_MARGIN: Final = 5.0
"""Seconds beyond the drain's grace after which a process that still runs is killed."""


class SupervisorMetrics:
    """What the supervisor counts."""

    def __init__(self, registry: CollectorRegistry, names: list[str], count_up: Callable[[], float]) -> None:
        up = Gauge("topnode_supervisor_children_up", "Processes of the node that serve.", registry=registry)
        up.set_function(count_up)
        wanted = Gauge("topnode_supervisor_children_wanted", "Processes that should serve.", registry=registry)
        wanted.set(len(names))
        restarts = Counter(
            "topnode_supervisor_restarts_total", "Processes started again.", ["worker"], registry=registry
        )
        failures = Counter(
            "topnode_supervisor_scrape_failures_total",
            "Times that a process was left out of /metrics because it gave none in time.",
            ["worker"],
            registry=registry,
        )
        self.restarts = {name: restarts.labels(name) for name in names}
        self.scrape_failures = {name: failures.labels(name) for name in names}


class Supervisor:
    """A node of several processes, given a folder for their sockets. The address in the settings is held for them."""

    def __init__(self, settings: NodeSettings, folder: Path, clock: Clock, stopping: Stopping) -> None:
        workers = [f"worker-{number}" for number in range(worker_count(settings))]
        probers = [PROBER] if settings.has_prober else []
        names = [OWNER, *workers, *probers]
        self._settings = settings
        self._folder = folder
        self._clock = clock
        self._stopping = stopping
        self._registry = CollectorRegistry()
        self._metrics = SupervisorMetrics(self._registry, names, self._count_up)
        self._process_registry = process_registry()
        self._owner = self._post(OWNER)
        self._workers = [self._post(name) for name in workers]
        self._probers = [self._post(name) for name in probers]

    async def run(self, announce: Callable[[Started], None]) -> None:
        """Run the node until it is told to stop; tell when all of it serves.

        Raises:
            Fault (in a group): it cannot start, or one of its processes cannot be kept running.
        """
        address = Address.from_text(self._settings.admin, field="admin")
        async with admin_endpoint(address, self) as admin, asyncio.TaskGroup() as tasks:
            if await self._start(tasks):
                announce(Started.of(self._settings, admin, workers=len(self._workers)))
                await self._stopping.is_told()
            await self._drain()

    async def metrics(self) -> Merged:
        merged = Merged()
        merged.add(openmetrics(self._process_registry).decode(), worker="supervisor")
        await asyncio.gather(*(self._add_metrics(merged, post) for post in self._posts))
        merged.add(openmetrics(self._registry).decode())
        return merged

    async def readiness(self) -> Readiness:
        seen: list[Seen] = await asyncio.gather(*(post.look() for post in self._posts))
        return Readiness(is_ready=not self._stopping.is_set and is_ready(seen), processes=seen)

    async def nodes(self) -> bytes:
        for prober in self._probers:
            return await prober.nodes()
        raise Fault(
            Reason.METHOD_UNKNOWN, "This node probes nobody: probing.enabled is false, or nobody is below it."
        )

    async def _start(self, tasks: asyncio.TaskGroup) -> bool:
        """Start the owner, then the resolvers, which need its store. False: told to stop meanwhile."""
        tasks.create_task(self._owner.keep())
        if await self._stopping.comes_before(self._owner.serving):
            return False
        remove_leftovers(self._folder)
        for worker in self._workers:
            tasks.create_task(worker.keep())
        for prober in self._probers:
            tasks.create_task(self._keep_prober(prober))
        for worker in self._workers:
            if await self._stopping.comes_before(worker.serving):
                return False
        return True

    async def _keep_prober(self, prober: Post) -> None:
        """Have it run. Failure policy: without it nothing is taken over by itself; callers are answered as ever."""
        try:
            await prober.keep()
        except Fault as fault:
            _log.error("the nodes below are not probed any more: %s", fault)

    async def _drain(self) -> None:
        """Resolvers and the prober first, together; then the owner, on whom they depend."""
        within = self._settings.serving.drain_grace + STOP_MARGIN
        _log.info("draining", extra={"grace": self._settings.serving.drain_grace.to_text()})
        await asyncio.gather(*(post.stop(within) for post in (*self._workers, *self._probers)))
        await self._owner.stop(within)
        _log.info("stopped")

    @property
    def _posts(self) -> list[Post]:
        return [self._owner, *self._workers, *self._probers]

    def _post(self, name: str) -> Post:
        order = Order(name=name, socket=str(self._folder / f"{name}.sock"), settings=self._settings)
        module = _MODULES.get(name, "nodes.serving.worker")
        return Post(module, order, Restarts(self._settings.restarts), self._clock, self._metrics.restarts[name])

    async def _add_metrics(self, merged: Merged, post: Post) -> None:
        try:
            merged.add(await post.metrics(), worker=post.name)
        except (Fault, ValueError) as error:
            self._metrics.scrape_failures[post.name].inc()
            _log.warning("metrics left out", extra={"post": post.name, "cause": str(error)})

    def _count_up(self) -> float:
        return sum(post.serving.is_set() for post in self._posts)


def worker_count(settings: NodeSettings) -> int:
    """Give how many resolvers there are to be: as set, else one for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if settings.workers is None else settings.workers
