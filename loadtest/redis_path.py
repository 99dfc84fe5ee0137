"""The way through Redis: records beside a bare gathered MGET loop, and what a lookup costs that Redis answers.

Run as `python -m loadtest.redis_path`; it starts a Redis of its own, on another core than it measures on. Figures are
medians of rounds in which each way has its turn, and CPU is that of this process.
"""

import asyncio
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop
from msgspec import Struct
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from rich.console import Console

from loadtest import workload
from loadtest.cores import on_generator_cores, on_server_core
from loadtest.figures import Bar, Figures
from nodes.serving.child import spare_collector
from resolver import chain
from resolver.cache.memory import MemoryCache, MemorySettings
from resolver.cache.redis import RedisCache, RedisSettings
from resolver.chain import Chain, ChainSettings
from resolver.clock import SystemClock
from resolver.following import Following, FollowingSettings
from resolver.holders import Holders
from resolver.marking import Marking
from resolver.query import Query
from resolver.routes import RouteTable
from resolver.store.embedded import EmbeddedReader
from resolver.store.shared import SharedRecords, SharedSettings
from resolver.trust.actors import NodeTable
from resolver.units import Duration

RECORDS: Final = 40_000
AT_ONCE: Final = 128
BATCH: Final = 1_000
ROUNDS: Final = 7
"""Of one pass over all records in each way."""

WARMING: Final = 1
"""Rounds before those that count."""

FEW: Final = 1_600
"""Entries of a memory cache that leaves nearly everything to Redis."""

Fetch = Callable[[Sequence[bytes]], Awaitable[Sequence[bytes | None]]]


class Measured(Struct, frozen=True):
    """Microseconds for each record, medians: of CPU, `wall_` of time. Ratios are those of rates, by rounds."""

    bare: float
    ours: float
    ratio: float
    wall_ratio: float
    bare_batch: float
    ours_batch: float
    ratio_batch: float
    chain_hit: float
    chain_redis: float
    chain_redis_batch: float


class Server(NamedTuple):
    """A Redis and its process."""

    address: str
    process: "subprocess.Popen[bytes]"


class Gathered:
    """What many callers want in one turn of the event loop, fetched as one batch."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._keys: list[bytes] = []
        self._waiters: list[asyncio.Future[bytes | None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, key: bytes) -> "asyncio.Future[bytes | None]":
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bytes | None] = loop.create_future()
        if not self._keys:
            loop.call_soon(self._depart)
        self._keys.append(key)
        self._waiters.append(waiter)
        return waiter

    def _depart(self) -> None:
        task = asyncio.get_running_loop().create_task(self._go(self._keys, self._waiters))
        self._keys, self._waiters = [], []
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go(self, keys: Sequence[bytes], waiters: "Sequence[asyncio.Future[bytes | None]]") -> None:
        for waiter, body in zip(waiters, await self._fetch(keys), strict=True):
            waiter.set_result(body)


class Cost(NamedTuple):
    """Microseconds for each record."""

    cpu: float
    wall: float


async def cost(act: Callable[[Any], Awaitable[Any]], items: Sequence[Any], *, at_once: int, records: int) -> Cost:
    """Measure one pass over these, with so many callers."""
    todo = iter(items)

    async def call() -> None:
        for item in todo:
            await act(item)

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(call() for _ in range(at_once)))
    return Cost((time.process_time() - used) / records * 1e6, (time.perf_counter() - began) / records * 1e6)


class Place:
    """A read path over a store, with Redis in front of it, and one with a memory cache that holds everything."""

    def __init__(self, reader: EmbeddedReader, address: str) -> None:
        self.clock, self.registry = SystemClock(), CollectorRegistry()
        settings = RedisSettings(address=address, deadline=Duration(1))
        self.redis = RedisCache(settings, clock=self.clock, registry=self.registry)
        self.marking = Marking(reader, self.redis, Duration(0.2), self.registry)
        self._reader = reader
        self._tasks: list[asyncio.Task[None]] = []

    async def chain(self, *, entries: int) -> tuple[Chain, SharedRecords]:
        """Make a chain whose memory cache holds so many entries."""
        registry, routes, nodes = CollectorRegistry(), RouteTable(), NodeTable()
        memory = MemoryCache(MemorySettings(entries=entries), registry)
        following = Following(
            self._reader,
            routes,
            memory,
            self.clock,
            FollowingSettings(bypass_after=Duration(600)),
            registry,
            nodes=nodes,
        )
        await following.start()
        records = SharedRecords(
            self._reader,
            self.redis,
            following=following,
            memory=memory,
            routes=routes,
            settings=SharedSettings(),
            registry=registry,
        )
        made = chain.build(
            node="top",
            clock=self.clock,
            records=records,
            routes=routes,
            cache=memory,
            following=following,
            holders=Holders("top", nodes=nodes, routes=routes, is_current=lambda: following.is_current),
            settings=ChainSettings(),
            registry=registry,
        )
        self._tasks.append(asyncio.create_task(records.run()))
        return made, records

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        self._tasks.append(asyncio.create_task(self.redis.run()))
        while not await self.marking.catch_up():  # noqa: ASYNC110 - nobody tells when Redis is connected
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)


async def measure(path: Path, address: str) -> Measured:
    """Measure everything by turns."""
    reader = EmbeddedReader.open(path)
    names = [workload.identifier(number) for number in range(RECORDS)]
    batches = [names[first : first + BATCH] for first in range(0, RECORDS, BATCH)]
    place = Place(reader, address)
    host, port = address.split(":")
    async with place.open(), Redis(host=host, port=int(port), protocol=2) as client:
        small, records = await place.chain(entries=FEW)
        large, _ = await place.chain(entries=4 * RECORDS)
        await _fill(records, batches)
        plain = [b"{topnode}" + name for name in names]
        plain_batches = [[b"{topnode}" + name for name in batch] for batch in batches]

        async def mget(keys: Sequence[bytes]) -> Any:
            return await client.mget(keys)

        async def public(keys: Sequence[bytes]) -> Sequence[bytes | None]:
            return (await records.public(keys)).bodies

        def asks(link: Chain) -> Callable[[Sequence[bytes]], Awaitable[Any]]:
            return lambda keys: link.resolve(Query(identifiers=keys, deadline=place.clock.monotonic() + 5))

        # As the front asks.
        unary = [(name,) for name in names]
        ways: dict[str, Callable[[], Awaitable[Cost]]] = {
            "bare": lambda: cost(Gathered(mget).get, plain, at_once=AT_ONCE, records=RECORDS),
            "ours": lambda: cost(Gathered(public).get, names, at_once=AT_ONCE, records=RECORDS),
            "bare_batch": lambda: cost(mget, plain_batches, at_once=1, records=RECORDS),
            "ours_batch": lambda: cost(public, batches, at_once=1, records=RECORDS),
            "chain_hit": lambda: cost(asks(large), unary, at_once=AT_ONCE, records=RECORDS),
            "chain_redis": lambda: cost(asks(small), unary, at_once=AT_ONCE, records=RECORDS),
            "chain_redis_batch": lambda: cost(asks(small), batches, at_once=1, records=RECORDS),
        }
        # As a resolver does.
        spare_collector()
        found: dict[str, list[Cost]] = {name: [] for name in ways}
        for _ in range(WARMING + ROUNDS):
            for name, way in ways.items():
                found[name].append(await way())
        _check(records)
    reader.close()
    return _summary({name: costs[WARMING:] for name, costs in found.items()})


def _summary(found: dict[str, list[Cost]]) -> Measured:
    def ratio(theirs: str, ours: str, field: int = 0) -> float:
        pairs = zip(found[theirs], found[ours], strict=True)
        return statistics.median(their[field] / our[field] for their, our in pairs)

    cpu = {name: statistics.median(cost.cpu for cost in costs) for name, costs in found.items()}
    return Measured(
        **cpu,
        ratio=ratio("bare", "ours"),
        wall_ratio=ratio("bare", "ours", 1),
        ratio_batch=ratio("bare_batch", "ours_batch"),
    )


async def _fill(records: SharedRecords, batches: Sequence[Sequence[bytes]]) -> None:
    """Read everything until Redis holds it, and begin to count then."""
    for batch in batches:
        while (await records.public(batch)).shared < len(batch):  # noqa: ASYNC110 - nor when it holds something
            await asyncio.sleep(0.05)
    for verdict in records.lookups:
        records.lookups[verdict] = 0


def _check(records: SharedRecords) -> None:
    """See that Redis answered: what is measured is nothing else."""
    lookups = records.lookups
    if lookups.total() > lookups["hit"] * 1.001:
        raise SystemExit(f"Redis did not answer: {dict(lookups)}")


@contextmanager
def redis_server(folder: Path) -> Iterator[Server]:
    """Run a Redis on another core than servers are measured on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with on_generator_cores():
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)]
        serving = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield Server(f"127.0.0.1:{port}", serving)
    finally:
        serving.terminate()
        serving.wait(timeout=60)


def figures_of(found: Measured) -> Figures:
    """Hold what was measured against the bars."""
    return Figures(
        bars=[
            Bar(
                name="records through Redis, of a bare gathered MGET", measured=found.ratio, bound=0.5, is_floor=True
            ),
            Bar(
                name="a lookup that Redis answers, more than one from memory",
                measured=found.chain_redis - found.chain_hit,
                bound=15,
                is_absolute=True,
                is_floor=False,
                unit="us",
            ),
        ],
        notes={
            "the same in batches of 1,000": found.ratio_batch,
            f"bare gathered MGET, {AT_ONCE} at once, CPU us a record": found.bare,
            "through SharedRecords": found.ours,
            "bare MGET of 1,000": found.bare_batch,
            "through SharedRecords in batches of 1,000": found.ours_batch,
            f"chain, hit in memory, {AT_ONCE} at once": found.chain_hit,
            "chain, hit in Redis": found.chain_redis,
            "chain, hit in Redis, batches of 1,000": found.chain_redis_batch,
        },
    )


def measured(folder: Path) -> Figures:
    """Measure on the servers' core, with a Redis on another."""
    with on_server_core():
        asyncio.run(workload.build_store(folder / "store", RECORDS))
        with redis_server(folder) as server:
            return figures_of(uvloop.run(measure(folder / "store", server.address)))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        measured(Path(folder)).show(Console())


if __name__ == "__main__":
    main()
