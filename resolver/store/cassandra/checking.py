"""Is a ring fit for a registry? What its nodes are set to, and how its keyspace is copied. Nothing is changed."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

from cassandra.cluster import Cluster, Session
from cassandra.pool import Host
from msgspec import Struct
from prometheus_client import CollectorRegistry

from resolver.clock import Clock
from resolver.store.cassandra.border import Border
from resolver.store.cassandra.connecting import DRIVER_ERRORS, connect
from resolver.store.cassandra.migrating import check_schema
from resolver.store.cassandra.settings import CassandraSettings

REPLICAS_MIN: Final = 3
"""With fewer copies there is no quorum when one node is down."""

_SECONDS: Final = 5.0
_NAMES: Final = (
    "commitlog_sync",
    "commitlog_sync_group_window",
    "hinted_handoff_enabled",
    "max_hint_window",
    "paxos_variant",
    "sstable.selected_format",
    "storage_compatibility_mode",
)
_PAIR: Final = re.compile(r"'([^']+)': '([^']+)'")
_SETTINGS: Final = "SELECT name, value FROM system_views.settings"


class Fitness(StrEnum):
    """What a finding comes to."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    REFUSED = "refused"


class Checked(Struct, frozen=True):
    """One thing that was looked at: where (a node's address, or the keyspace), what it is, and why that matters."""

    where: str
    what: str
    found: str
    fitness: Fitness
    reason: str = ""


class Seat(Struct, frozen=True):
    """A node of the ring: its address, its rack, and what it is set to (empty: it did not tell)."""

    address: str
    rack: str
    settings: Mapping[str, str]


async def check_ring(settings: CassandraSettings, *, clock: Clock, registry: CollectorRegistry) -> list[Checked]:
    """Ask every node of the data centre, and judge.

    Raises:
        Fault: STORE_NOT_MIGRATED; else as `Session.open`.
    """
    border = Border(settings.keyspace, clock=clock, registry=registry)
    try:
        seats, replicas = await asyncio.to_thread(_ask, settings)
    except DRIVER_ERRORS as error:
        raise border.fault(error) from error
    return [*judge_keyspace(settings.keyspace, replicas, seats), *(each for seat in seats for each in judge(seat))]


def judge_keyspace(keyspace: str, replicas: int, seats: Sequence[Seat]) -> Iterator[Checked]:
    """Judge how many copies there are, and over how many racks they lie."""
    copies = Fitness.GOOD if replicas >= REPLICAS_MIN else Fitness.REFUSED
    yield Checked(keyspace, "replicas", str(replicas), copies, f"{REPLICAS_MIN} go on with a quorum when one is lost")
    racks = len({seat.rack for seat in seats})
    spread = Fitness.GOOD if racks >= min(replicas, REPLICAS_MIN) else Fitness.DOUBTFUL
    yield Checked(keyspace, "racks", str(racks), spread, "copies in one rack are lost together")


def judge(seat: Seat) -> Iterator[Checked]:
    """Judge what one node is set to."""
    told = seat.settings
    if not told:
        yield Checked(seat.address, "answer", "none", Fitness.REFUSED, "it is down, or did not answer in time")
        return
    sync = told.get("commitlog_sync", "")
    if sync in {"group", "batch"}:
        window = told.get("commitlog_sync_group_window", "")
        found = f"{sync}, {window}" if sync == "group" else sync
        yield Checked(seat.address, "commitlog_sync", found, Fitness.GOOD, "a write is on the disk when it is told")
    else:
        reason = "a write is told before it is on the disk: a power cut loses registrations"
        yield Checked(seat.address, "commitlog_sync", sync, Fitness.REFUSED, reason)
    for name, wanted, reason in (
        ("hinted_handoff_enabled", "true", "a node that was away is sent what it missed"),
        ("max_hint_window", "3h", "caches keep markers for longer than this"),
        ("paxos_variant", "v2", "a commit takes half of the round trips"),
        ("sstable.selected_format", "bti", "a quarter less room on the disk"),
    ):
        found = told.get(name, "")
        yield Checked(seat.address, name, found, Fitness.GOOD if found == wanted else Fitness.DOUBTFUL, reason)


def _ask(settings: CassandraSettings) -> tuple[list[Seat], int]:
    cluster, session = connect(settings)
    try:
        check_schema(session, settings.keyspace)
        hosts = [host for host in cluster.metadata.all_hosts() if host.datacenter == settings.datacenter]
        seats = [_seat(session, host) for host in sorted(hosts, key=lambda host: str(host.address))]
        return seats, _replicas(cluster, settings)
    finally:
        cluster.shutdown()


def _seat(session: Session, host: Host) -> Seat:
    try:
        told = dict(session.execute(_SETTINGS, host=host, timeout=_SECONDS)) if host.is_up else {}
    except DRIVER_ERRORS:
        told = {}
    known = {name: str(told[name]) for name in _NAMES if name in told}
    return Seat(str(host.address), host.rack or "", known)


def _replicas(cluster: Cluster, settings: CassandraSettings) -> int:
    # As CQL writes it: {'class': 'NetworkTopologyStrategy', 'datacenter1': '3'}
    strategy = cluster.metadata.keyspaces[settings.keyspace].replication_strategy
    pairs: list[tuple[str, str]] = _PAIR.findall(strategy.export_for_schema())
    factors = dict(pairs)
    return int(factors.get(settings.datacenter) or factors.get("replication_factor") or 0)
