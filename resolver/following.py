"""Following the store's feed: routes, nodes and caches learn here what another process wrote. Nothing is written."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from resolver.bell import Bell
from resolver.cache.memory import MemoryCache
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.routes import RouteTable
from resolver.store import Change, StoreReader
from resolver.tables import read_nodes, read_routes
from resolver.trust.actors import NodeTable
from resolver.units import Duration

_CHANGES: Final = 100
"""Changes that are read and applied at once; between two times, callers are served. One names many keys."""

_BACK_OFF_MAX: Final = 5.0
"""Seconds between two polls of a feed that cannot be read, at most."""


class FollowingSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How closely the feed is followed."""

    poll_every: Duration = Duration(0.2)
    """Time between two looks at the feed: a write elsewhere is seen after at most this, and the look itself."""

    bypass_after: Duration = Duration(1)
    """When the feed was last read to its end longer ago than this, caches give nothing as fresh."""

    def __post_init__(self) -> None:
        if self.poll_every <= 0:
            raise Fault(Reason.SETTING_INVALID, "The time between two looks is above 0.", field="poll_every")
        if self.bypass_after <= self.poll_every:
            raise Fault(
                Reason.SETTING_INVALID,
                "The feed is looked at more often than that: poll_every.",
                field="bypass_after",
            )


class Cache(Protocol):
    """What learns of changes."""

    def drop(self, keys: Iterable[bytes], index: int) -> None:
        """Forget these keys, which changed at this journal index."""

    def clear(self, index: int) -> None:
        """Forget everything that was read as of an older journal index."""


class Following:
    """Follows the feed of a store for one process.

    `applied` is the journal index up to which changes are applied. `current_until` is the moment, on the monotonic
    clock, until which what is cached may count as fresh.
    Failure policy: while the feed cannot be read, it is tried again with back-off, and caches give stale answers.
    """

    def __init__(
        self,
        store: StoreReader,
        routes: RouteTable,
        cache: MemoryCache,
        clock: Clock,
        settings: FollowingSettings,
        registry: CollectorRegistry,
        *,
        nodes: NodeTable,
        others: Sequence[MemoryCache] = (),
    ) -> None:
        """Make it; `others` are caches beside the first, which learn of the same changes."""
        self.applied = 0
        self.current_until = float("-inf")
        self.head = 0
        self.failed = self.restarted = 0
        self._store = store
        self._routes = routes
        self._nodes = nodes
        self._caches: tuple[Cache, ...] = (cache, *others)
        self._clock = clock
        self._settings = settings
        self._bell = Bell()
        registry.register(_FollowingMetrics(self))

    def tell(self, cache: Cache) -> None:
        """Have one more cache learn of the same changes, from now on."""
        self._caches = (*self._caches, cache)

    @property
    def is_current(self) -> bool:
        """May what is cached count as fresh?"""
        return self._clock.monotonic() <= self.current_until

    @property
    def lag(self) -> float:
        """Seconds since the feed was last read to its end; infinite before that."""
        return self._clock.monotonic() - (self.current_until - self._settings.bypass_after)

    async def start(self) -> None:
        """Read all prefixes and nodes. What changes meanwhile is applied later, once more where it was seen already.

        Raises:
            Fault: as the store does.
        """
        began = self._clock.monotonic()
        await self._start_afresh()
        self._note_current(began)

    def wake(self, index: int) -> None:
        """Have `run` look at once, if a change of this index is not applied yet."""
        if index > self.applied:
            self._bell.ring()

    async def run(self) -> None:
        """Follow until cancelled."""
        wait = float(self._settings.poll_every)
        while True:
            await self._bell.rest(wait)
            try:
                await self.catch_up()
                wait = float(self._settings.poll_every)
            except Fault:
                self.failed += 1
                wait = min(2 * wait, _BACK_OFF_MAX)

    async def catch_up(self) -> None:
        """Read the feed to its end and apply what it says.

        Raises:
            Fault: as the store does. What was read before that is applied.
        """
        began = self._clock.monotonic()
        self._routes.tell_time(self._clock.wall())
        while True:
            read = await self._store.changes(self.applied, _CHANGES)
            self.head = read.head
            if read.is_lost:
                await self._start_afresh()
            for change in read.changes:
                self._apply(change)
            if self.applied >= self.head:
                self._note_current(began)
                return
            if not read.changes and not read.is_lost:
                # The newest ones cannot be read yet. They will be, at one of the next looks.
                return
            await asyncio.sleep(0)

    async def _start_afresh(self) -> None:
        """Forget all answers, and read all prefixes and nodes. Until all are read, what was known holds."""
        head = await self._store.head()
        routes, nodes = await read_routes(self._store), await read_nodes(self._store)
        for cache in self._caches:
            cache.clear(head)
        self._routes.tell_time(self._clock.wall())
        self._routes.adopt(routes)
        self._nodes.adopt(nodes)
        self.restarted += 1
        self.applied = self.head = head

    def _apply(self, change: Change) -> None:
        if change.prefixes:
            self._routes.put(change.prefixes)
        if change.below:
            self._routes.touch(change.below, change.index)
        if change.nodes:
            self._nodes.put(change.nodes)
        if change.keys:
            for cache in self._caches:
                cache.drop(change.keys, change.index)
        self.applied = change.index

    def _note_current(self, began: float) -> None:
        # From before the reading: what was committed during it may not have been seen.
        self.current_until = began + self._settings.bypass_after


class _FollowingMetrics(Collector):
    def __init__(self, following: Following) -> None:
        self._following = following

    def collect(self) -> Iterator[Metric]:
        following = self._following
        yield GaugeMetricFamily(
            "topnode_following_lag_seconds", "Time since the feed was last read to its end.", value=following.lag
        )
        yield GaugeMetricFamily(
            "topnode_following_pending_changes",
            "Entries known and not applied.",
            value=following.head - following.applied,
        )
        yield GaugeMetricFamily(
            "topnode_following_applied_index",
            "Journal index up to which changes are applied.",
            value=following.applied,
        )
        yield CounterMetricFamily(
            "topnode_following_failures", "Looks at the feed that failed.", value=following.failed
        )
        yield CounterMetricFamily(
            "topnode_following_restarts",
            "Times that all prefixes and nodes were read: at the start, and when behind the feed's memory.",
            value=following.restarted,
        )
