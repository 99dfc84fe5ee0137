"""Marking changes in the cache that resolvers share, and telling them at once; in the process that owns the writer.

Resolvers read the cache as far as it can be shown to be marked (`resolver.store.shared`), so nothing is wrong while
this is late or not done: they ask the store.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from resolver.bell import Bell
from resolver.errors import Fault
from resolver.shelves import NOWHERE, MarkedCache
from resolver.store import Change, FeedReader
from resolver.units import Duration

_CHANGES: Final = 100
"""Changes that are read and marked at once."""

_SPACING: Final = 0.02
"""Seconds between two looks at the least: each tells all resolvers to look, too."""

_BACK_OFF_MAX: Final = 1.0
"""Seconds between two looks, at most, while the feed cannot be read or the cache not be reached."""


_log: Final = logging.getLogger(__name__)


class Feed(FeedReader, Protocol):
    """What is followed."""

    async def head(self) -> int:
        """Give the journal index of the newest entry."""


class Marking:
    """Follows the feed, and leaves a marker for each record that a change names.

    `bell` makes it look at once; else it looks each time that `poll_every` has passed.

    Where the cache has forgotten what was marked, it is marked again from there. Where the feed does not remember
    that far, or is another one, everything in the cache is given up by beginning an era.
    Failure policy: tried again; meanwhile resolvers ask the store for what they cannot know to be marked.
    """

    def __init__(self, feed: Feed, cache: MarkedCache, poll_every: Duration, registry: CollectorRegistry) -> None:
        self.bell = Bell()
        self.failed = self.eras = self.pending = 0
        self._feed = feed
        self._cache = cache
        self._poll_every = float(poll_every)
        self._marked = NOWHERE
        registry.register(_MarkingMetrics(self))

    async def run(self) -> None:
        """Mark until cancelled."""
        wait = self._poll_every
        while True:
            await asyncio.sleep(_SPACING)
            try:
                is_done = await self.catch_up()
            except Fault:
                is_done = False
            if is_done:
                wait = self._poll_every
            else:
                self.failed += 1
                wait = min(2 * wait, _BACK_OFF_MAX)
            await self.bell.rest(wait)

    async def catch_up(self) -> bool:
        """Mark all that the feed says; tell whether the cache could be reached.

        Raises:
            Fault: as the feed does.
        """
        while True:
            if self._marked == NOWHERE and not await self._find_place():
                return False
            read = await self._feed.changes(self._marked, _CHANGES)
            if read.is_lost:
                if not await self._begin(read.head, "the feed does not remember what was marked", anew=True):
                    return False
                self._marked = read.head
                continue
            upto = read.changes[-1].index if read.changes else self._marked
            marked = await self._mark(read.changes, upto)
            if marked is None:
                return False
            self.pending = read.head - min(marked, upto)
            if marked < upto:
                # A shelf has forgotten what it had: everything from there on is read and marked again.
                self._marked = marked
                continue
            self._marked = upto
            if read.changes:
                await self._cache.publish(upto)
            if not read.changes or upto >= read.head:
                return True

    async def _mark(self, changes: Sequence[Change], upto: int) -> int | None:
        changed = [(key, change.index) for change in changes for key in change.keys]
        below = max((change.index for change in changes if change.below), default=0)
        return await self._cache.mark(changed, below=below, after=self._marked, upto=upto)

    async def _find_place(self) -> bool:
        """Find out up to where the cache is marked, with an era begun where there is none."""
        marked = await self._cache.marked()
        if marked == NOWHERE:
            if not await self._begin(await self._feed.head(), "the cache is empty", anew=False):
                return False
            marked = await self._cache.marked()
        self._marked = NOWHERE if marked is None else marked
        return self._marked != NOWHERE

    async def _begin(self, index: int, why: str, *, anew: bool) -> bool:
        is_begun = await self._cache.begin(index, anew=anew)
        if is_begun:
            self.eras += 1
            _log.info("Shared cache: an era begins at index %d: %s", index, why, extra={"index": index})
        return is_begun


class _MarkingMetrics(Collector):
    def __init__(self, marking: Marking) -> None:
        self._marking = marking

    def collect(self) -> Iterator[Metric]:
        marking = self._marking
        yield GaugeMetricFamily(
            "topnode_marking_pending_changes", "Entries known and not marked yet.", value=marking.pending
        )
        yield CounterMetricFamily(
            "topnode_marking_failures", "Looks after which something was left unmarked.", value=marking.failed
        )
        yield CounterMetricFamily(
            "topnode_marking_eras",
            "Times that an era was begun: where the cache was empty, or what was marked is not remembered.",
            value=marking.eras,
        )
