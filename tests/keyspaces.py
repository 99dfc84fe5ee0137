"""Keyspaces of a real Cassandra, each a store for one test at a time: emptied after it, and used again.

Making one takes seconds, emptying one some tenths of a second; that is done while the next test runs in another one.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from cassandra.cluster import Cluster
from cassandra.cluster import Session as DriverSession
from prometheus_client import CollectorRegistry

from resolver.clock import Clock, SystemClock
from resolver.store import FORMAT
from resolver.store.cassandra.asking import Asking
from resolver.store.cassandra.layout import FORMAT_ROW, JOURNAL, SECRET_ROW
from resolver.store.cassandra.migrating import migrate
from resolver.store.cassandra.session import Session
from resolver.store.cassandra.settings import CassandraSettings, LeaseSettings
from resolver.store.cassandra.statements import MAKE_HEAD, MAKE_META, Statement
from resolver.store.cassandra.writer import Amounts, CassandraWriter
from resolver.units import Duration
from tests.services.rings import RunningRing

FEW: Final = 2
"""Keyspaces that are made at least: one is emptied while the other is used."""

QUICK: Final = LeaseSettings(lease=Duration(1.5), beat_every=Duration(0.25), patience=Duration(10))
"""A lease for tests that wait for its end."""

_KEPT: Final = frozenset(("schema_versions",))
_DELETED_FROM: Final = frozenset(
    ("listing", "imports", "redo", "feed", "changes", "beats", "counts", "count_days", "count_sources", "count_lives")
)
"""Tables that may look empty and are not: a deletion would hide what the next test writes with the same timestamp."""


class SharedSession(Session):
    """A session over a connection that others use too: closing it leaves that open."""

    def close(self) -> None:
        self.asking.close()


class Keyspace:
    """A migrated keyspace, and a connection to it."""

    def __init__(self, settings: CassandraSettings) -> None:
        self.settings = settings
        asyncio.run(migrate(settings, clock=SystemClock(), registry=CollectorRegistry()))
        self._session = asyncio.run(Session.open(settings, clock=SystemClock(), registry=CollectorRegistry()))
        self._tables = self._cluster.metadata.keyspaces[settings.keyspace].tables.keys() - _KEPT

    @property
    def _cluster(self) -> Cluster:
        return self._session._cluster

    @property
    def _driver(self) -> DriverSession:
        return self._session.asking.session

    def session(self, clock: Clock | None = None) -> Session:
        """Give a session for the running event loop."""
        asking = self._session.asking
        own = Asking(
            asking.session,
            asking._prepared,
            asking.border,
            patience=asking.patience,
            hedging=asking.hedging,
            clock=clock or SystemClock(),
        )
        return SharedSession(self._cluster, own)

    def writer(
        self,
        *,
        owner: str = "test",
        amounts: Amounts | None = None,
        clock: Clock | None = None,
        registry: CollectorRegistry | None = None,
    ) -> CassandraWriter:
        """Make a writer that has not begun, for the running event loop."""
        return CassandraWriter(
            self.session(),
            self.settings,
            owner=owner,
            amounts=amounts or Amounts(),
            clock=clock or SystemClock(),
            registry=registry or CollectorRegistry(),
        )

    def rows(self, cql: str) -> list[tuple[Any, ...]]:
        """Ask directly; `{}` stands for the keyspace."""
        return list(self._driver.execute(cql.format(self.settings.keyspace)))

    def empty(self) -> None:
        """Take away everything that was written, and make what a migration makes."""
        keyspace = self.settings.keyspace
        looks = {
            name: self._driver.execute_async(f"SELECT * FROM {keyspace}.{name} LIMIT 1") for name in self._tables
        }
        touched = [name for name, look in looks.items() if look.result().one() is not None or name in _DELETED_FROM]
        for done in [self._driver.execute_async(f"TRUNCATE {keyspace}.{name}", timeout=60) for name in touched]:
            done.result()
        self._make(MAKE_META, SECRET_ROW, secrets.token_bytes(32))
        self._make(MAKE_META, FORMAT_ROW, FORMAT.to_bytes(8, "big"))
        self._make(MAKE_HEAD, JOURNAL)

    def _make(self, statement: Statement, *values: object) -> None:
        prepared = self._session.asking._prepared[statement]
        self._driver.execute(prepared, values, execution_profile=statement.way)

    def close(self) -> None:
        self._session.close()


class Keyspaces:
    """Keyspaces of one node that all tests of a run share. Everything that waits is done in a thread of its own."""

    def __init__(self, ring: RunningRing) -> None:
        self._ring = ring
        self._thread = ThreadPoolExecutor(1, "keyspaces")
        self._made: list[Keyspace] = []
        self._free: list[Future[Keyspace]] = [self._thread.submit(self._make) for _ in range(FEW)]

    @contextmanager
    def one(self) -> Iterator[Keyspace]:
        """Have an empty one."""
        taken = (self._free.pop(0) if self._free else self._thread.submit(self._make)).result()
        try:
            yield taken
        finally:
            self._free.append(self._thread.submit(self._emptied, taken))

    def close(self) -> None:
        """Drop them all."""
        self._thread.shutdown()
        for keyspace in self._made:
            keyspace.close()
            self._ring.cql(f"DROP KEYSPACE IF EXISTS {keyspace.settings.keyspace}")

    def _make(self) -> Keyspace:
        settings = CassandraSettings(
            hosts=self._ring.hosts,
            port=self._ring.port,
            datacenter=self._ring.data_centre,
            keyspace=f"t{secrets.token_hex(8)}",
            replicas=1,
            lease=QUICK,
        )
        made = Keyspace(settings)
        self._made.append(made)
        return made

    @staticmethod
    def _emptied(keyspace: Keyspace) -> Keyspace:
        keyspace.empty()
        return keyspace


@asynccontextmanager
async def writing(keyspace: Keyspace, *, resumes: str = "", **more: object) -> AsyncIterator[CassandraWriter]:
    """Have a writer that has begun; it lets go at the end."""
    writer = keyspace.writer(**more)  # type: ignore[arg-type] # passed on
    try:
        await writer.begin(resumes=resumes)
        yield writer
    finally:
        await writer.close()


async def vanish(writer: CassandraWriter) -> None:
    """End as a process does that is killed: without a word."""
    await fall_silent(writer)
    writer._session.close()


async def fall_silent(writer: CassandraWriter) -> None:
    """Let a writer give no more signs of life, as a process does that is stopped."""
    assert writer._beating is not None
    writer._beating.cancel()
    await asyncio.gather(writer._beating, return_exceptions=True)
