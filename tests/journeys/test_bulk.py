"""Rows that go around the servers' write path are in the end what the write path would have made of them."""

import random
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from resolver import wire
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.store import Write
from resolver.store.cassandra.applying import changes
from resolver.store.cassandra.bulk import (
    BulkSettings,
    Report,
    build_sstables,
    import_sstables,
    stream_sstables,
    unseen,
)
from resolver.store.cassandra.layout import Redo, bucket_of, hash_of
from resolver.store.cassandra.migrating import migrate
from resolver.store.cassandra.reader import CassandraReader
from resolver.store.cassandra.runs import RunWriter, run_files
from resolver.store.cassandra.session import Session
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.spans import Span
from resolver.store.naming import prefix_of
from resolver.units import Duration, Size
from tests.services.rings import RunningRing
from tests.stores import listed, write

pytestmark = [pytest.mark.needs("cassandra"), pytest.mark.timeout(300)]

PROGRAM = (sys.executable, "-m", "deploy.cassandra.bulk")
ROWS = 50_000
BUCKETS = {b"88.1": 4, b"88.1.7": 1, b"88.2": 2}
TIGHT = BulkSettings(memory=Size(8 << 20), sstable=Size(1 << 20), deadline=Duration(120))
"""So little that rows are sorted in pieces, and lie in several SSTables."""


class Loaded:
    """A migrated keyspace, open for reading."""

    def __init__(self, settings: CassandraSettings, session: Session) -> None:
        self.keyspace = settings.keyspace
        self.asking = session.asking
        self.reader = CassandraReader(session, settings, CollectorRegistry())

    async def write_online(self, index: int, writes: Iterable[Write]) -> None:
        """Write as the writer does for an entry with this index."""
        redo = Redo(
            at=1, request=b"r", writes=tuple((each.key, each.public, each.full, each.is_new) for each in writes)
        )
        spans = {prefix: Span(buckets) for prefix, buckets in BUCKETS.items()}
        for bundle in changes([redo], index, spans, answers_kept=1_000):
            for statement, values in bundle:
                await self.asking.ask(statement, values)

    async def bodies(self, keys: Sequence[bytes], *, full: bool = False) -> dict[bytes, bytes | None]:
        found: dict[bytes, bytes | None] = {}
        for first in range(0, len(keys), 500):
            some = keys[first : first + 500]
            fetched = await (self.reader.full(some) if full else self.reader.public(some))
            found.update(zip(some, fetched.bodies, strict=True))
        return found


async def opened(ring: RunningRing, keyspace: str, *, replicas: int) -> Loaded:
    settings = CassandraSettings(
        hosts=ring.hosts,
        port=ring.port,
        datacenter=ring.data_centre,
        keyspace=keyspace,
        replicas=replicas,
        deadline=Duration(20),
    )
    clock = SystemClock()
    await migrate(settings, clock=clock, registry=CollectorRegistry())
    loaded = Loaded(settings, await Session.open(settings, clock=clock, registry=CollectorRegistry()))
    for prefix, buckets in BUCKETS.items():
        await loaded.asking.ask(*Span(buckets).put(prefix))
    return loaded


def registrations() -> dict[int, list[Write]]:
    """What five entries write: spelled as the key and otherwise, with secrets, deleted again, and written again."""
    texts = [f"{prefix}/{kind}.{number}" for number in range(ROWS // 4) for prefix, kind in KINDS]
    draw = random.Random(7)
    entries: dict[int, list[Write]] = {index: [] for index in range(100, 105)}
    for text in texts:
        secret = b"for its holder" if draw.random() < 0.1 else b""
        entries[draw.randrange(100, 104)].append(write(text, draw.randbytes(40), secret=secret, is_new=True))
    for text in draw.sample(texts, 500):
        entries[104].append(write(text, b"written again", deleted=draw.random() < 0.5))
    return entries


KINDS = (("88.1", "PUMP"), ("88.1", "valve"), ("88.1.7", "阀门"), ("88.2", "Gear"))


def what_must_be(entries: Mapping[int, Sequence[Write]]) -> dict[bytes, tuple[int, Write]]:
    """The write of each key with the highest index."""
    return {each.key: (index, each) for index in sorted(entries) for each in entries[index]}


def build(tmp_path: Path, keyspace: str, entries: Mapping[int, Sequence[Write]]) -> Report:
    """Write run files, and build SSTables of them."""
    with RunWriter(tmp_path / "runs", file_bytes=1 << 20) as writer:
        for index, writes in sorted(entries.items()):
            writer.add(index, writes)
    report = build_sstables(
        tmp_path / "runs", tmp_path / "made", program=PROGRAM, keyspace=keyspace, buckets=BUCKETS, settings=TIGHT
    )
    assert (report.rows, report.first_index, report.last_index) == (writer.rows, min(entries), max(entries))
    return report


async def test_a_load_is_what_the_write_path_would_have_made_of_it(cassandra: RunningRing, tmp_path: Path) -> None:
    entries = registrations()
    must = what_must_be(entries)
    older, newer = write("88.1/PUMP.0", b"before"), write("88.2/Gear.1", b"behind", secret=b"news")
    only_online = write("88.2/only online")
    with cassandra.keyspace() as keyspace:
        report = build(tmp_path, keyspace, entries)
        assert len(run_files(tmp_path / "runs")) > 1
        assert report.records.written == report.listing.written == len(must)
        assert report.records.spills > 1
        assert report.records.sstables > 1
        assert report.listing.partitions == sum(BUCKETS.values())
        filters = [path.stat().st_size for path in (tmp_path / "made" / keyspace / "records").glob("*-Filter.db")]
        assert len(filters) == report.records.sstables
        assert sum(filters) > len(must)
        loaded = await opened(cassandra, keyspace, replicas=1)
        try:
            await loaded.write_online(99, [older])
            await loaded.write_online(105, [newer, only_online])
            nodetool = cassandra.ring.nodetool(1, [])
            assert await unseen(loaded.reader, report) == list(report.samples)
            assert len(report.samples) == report.records.sstables
            import_sstables(tmp_path / "made", nodetool=nodetool, keyspace=keyspace, settings=TIGHT)
            assert await unseen(loaded.reader, report) == []
            must |= {newer.key: (105, newer), only_online.key: (105, only_online)}
            await check_bodies(loaded, must)
            await check_listing(loaded, must)
            check_hashes(cassandra, keyspace)
            with pytest.raises(Fault) as caught:
                import_sstables(tmp_path / "made", nodetool=nodetool, keyspace=keyspace, settings=TIGHT)
            assert caught.value.reason is Reason.FILE_UNREADABLE
        finally:
            loaded.reader.close()


async def check_bodies(loaded: Loaded, must: Mapping[bytes, tuple[int, Write]]) -> None:
    public = {key: each.public + wire.version_field(index) for key, (index, each) in must.items()}
    full = {key: (each.full or each.public) + wire.version_field(index) for key, (index, each) in must.items()}
    assert await loaded.bodies(list(must)) == public
    assert await loaded.bodies(list(must), full=True) == full


async def check_listing(loaded: Loaded, must: Mapping[bytes, tuple[int, Write]]) -> None:
    for prefix in BUCKETS:
        spellings = {
            wire.registered_spelling(each.public)
            for key, (_, each) in must.items()
            if prefix_of(key) == prefix and wire.body_outcome(each.public) == 1
        }
        found, _ = await listed(loaded.reader, prefix, limit=1_000)
        assert sorted(found) == sorted(spellings)


def check_hashes(ring: RunningRing, keyspace: str) -> None:
    """The program in Java and the store in Python must have the same hash and the same buckets."""
    rows = ring.cql(f"SELECT prefix, bucket, hash, key FROM {keyspace}.listing")
    assert len(rows) > ROWS - 1_000
    for row in rows:
        assert row.hash == hash_of(row.key)
        assert row.bucket == bucket_of(row.hash, BUCKETS[row.prefix])


async def test_a_full_body_that_was_left_behind_goes_when_the_record_is_written_again(
    cassandra: RunningRing, tmp_path: Path
) -> None:
    before, after = write("88.1/A", secret=b"for its holder"), write("88.1/A", b"for everybody")
    with cassandra.keyspace() as keyspace:
        build(tmp_path, keyspace, {2: [after]})
        loaded = await opened(cassandra, keyspace, replicas=1)
        try:
            await loaded.write_online(1, [before])
            import_sstables(
                tmp_path / "made", nodetool=cassandra.ring.nodetool(1, []), keyspace=keyspace, settings=TIGHT
            )
            (row,) = cassandra.cql(f"SELECT full_body FROM {keyspace}.records WHERE key = 0x{before.key.hex()}")
            assert row.full_body is None
        finally:
            loaded.reader.close()


async def test_a_ring_gets_each_row_on_all_nodes_that_keep_it(ring: RunningRing, tmp_path: Path) -> None:
    entries = {7: [write(f"88.1/{number}", b"x" * 1_000) for number in range(2_000)]}
    with ring.keyspace() as keyspace:
        report = build(tmp_path, keyspace, entries)
        loaded = await opened(ring, keyspace, replicas=3)
        try:
            hosts = ("-d", ",".join(ring.hosts), "-p", str(ring.port), "-sp", str(ring.ring.storage_port))
            yaml = ring.ring.place(1) / "conf" / "cassandra.yaml"
            loader = ring.ring.java(1, "org.apache.cassandra.tools.BulkLoader", [*hosts, "-f", str(yaml)])
            stream_sstables(tmp_path / "made", sstableloader=loader, keyspace=keyspace, settings=TIGHT)
            assert await unseen(loaded.reader, report) == []
            await check_bodies(loaded, what_must_be(entries))
            for node in ring.ring.numbers:
                told = ring.nodetool(node, "tablestats", f"{keyspace}.records")
                (count,) = re.findall(r"Number of partitions \(estimate\): (\d+)", told)
                assert 1_900 < int(count) < 2_100
        finally:
            loaded.reader.close()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("flip", "a checksum differs"),
        ("cut", "is cut off"),
        ("unknown prefix", "how many buckets the listing of 88.9"),
    ],
)
def test_what_cannot_be_trusted_is_not_made_into_tables(tmp_path: Path, harm: str, said: str) -> None:
    with RunWriter(tmp_path / "runs") as writer:
        writer.add(1, [write("88.9/a" if harm == "unknown prefix" else "88.1/a")])
    (path,) = run_files(tmp_path / "runs")
    octets = bytearray(path.read_bytes())
    if harm == "flip":
        octets[-3] ^= 1
    path.write_bytes(octets[:-1] if harm == "cut" else octets)
    with pytest.raises(Fault) as caught:
        build_sstables(
            tmp_path / "runs", tmp_path / "made", program=PROGRAM, keyspace="k", buckets=BUCKETS, settings=TIGHT
        )
    assert caught.value.reason is Reason.TOOL_FAILED
    assert said in caught.value.detail
    assert list((tmp_path / "made").rglob("*.sorted")) == []


def test_tables_are_not_made_where_others_lie(tmp_path: Path) -> None:
    (tmp_path / "made" / "k").mkdir(parents=True)
    with pytest.raises(Fault) as caught:
        build_sstables(
            tmp_path / "runs", tmp_path / "made", program=PROGRAM, keyspace="k", buckets=BUCKETS, settings=TIGHT
        )
    assert caught.value.reason is Reason.STORE_EXISTS


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        build_sstables(
            tmp_path / "runs", tmp_path / "made", program=["/nowhere"], keyspace="k", buckets={}, settings=TIGHT
        )
    assert caught.value.reason is Reason.TOOL_FAILED
    assert caught.value.variables == {"program": "/nowhere"}
