"""Listings that are moved to more buckets, while they are read and written, and by writers that come and go."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.growing import DROP_AFTER_SECONDS
from resolver.store.cassandra.session import Session
from resolver.store.cassandra.settings import LeaseSettings
from resolver.store.cassandra.spans import Span
from resolver.store.cassandra.writer import Amounts, CassandraWriter
from resolver.units import Duration
from tests.keyspaces import Keyspace, Keyspaces, fall_silent, vanish, writing
from tests.meddling import How, Meddler
from tests.small_store import put
from tests.stores import listed, write, writes

SMALL = Amounts(bucket_keys=20)
"""Buckets that are too large soon."""


@pytest.fixture
def keyspace(keyspaces: Keyspaces) -> Iterator[Keyspace]:
    with keyspaces.one() as lent:
        yield lent


@pytest.fixture
async def writer(keyspace: Keyspace) -> AsyncIterator[CassandraWriter]:
    async with writing(keyspace, amounts=SMALL) as begun:
        yield begun


def names(first: int, end: int) -> list[str]:
    return [f"88.1/{each:04}" for each in range(first, end)]


def spans(keyspace: Keyspace) -> dict[bytes, tuple[int, int | None]]:
    """Give buckets, and buckets wanted, by prefix."""
    rows = keyspace.rows("SELECT prefix, buckets, wanted FROM {}.spans")
    return {prefix: (buckets, wanted) for prefix, buckets, wanted in rows}


def partitions(keyspace: Keyspace) -> set[int]:
    """Give the numbers of the buckets in which there is anything."""
    return {bucket for _, bucket in keyspace.rows("SELECT DISTINCT prefix, bucket FROM {}.listing")}


async def expect_listed(writer: CassandraWriter, expected: Sequence[str]) -> None:
    for limit in (7, 1_000):
        assert sorted((await listed(writer, b"88.1", limit=limit))[0]) == sorted(expected)


class TestSpans:
    def test_each_state_of_a_span_has_a_later_timestamp_than_those_before_it(self) -> None:
        states = [Span(1), Span(1, 4), Span(4), Span(4, 8), Span(8), Span(8, 1_024), Span(1_024)]
        timestamps = [state.timestamp for state in states]
        assert timestamps == sorted(set(timestamps))
        assert timestamps[0] > 0

    def test_a_key_is_written_to_the_buckets_that_are_read_and_to_those_that_are_filled(self) -> None:
        assert list(Span(1).buckets_of(0)) == [1]
        assert list(Span(2, 8).buckets_of(0)) == [3, 12]


@pytest.mark.needs("cassandra")
class TestGrowing:
    async def test_a_listing_is_moved_when_its_buckets_are_too_large(
        self, keyspace: Keyspace, writer: CassandraWriter
    ) -> None:
        await put(writer, writes([*names(0, 15), "88.2/A"]))
        await writer._growing.tend()
        assert spans(keyspace) == {b"88.1": (1, None), b"88.2": (1, None)}
        await put(writer, [*writes(names(15, 100)), write(names(0, 1)[0], deleted=True)])
        await writer._growing.tend()
        assert spans(keyspace) == {b"88.1": (16, None), b"88.2": (1, None)}
        await expect_listed(writer, names(1, 100))
        await put(writer, [*writes(names(100, 110)), write(names(1, 2)[0], deleted=True)])
        await expect_listed(writer, names(2, 110))

    async def test_it_is_moved_again_when_it_goes_on_to_grow(
        self, keyspace: Keyspace, writer: CassandraWriter
    ) -> None:
        await put(writer, writes(names(0, 100)))
        await writer._growing.tend()
        assert spans(keyspace)[b"88.1"] == (16, None)
        await put(writer, writes(names(100, 600)))
        await writer._growing.tend()
        assert spans(keyspace)[b"88.1"] in {(64, None), (128, None)}
        await expect_listed(writer, names(0, 600))

    async def test_it_is_done_beside_commits_without_being_asked_for(
        self, keyspace: Keyspace, writer: CassandraWriter
    ) -> None:
        running = asyncio.create_task(writer.run())
        await put(writer, writes(names(0, 100)))
        async with asyncio.timeout(60):
            while spans(keyspace)[b"88.1"] != (16, None):  # noqa: ASYNC110 - nobody is told when it has been done
                await asyncio.sleep(0.05)
        running.cancel()
        await expect_listed(writer, names(0, 100))

    async def test_old_buckets_are_dropped_when_nobody_can_be_reading_them(self, keyspace: Keyspace) -> None:
        clock = SetClock()
        async with writing(keyspace, amounts=SMALL, clock=clock) as writer:
            await put(writer, writes(names(0, 100)))
            await writer._growing.tend()
            assert 1 in partitions(keyspace)
            clock.advance(DROP_AFTER_SECONDS + 1)
            await writer._growing.tend()
            assert 1 not in partitions(keyspace)
            await expect_listed(writer, names(0, 100))

    async def test_who_lists_meanwhile_goes_on_where_it_was(self, writer: CassandraWriter) -> None:
        await put(writer, writes(names(0, 100)))
        page = await writer.identifiers(b"88.1", derived=False, after=None, limit=30)
        await writer._growing.tend()
        found = page.identifiers
        while page.next_after is not None:
            page = await writer.identifiers(b"88.1", derived=False, after=page.next_after, limit=30)
            found += page.identifiers
        assert sorted(found) == names(0, 100)

    async def test_what_is_written_and_deleted_while_rows_are_copied_is_not_lost(
        self, keyspace: Keyspace, writer: CassandraWriter
    ) -> None:
        await put(writer, writes(names(0, 1_200)))
        moving = asyncio.create_task(writer._growing.tend())
        there = set(names(0, 1_200))
        for turn in range(200):
            deleted = names(turn * 5, turn * 5 + 3)
            added = names(3_000 + turn, 3_001 + turn)
            await put(writer, [*[write(text, deleted=True) for text in deleted], *writes(added)])
            there = there - set(deleted) | set(added)
            if moving.done():
                break
        await moving
        assert spans(keyspace)[b"88.1"] == (256, None)
        await expect_listed(writer, sorted(there))

    @pytest.mark.parametrize("after", [0, 1, 2, 3, 6, 12])
    async def test_a_writer_that_dies_meanwhile_leaves_it_to_the_next_one(
        self, keyspace: Keyspace, after: int
    ) -> None:
        (host,) = keyspace.settings.hosts
        lease = LeaseSettings(lease=Duration(90), beat_every=Duration(30), patience=Duration(0.5))
        async with Meddler.before(host, keyspace.settings.port) as meddler:
            settings = replace(keyspace.settings, port=meddler.port, lease=lease)
            session = await Session.open(settings, clock=SystemClock(), registry=CollectorRegistry())
            first = CassandraWriter(
                session, settings, owner="first", amounts=SMALL, clock=SystemClock(), registry=CollectorRegistry()
            )
            await first.begin()
            await put(first, writes(names(0, 100)))
            meddler.act(How.CUT, after=after)
            with pytest.raises(Fault) as caught:
                await first._growing.tend()
            assert caught.value.reason is Reason.STORE_UNAVAILABLE
            await vanish(first)
        second = keyspace.writer(amounts=SMALL)
        await second.begin(waits=True)
        await put(second, [*writes(names(100, 140)), write(names(0, 1)[0], deleted=True)])
        await expect_listed(second, names(1, 140))
        await second._growing.tend()
        await expect_listed(second, names(1, 140))
        buckets, wanted = spans(keyspace)[b"88.1"]
        assert buckets >= 16
        assert wanted is None
        await second.close()

    async def test_one_that_lost_its_turn_moves_nothing(self, keyspace: Keyspace) -> None:
        """It may say what it wants; whoever comes next does that, or the one after, from the beginning."""
        paused = keyspace.writer(amounts=SMALL)
        await paused.begin()
        await put(paused, writes(names(0, 100)))
        await fall_silent(paused)
        second = keyspace.writer(amounts=Amounts())
        await second.begin(waits=True)
        await put(second, writes(names(100, 120)))
        for _ in range(2):
            with pytest.raises(Fault) as caught:
                await paused._growing.tend()
            assert caught.value.reason is Reason.STORE_FENCED
        await put(second, [write(names(0, 1)[0], deleted=True)])
        assert spans(keyspace)[b"88.1"] == (1, 32)
        await expect_listed(second, names(1, 120))
        await second.close()
        async with writing(keyspace, amounts=SMALL) as third:
            await put(third, writes(names(120, 121)))
            await third._growing.tend()
            assert spans(keyspace)[b"88.1"] == (32, None)
            await expect_listed(third, names(1, 121))
        await paused.close()
