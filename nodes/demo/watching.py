"""What the node says about itself at its admin endpoint, and what its processes hold, as the kernel counts it."""

import asyncio
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from nodes.probing.seen import ChildSeen, NodesSeen
from nodes.serving.admin import Readiness
from nodes.serving.started import Started

_SECONDS: Final = 5.0
_SUPERVISOR: Final = "supervisor"
_LOOKUPS: Final = "topnode_cache_lookups_total"

_families: Final[Callable[[str], Iterable[Metric]]] = text_string_to_metric_families


class Footprint(Struct, frozen=True, kw_only=True):
    """What a process of the node holds, in bytes: its own, and what of files, the store above all, it looks at."""

    name: str
    pid: int
    own: int
    mapped: int


class Looked(Struct, frozen=True, kw_only=True):
    """A node at one moment. Lookups are those in the memory caches of all its resolvers, since they began.

    `below` are the processes of the nodes below it.
    """

    processes: list[Footprint]
    below: list[Footprint]
    store_bytes: int
    cache_hits: int
    cache_lookups: int

    @property
    def hit_ratio(self) -> float:
        """The share of lookups that the caches answered."""
        return self.cache_hits / self.cache_lookups if self.cache_lookups else 0.0


async def children(node: Started) -> Sequence[ChildSeen]:
    """See how the nodes below are, as the node's prober sees them."""
    return NodesSeen.from_json(await _get(node, "nodes")).children


async def look(node: Started, data: Path, below: Mapping[str, int]) -> Looked:
    """See how the node is, from its endpoint and its store; `below` are the pids of the processes below it."""
    counts = _Counts((await _get(node, "metrics")).decode())
    seen = msgspec.json.decode(await _get(node, "readyz"), type=Readiness)
    pids = {_SUPERVISOR: node.pid} | {each.name: each.pid for each in seen.processes}
    return Looked(
        processes=[_footprint(name, pid) for name, pid in pids.items()],
        below=[_footprint(name, pid) for name, pid in below.items()],
        store_bytes=_store_bytes(data),
        cache_hits=counts.total(_LOOKUPS, verdict="hit"),
        cache_lookups=counts.total(_LOOKUPS),
    )


class _Counts:
    def __init__(self, text: str) -> None:
        self._samples = [sample for family in _families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> int:
        """Add up the samples of this name that have these labels, over all processes."""
        return int(
            sum(
                sample.value
                for sample in self._samples
                if sample.name == name and labels.items() <= sample.labels.items()
            )
        )


def _store_bytes(data: Path) -> int:
    """Give what the store takes on the disk: its file may be longer than that."""
    return sum(each.stat().st_blocks * 512 for each in data.glob("*.mdb"))


async def _get(node: Started, page: str) -> bytes:
    def get() -> bytes:
        with urllib.request.urlopen(f"http://{node.admin}/{page}", timeout=_SECONDS) as answer:
            octets: bytes = answer.read()
            return octets

    return await asyncio.to_thread(get)


def _footprint(name: str, pid: int) -> Footprint:
    lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
    sizes = {key: text.strip() for key, _, text in lines}
    return Footprint(name=name, pid=pid, own=_bytes(sizes["RssAnon"]), mapped=_bytes(sizes["RssFile"]))


def _bytes(kilobytes: str) -> int:
    return int(kilobytes.removesuffix(" kB")) * 1024
