"""What reading from Cassandra costs this process, beside the bare driver and the chain without a store.

Run as `python -m loadtest.cassandra --port 9042` beside a ring that was started without --fast: that one compiles
with C1 only. The keyspace is made where there is none and stays. Every figure is records for each CPU second of this
process, all its threads together; the ways take turns, and ratios are medians of those of the rounds.
"""

import asyncio
import itertools
import statistics
import threading
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import Final

import uvloop
from cassandra.cluster import Session as DriverSession
from msgspec import Struct
from prometheus_client import CollectorRegistry
from rich.console import Console

from loadtest import workload
from loadtest.chains import chain_over
from loadtest.figures import Bar, Figures
from loadtest.rings import ring_by_options
from resolver import wire
from resolver.answer import FOUND
from resolver.chain import Chain
from resolver.clock import SystemClock
from resolver.query import Query
from resolver.store import Fetched, StoreReader
from resolver.store.cassandra.asking import Asking
from resolver.store.cassandra.carrying import Carrier, CarryingMetrics
from resolver.store.cassandra.layout import part_of
from resolver.store.cassandra.migrating import migrate
from resolver.store.cassandra.reader import CassandraReader
from resolver.store.cassandra.records import WIDTH_MAX, WIDTH_MIN
from resolver.store.cassandra.session import Session
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.statements import PUBLIC_NEAR, PUT_PREFIX, PUT_RECORD, Way, in_keyspace

ROUNDS: Final = 5
WARMING: Final = 5
"""Rounds before those that count: a ring that has just started compiles what it reads with, on the cores of whoever
asks, and a lookup costs those half as much again."""

COUNT: Final = 100_000
"""Records that are there. Each is asked at the chain once, so that none is in its cache."""

BATCHED: Final = 20_000
IN_FLIGHT: Final = 128
BATCH: Final = 1_000


class Rates(Struct, frozen=True):
    """Records for each CPU second in one round: at the chain, and by the bare driver with lists of the same width.

    `bodies_known` is the same chain over a reader that has all bodies in a dict: what the links take by themselves.
    """

    unary: float
    bodies_known: float
    store_unary: float
    bare_narrow: float
    batched: float
    bare_wide: float


async def measure(settings: CassandraSettings) -> list[Rates]:
    """Fill the keyspace and let the ways take turns."""
    clock = SystemClock()
    await migrate(settings, clock=clock, registry=CollectorRegistry())
    registry = CollectorRegistry()
    session = await Session.open(settings, clock=clock, registry=registry)
    try:
        await _fill(session.asking)
        reader = CassandraReader(session, settings, registry)
        rounds = [await _round(reader, session, settings, number) for number in range(WARMING + ROUNDS)]
        return rounds[WARMING:]
    finally:
        session.close()


async def _round(reader: CassandraReader, session: Session, settings: CassandraSettings, number: int) -> Rates:
    names = [workload.identifier(each) for each in workload.shuffled(COUNT, seed=1)]
    each = COUNT // (WARMING + ROUNDS)
    some = names[number * each : (number + 1) * each]
    many = list(itertools.islice(itertools.cycle(names), BATCHED))
    bodies = (await reader.public(some)).bodies
    known = _Known(reader, {name: body for name, body in zip(some, bodies, strict=True) if body})
    driver = session.asking.session
    return Rates(
        unary=await _at_chain(await chain_over(reader), some),
        bodies_known=await _at_chain(await chain_over(known), some),
        store_unary=await _at_store(reader, some, at_once=IN_FLIGHT, size=1),
        bare_narrow=await _bare(driver, settings, many, width=WIDTH_MIN, at_once=IN_FLIGHT // WIDTH_MIN),
        batched=await _at_store(reader, many, at_once=1, size=BATCH),
        bare_wide=await _bare(driver, settings, many, width=WIDTH_MAX, at_once=BATCH // WIDTH_MAX),
    )


async def _fill(asking: Asking) -> None:
    carrier = Carrier(asking, patience=60, clock=SystemClock(), metrics=CarryingMetrics(CollectorRegistry()))
    version = wire.version_field(1)
    prefixes = [(PUT_PREFIX, (part_of(row.key), row.key, row.to_bytes(), 1)) for row in workload.prefixes()]
    records = [(PUT_RECORD, (each.key, each.public + version, 1)) for each in workload.writes(range(COUNT))]
    await carrier.carry([request] for request in prefixes + records)


async def _at_chain(link: Chain, names: Sequence[bytes]) -> float:
    clock = SystemClock()

    async def look_up(name: bytes) -> None:
        (ready,) = await link.resolve(Query(identifiers=(name,), deadline=clock.monotonic() + 10))
        assert ready.outcome == FOUND

    rate = await _rate(len(names), _callers(map(look_up, names), IN_FLIGHT))
    await link.close()
    return rate


async def _at_store(reader: CassandraReader, names: Sequence[bytes], *, at_once: int, size: int) -> float:
    async def read(first: int) -> None:
        assert None not in (await reader.public(names[first : first + size])).bodies

    return await _rate(len(names), _callers(map(read, range(0, len(names), size)), at_once))


async def _callers(calls: Iterator[Awaitable[None]], count: int) -> None:
    """Let so many callers make these calls, each one after the other."""

    async def caller() -> None:
        for call in calls:
            await call

    await asyncio.gather(*(caller() for _ in range(count)))


async def _bare(
    driver: DriverSession, settings: CassandraSettings, names: Sequence[bytes], *, width: int, at_once: int
) -> float:
    """The driver alone: the next query is sent by the one that is answered, in the driver's own thread."""
    prepared = driver.prepare(in_keyspace(PUBLIC_NEAR.cql, settings.keyspace))
    firsts = iter(range(0, len(names), width))
    rows: list[int] = []
    ended = threading.Semaphore(0)

    def send(answered: Sequence[object] = ()) -> None:
        rows.append(len(answered))
        first = next(firsts, None)
        if first is None:
            ended.release()
            return
        bound = prepared.bind(([*names[first : first + width]],))
        driver.execute_async(bound, execution_profile=Way.NEAR).add_callbacks(send, lambda _error: ended.release())

    def run() -> None:
        for _ in range(at_once):
            send()
        for _ in range(at_once):
            ended.acquire()

    rate = await _rate(len(names), asyncio.to_thread(run))
    assert sum(rows) == len(names)
    return rate


async def _rate(count: int, work: Awaitable[None]) -> float:
    used = time.process_time()
    await work
    return count / (time.process_time() - used)


class _Known:
    """A reader whose bodies are known already: for what the links take by themselves."""

    def __init__(self, reader: StoreReader, bodies: Mapping[bytes, bytes]) -> None:
        self._bodies = bodies
        self.full = reader.full
        self.identifiers = reader.identifiers
        self.holds_below = reader.holds_below
        self.prefixes = reader.prefixes
        self.nodes = reader.nodes
        self.changes = reader.changes
        self.head = reader.head
        self.secret = reader.secret

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:
        del confirmed
        await asyncio.sleep(0)
        return Fetched([self._bodies.get(key) for key in keys], 0)


def figures_of(rounds: Sequence[Rates]) -> Figures:
    """Hold what was measured against the bars."""

    def median(name: str) -> float:
        return float(statistics.median(getattr(each, name) for each in rounds))

    unary, ratio = median("unary"), statistics.median(each.batched / each.bare_wide for each in rounds)
    unit = "records/CPU s"
    return Figures(
        bars=[
            Bar(
                name="128 unary at the chain",
                measured=unary,
                bound=60_000,
                is_floor=True,
                unit=unit,
                is_absolute=True,
            ),
            Bar(name="batches of 1,000, of the bare driver's rate", measured=ratio, bound=0.7, is_floor=True),
        ],
        notes={
            "the same chain, bodies known": median("bodies_known"),
            "128 unary at the store": median("store_unary"),
            f"bare driver, lists of {WIDTH_MIN}": median("bare_narrow"),
            "batches of 1,000 at the store": median("batched"),
            f"bare driver, lists of {WIDTH_MAX}": median("bare_wide"),
            # By rounds: what the machine does meanwhile changes both alike.
            "microseconds that the store adds to a record": statistics.median(
                1e6 / each.unary - 1e6 / each.bodies_known for each in rounds
            ),
        },
    )


def main() -> None:
    settings = ring_by_options("loadtest.cassandra", __doc__)
    figures_of(uvloop.run(measure(settings))).show(Console())


if __name__ == "__main__":
    main()
