"""The schema of a keyspace, in numbered files."""

import re
from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.store import FORMAT
from resolver.store.cassandra import statements
from resolver.store.cassandra.layout import FORMAT_ROW, SECRET_ROW
from resolver.store.cassandra.migrating import cql_of, migrate, migrations
from resolver.store.cassandra.session import Session
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.statements import ALL, META, in_keyspace
from tests.services.rings import RunningRing

needs_cassandra = pytest.mark.needs("cassandra")


def test_files_are_numbered_without_a_gap_and_can_be_applied_again() -> None:
    found = migrations()
    assert [each.number for each in found] == list(range(1, len(found) + 1))
    for each in found:
        assert each.statements
        assert all(re.match(r"CREATE TABLE IF NOT EXISTS |ALTER TABLE ", statement) for statement in each.statements)


def test_every_statement_asks_a_table_that_is_made() -> None:
    made = set(
        re.findall(r"TABLE IF NOT EXISTS (\w+)", "".join(text for each in migrations() for text in each.statements))
    )
    asked = {re.findall(r"(?:FROM|INTO|UPDATE) (\w+)", each.cql)[0] for each in ALL}
    assert asked == made


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("-- nothing\n", ()),
        ("A 1;\nB 2;\n", ("A 1", "B 2")),
        ("A\n  -- why\n  1;\n\nB 2;", ("A\n  1", "B 2")),
        ("A ';' 1;\r\n", ("A ';' 1",)),
    ],
)
def test_a_file_is_taken_apart_into_statements(text: str, found: tuple[str, ...]) -> None:
    assert cql_of(text) == found


@pytest.mark.parametrize(
    ("cql", "named"),
    [
        ("SELECT a FROM t WHERE b = ?", 'SELECT a FROM "ks".t WHERE b = ?'),
        ("INSERT INTO t (a) VALUES (?)", 'INSERT INTO "ks".t (a) VALUES (?)'),
        ("UPDATE t SET a = ? WHERE b = ?", 'UPDATE "ks".t SET a = ? WHERE b = ?'),
        ("DELETE FROM t USING TIMESTAMP ? WHERE b = ?", 'DELETE FROM "ks".t USING TIMESTAMP ? WHERE b = ?'),
    ],
)
def test_the_keyspace_is_named_before_the_table(cql: str, named: str) -> None:
    assert in_keyspace(cql, "ks") == named


def test_every_statement_names_one_table() -> None:
    assert all(in_keyspace(each.cql, "ks").count('"ks".') == 1 for each in statements.ALL)


@pytest.fixture
def settings(cassandra: RunningRing) -> Iterator[CassandraSettings]:
    with cassandra.keyspace() as name:
        yield CassandraSettings(
            hosts=cassandra.hosts,
            port=cassandra.port,
            datacenter=cassandra.data_centre,
            keyspace=name,
            replicas=1,
        )


async def applied(settings: CassandraSettings) -> list[str]:
    return await migrate(settings, clock=SystemClock(), registry=CollectorRegistry())


async def opened(settings: CassandraSettings) -> Session:
    return await Session.open(settings, clock=SystemClock(), registry=CollectorRegistry())


async def refusal(settings: CassandraSettings) -> Fault:
    with pytest.raises(Fault) as caught:
        (await opened(settings)).close()
    return caught.value


async def meta(settings: CassandraSettings) -> list[bytes]:
    session = await opened(settings)
    try:
        return [(await session.asking.ask(META, (row,)))[0][0] for row in (SECRET_ROW, FORMAT_ROW)]
    finally:
        session.close()


@needs_cassandra
async def test_a_keyspace_is_made_once_and_stays_as_it_is(
    settings: CassandraSettings, cassandra: RunningRing
) -> None:
    assert (await refusal(settings)).reason is Reason.STORE_NOT_MIGRATED
    assert await applied(settings) == [each.name for each in migrations()]
    first = await meta(settings)
    assert (len(first[0]), first[1]) == (32, FORMAT.to_bytes(8, "big"))
    assert await applied(settings) == []
    assert await meta(settings) == first
    (row,) = cassandra.cql(f"SELECT epoch, size, starts FROM {settings.keyspace}.head")
    assert (row.epoch, row.size, row.starts) == (0, 0, None)


@needs_cassandra
async def test_what_was_interrupted_is_completed(settings: CassandraSettings, cassandra: RunningRing) -> None:
    await applied(settings)
    name = settings.keyspace
    for statement in (f"DROP TABLE {name}.tiles", f"TRUNCATE {name}.schema_versions", f"TRUNCATE {name}.meta"):
        cassandra.cql(statement)
    assert (await refusal(settings)).reason is Reason.STORE_NOT_MIGRATED
    assert await applied(settings) == [each.name for each in migrations()]
    (await opened(settings)).close()


@needs_cassandra
async def test_a_newer_schema_and_another_format_are_refused_and_left_alone(
    settings: CassandraSettings, cassandra: RunningRing
) -> None:
    await applied(settings)
    name = settings.keyspace
    cassandra.cql(f"INSERT INTO {name}.schema_versions (part, version, name) VALUES (0, 999, 'later')")
    assert (await refusal(settings)).reason is Reason.STORE_FORMAT_UNKNOWN
    with pytest.raises(Fault) as caught:
        await applied(settings)
    assert caught.value.reason is Reason.STORE_FORMAT_UNKNOWN
    cassandra.cql(f"DELETE FROM {name}.schema_versions WHERE part = 0 AND version = 999")
    cassandra.cql(f"UPDATE {name}.meta SET octets = 0x0000000000000063 WHERE name = '{FORMAT_ROW}'")
    fault = await refusal(settings)
    assert (fault.reason, fault.variables["found"]) == (Reason.STORE_FORMAT_UNKNOWN, "the format 99")


@needs_cassandra
async def test_a_ring_that_cannot_be_used_is_told_by_what_is_wrong(settings: CassandraSettings) -> None:
    fault = await refusal(replace(settings, datacenter="paris"))
    assert (fault.reason, fault.field) == (Reason.SETTING_INVALID, "datacenter")
    assert (fault.variables["datacenter"], fault.variables["found"]) == ("paris", settings.datacenter)
    fault = await refusal(replace(settings, port=1))
    assert (fault.reason, fault.variables["kind"]) == (Reason.STORE_UNAVAILABLE, "unreachable")
    with pytest.raises(Fault) as caught:
        await applied(replace(settings, datacenter="paris"))
    assert caught.value.field == "datacenter"
