"""What a lookup costs that the native front must ask Python for: at 8 connections with 16 calls under way on each.

Each identifier is asked for once, so that nothing in front of the store knows it. A lookup costs the CPU that all
threads of the resolver's process take: for the transport, both ways of the crossing, the chain, and what is kept.

*The store's own cost* of it is the CPU that reading the same identifiers takes without a front and without a chain:
by what the chain reads by (`EmbeddedReader.public`, with Redis `SharedRecords.public`), in another process on the
same core, in batches as large as those that the resolver asked for in the same round. What is promised is the
difference. The two are measured in turns, and the median of the rounds' differences counts.
"""

import asyncio
import json
import statistics
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import uvloop
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from loadtest import redis_path, servers, workload
from loadtest.cores import cpu_seconds, on_server_core
from loadtest.programs import Asked, Programs, framed
from nodes.serving.child import spare_collector
from resolver.store.embedded import EmbeddedReader
from resolver.store.shared import SharedRecords

if TYPE_CHECKING:
    import subprocess

CONNECTIONS: Final = 8
STREAMS: Final = 16
ROUNDS: Final = 5
WARMING: Final = 1
"""Rounds before those that count."""

CALLS: Final = 40_000
RECORDS: Final = (WARMING + ROUNDS) * CALLS
"""Identifiers, each of which one round asks for."""

THROUGH_REDIS: Final = 20_000
"""Calls of a round that Redis answers: all that they ask for is brought into it first."""

_FILLED_AT_ONCE: Final = 5_000
"""Fewer than may wait to be kept."""

Ask = Callable[[Path], Asked]
"""Sends each of the messages in a file once."""

Public = Callable[[Sequence[bytes]], Awaitable[Any]]


class Counts(Struct, frozen=True):
    """What a resolver has counted: batches asked of the store, identifiers that its memory and Redis looked for."""

    flights: int
    missed: int
    shared: int

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(self.flights - other.flights, self.missed - other.missed, self.shared - other.shared)


class Resolver(Struct, frozen=True):
    """A resolver with a native front at this port, and how its counts are asked for."""

    pid: int
    port: int
    counts: Callable[[], Counts]


class Round(Struct, frozen=True):
    """Microseconds of CPU for a lookup; those for reading it; identifiers in a batch; how the callers fared."""

    lookup: float
    store: float
    batch: float
    asked: Asked

    @property
    def beyond(self) -> float:
        return self.lookup - self.store


class Missed(Struct, frozen=True):
    """Medians over the rounds."""

    lookup: float
    store: float
    beyond: float
    batch: float
    p99_us: float

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> "Missed":
        return cls(
            lookup=statistics.median(each.lookup for each in rounds),
            store=statistics.median(each.store for each in rounds),
            beyond=statistics.median(each.beyond for each in rounds),
            batch=statistics.median(each.batch for each in rounds),
            p99_us=statistics.median(each.asked.p99_us for each in rounds),
        )


class Turns:
    """A resolver and a reader of the same store, which read the same identifiers by turns."""

    def __init__(self, resolver: Resolver, ask: Ask, public: Public, folder: Path) -> None:
        self._ask = ask
        self._messages = folder / "messages"
        self._resolver = resolver
        self._public = public

    async def measure(self, names: Sequence[bytes], *, calls: int, is_shared: bool) -> Missed:
        """Measure round after round, each with as many other names; `is_shared`: all of them are in Redis.

        Raises:
            RuntimeError: something else answered.
        """
        parts = [names[first : first + calls] for first in range(0, (WARMING + ROUNDS) * calls, calls)]
        return Missed.of([await self._round(part, is_shared=is_shared) for part in parts][WARMING:])

    async def _round(self, names: Sequence[bytes], *, is_shared: bool) -> Round:
        self._messages.write_bytes(framed([call.request for call in workload.unary(names)]))
        before, used = self._resolver.counts(), cpu_seconds(self._resolver.pid)
        # Beside this loop, in which a shared cache is kept up to date.
        asked = await asyncio.to_thread(self._ask, self._messages)
        used = cpu_seconds(self._resolver.pid) - used
        counted = self._resolver.counts() - before
        if (counted.missed, counted.shared) != (len(names), len(names) if is_shared else 0):
            raise RuntimeError(f"{len(names)} were asked for, and counted {counted}")
        batch = counted.flights and len(names) / counted.flights
        store = await reading(self._public, names, batch=round(batch))
        return Round(used / len(names) * 1e6, store, batch, asked)


async def reading(public: Public, names: Sequence[bytes], *, batch: int) -> float:
    """Give the microseconds of this process's CPU for each of these, read in batches of so many."""
    batches = [names[first : first + batch] for first in range(0, len(names), batch)]
    used = time.process_time()
    for each in batches:
        await public(each)
    return (time.process_time() - used) / len(names) * 1e6


# --- the embedded store --------------------------------------------------------------------------------------------


def from_lmdb(programs: Programs, folder: Path, store: Path) -> Missed:
    """Measure what is answered from the embedded store; it holds RECORDS."""
    names = _names(RECORDS)

    async def measured(resolver: Resolver) -> Missed:
        reader = EmbeddedReader.open(store)
        try:
            turns = Turns(resolver, _asking(programs, resolver), reader.public, folder)
            return await turns.measure(names, calls=CALLS, is_shared=False)
        finally:
            reader.close()

    with servers.node(store, workers=1, TOPNODE_NATIVE__ENABLED="true") as node, on_server_core():
        spare_collector()
        return uvloop.run(measured(Resolver(node.pids["worker-0"], node.native, lambda: _scraped(node.admin))))


def _asking(programs: Programs, resolver: Resolver) -> Ask:
    return lambda messages: programs.ask(resolver.port, messages, connections=CONNECTIONS, streams=STREAMS)


def _names(count: int) -> list[bytes]:
    return [workload.identifier(number) for number in workload.shuffled(count, 11)]


def _scraped(admin: str) -> Counts:
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))

    def total(name: str, **labels: str) -> int:
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return int(sum(sample.value for sample in samples if labels.items() <= sample.labels.items()))

    return Counts(
        flights=total("topnode_gathering_flights_total"),
        missed=total("topnode_cache_lookups_total", tier="memory", verdict="miss"),
        shared=total("topnode_cache_lookups_total", tier="redis", verdict="hit"),
    )


# --- Redis ---------------------------------------------------------------------------------------------------------


def from_redis(programs: Programs, folder: Path, store: Path) -> Missed:
    """Measure what Redis answers, which is on another core: a resolver of its own (`shared_resolver`)."""
    names = _names((WARMING + ROUNDS) * THROUGH_REDIS)

    async def measured(address: str) -> Missed:
        reader = EmbeddedReader.open(store)
        place = redis_path.Place(reader, address)
        try:
            async with place.open():
                _, records = await place.chain(entries=redis_path.FEW)
                await _bring(records, names)
                with _shared_resolver(store, address) as resolver:
                    turns = Turns(resolver, _asking(programs, resolver), records.public, folder)
                    return await turns.measure(names, calls=THROUGH_REDIS, is_shared=True)
        finally:
            reader.close()

    with redis_path.redis_server(folder) as server, on_server_core():
        spare_collector()
        return uvloop.run(measured(server.address))


async def _bring(records: SharedRecords, names: Sequence[bytes]) -> None:
    """Bring all of these into Redis: no more at once than may wait for it."""
    for first in range(0, len(names), _FILLED_AT_ONCE):
        part = names[first : first + _FILLED_AT_ONCE]
        while (await records.public(part)).shared < len(part):  # noqa: ASYNC110 - nobody tells when Redis holds them
            await asyncio.sleep(0.1)


@contextmanager
def _shared_resolver(store: Path, redis: str) -> Iterator[Resolver]:
    with servers.pinned([sys.executable, "-m", "loadtest.shared_resolver", str(store), redis]) as serving:
        port = int(servers.first_line(serving))
        yield Resolver(serving.pid, port, lambda: _told(serving))


def _told(serving: "subprocess.Popen[bytes]") -> Counts:
    assert serving.stdin is not None
    serving.stdin.write(b"\n")
    serving.stdin.flush()
    return msgspec.convert(json.loads(servers.first_line(serving)), Counts)
