"""Reading while nodes of a real ring are killed, frozen, gone and back. Three nodes, each with everything."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Final

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from resolver import wire
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.carrying import Carrier, CarryingMetrics
from resolver.store.cassandra.layout import JOURNAL
from resolver.store.cassandra.migrating import migrate
from resolver.store.cassandra.placing import Placing
from resolver.store.cassandra.reader import CassandraReader
from resolver.store.cassandra.session import Session
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.statements import PUT_RECORD, WATERMARK
from resolver.units import Duration
from tests.services.rings import RECKONED, RunningRing
from tests.stores import writes

pytestmark = [pytest.mark.needs("cassandra"), pytest.mark.timeout(400)]

KEYS: Final = [b"88.1/%04d" % number for number in range(1_000)]
CALLERS: Final = 16
WORST: Final = 1.0
"""Seconds that a call may take while a node is lost."""


@pytest.fixture
def settings(ring: RunningRing) -> Iterator[CassandraSettings]:
    with ring.keyspace() as name:
        yield CassandraSettings(
            hosts=ring.hosts, port=ring.port, datacenter=ring.data_centre, keyspace=name, replicas=3
        )
        # Before the keyspace is dropped: a node that misses that disagrees with the others for a minute.
        ring.mend()


class Reads:
    """Callers that read one record after the other, how long each call took, and what failed."""

    def __init__(self, reader: CassandraReader) -> None:
        self.took: list[float] = []
        self.faults: list[Fault] = []
        self.missed = 0
        self._reader = reader
        self._has_come = asyncio.Condition()

    async def call(self) -> None:
        for number, key in enumerate(cycle(KEYS)):
            began = time.perf_counter()
            try:
                fetched = await (self._reader.public([key]) if number % 4 else self._reader.full([key]))
                self.missed += fetched.bodies.count(None)
            except Fault as fault:
                self.faults.append(fault)
            async with self._has_come:
                self.took.append(time.perf_counter() - began)
                self._has_come.notify_all()

    async def more(self, seconds: float) -> None:
        """Read on for so long, and until every caller has come round again."""
        calls = len(self.took) + 4 * CALLERS
        await asyncio.sleep(seconds)
        async with self._has_come:
            await self._has_come.wait_for(lambda: len(self.took) >= calls)


@asynccontextmanager
async def reading(settings: CassandraSettings, registry: CollectorRegistry) -> AsyncIterator[CassandraReader]:
    """Have a reader of a keyspace in which all the keys are."""
    clock = SystemClock()
    await migrate(settings, clock=clock, registry=CollectorRegistry())
    session = await Session.open(settings, clock=clock, registry=registry)
    try:
        carrier = Carrier(session.asking, patience=30, clock=clock, metrics=CarryingMetrics(CollectorRegistry()))
        made = writes([key.decode() for key in KEYS])
        version = wire.version_field(1)
        await carrier.carry([(PUT_RECORD, (each.key, each.public + version, 1))] for each in made)
        reader = CassandraReader(session, settings, registry)
        async with callers(reader) as reads:
            await reads.more(1)
            # Readers look at this one seldom, and each node has to have looked.
            for _ in range(10 * len(settings.hosts)):
                await session.asking.ask(WATERMARK, (JOURNAL,))
        await asyncio.sleep(RECKONED)
        yield reader
    finally:
        session.close()


@asynccontextmanager
async def callers(reader: CassandraReader) -> AsyncIterator[Reads]:
    """Let callers read all the while."""
    reads = Reads(reader)
    calling = [asyncio.create_task(reads.call()) for _ in range(CALLERS)]
    try:
        yield reads
    finally:
        for each in calling:
            each.cancel()
        await asyncio.gather(*calling, return_exceptions=True)


@pytest.mark.parametrize("loss", ["killed", "frozen"])
async def test_the_loss_of_a_node_is_no_error_and_nobody_waits_a_second(
    ring: RunningRing, settings: CassandraSettings, loss: str
) -> None:
    lose = ring.kill if loss == "killed" else ring.pause
    worst, hedged = await read_while(lose, settings)
    if worst >= WORST:
        # A call takes a tenth of that. Where the machine was taken away from the other nodes too, it tells nothing.
        await asyncio.to_thread(ring.mend)
        worst, hedged = await read_while(lose, settings)
    assert worst < WORST
    assert hedged or loss == "killed"


async def read_while(lose: Callable[[int], None], settings: CassandraSettings) -> tuple[float, float]:
    """Read while the second node is lost: give how many seconds the longest call took, and how many were hedged."""
    registry = CollectorRegistry()
    async with reading(settings, registry) as reader, callers(reader) as reads:
        await reads.more(3)
        reads.took.clear()
        await asyncio.to_thread(lose, 2)
        await reads.more(12)
        assert (reads.faults, reads.missed) == ([], 0)
        return max(reads.took), registry.get_sample_value("topnode_cassandra_hedged_total", {"way": "near"}) or 0


async def test_keys_are_asked_of_the_nodes_that_hold_them_and_of_others_when_those_are_gone(
    ring: RunningRing, settings: CassandraSettings
) -> None:
    settings = replace(settings, replicas=2)
    registry = CollectorRegistry()
    async with reading(settings, registry) as reader:
        metadata = reader._asking.session.cluster.metadata
        placing = Placing(metadata, keyspace=settings.keyspace, datacenter=settings.datacenter)
        places = list(placing.places(KEYS))
        assert len(places) == 3
        for nodes, keys in places:
            for key in keys:
                assert nodes[0] in metadata.get_replicas(settings.keyspace, key)
        assert None not in (await reader.public(KEYS)).bodies
        of_quorums = registry.get_sample_value("topnode_cassandra_record_keys_total", {"way": "sure"})
        await asyncio.to_thread(ring.kill, 3)
        for _ in range(20):
            began = time.perf_counter()
            assert None not in (await reader.public(KEYS)).bodies
            assert time.perf_counter() - began < WORST
        assert registry.get_sample_value("topnode_cassandra_record_keys_total", {"way": "sure"}) == of_quorums


async def test_a_write_that_one_replica_missed_is_found_wherever_it_is_asked(
    ring: RunningRing, settings: CassandraSettings
) -> None:
    registry = CollectorRegistry()
    async with reading(settings, registry) as reader:
        for node in (1, 2):
            await asyncio.to_thread(ring.nodetool, node, "disablehandoff")
        await asyncio.to_thread(ring.kill, 3)
        await asyncio.to_thread(ring.wait_seen, by=1, state={3: "DN"})
        late = [b"88.2/%04d" % number for number in range(200)]
        session = await Session.open(settings, clock=SystemClock(), registry=CollectorRegistry())
        try:
            await asyncio.gather(*(session.asking.ask(PUT_RECORD, (key, b"body", 2)) for key in late))
        finally:
            session.close()
        await asyncio.to_thread(ring.start, 3)
        found = [await reader.public([key]) for key in late]
        assert [fetched.bodies for fetched in found] == [[b"body"]] * len(late)
        assert registry.get_sample_value("topnode_cassandra_found_late_total")


async def test_when_all_nodes_are_gone_it_is_told_in_time_and_when_they_are_back_it_goes_on(
    ring: RunningRing, settings: CassandraSettings
) -> None:
    settings = replace(settings, deadline=Duration(1))
    async with reading(settings, CollectorRegistry()) as reader:
        for node in (1, 2, 3):
            await asyncio.to_thread(ring.kill, node)
        for _ in range(3):
            began = time.perf_counter()
            with pytest.raises(Fault) as caught:
                await reader.public(KEYS[:100])
            assert caught.value.reason is Reason.STORE_UNAVAILABLE
            assert time.perf_counter() - began < 1.5
        await asyncio.to_thread(ring.mend)
        async with asyncio.timeout(30):
            while True:
                try:
                    fetched = await reader.public(KEYS)
                    break
                except Fault:
                    await asyncio.sleep(0.1)
        assert None not in fetched.bodies
