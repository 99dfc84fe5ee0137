"""The disk of one node of a ring becomes full: the ring goes on without it, and with it again when there is room."""

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import WhiteListRoundRobinPolicy
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from resolver.errors import Fault
from resolver.store import Commit
from resolver.store.cassandra.reader import CassandraReader
from resolver.store.cassandra.settings import CassandraSettings
from tests.conftest import own_mounts
from tests.journeys.cassandra_child import made_commit, made_entry
from tests.keyspaces import Keyspace
from tests.services.rings import RECKONED, RunningRing, own_ring

pytestmark = [pytest.mark.needs("cassandra"), pytest.mark.needs("mount"), pytest.mark.timeout(400)]

FULL: Final = 2
"""The node whose disk has an end."""

OCTETS: Final = 200
"""Mebibytes of it."""

ENTRIES: Final = 50
LARGE: Final = b"x" * 200_000
"""So much stands beside an entry that the commit log soon wants more room."""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[RunningRing]:
    """A ring of three, of which one has a small disk."""
    place = tmp_path / "ring" / f"node{FULL}"
    mount = f"mkdir -p {place} && mount -t tmpfs -o size={OCTETS}m tmpfs {place}"
    with own_ring(tmp_path / "ring", nodes=3, namespace=own_mounts(), mount=mount) as ring:
        yield ring


class Reads:
    """Somebody who reads what was written first, over and over."""

    def __init__(self, keyspace: Keyspace) -> None:
        self.seconds: list[float] = []
        self.faults: list[Fault] = []
        self.wrong = 0
        self._reader = CassandraReader(keyspace.session(), keyspace.settings, CollectorRegistry())

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                fetched = await self._reader.public([b"88.1/000001-0", b"88.1/NEVER"])
                self.wrong += [body is not None for body in fetched.bodies] != [True, False]
            except Fault as fault:
                self.faults.append(fault)
            self.seconds.append(time.monotonic() - began)
            await asyncio.sleep(0.01)


async def test_a_full_disk_takes_its_node_out_of_the_ring_and_nothing_else(small: RunningRing) -> None:
    """No error to the writer or to readers; what was written meanwhile is on the node when it is back."""
    settings = CassandraSettings(hosts=small.hosts, port=small.port, datacenter=small.data_centre, keyspace="full")
    keyspace = await asyncio.to_thread(Keyspace, settings)
    writer = keyspace.writer()
    await writer.begin()
    size = await writer.commit(made_commit(1, 2))
    reads = Reads(keyspace)
    reading = asyncio.create_task(reads.run())
    await asyncio.sleep(RECKONED)

    small.shell(f"cat /dev/zero > {small.ring.place(FULL)}/ballast")
    began = size
    while small.ring.serves(FULL) or size < began + ENTRIES:
        assert size < began + 20 * ENTRIES, "it does not notice that its disk is full"
        size = await writer.commit(large_commit(size + 1))
    for _ in range(ENTRIES):
        size = await writer.commit(large_commit(size + 1))

    small.ring.stop([FULL], kill=True)
    small.shell(f"rm {small.ring.place(FULL)}/ballast")
    await asyncio.to_thread(small.start, FULL)
    await asyncio.to_thread(small.nodetool, FULL, "repair", "--full", settings.keyspace)
    size = await writer.commit(large_commit(size + 1))
    reading.cancel()
    assert (reads.faults, reads.wrong) == ([], 0)
    # Nobody waits for the node that is full; a machine that starts another one may be busy for a moment.
    assert statistics.quantiles(reads.seconds, n=100)[98] < 1
    assert await writer.statements(0, size + 9) == [made_entry(index).statement for index in range(1, size + 1)]
    await writer.close()
    keyspace.close()
    assert await asyncio.to_thread(held_by, small, settings) == list(range(1, size + 1))


def large_commit(first: int) -> Commit:
    commit = made_commit(first, 2)
    return replace(commit, entries=[replace(each, artefacts=(LARGE,)) for each in commit.entries])


def held_by(ring: RunningRing, settings: CassandraSettings) -> list[int]:
    """Ask the node which entries of the journal it has itself: nobody else is asked for one copy that it has."""
    host = ring.hosts[FULL - 1]
    alone = ExecutionProfile(WhiteListRoundRobinPolicy([host]), consistency_level=ConsistencyLevel.ONE)
    with Cluster([host], port=ring.port, execution_profiles={EXEC_PROFILE_DEFAULT: alone}) as cluster:
        rows = cluster.connect(settings.keyspace).execute("SELECT idx FROM journal WHERE bucket = 0")
        return [index for (index,) in rows]
