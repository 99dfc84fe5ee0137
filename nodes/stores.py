"""Which store a node has: the embedded one in its data folder, or a ring, where the settings name hosts of one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from nodes.settings import NodeSettings
from resolver.clock import Clock
from resolver.errors import Fault, first_fault
from resolver.marking import Marking
from resolver.store import StoreReader
from resolver.store.embedded import EmbeddedReader, EmbeddedWriter, Owner

if TYPE_CHECKING:
    from resolver.store.cassandra.writer import CassandraWriter


@asynccontextmanager
async def reading(settings: NodeSettings, clock: Clock, registry: CollectorRegistry) -> AsyncIterator[StoreReader]:
    """Open the store for reading.

    Raises:
        Fault: as `EmbeddedReader.open` or `CassandraReader.open`.
    """
    if not settings.cassandra.hosts:
        with closing(EmbeddedReader.open(settings.data)) as store:
            yield store
        return
    # The driver takes a while to import, which nodes without a ring need not wait for.
    from resolver.store.cassandra.reader import CassandraReader  # noqa: PLC0415

    ring = await CassandraReader.open(settings.cassandra, clock=clock, registry=registry)
    with closing(ring):
        yield ring


def own_embedded(settings: NodeSettings, socket: str, clock: Clock, *, stop: int) -> EmbeddedWriter:
    """Become the owner of the embedded store, told to others with where to register and which process ends it.

    Raises:
        Fault: as `EmbeddedWriter.open`.
    """
    what = f"node {settings.node} (topnode serve; it stops when process {stop} is ended)"
    return EmbeddedWriter.open(settings.data, owner=Owner.here(what, clock=clock, socket=socket))


async def open_ring(
    settings: NodeSettings, clock: Clock, registry: CollectorRegistry, *, stop: int
) -> "CassandraWriter":
    """Connect to the ring; it is to be seen then whose turn it is to write (`CassandraWriter.begin`).

    Raises:
        Fault: as `Session.open`.
    """
    from resolver.store.cassandra.session import Session  # noqa: PLC0415 - as above
    from resolver.store.cassandra.writer import CassandraWriter  # noqa: PLC0415 - as above

    what = f"node {settings.node} on {socket.gethostname()} (it stops when process {stop} is ended)"
    session = await Session.open(settings.cassandra, clock=clock, registry=registry)
    return CassandraWriter(session, settings.cassandra, owner=what, clock=clock, registry=registry)


@asynccontextmanager
async def tending(store: "CassandraWriter") -> AsyncIterator[None]:
    """Have a writer do what is done beside commits for as long as the context lasts.

    Raises:
        Fault: STORE_FENCED when another process has become the writer meanwhile; JOURNAL_DAMAGED.
    """
    raised: Fault | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(store.run())
            try:
                yield
            finally:
                running.cancel()
    except* Fault as faults:
        raised = first_fault(faults)
    if raised:
        raise raised


@asynccontextmanager
async def marking(
    store: "CassandraWriter", settings: NodeSettings, clock: Clock, registry: CollectorRegistry
) -> AsyncIterator[None]:
    """Mark what the writer changes in the cache that resolvers share, where there is one, and tell them at once."""
    if not settings.redis.is_set:
        yield
        return
    from resolver.cache.redis import RedisCache  # noqa: PLC0415 - as above

    cache = RedisCache(settings.redis, clock=clock, registry=registry)
    marks = Marking(store, cache, settings.following.poll_every, registry)
    store.tell_commits(marks.bell)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(cache.run()), tasks.create_task(marks.run())]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
