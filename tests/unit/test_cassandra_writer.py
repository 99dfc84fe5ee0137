"""What is the Cassandra writer's own: what it takes away again, and what it refuses."""

import asyncio
from collections.abc import Iterator

import pytest

from resolver.errors import Fault, Reason
from resolver.routes import Prefix
from resolver.store import Checkpoint, Commit
from resolver.store.cassandra.layout import BUCKET_ENTRIES
from resolver.store.cassandra.writer import Amounts, CassandraWriter
from tests.keyspaces import QUICK, Keyspace, Keyspaces, vanish, writing
from tests.small_store import entry, put
from tests.stores import write

pytestmark = pytest.mark.needs("cassandra")


@pytest.fixture
def keyspace(keyspaces: Keyspaces) -> Iterator[Keyspace]:
    with keyspaces.one() as lent:
        yield lent


class TestTakingAway:
    async def test_what_was_kept_to_apply_a_commit_again_goes_with_the_next_one_and_at_the_end(
        self, keyspace: Keyspace
    ) -> None:
        async with writing(keyspace) as writer:
            for _ in range(3):
                index = await writer.commit(Commit(entries=[entry(), entry([write("88.1/A")])]))
                rows = keyspace.rows("SELECT DISTINCT idx, epoch FROM {}.redo")
                assert [first for first, _ in rows] == [index - 1]
        assert keyspace.rows("SELECT idx FROM {}.redo") == []

    async def test_what_a_writer_has_left_of_that_goes_when_the_next_one_begins(self, keyspace: Keyspace) -> None:
        killed = keyspace.writer()
        await killed.begin()
        await put(killed)
        await vanish(killed)
        second = keyspace.writer()
        await second.begin(waits=True)
        assert keyspace.rows("SELECT idx FROM {}.redo") == []
        await second.close()

    async def test_the_feed_forgets_whole_partitions_with_what_lies_beside_them(self, keyspace: Keyspace) -> None:
        large = [Prefix(f"88.{each}", "h" * 100) for each in range(1_000)]
        async with writing(keyspace, amounts=Amounts(changes=10)) as writer:
            await put(writer, prefixes=large)
            for _ in range(5):
                await writer.commit(Commit(entries=[entry() for _ in range(BUCKET_ENTRIES // 2)]))
            await put(writer, prefixes=large)
            await writer._forgetting.tend(await writer.head())
            kept = {index for (index,) in keyspace.rows("SELECT idx FROM {}.feed")}
            assert kept == set(range(2 * BUCKET_ENTRIES, 2_503))
            assert {index for (index,) in keyspace.rows("SELECT idx FROM {}.changes")} == {2_502}
            assert [change.index for change in (await writer.changes(2_492, 99)).changes] == list(range(2_493, 2_503))
            assert (await writer.changes(2_491, 99)).is_lost

    async def test_what_an_earlier_writer_did_not_forget_is_forgotten(self, keyspace: Keyspace) -> None:
        async with writing(keyspace) as writer:
            for _ in range(5):
                await writer.commit(Commit(entries=[entry() for _ in range(BUCKET_ENTRIES // 2)]))
        async with writing(keyspace, amounts=Amounts(changes=10)) as writer:
            await writer._forgetting.tend(await writer.head())
        assert {index for (index,) in keyspace.rows("SELECT idx FROM {}.feed")} == set(range(2_000, 2_501))


class TestRefusing:
    async def test_a_store_whose_journal_says_less_than_was_applied_is_damaged(self, keyspace: Keyspace) -> None:
        async with writing(keyspace) as writer:
            await put(writer)
        keyspace.rows("UPDATE {}.watermark USING TIMESTAMP 99 SET applied = 5 WHERE name = 'journal'")
        await expect_damaged(keyspace)

    async def test_a_commit_whose_redo_is_gone_is_not_passed_over(self, keyspace: Keyspace) -> None:
        async with writing(keyspace) as writer:
            await put(writer)
        keyspace.rows("DELETE FROM {}.watermark WHERE name = 'journal'")
        await expect_damaged(keyspace)


class TestLoadsAroundTheServers:
    async def test_while_one_is_not_finished_nobody_else_writes(self, keyspace: Keyspace) -> None:
        async with writing(keyspace) as writer:
            await put(writer, checkpoints=(("first", Checkpoint(offline=7)), ("online", Checkpoint())))
        await expect_unfinished(keyspace, "first")
        waiting = keyspace.writer()
        begun = asyncio.create_task(waiting.begin(waits=True))
        resuming = keyspace.writer()
        await resuming.begin(resumes="first")
        assert not begun.done()
        await put(resuming, checkpoints=(("first", None),))
        await resuming.close()
        await begun
        assert await waiting.head() == 2
        await waiting.close()

    async def test_one_is_seen_of_which_nothing_was_applied(self, keyspace: Keyspace) -> None:
        killed = keyspace.writer()
        await killed.begin()
        await put(killed, checkpoints=(("first", Checkpoint(offline=7)),))
        await vanish(killed)
        for table in ("imports", "watermark"):
            keyspace.rows(f"TRUNCATE {{}}.{table}")
        await expect_unfinished(keyspace, "first")
        # Whoever was refused has let go: this one does not wait for its lease.
        async with asyncio.timeout(QUICK.lease), writing(keyspace, resumes="first") as resuming:
            assert await resuming.checkpoint("first") == Checkpoint(offline=7)

    async def test_where_listings_lie_is_said_with_the_next_commit(self, keyspace: Keyspace) -> None:
        async with writing(keyspace) as writer:
            await put(writer, [write("88.1.7/A")])
            assert [await writer.holds_directly(each) for each in (b"88.1.7", b"88.1")] == [True, False]
            writer.spread({b"88.1": 4, b"88.2": 1})
            assert not await writer.holds_directly(b"88.2")
            await put(writer, [write(f"88.1/{each}") for each in range(40)])
            assert await writer.holds_directly(b"88.2")
            page = await writer.identifiers(b"88.1", derived=False, after=None, limit=100)
            assert len(page.identifiers) == 40
        spans = keyspace.rows("SELECT prefix, buckets FROM {}.spans")
        assert set(spans) == {(b"88.1", 4), (b"88.1.7", 1), (b"88.2", 1)}


async def expect_unfinished(keyspace: Keyspace, name: str) -> None:
    writer = keyspace.writer()
    with pytest.raises(Fault) as caught:
        await begun(writer)
    assert (caught.value.reason, caught.value.variables) == (Reason.LOAD_UNFINISHED, {"name": name})
    await writer.close()


async def begun(writer: CassandraWriter) -> None:
    """Begin as soon as the writer before, which was killed, counts as gone."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await writer.begin()
            except Fault as fault:
                if fault.reason is not Reason.STORE_OWNED:
                    raise


async def expect_damaged(keyspace: Keyspace) -> None:
    writer = keyspace.writer()
    with pytest.raises(Fault) as caught:
        await writer.begin()
    assert caught.value.reason is Reason.JOURNAL_DAMAGED
    await writer.close()
