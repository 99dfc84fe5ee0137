"""The schema of a keyspace: numbered CQL files, each applied once, in their order, never backwards.

Each file can be applied again without harm, for one that was interrupted. Only one process may migrate at a time:
Cassandra takes two tables of one name that are made at the same moment for two tables.
"""

import asyncio
import logging
import secrets
from importlib import resources
from typing import Any, Final

from cassandra import InvalidRequest
from cassandra.cluster import Cluster, Session
from msgspec import Struct
from prometheus_client import CollectorRegistry

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.store import FORMAT
from resolver.store.cassandra.border import Border, not_migrated
from resolver.store.cassandra.connecting import DECIDE_SECONDS, DRIVER_ERRORS, connect
from resolver.store.cassandra.layout import FORMAT_ROW, JOURNAL, SECRET_ROW
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.statements import (
    MAKE_HEAD,
    MAKE_META,
    META,
    NOTE_VERSION,
    VERSIONS,
    Statement,
    in_keyspace,
)

_FOLDER: Final = resources.files("resolver.store.cassandra") / "schema"
_SCHEMA_SECONDS: Final = 60.0
"""For one statement of a migration; nodes agree on each before the next."""

_log: Final = logging.getLogger(__name__)


class Migration(Struct, frozen=True):
    """A file of CQL: its number, its name and its statements."""

    number: int
    name: str
    statements: tuple[str, ...]


def migrations() -> list[Migration]:
    """Give all that this version knows, in their order."""
    names = sorted(file.name for file in _FOLDER.iterdir() if file.name.endswith(".cql"))
    return [Migration(int(name[:4]), name, cql_of((_FOLDER / name).read_text(encoding="utf-8"))) for name in names]


def cql_of(text: str) -> tuple[str, ...]:
    """Take a file apart into statements: comments are whole lines, and a statement ends with a line's semicolon."""
    lines = [line.rstrip() for line in text.splitlines() if not line.lstrip().startswith("--")]
    return tuple(each.strip() for each in "\n".join([*lines, ""]).split(";\n") if each.strip())


async def migrate(settings: CassandraSettings, *, clock: Clock, registry: CollectorRegistry) -> list[str]:
    """Bring a keyspace, made where there is none, to the schema of this version. Give the files that were applied.

    Raises:
        Fault: STORE_FORMAT_UNKNOWN when a newer version has migrated it: nothing is changed then. Else as
            `Session.open`; what was applied stays, and the next time goes on from there.
    """
    border = Border(settings.keyspace, clock=clock, registry=registry)
    try:
        return await asyncio.to_thread(_migrate, settings)
    except DRIVER_ERRORS as error:
        raise border.fault(error) from error


def check_schema(session: Session, keyspace: str) -> None:
    """Check that the schema is that of this version. Waits, so not for the event loop.

    Raises:
        Fault: STORE_NOT_MIGRATED, STORE_FORMAT_UNKNOWN.
        DRIVER_ERRORS: for the border.
    """
    try:
        applied = _applied(session, keyspace)
    except InvalidRequest:
        raise not_migrated(keyspace, "it is not there, or empty") from None
    _check_known(applied, keyspace)
    missing = [each.name for each in migrations() if each.number not in applied]
    if missing:
        raise not_migrated(keyspace, f"{', '.join(missing)} was not applied")
    rows = list(_run(session, keyspace, META, FORMAT_ROW))
    if not rows:
        raise not_migrated(keyspace, "its migration was interrupted")
    found = int.from_bytes(rows[0][0], "big")
    if found != FORMAT:
        raise _unknown(keyspace, f"the format {found}", str(FORMAT))


def _migrate(settings: CassandraSettings) -> list[str]:
    cluster, session = connect(settings)
    try:
        keyspace = settings.keyspace
        _check_copies(cluster, settings)
        # A role that may do everything in the keyspace need not be allowed to make one.
        if keyspace not in cluster.metadata.keyspaces:
            _make_keyspace(session, settings)
        session.set_keyspace(keyspace)
        try:
            applied = _applied(session, keyspace)
        except InvalidRequest:
            applied = set()
        _check_known(applied, keyspace)
        pending = [each for each in migrations() if each.number not in applied]
        for each in pending:
            _apply(session, keyspace, each)
        _run(session, keyspace, MAKE_META, SECRET_ROW, secrets.token_bytes(32))
        _run(session, keyspace, MAKE_META, FORMAT_ROW, FORMAT.to_bytes(8, "big"))
        _run(session, keyspace, MAKE_HEAD, JOURNAL)
        return [each.name for each in pending]
    finally:
        cluster.shutdown()


def _check_copies(cluster: Cluster, settings: CassandraSettings) -> None:
    """Check that the data centre has a node for each copy: without, nothing that is written finds a quorum."""
    nodes = [host for host in cluster.metadata.all_hosts() if host.datacenter == settings.datacenter]
    if len(nodes) < settings.replicas:
        raise Fault(
            Reason.SETTING_INVALID,
            f"{settings.replicas} copies of each row need as many nodes; {settings.datacenter} has {len(nodes)}.",
            field="replicas",
            variables={"replicas": str(settings.replicas), "nodes": str(len(nodes))},
        )


def _make_keyspace(session: Session, settings: CassandraSettings) -> None:
    replication = f"{{'class': 'NetworkTopologyStrategy', '{settings.datacenter}': {settings.replicas}}}"
    _change(session, f'CREATE KEYSPACE IF NOT EXISTS "{settings.keyspace}" WITH replication = {replication}')


def _apply(session: Session, keyspace: str, migration: Migration) -> None:
    for statement in migration.statements:
        _change(session, statement)
    _run(session, keyspace, NOTE_VERSION, migration.number, migration.name)
    _log.info("Cassandra: %s was applied to %s", migration.name, keyspace)


def _change(session: Session, cql: str) -> None:
    future = session.execute_async(cql, timeout=_SCHEMA_SECONDS)
    future.result()
    if not future.is_schema_agreed:
        raise Fault(Reason.STORE_UNAVAILABLE, "The nodes do not agree on the schema.")


def _applied(session: Session, keyspace: str) -> set[int]:
    # Not prepared: where it fails, as it may, the driver would log an error of its own.
    rows = session.execute(
        in_keyspace(VERSIONS.cql, keyspace), execution_profile=VERSIONS.way, timeout=DECIDE_SECONDS
    )
    return {version for (version,) in rows}


def _check_known(applied: set[int], keyspace: str) -> None:
    known = max(each.number for each in migrations())
    if max(applied, default=0) > known:
        raise _unknown(keyspace, f"the schema {max(applied)}", str(known))


def _unknown(keyspace: str, found: str, known: str) -> Fault:
    return Fault(
        Reason.STORE_FORMAT_UNKNOWN,
        f"The keyspace {keyspace} has {found}; this version knows {known}.",
        variables={"keyspace": keyspace, "found": found, "known": known},
    )


def _run(session: Session, keyspace: str, statement: Statement, *values: Any) -> Any:
    prepared = session.prepare(in_keyspace(statement.cql, keyspace))
    return session.execute(prepared, values, execution_profile=statement.way, timeout=DECIDE_SECONDS)
