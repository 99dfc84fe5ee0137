"""What share of questions a cache answers: ours beside kept libraries and plain rules.

`python -m loadtest.hit_ratios [--json FILE]`: questions by Zipf's law (exponent 0.99) about a million identifiers,
alone; with scans in between, of identifiers that hardly anybody else asks for; and with scans while what is popular
changes. Only the Zipf questions count, after a third of the trace as warm-up.
"""

import argparse
import json
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Final, Protocol

import cachebox
import theine
from msgspec import Struct, to_builtins
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.table import Table

from resolver.answer import FOUND, Ready
from resolver.cache.memory import MemoryCache, MemorySettings
from resolver.cache.s3fifo import VISITS_MAX
from resolver.units import Size

IDENTIFIERS: Final = 1_000_000
SIZES: Final = (1_000, 10_000, 50_000, 200_000)
EXPONENT: Final = 0.99

STEPS: Final = 24
QUESTIONS: Final = 50_000
"""Zipf questions in one step, after which there may be a scan."""

SCANNED: Final = 20_000
"""Identifiers of one scan, in a row."""

SCANNABLE: Final = 10 * IDENTIFIERS
"""Identifiers from IDENTIFIERS up to this are asked for by scans only."""

DRIFT: Final = 100
"""Identifiers that with each step stop being the most popular, where popularity changes."""


# --- traces --------------------------------------------------------------------------------------------------------


class Trace(Struct, frozen=True):
    """Questions in their order, and whether they count: those of scans do not."""

    name: str
    keys: list[bytes]
    counts: list[bool]


def make_trace(name: str, *, scanned: int, drift: int) -> Trace:
    """Make the same trace each time."""
    draw = random.Random(20)
    weights = list(accumulate(rank**-EXPONENT for rank in range(1, IDENTIFIERS + 1)))
    keys: list[bytes] = []
    counts: list[bool] = []
    for step in range(STEPS):
        ranks = draw.choices(range(IDENTIFIERS), cum_weights=weights, k=QUESTIONS)
        keys += [_key((rank + step * drift) % IDENTIFIERS) for rank in ranks]
        start = draw.randrange(IDENTIFIERS, SCANNABLE)
        keys += [_key(number) for number in range(start, start + scanned)]
        counts += [True] * QUESTIONS + [False] * scanned
    return Trace(name, keys, counts)


def _key(number: int) -> bytes:
    return b"88.111.1/%08d" % number


def traces() -> list[Trace]:
    return [
        make_trace("zipf", scanned=0, drift=0),
        make_trace("zipf, scans", scanned=SCANNED, drift=0),
        make_trace("zipf, scans, drift", scanned=SCANNED, drift=DRIFT),
    ]


# --- contestants ---------------------------------------------------------------------------------------------------


class Contestant(Protocol):
    """A cache of a number of entries."""

    def ask(self, key: bytes) -> bool:
        """Tell whether the key was there; from now on it may be."""


class Ours:
    """The memory cache of a node, where fifteen sixteenths are for found answers."""

    def __init__(self, entries: int) -> None:
        settings = MemorySettings(size=Size(1 << 32), entries=entries * 16 // 15)
        self._cache = MemoryCache(settings, CollectorRegistry())

    def ask(self, key: bytes) -> bool:
        ready = self._cache.find(key)
        if ready is None:
            self._cache.put((key,), (Ready(b"answer", FOUND, 1.0),))
            return False
        if ready.visits < VISITS_MAX:
            ready.visits += 1
        return True


class Lru:
    """The least recently used entry leaves."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._held: OrderedDict[bytes, None] = OrderedDict()

    def ask(self, key: bytes) -> bool:
        if key in self._held:
            self._held.move_to_end(key)
            return True
        self._held[key] = None
        if len(self._held) > self._entries:
            self._held.popitem(last=False)
        return False


class _Node:
    __slots__ = ("is_visited", "key", "newer", "older")

    def __init__(self, key: bytes, older: "_Node | None") -> None:
        self.key = key
        self.is_visited = False
        self.older = older
        self.newer: _Node | None = None


class Sieve:
    """SIEVE (Zhang et al., NSDI 2024): one queue, a bit for each entry, a hand that goes from old to new."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._held: dict[bytes, _Node] = {}
        self._newest: _Node | None = None
        self._oldest: _Node | None = None
        self._hand: _Node | None = None

    def ask(self, key: bytes) -> bool:
        held = self._held.get(key)
        if held:
            held.is_visited = True
            return True
        if len(self._held) >= self._entries:
            self._evict()
        node = self._held[key] = _Node(key, self._newest)
        if self._newest:
            self._newest.newer = node
        self._newest = node
        self._oldest = self._oldest or node
        return False

    def _evict(self) -> None:
        node = self._hand or self._oldest
        while node and node.is_visited:
            node.is_visited = False
            node = node.newer or self._oldest
        if node:
            self._hand = node.newer
            self._unlink(node)

    def _unlink(self, node: _Node) -> None:
        if node.newer:
            node.newer.older = node.older
        else:
            self._newest = node.older
        if node.older:
            node.older.newer = node.newer
        else:
            self._oldest = node.newer
        del self._held[node.key]


class Theine:
    """W-TinyLFU, as theine has it."""

    def __init__(self, entries: int) -> None:
        self._held: theine.Cache[bytes, bool] = theine.Cache(entries)

    def ask(self, key: bytes) -> bool:
        _, was_there = self._held.get(key)
        if not was_there:
            self._held.set(key, True)
        return bool(was_there)


class Cachebox:
    """A rule of cachebox."""

    def __init__(self, held: "cachebox.BaseCacheImpl[bytes, bool]") -> None:
        self._held = held

    def ask(self, key: bytes) -> bool:
        if self._held.get(key):
            return True
        self._held.insert(key, True)
        return False


CONTESTANTS: Final[dict[str, Callable[[int], Contestant]]] = {
    "ours (S3-FIFO)": Ours,
    "theine (W-TinyLFU)": Theine,
    "cachebox LFU": lambda entries: Cachebox(cachebox.LFUCache(entries)),
    "cachebox LRU": lambda entries: Cachebox(cachebox.LRUCache(entries)),
    "SIEVE": Sieve,
    "LRU": Lru,
}


# --- the comparison ------------------------------------------------------------------------------------------------


class Result(Struct, frozen=True, kw_only=True):
    """What one cache did with one trace: hits of those questions that count, and CPU for each question."""

    trace: str
    entries: int
    cache: str
    hit_ratio: float
    nanoseconds: float


def run(trace: Trace, entries: int, name: str) -> Result:
    """Ask everything in order."""
    cache = CONTESTANTS[name](entries)
    warm_up = len(trace.keys) // 3
    began = time.process_time()
    answered = [cache.ask(key) for key in trace.keys]
    took = time.process_time() - began
    counted = [
        was_there for was_there, counts in zip(answered[warm_up:], trace.counts[warm_up:], strict=True) if counts
    ]
    return Result(
        trace=trace.name,
        entries=entries,
        cache=name,
        hit_ratio=sum(counted) / len(counted),
        nanoseconds=took / len(trace.keys) * 1e9,
    )


def table(trace: Trace, results: Sequence[Result]) -> Table:
    """Lay out the hit ratios of one trace; the best of each size is marked."""
    laid_out = Table(title=f"Hit ratios: {trace.name}", title_justify="left")
    laid_out.add_column("cache")
    for entries in SIZES:
        laid_out.add_column(f"{entries:,}", justify="right")
    laid_out.add_column("CPU ns", justify="right")
    best = {entries: max(each.hit_ratio for each in results if each.entries == entries) for entries in SIZES}
    for name in CONTESTANTS:
        row = [each for each in results if each.cache == name]
        ratios = [
            f"[bold]{each.hit_ratio:.4f}[/]" if each.hit_ratio == best[each.entries] else f"{each.hit_ratio:.4f}"
            for each in row
        ]
        laid_out.add_row(name, *ratios, f"{sum(each.nanoseconds for each in row) / len(row):,.0f}")
    return laid_out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    console = Console()
    results: list[Result] = []
    for trace in traces():
        found = [run(trace, entries, name) for name in CONTESTANTS for entries in SIZES]
        console.print(table(trace, found))
        results += found
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(to_builtins(results), indent=2) + "\n")


if __name__ == "__main__":
    main()
