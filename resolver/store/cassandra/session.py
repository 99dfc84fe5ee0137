"""A ring with a migrated keyspace, ready to be asked: everything is prepared, and slow answers are hedged."""

import asyncio
from typing import Final, Self

from cassandra.cluster import Cluster
from cassandra.cluster import Session as DriverSession
from cassandra.query import PreparedStatement
from prometheus_client import CollectorRegistry

from resolver.clock import Clock
from resolver.store.cassandra.asking import Asking
from resolver.store.cassandra.border import Border
from resolver.store.cassandra.connecting import DRIVER_ERRORS, connect, patience_of
from resolver.store.cassandra.hedging import Hedging, HedgingMetrics
from resolver.store.cassandra.migrating import check_schema
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.statements import ALL, Statement, Way, in_keyspace

_HEDGED: Final = (Way.NEAR, Way.SURE)


class Session:
    """What one process has of a ring. `asking` is for the event loop in which it was opened."""

    def __init__(self, cluster: Cluster, asking: Asking) -> None:
        self.asking = asking
        self._cluster = cluster

    @classmethod
    async def open(cls, settings: CassandraSettings, *, clock: Clock, registry: CollectorRegistry) -> Self:
        """Connect, check the schema, and prepare all statements.

        Raises:
            Fault: STORE_UNAVAILABLE when no node answers; SETTING_INVALID when the data centre has another name, or
                login fails; FILE_UNREADABLE; STORE_NOT_MIGRATED; STORE_FORMAT_UNKNOWN when it was migrated by a newer
                version.
        """
        border = Border(settings.keyspace, clock=clock, registry=registry)
        metrics = HedgingMetrics(registry)
        try:
            cluster, session = await asyncio.to_thread(connect, settings)
        except DRIVER_ERRORS as error:
            raise border.fault(error) from error
        try:
            prepared = await asyncio.to_thread(_prepare, session, settings.keyspace)
        except DRIVER_ERRORS as error:
            cluster.shutdown()
            raise border.fault(error) from error
        except BaseException:
            cluster.shutdown()
            raise
        hedging = {
            way: Hedging(way, metrics, datacenter=settings.datacenter, metadata=cluster.metadata) for way in _HEDGED
        }
        patience = patience_of(settings)
        return cls(cluster, Asking(session, prepared, border, patience=patience, hedging=hedging, clock=clock))

    def close(self) -> None:
        """Close it; nothing can be asked any more."""
        self.asking.close()
        self._cluster.shutdown()


def _prepare(session: DriverSession, keyspace: str) -> dict[Statement, PreparedStatement]:
    check_schema(session, keyspace)
    return {each: session.prepare(in_keyspace(each.cql, keyspace)) for each in ALL}
