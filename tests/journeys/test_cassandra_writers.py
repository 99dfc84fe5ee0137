"""Who writes to a store in Cassandra, and what becomes of commits that fail in the middle: on a real server.

A store that went through all of that holds the same as one that never saw it.
"""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.reader import CassandraReader
from resolver.store.cassandra.settings import CassandraSettings, LeaseSettings
from resolver.store.cassandra.writer import CassandraWriter
from resolver.units import Duration
from tests.cassandra_state import state_of
from tests.journeys.cassandra_child import made_commit, made_entry, started
from tests.keyspaces import Keyspace, Keyspaces, fall_silent, vanish, writing
from tests.meddling import How, Meddler
from tests.services.rings import RunningRing
from tests.small_store import put
from tests.stores import write

pytestmark = pytest.mark.needs("cassandra")

SHORT = LeaseSettings(lease=Duration(0.4), beat_every=Duration(0.1), patience=Duration(10))
"""For whoever takes over from a writer that is known to be gone."""

IMPATIENT = LeaseSettings(lease=Duration(90), beat_every=Duration(30), patience=Duration(0.6))
"""For a writer that is meddled with: its signs of life are not among the requests that are counted."""


@pytest.fixture
def keyspace(keyspaces: Keyspaces) -> Iterator[Keyspace]:
    with keyspaces.one() as lent:
        yield lent


@pytest.fixture
async def meddler(keyspace: Keyspace) -> AsyncIterator[Meddler]:
    (host,) = keyspace.settings.hosts
    async with Meddler.before(host, keyspace.settings.port) as between:
        yield between


def steps() -> Iterator[int]:
    """Give after how many requests a commit is to fail: each of the first ones, among them the one that decides."""
    yield from range(10)
    yield from count(10, 6)


async def opened(settings: CassandraSettings) -> CassandraWriter:
    """Become the writer, as soon as there is none; on a busy machine that may take some tries."""
    while True:
        with suppress(Fault):
            return await CassandraWriter.open(
                settings, owner="test", waits=True, clock=SystemClock(), registry=CollectorRegistry()
            )


async def once_answered(ask: Callable[[], Awaitable[int]]) -> int:
    """Ask until there is an answer: a connection that was silent for a while is made anew."""
    while True:
        with suppress(Fault):
            return await ask()


async def behind(meddler: Meddler, keyspace: Keyspace) -> CassandraWriter:
    """Become the writer, by way of the meddler."""
    settings = replace(keyspace.settings, port=meddler.port, deadline=Duration(0.3), lease=IMPATIENT)
    return await opened(settings)


@asynccontextmanager
async def successor(keyspace: Keyspace) -> AsyncIterator[CassandraWriter]:
    """Take over from a writer that is gone."""
    writer = await opened(replace(keyspace.settings, lease=SHORT))
    try:
        yield writer
    finally:
        await writer.close()


async def expect_same_as_untroubled(keyspace: Keyspace, keyspaces: Keyspaces, size: int) -> None:
    """Compare a store with one in which the same entries were committed without any trouble."""
    with keyspaces.one() as other:
        async with writing(other) as writer:
            for index in range(1, size + 1):
                await writer.commit(made_commit(index, 1))
        expected, found = state_of(other), state_of(keyspace)
    assert {table for table in expected if expected[table] != found[table]} == set()


async def expect_journal(writer: CassandraWriter, size: int) -> None:
    assert await writer.head() == size
    assert await writer.statements(0, size + 9) == [made_entry(index).statement for index in range(1, size + 1)]
    kept = await writer.entries(0, size + 9)
    assert [each.artefacts for each in kept] == [made_entry(index).artefacts for index in range(1, size + 1)]
    assert await writer.tree_head() == b"head %d" % size


class TestTurns:
    async def test_a_second_writer_is_refused_or_waits_until_the_first_lets_go(self, keyspace: Keyspace) -> None:
        async with writing(keyspace) as first:
            second = keyspace.writer()
            with pytest.raises(Fault) as caught:
                await second.begin()
            assert caught.value.reason is Reason.STORE_OWNED
            waiting = asyncio.create_task(second.begin(waits=True))
            await put(first, [write("88.1/A")])
            assert not waiting.done()
        await waiting
        assert await second.head() == 1
        await second.close()

    async def test_a_writer_that_lost_its_turn_commits_nothing_and_says_why(self, keyspace: Keyspace) -> None:
        paused = keyspace.writer()
        await paused.begin()
        await paused.commit(made_commit(1, 2))
        await fall_silent(paused)
        async with successor(keyspace) as writer:
            for call in (paused.commit(made_commit(3, 2)), paused.commit(made_commit(3, 1)), paused.head()):
                with pytest.raises(Fault) as caught:
                    await call
                assert caught.value.reason is Reason.STORE_FENCED
            assert await writer.commit(made_commit(3, 1)) == 3
            await expect_journal(writer, 3)
        await paused.close()

    async def test_a_writer_that_lost_its_turn_ends_by_itself(self, keyspace: Keyspace) -> None:
        paused = keyspace.writer()
        await paused.begin()
        await fall_silent(paused)
        async with successor(keyspace):
            paused._beating = asyncio.create_task(paused._beat())
            with pytest.raises(Fault) as caught:
                await asyncio.wait_for(paused.run(), 10)
            assert caught.value.reason is Reason.STORE_FENCED
        await paused.close()

    async def test_one_that_is_killed_is_replaced_within_ten_seconds(self, keyspace: Keyspace) -> None:
        """With the lease as it is set for production."""
        standing_by = replace(keyspace.settings, lease=LeaseSettings())
        with started(keyspace.settings, LeaseSettings().lease) as child:
            assert child.stdout is not None
            said = int(child.stdout.readline())
            waiting = asyncio.create_task(opened(standing_by))
            while said < 20:
                said = int(await asyncio.to_thread(child.stdout.readline))
            child.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            writer = await waiting
            assert time.monotonic() - killed < 10
            size = await writer.head()
            assert size >= said
            await writer.commit(made_commit(size + 1, 1))
            await expect_journal(writer, size + 1)
            await writer.close()

    @pytest.mark.parametrize("turn", range(3))
    async def test_one_that_is_frozen_commits_nothing_more_when_it_goes_on(
        self, keyspace: Keyspace, keyspaces: Keyspaces, turn: int
    ) -> None:
        with started(keyspace.settings, 1.5) as child:
            assert child.stdout is not None
            for _ in range(4 + 3 * turn):
                said = int(child.stdout.readline())
            child.send_signal(signal.SIGSTOP)
            async with successor(keyspace) as writer:
                size = await writer.head()
                assert size >= said
                await writer.commit(made_commit(size + 1, 2))
                child.send_signal(signal.SIGCONT)
                *others, last = (await asyncio.to_thread(child.stdout.read)).split()
                assert last == "STORE_FENCED"
                assert all(int(each) <= size for each in others)
                await writer.commit(made_commit(size + 3, 1))
                await expect_journal(writer, size + 3)
        await expect_same_as_untroubled(keyspace, keyspaces, size + 3)


@pytest.mark.timeout(400)
class TestFailingInTheMiddle:
    """Each commit fails some requests later than the one before, until one does not fail."""

    async def test_a_writer_that_dies_at_any_step_leaves_all_of_a_commit_or_nothing(
        self, keyspace: Keyspace, keyspaces: Keyspaces, meddler: Meddler
    ) -> None:
        size, outcomes = 0, set()
        for step in steps():
            writer = await behind(meddler, keyspace)
            meddler.act(How.CUT, after=step)
            is_done = await self._commits(writer, size)
            await vanish(writer)
            meddler.relent()
            async with successor(keyspace) as next_one:
                found = await next_one.head()
                outcomes.add((is_done, found - size))
                assert found in ({size + 2} if is_done else {size, size + 2})
                if found == size:
                    await next_one.commit(made_commit(size + 1, 2))
                size += 2
                await expect_journal(next_one, size)
            if is_done:
                break
        assert outcomes == {(False, 0), (False, 2), (True, 2)}
        await expect_same_as_untroubled(keyspace, keyspaces, size)

    async def test_a_writer_whose_answers_are_lost_finds_out_what_became_of_them(
        self, keyspace: Keyspace, keyspaces: Keyspaces, meddler: Meddler
    ) -> None:
        """The answer to the transaction that decides among them."""
        writer = await behind(meddler, keyspace)
        size, outcomes = 0, set()
        for step in steps():
            meddler.act(How.SWALLOW, after=step)
            is_done = await self._commits(writer, size)
            if step == 0:
                with pytest.raises(Fault) as caught:
                    await writer.head()
                assert caught.value.reason is Reason.STORE_UNAVAILABLE
            meddler.relent()
            found = await once_answered(writer.head)
            outcomes.add((is_done, found - size))
            assert found in ({size + 2} if is_done else {size, size + 2})
            assert await writer.tree_head() == (b"head %d" % found if found else b"")
            while await once_answered(writer.head) == size:
                await self._commits(writer, size)
            size += 2
            if is_done:
                break
        assert outcomes == {(False, 0), (False, 2), (True, 2)}
        await vanish(writer)
        async with successor(keyspace) as next_one:
            await expect_journal(next_one, size)
        await expect_same_as_untroubled(keyspace, keyspaces, size)

    async def test_what_a_writer_sent_before_it_lost_its_turn_changes_nothing_afterwards(
        self, keyspace: Keyspace, keyspaces: Keyspaces, meddler: Meddler
    ) -> None:
        """However late it arrives: the journal of a commit, the transaction, or what it applies."""
        size = 0
        for step in steps():
            writer = await behind(meddler, keyspace)
            meddler.act(How.HOLD, after=step)
            is_done = await self._commits(writer, size)
            async with successor(keyspace) as next_one:
                found = await next_one.head()
                assert found in ({size + 2} if is_done else {size, size + 2})
                size = await next_one.commit(made_commit(found + 1, 2))
                before = state_of(keyspace)
                meddler.relent()
                await meddler.quiet()
                assert state_of(keyspace) == before
                await expect_journal(next_one, size)
            await vanish(writer)
            if is_done:
                break
        await expect_same_as_untroubled(keyspace, keyspaces, size)

    async def test_a_commit_that_was_given_up_and_found_not_done_is_not_done_later(
        self, keyspace: Keyspace, keyspaces: Keyspaces, meddler: Meddler
    ) -> None:
        """Whatever of it was still on its way then: the transaction that decides above all."""
        writer = await behind(meddler, keyspace)
        size = 0
        for step in range(10):
            meddler.act(How.HOLD, after=step)
            await self._commits(writer, size)
            meddler.pass_by()
            size = await once_answered(writer.head)
            meddler.relent()
            await meddler.quiet()
            while await once_answered(writer.head) == size:
                await asyncio.gather(writer.commit(made_commit(size + 1, 1)), return_exceptions=True)
            size += 1
        await vanish(writer)
        async with successor(keyspace) as next_one:
            await expect_journal(next_one, size)
        await expect_same_as_untroubled(keyspace, keyspaces, size)

    async def test_a_request_that_was_sent_again_may_arrive_later_than_everything_after_it(
        self, keyspace: Keyspace, keyspaces: Keyspaces, meddler: Meddler
    ) -> None:
        """Each of them in turn, the transaction that decides too."""
        patient = replace(IMPATIENT, patience=Duration(20))
        writer = await opened(replace(keyspace.settings, port=meddler.port, deadline=Duration(0.3), lease=patient))
        size = 0
        for step in count():
            meddler.act(How.HOLD_ONE, after=step)
            size = await writer.commit(made_commit(size + 1, 2))
            is_over = not meddler.holds_any
            size = await writer.commit(made_commit(size + 1, 1))
            before = state_of(keyspace)
            meddler.relent()
            await meddler.quiet()
            assert state_of(keyspace) == before
            if is_over:
                break
        await expect_journal(writer, size)
        await writer.close()
        await expect_same_as_untroubled(keyspace, keyspaces, size)

    async def test_a_ring_that_does_not_answer_for_a_while_costs_a_commit_nothing_but_time(
        self, keyspace: Keyspace, keyspaces: Keyspaces, meddler: Meddler
    ) -> None:
        patient = replace(IMPATIENT, patience=Duration(20))
        settings = replace(keyspace.settings, port=meddler.port, deadline=Duration(0.3), lease=patient)
        writer = await opened(settings)
        size = 0
        for step in (0, 3, 9):
            meddler.act(How.SWALLOW, after=step)
            committing = asyncio.create_task(writer.commit(made_commit(size + 1, 2)))
            await meddler.swallowed()
            meddler.relent()
            size += 2
            assert await committing == size
        await expect_journal(writer, size)
        await writer.close()
        await expect_same_as_untroubled(keyspace, keyspaces, size)

    async def test_readers_see_nothing_of_a_commit_that_is_not_applied(
        self, keyspace: Keyspace, meddler: Meddler
    ) -> None:
        writer = await behind(meddler, keyspace)
        await writer.commit(made_commit(1, 1))
        meddler.act(How.CUT, after=8)
        assert not await self._commits(writer, 1)
        await vanish(writer)
        meddler.relent()
        reader = await CassandraReader.open(keyspace.settings, clock=SystemClock(), registry=CollectorRegistry())
        assert await reader.head() == 1
        assert [change.index for change in (await reader.changes(0, 9)).changes] == [1]
        assert await reader.statements(0, 9) == [made_entry(1).statement]
        assert await reader.tree_head() == b"head 1"
        async with successor(keyspace):
            assert await reader.head() in {1, 3}
        reader.close()

    @staticmethod
    async def _commits(writer: CassandraWriter, size: int) -> bool:
        """Commit two entries; tell whether that was acknowledged."""
        (outcome,) = await asyncio.gather(writer.commit(made_commit(size + 1, 2)), return_exceptions=True)
        if isinstance(outcome, Fault):
            assert outcome.reason is Reason.STORE_UNAVAILABLE
            return False
        assert outcome == size + 2
        return True


@pytest.fixture
def spread(ring: RunningRing) -> Iterator[Keyspace]:
    """A store on three nodes, each of which has a copy of everything."""
    with ring.keyspace() as name:
        settings = CassandraSettings(
            hosts=ring.hosts, port=ring.port, datacenter=ring.data_centre, keyspace=name, replicas=3
        )
        keyspace = migrated(settings)
        yield keyspace
        keyspace.close()


def migrated(settings: CassandraSettings) -> Keyspace:
    """Make a keyspace on a ring in which a node, that another test has killed, may have come back only now."""
    while True:
        with suppress(Fault):
            return Keyspace(settings)


@pytest.mark.timeout(400)
class TestRing:
    async def test_the_loss_of_a_node_is_no_error_to_those_who_commit_nor_to_the_next_writer(
        self, ring: RunningRing, spread: Keyspace, keyspaces: Keyspaces
    ) -> None:
        writer = spread.writer()
        await writer.begin()
        next_one = spread.writer()
        standing_by = asyncio.create_task(next_one.begin(waits=True))
        size = 0
        for turn in range(40):
            if turn == 10:
                ring.kill(3)
            size = await writer.commit(made_commit(size + 1, 2))
        assert not standing_by.done()
        await vanish(writer)
        began = time.monotonic()
        await standing_by
        assert time.monotonic() - began < 10
        size = await next_one.commit(made_commit(size + 1, 2))
        await expect_journal(next_one, size)
        await next_one.close()
        await expect_same_as_untroubled(spread, keyspaces, size)

    async def test_without_a_quorum_nothing_is_committed_and_with_it_again_the_outcome_is_found(
        self, ring: RunningRing, spread: Keyspace, keyspaces: Keyspaces
    ) -> None:
        settings = replace(spread.settings, lease=replace(LeaseSettings(), patience=Duration(2)))
        writer = await opened(settings)
        size = await writer.commit(made_commit(1, 2))
        ring.pause(2)
        ring.pause(3)
        with pytest.raises(Fault) as caught:
            await writer.commit(made_commit(size + 1, 2))
        assert caught.value.reason is Reason.STORE_UNAVAILABLE
        ring.resume(2)
        ring.resume(3)
        found = await once_answered(writer.head)
        assert found in {size, size + 2}
        while await once_answered(writer.head) < size + 2:
            await asyncio.gather(writer.commit(made_commit(size + 1, 2)), return_exceptions=True)
        size += 2
        await expect_journal(writer, size)
        await writer.close()
        await expect_same_as_untroubled(spread, keyspaces, size)
