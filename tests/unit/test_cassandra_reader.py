"""Reading a store in Cassandra: what the contract suite cannot make happen."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from resolver import wire
from resolver.clock import Clock, SetClock
from resolver.errors import Fault, Reason
from resolver.routes import Prefix
from resolver.store import Checkpoint, Commit, Kept
from resolver.store.cassandra import listing
from resolver.store.cassandra.layout import PART_BYTES, bucket_of, entry_bucket, hash_of, part_of
from resolver.store.cassandra.reader import LOOKED_MAX, CassandraReader
from resolver.store.cassandra.statements import (
    DROP_BUCKET,
    PUT_ENTRY,
    PUT_LISTED,
    PUT_RECORD,
    PUT_RECORD_FULL,
    PUT_SPAN,
    PUT_WATERMARK,
    Statement,
    Way,
)
from resolver.store.cassandra.writer import CassandraWriter
from tests.keyspaces import Keyspace, Keyspaces, writing
from tests.small_store import entry, put
from tests.stores import listed, write, writes

pytestmark = pytest.mark.needs("cassandra")


@asynccontextmanager
async def reading(
    keyspace: Keyspace, registry: CollectorRegistry | None = None, clock: Clock | None = None
) -> AsyncIterator[CassandraReader]:
    """Have a reader as another process has one."""
    reader = CassandraReader(keyspace.session(clock), keyspace.settings, registry or CollectorRegistry())
    try:
        yield reader
    finally:
        reader.close()


@pytest.fixture
def keyspace(keyspaces: Keyspaces) -> Any:
    with keyspaces.one() as one:
        yield one


async def do(keyspace: Keyspace, cql: str, way: Way = Way.WRITE) -> None:
    """Execute a statement as it stands, in the test's own keyspace."""
    driver = keyspace.session().asking.session
    text = cql.replace("@", f"{keyspace.settings.keyspace}.")
    await asyncio.to_thread(lambda: driver.execute(text, execution_profile=way, timeout=30))


async def send(keyspace: Keyspace, requests: Sequence[tuple[Statement, Sequence[Any]]]) -> None:
    asking = keyspace.session().asking
    await asyncio.gather(*(asking.ask(statement, values) for statement, values in requests))


async def test_a_key_has_the_hash_that_the_ring_places_it_by(keyspace: Keyspace) -> None:
    keys = [b"88.1/A", "88.1/零件".encode(), b"88." + b"X" * 2_000 + b"/Y", b"\x00", b"\xff" * 31]
    await send(keyspace, [(PUT_RECORD, (key, b"", 1)) for key in keys])
    driver = keyspace.session().asking.session
    rows = driver.execute(
        f"SELECT key, token(key) FROM {keyspace.settings.keyspace}.records", execution_profile=Way.SURE, timeout=30
    )
    assert dict(rows) == {key: hash_of(key) for key in keys}


async def test_a_reader_sees_what_is_applied_and_says_as_of_when_it_knew(keyspace: Keyspace) -> None:
    async with writing(keyspace) as writer, reading(keyspace) as reader:
        entries = [entry([write("88.1/A", secret=b"s")], [Prefix("88.1", "h")], statement=b"one"), entry()]
        await writer.commit(Commit(entries=entries, tiles=[(b"t", b"tile")], tree_head=b"head"))
        assert (await reader.public([b"88.1/A"])).as_of == 0
        assert await reader.head() == 2
        for fetched in (await reader.public([b"88.1/A"]), await reader.full([b"88.1/A"])):
            assert fetched.as_of == 2
            assert fetched.bodies[0]
        assert await reader.tree_head() == b"head"
        assert await reader.tile(b"t") == b"tile"
        assert (await reader.statements(0, 9))[0] == b"one"
        assert [change.index for change in (await reader.changes(0, 9)).changes] == [1, 2]
        assert await reader.answered([entries[1].request, b"none", entries[0].request]) == [2, 0, 1]
        assert await reader.secret() == await writer.secret()


async def test_a_reader_sees_nothing_of_the_journal_above_the_watermark(keyspace: Keyspace) -> None:
    """It may be committed, and what it changes is not to be seen yet."""
    async with writing(keyspace) as writer, reading(keyspace) as reader:
        for text in "ABC":
            await put(writer, [write(f"88.1/{text}")], statement=text.encode())
        await do(keyspace, "DELETE FROM @watermark USING TIMESTAMP 100 WHERE name = 'journal'")
        assert (await reader.head(), await reader.statements(0, 9), await reader.tree_head()) == (0, [], b"")
        await send(keyspace, [(PUT_WATERMARK, ("journal", 2, b"then", 0, 101))])
        assert (await reader.head(), await reader.statements(0, 9)) == (2, [b"A", b"B"])
        assert await reader.tree_head() == b"then"
        changes = await reader.changes(0, 9)
        assert ([change.index for change in changes.changes], changes.head) == ([1, 2], 2)
        assert (await reader.changes(3, 9)).is_lost


A, B = b"88.1/A", b"88.1/B"


async def _load_takes(keyspace: Keyspace, writer: CassandraWriter, key: bytes) -> None:
    """Commit an entry of a load around the servers, and have its record in the ring before the load has ended."""
    version = await put(writer, checkpoints=(("load", Checkpoint(chunks=1, offline=1)),))
    body = write(key.decode(), secret=b"s")
    field = wire.version_field(version)
    await send(keyspace, [(PUT_RECORD_FULL, (key, body.public + field, body.full + field, version))])


async def test_records_of_a_load_are_there_at_once_when_it_has_ended(keyspace: Keyspace) -> None:
    async with writing(keyspace) as writer, reading(keyspace) as reader:
        await put(writer, [write(A.decode())])
        await _load_takes(keyspace, writer, B)
        await reader.head()
        for confirmed in (False, True):
            bodies = (await reader.public([A, B], confirmed=confirmed)).bodies
            assert [body is not None for body in bodies] == [True, False]
        assert (await reader.full([B])).bodies == [None]
        assert (await writer.public([B])).bodies != [None]

        writer.spread({b"88.1": 4, b"88.2": 2})
        await put(writer, [write("88.2/LAST")], checkpoints=(("load", None),), below=(b"88.1",))
        assert (await reader.public([B])).bodies == [None]
        # What was changed since is newer than all that this reader knows: it looks.
        changed = await put(writer, [write(A.decode())])
        assert None not in (await reader.public([A])).bodies
        assert reader.applied == changed
        assert None not in (await reader.public([A, B, b"88.2/LAST"])).bodies
        assert None not in (await reader.full([B])).bodies
        assert dict(keyspace.rows("SELECT prefix, buckets FROM {}.spans"))[b"88.2"] == 2
        assert (await listed(reader, b"88.2"))[0] == ["88.2/LAST"]


async def test_a_reader_that_has_not_looked_lately_does_before_it_gives_what_is_newer(keyspace: Keyspace) -> None:
    clock = SetClock(1_700_000_000.0)
    async with writing(keyspace) as writer, reading(keyspace, clock=clock) as reader:
        await put(writer, [write(A.decode())])
        assert await reader.head() == 1
        await _load_takes(keyspace, writer, B)
        # Within this time no load has records in the ring.
        assert (await reader.public([B])).bodies != [None]
        clock.advance(LOOKED_MAX + 0.1)
        assert (await reader.public([A])).bodies != [None]
        assert reader.applied == 1
        bodies = (await reader.public([A, B])).bodies
        assert [body is not None for body in bodies] == [True, False]
        assert reader.applied == 2


async def test_who_takes_over_a_load_goes_on_hiding_what_it_has(keyspace: Keyspace) -> None:
    async with writing(keyspace) as writer:
        await _load_takes(keyspace, writer, A)
    async with writing(keyspace, resumes="load") as writer, reading(keyspace) as reader:
        await put(writer, checkpoints=(("load", Checkpoint(chunks=2, offline=2)),))
        await reader.head()
        assert (await reader.public([A])).bodies == [None]


async def test_entries_that_were_proposed_in_vain_are_not_seen(keyspace: Keyspace) -> None:
    async with writing(keyspace) as writer, reading(keyspace) as reader:
        await put(writer, statement=b"committed")
        for epoch in (0, 99):
            await send(keyspace, [(PUT_ENTRY, (entry_bucket(1), 1, epoch, b"proposed", b"", [], 1))])
        assert await reader.statements(0, 9) == [b"committed"]
        assert [kept.statement for kept in await reader.entries(0, 9)] == [b"committed"]


async def test_large_artefacts_come_back_whole_and_a_missing_part_is_told(keyspace: Keyspace) -> None:
    sizes = [0, 1, PART_BYTES, 3 * PART_BYTES + 1, 0, 9 * PART_BYTES]
    artefacts = tuple(bytes([number]) * size for number, size in enumerate(sizes))
    async with writing(keyspace) as writer, reading(keyspace) as reader:
        await put(writer, statement=b"s", artefacts=artefacts, result=b"r")
        assert await reader.entries(0, 9) == [Kept(1, b"s", artefacts, b"r")]
        (epoch,) = {start_epoch for _, start_epoch in (await reader._reach()).starts}
        where = f"idx = 1 AND epoch = {epoch}"
        await do(keyspace, f"DELETE FROM @artefacts USING TIMESTAMP 9 WHERE {where} AND place = 3 AND part = 1")
        with pytest.raises(Fault) as caught:
            await reader.entries(0, 9)
        assert caught.value.reason is Reason.JOURNAL_DAMAGED
        assert await reader.statements(0, 9) == [b"s"]


async def test_a_missing_entry_is_told_by_its_index(keyspace: Keyspace) -> None:
    async with writing(keyspace) as writer, reading(keyspace) as reader:
        for _ in range(3):
            await put(writer)
        await do(keyspace, "DELETE FROM @journal USING TIMESTAMP 9 WHERE bucket = 0 AND idx = 2")
        with pytest.raises(Fault) as caught:
            await reader.statements(0, 9)
        assert (caught.value.reason, caught.value.variables["index"]) == (Reason.JOURNAL_DAMAGED, "2")
        assert len(await reader.statements(2, 9)) == 1


async def test_a_journal_is_read_across_its_partitions(keyspace: Keyspace) -> None:
    async with writing(keyspace) as writer, reading(keyspace) as reader:
        await writer.commit(Commit(entries=[entry(statement=b"%d" % (each + 1)) for each in range(2_100)]))
        assert await reader.statements(990, 20) == [b"%d" % each for each in range(991, 1_011)]
        assert await reader.statements(0, 5_000) == [b"%d" % each for each in range(1, 2_101)]
        changes = await reader.changes(990, 20)
        assert [change.index for change in changes.changes] == list(range(991, 1_011))


async def test_a_change_that_was_forgotten_is_lost_wherever_it_lay(keyspace: Keyspace) -> None:
    rows = [Prefix(f"88.{each}", "h" * 100) for each in range(3_000)]
    async with writing(keyspace) as writer, reading(keyspace) as reader:
        for _ in range(4):
            await put(writer, prefixes=rows)
        assert len((await reader.changes(0, 9)).changes) == 1, "each is larger than what is given at once"
        await do(keyspace, "DELETE FROM @changes USING TIMESTAMP 9 WHERE idx = 2")
        assert [change.index for change in (await reader.changes(0, 9)).changes] == [1]
        assert (await reader.changes(1, 9)).is_lost
        assert [change.index for change in (await reader.changes(2, 9)).changes] == [3]


async def test_a_record_that_only_the_quorum_has_is_found(keyspace: Keyspace) -> None:
    """With one replica both are the same; what counts is that a miss is asked twice and a hit is not."""
    registry = CollectorRegistry()
    async with writing(keyspace) as writer, reading(keyspace, registry) as reader:
        await put(writer, writes([f"88.1/{each:03}" for each in range(200)]))
        keys = [b"88.1/%03d" % each for each in range(300)]
        fetched = await reader.public(keys)
        assert [body is not None for body in fetched.bodies] == [True] * 200 + [False] * 100
        asked = {
            way: registry.get_sample_value("topnode_cassandra_record_keys_total", {"way": way})
            for way in ("near", "sure")
        }
        assert asked == {"near": 300, "sure": 100}


async def test_rows_are_paged_across_their_parts(keyspace: Keyspace) -> None:
    async with writing(keyspace) as writer, reading(keyspace) as reader:
        texts = [f"88.{each}" for each in range(100)]
        await put(writer, prefixes=[Prefix(text, "h") for text in texts])
        for limit in (1, 7, 99, 100, 101):
            found: list[Prefix] = []
            while rows := await reader.prefixes(found[-1].key if found else None, limit):
                assert len(rows) == min(limit, 100 - len(found))
                found += rows
            assert sorted(row.text for row in found) == sorted(texts)
            assert found == sorted(found, key=lambda row: (part_of(row.key), row.key))


class TestListing:
    async def test_a_listing_of_many_buckets_gives_each_once_at_any_page_size(self, keyspace: Keyspace) -> None:
        keys = [b"88.1/%03d" % each for each in range(100)]
        await send(keyspace, [*_listed(keys, 64), _span(b"88.1", 64)])
        async with reading(keyspace) as reader:
            for limit in (1, 7, 100, 1_000):
                found, _ = await listed(reader, b"88.1", limit=limit)
                assert sorted(found) == [key.decode() for key in keys]

    async def test_pages_go_on_while_a_listing_is_moved_to_more_buckets(self, keyspace: Keyspace) -> None:
        keys = [b"88.1/%03d" % each for each in range(60)]
        await send(keyspace, [*_listed(keys, 2), _span(b"88.1", 2)])
        async with reading(keyspace) as reader:
            found: list[str] = []
            after = None
            for turn in range(100):
                page = await reader.identifiers(b"88.1", derived=False, after=after, limit=7)
                found += page.identifiers
                after = page.next_after
                if after is None:
                    break
                if turn == 2:
                    await send(keyspace, [*_listed(keys, 16), _span(b"88.1", 2, 16)])
                if turn == 4:
                    await send(keyspace, [_span(b"88.1", 16)])
                    await send(keyspace, [(DROP_BUCKET, (9, b"88.1", number)) for number in (2, 3)])
            assert sorted(found) == [key.decode() for key in keys]

    async def test_more_derived_prefixes_than_one_page_looks_into_are_all_listed(self, keyspace: Keyspace) -> None:
        prefixes = [b"88.1.%04d" % each for each in range(3 * listing.SPANS_AT_ONCE)]
        full = prefixes[:: listing.SPANS_AT_ONCE // 2] + prefixes[-1:]
        keys = [prefix + b"/" + each for prefix in full for each in (b"A", b"B")]
        await send(keyspace, [_span(prefix, 1) for prefix in (b"88.1", *prefixes, b"88.1-", b"88.10", b"88")])
        await send(keyspace, _listed(keys, 1))
        async with reading(keyspace) as reader:
            for limit in (1, 3, 1_000):
                found, pages = await listed(reader, b"88.1", derived=True, limit=limit)
                assert sorted(found) == sorted(key.decode() for key in keys)
                assert pages > 2
            assert await reader.holds_below(b"88.1.0100")
            assert not await reader.holds_below(b"88.1.01")

    async def test_many_empty_buckets_end_a_page_and_not_the_listing(self, keyspace: Keyspace) -> None:
        count = 4 * listing.BUCKETS_MAX
        key = max((b"88.1/%04d" % each for each in range(1_000)), key=hash_of)
        assert bucket_of(hash_of(key), count) > 2 * count - 10
        await send(keyspace, [*_listed([key], count), _span(b"88.1", count)])
        async with reading(keyspace) as reader:
            page = await reader.identifiers(b"88.1", derived=False, after=None, limit=10)
            assert (page.identifiers, page.next_after is None) == ([], False)
            found, pages = await listed(reader, b"88.1", limit=10)
            assert found == [key.decode()]
            assert pages > 2


def _span(prefix: bytes, buckets: int, wanted: int | None = None) -> tuple[Statement, Sequence[Any]]:
    timestamp = 2 * buckets.bit_length() + bool(wanted)
    return PUT_SPAN, (part_of(prefix), prefix, buckets, wanted, timestamp)


def _listed(keys: Sequence[bytes], buckets: int) -> list[tuple[Statement, Sequence[Any]]]:
    return [
        (
            PUT_LISTED,
            (key.partition(b"/")[0], bucket_of(hash_of(key), buckets), hash_of(key), key, key.decode(), 1),
        )
        for key in keys
    ]
