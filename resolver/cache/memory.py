"""Ready answers in the memory of this process: bounded, scan-resistant, and never older than what is known.

Whether an answer is fresh is judged by whoever reads (`resolver.freshness`); which ones stay is decided in
`resolver.cache.s3fifo`.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from resolver.answer import ABSENT, FOUND, Ready
from resolver.cache.s3fifo import ENTRY_MAX, Share
from resolver.errors import Fault, Reason
from resolver.units import Size

SCAN: Final = 256
"""More missing keys than this at once are a scan: of those, when there is no room left, only a sample is entered.

Bimodal insertion (Qureshi et al., "Adaptive insertion policies for high performance caching", ISCA 2007): what is
asked for once costs nearly nothing, and what is asked for again and again is all there after a few rounds.
"""

_SAMPLE: Final = 16
"""Of a scan one in so many is entered."""

MARKERS_MAX: Final = 65_536
"""Dropped keys that are remembered one by one."""

_ABSENT_PART: Final = 16
_NEVER: Final = float("-inf")


class MemorySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is kept in the memory of each worker."""

    size: Size = Size(256 << 20)
    """Keys, answers and what keeping them costs. A sixteenth of it is for absent answers, the rest for found ones."""

    entries: int = 1_000_000
    """Answers, split likewise."""

    def __post_init__(self) -> None:
        if self.size < _ABSENT_PART * ENTRY_MAX:
            raise Fault(Reason.SETTING_INVALID, "The cache needs at least 1 MiB.", field="size")
        if self.entries < _ABSENT_PART:
            raise Fault(Reason.SETTING_INVALID, f"The cache holds at least {_ABSENT_PART} entries.", field="entries")


class MemoryCache:
    """Answers under canonical keys.

    A reader takes an entry by `find` (the dict's own `get`: a hit calls no function of ours), judges it, and counts
    a visit on the entry and hits, misses and stale answers here.

    A key that is dropped leaves a marker, the index at which it changed: an answer that was read as of an older
    state is refused. Markers are bounded; the oldest is forgotten by raising the floor below which every answer is
    refused. Whoever reads elsewhere for this process asks for them too: `changed` gives a key's marker, None where it
    has none (the dict's own `get`, like `find`), and `floor` is the index up to which they are forgotten.
    """

    def __init__(self, settings: MemorySettings, registry: CollectorRegistry | None, *, scan: int = SCAN) -> None:
        """Make it; without a registry another one tells its numbers (`tell_other`).

        More missing keys than `scan` at once are a scan.
        """
        self._scan = scan
        self._entries: dict[bytes, Ready] = {}
        self.find = self._entries.get
        size, count = settings.size // _ABSENT_PART, settings.entries // _ABSENT_PART
        self._absent = Share(self._entries, first_place=2, octets=size, count=count)
        size, count = settings.size - size, settings.entries - count
        self._found = Share(self._entries, first_place=0, octets=size, count=count)
        # By place: what stands in the dict for a dropped key, so that the key keeps its one place in its queue.
        self._dropped = tuple(Ready(expires=_NEVER, place=place) for place in range(4))
        self._markers: dict[bytes, int] = {}
        self.changed: Callable[[bytes], int | None] = self._markers.get
        self._floor = 0
        self._newest = 0
        self.hits = self.misses = self.stale = self.refused = 0
        self._metrics = _MemoryMetrics(self)
        if registry is not None:
            registry.register(self._metrics)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def floor(self) -> int:
        """The journal index up to which changes are not remembered one by one."""
        return self._floor

    @property
    def octets(self) -> int:
        """Bytes taken: keys, answers and what keeping them costs."""
        return self._found.octets + self._absent.octets

    @property
    def evicted(self) -> int:
        return self._found.evicted + self._absent.evicted

    def tell_beside(self, tier: str, verdicts: Mapping[str, int]) -> None:
        """Tell in the same metrics what a cache counts, by verdict, that is asked after this one."""
        self._metrics.beside[tier] = verdicts

    def tell_other(self, tier: str, cache: "MemoryCache") -> None:
        """Tell in the same metrics the numbers of another cache, which has no registry, as those of this tier."""
        self._metrics.caches[tier] = cache

    def put(self, keys: Sequence[bytes], answers: Sequence[Ready]) -> int:
        """Keep what may be kept of these answers, each under its key, and tell how many were entered.

        Each key stands once. The answers are this cache's from then on.
        """
        if not keys:
            return 0
        outcome, newest = answers[0].outcome, self._newest
        if len(keys) > self._scan and self._share_for(outcome).evicted:
            keys, answers = _of_a_scan(keys, answers)
        odd = [
            ready
            for ready in answers
            if ready.outcome != outcome
            or not ready.expires
            or ready.as_of < newest
            or ready.place
            or len(ready.frame) > ENTRY_MAX
        ]
        if odd or not self._entries.keys().isdisjoint(keys):
            return self._put_mixed(keys, answers)
        self._share_for(outcome).add(keys, answers)
        return len(keys)

    def drop(self, keys: Iterable[bytes], index: int) -> None:
        """Forget these keys, which changed at this journal index."""
        self._newest = max(self._newest, index)
        for key in keys:
            # Behind those that are there already: markers stand in the order of their indexes.
            self._markers.pop(key, None)
            self._markers[key] = index
            held = self._entries.get(key)
            if held is not None:
                self._share_of(held.place).resize(held.place, -len(held.frame))
                self._entries[key] = self._dropped[held.place]
        self._forget_markers()

    def clear(self, index: int) -> None:
        """Forget everything: what is read from now on counts if it was read as of this journal index or later."""
        self._entries.clear()
        self._found.forget()
        self._absent.forget()
        self._markers.clear()
        self._newest = self._floor = index

    def _put_mixed(self, keys: Sequence[bytes], answers: Sequence[Ready]) -> int:
        """Put a batch that is not all of one kind: found and absent, new and known, such as may not be kept."""
        new: dict[int, dict[bytes, Ready]] = {FOUND: {}, ABSENT: {}}
        taken = 0
        for key, ready in zip(keys, answers, strict=True):
            held = self.find(key)
            if not self._may_keep(key, ready, held):
                continue
            taken += 1
            if held is None:
                ready.place = 0
                new[ABSENT if ready.outcome == ABSENT else FOUND][key] = ready
            elif held is not ready:
                self._put_again(key, held, ready)
        for outcome, entries in new.items():
            self._share_for(outcome).add(list(entries), list(entries.values()))
        return taken

    def _may_keep(self, key: bytes, ready: Ready, held: Ready | None) -> bool:
        if not ready.expires or len(ready.frame) > ENTRY_MAX:
            return False
        if ready.as_of < max(self._floor, self._markers.get(key, 0), held.as_of if held else 0):
            self.refused += 1
            return False
        return True

    def _put_again(self, key: bytes, held: Ready, ready: Ready) -> None:
        # The place stays, also when what is answered has become found or absent: a key never has two.
        ready.place, ready.visits = held.place, held.visits
        self._share_of(held.place).resize(held.place, len(ready.frame) - len(held.frame))
        self._entries[key] = ready

    def _share_for(self, outcome: int) -> Share:
        return self._absent if outcome == ABSENT else self._found

    def _share_of(self, place: int) -> Share:
        return self._found if place <= self._found.main_place else self._absent

    def _forget_markers(self) -> None:
        if len(self._markers) <= MARKERS_MAX:
            return
        # Many at once: the front of a dict is found the slower, the more was taken from it one by one.
        for oldest in list(islice(self._markers, len(self._markers) - MARKERS_MAX * 3 // 4)):
            self._floor = max(self._floor, self._markers.pop(oldest))


def _of_a_scan(keys: Sequence[bytes], answers: Sequence[Ready]) -> tuple[Sequence[bytes], Sequence[Ready]]:
    # Another part each time, by chance: by turns, batches that come round in step would enter the same part for ever.
    first = random.randrange(_SAMPLE)  # noqa: S311 - nothing secret
    return keys[first::_SAMPLE], answers[first::_SAMPLE]


class _MemoryMetrics(Collector):
    """Reads the caches' own numbers when metrics are asked for: counting costs the hot path an addition."""

    def __init__(self, cache: MemoryCache) -> None:
        self.caches = {"memory": cache}
        self.beside: dict[str, Mapping[str, int]] = {}

    def collect(self) -> Iterator[Metric]:
        lookups = CounterMetricFamily(
            "topnode_cache_lookups", "Identifiers looked up in a cache, by what it said.", labels=("tier", "verdict")
        )
        refused = CounterMetricFamily(
            "topnode_cache_refused", "Answers not kept, being older than a known change.", labels=("tier",)
        )
        evicted = CounterMetricFamily("topnode_cache_evicted", "Answers that left to make room.", labels=("tier",))
        octets = GaugeMetricFamily("topnode_cache_bytes", "Memory that a cache takes.", labels=("tier",))
        entries = GaugeMetricFamily("topnode_cache_entries", "Answers that a cache holds.", labels=("tier",))
        for tier, cache in self.caches.items():
            for verdict, count in (("hit", cache.hits), ("miss", cache.misses), ("stale", cache.stale)):
                lookups.add_metric((tier, verdict), count)
            refused.add_metric((tier,), cache.refused)
            evicted.add_metric((tier,), cache.evicted)
            octets.add_metric((tier,), cache.octets)
            entries.add_metric((tier,), len(cache))
        for tier, verdicts in self.beside.items():
            for verdict, count in verdicts.items():
                lookups.add_metric((tier, verdict), count)
        yield from (lookups, refused, evicted, octets, entries)
