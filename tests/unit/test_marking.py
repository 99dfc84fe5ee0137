"""Marking: what is marked and told, and what happens where the cache or the feed has forgotten something."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from resolver.errors import Fault, Reason
from resolver.marking import Marking
from resolver.shelves import Fill
from resolver.units import Duration
from tests.small_shelves import SmallShelves
from tests.small_store import SmallStore, body

A, B = b"88.100/A", b"88.100/B"


class Desk:
    """A store with a record, and the marking of its changes."""

    def __init__(self) -> None:
        self.store, self.shelves, self.registry = SmallStore(), SmallShelves(), CollectorRegistry()
        self.write(A)
        self.marking = self.another()

    def another(self) -> Marking:
        """What another process does that becomes the writer."""
        self.registry = CollectorRegistry()
        return Marking(self.store, self.shelves, Duration(0.2), self.registry)

    def write(self, *keys: bytes) -> int:
        return self.store.commit({key: body(key.decode(), self.store.index + 1) for key in keys})

    async def fill(self, key: bytes, version: int) -> None:
        assert self.shelves.state
        await self.shelves.fill([Fill(key, b"body", version, version, self.shelves.state.era)])

    async def marked(self) -> int | None:
        return await self.shelves.marked()

    @property
    def era(self) -> bytes:
        assert self.shelves.state
        return self.shelves.state.era

    def sample(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)


@pytest.fixture
async def desk() -> Desk:
    made = Desk()
    assert await made.marking.catch_up()
    return made


async def test_an_era_begins_where_the_feed_ends(desk: Desk) -> None:
    assert (await desk.marked(), desk.sample("topnode_marking_eras_total")) == (1, 1)


async def test_each_change_is_marked_and_told(desk: Desk) -> None:
    desk.write(A, B)
    desk.write(B)
    await desk.marking.catch_up()
    assert await desk.marked() == 3
    assert {key: value[5:13] for key, value in desk.shelves.values.items()} == {
        A: (2).to_bytes(8, "big"),
        B: (3).to_bytes(8, "big"),
    }
    assert desk.shelves.published == [3]


async def test_nothing_is_told_where_nothing_changed(desk: Desk) -> None:
    for _ in range(3):
        await desk.marking.catch_up()
    assert desk.shelves.published == []


async def test_a_change_that_names_no_keys_is_noted(desk: Desk) -> None:
    desk.store.commit({A: b"a"}, below=[b"88.100"])
    desk.write(B)
    await desk.marking.catch_up()
    assert desk.shelves.state
    assert (desk.shelves.state.below, desk.shelves.state.marked) == (2, 3)


async def test_many_changes_are_marked_in_turns(desk: Desk) -> None:
    for _ in range(250):
        desk.write(A)
    await desk.marking.catch_up()
    assert await desk.marked() == 251
    assert desk.sample("topnode_marking_pending_changes") == 0


async def test_another_writer_goes_on_where_the_cache_is_marked(desk: Desk) -> None:
    await desk.fill(A, 1)
    desk.write(B)
    era = desk.era
    await desk.another().catch_up()
    assert (desk.era, await desk.marked()) == (era, 2)
    assert desk.shelves.published == [2]


async def test_what_the_cache_forgot_is_marked_again(desk: Desk) -> None:
    before = desk.shelves.snapshot()
    desk.write(A)
    await desk.marking.catch_up()
    era, marked = desk.era, desk.shelves.snapshot()
    desk.shelves.go_back(before)
    await desk.marking.catch_up()
    assert desk.era == era
    assert desk.shelves.snapshot() == marked


async def test_a_cache_that_lost_everything_begins_anew(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    era = desk.era
    desk.write(A)
    desk.shelves.lose()
    with caplog.at_level(logging.INFO):
        await desk.marking.catch_up()
    assert desk.era != era
    assert await desk.marked() == 2
    assert "an era begins at index 2" in caplog.text


async def test_where_the_feed_does_not_remember_what_was_marked_everything_is_given_up(desk: Desk) -> None:
    era = desk.era
    for _ in range(5):
        desk.write(A)
    desk.store.forgotten = 3
    await desk.marking.catch_up()
    assert desk.era != era
    assert await desk.marked() == 6


@pytest.mark.parametrize("is_another_process", [False, True])
async def test_where_the_store_is_another_one_everything_is_given_up(desk: Desk, *, is_another_process: bool) -> None:
    """It was restored from a backup: what is kept may be of entries that are no more."""
    for _ in range(5):
        desk.write(A)
    await desk.marking.catch_up()
    era, restored = desk.era, SmallStore()
    restored.commit({A: body("88.100/a", 1)})
    desk.store.become(restored)
    await (desk.another() if is_another_process else desk.marking).catch_up()
    assert desk.era != era
    assert await desk.marked() == 1


async def test_a_cache_out_of_reach_leaves_everything_for_later(desk: Desk) -> None:
    desk.write(A)
    desk.shelves.is_away = True
    assert not await desk.marking.catch_up()
    desk.shelves.is_away = False
    assert await desk.marking.catch_up()
    assert await desk.marked() == 2


async def test_a_feed_that_cannot_be_read_is_the_stores_fault(desk: Desk) -> None:
    desk.store.fault = Fault(Reason.STORE_UNAVAILABLE)
    with pytest.raises(Fault):
        await desk.marking.catch_up()


# --- as a task -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def running(desk: Desk) -> AsyncIterator[Desk]:
    task = asyncio.create_task(desk.marking.run())
    yield desk
    task.cancel()


async def until_marked(desk: Desk, index: int) -> None:
    async with asyncio.timeout(20):
        # What is looked at is the cache itself, which tells nobody.
        while await desk.marked() != index:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_ring_has_it_look_at_once() -> None:
    desk = Desk()
    desk.marking = Marking(desk.store, desk.shelves, Duration(3_600), CollectorRegistry())
    task = asyncio.create_task(desk.marking.run())
    await until_marked(desk, 1)
    desk.write(A)
    desk.marking.bell.ring()
    await until_marked(desk, 2)
    task.cancel()


async def test_it_looks_of_itself_and_goes_on_after_failures(running: Desk) -> None:
    running.write(A)
    await until_marked(running, 2)
    running.store.fault = Fault(Reason.STORE_UNAVAILABLE)
    async with asyncio.timeout(20):
        # Likewise.
        while not running.sample("topnode_marking_failures_total"):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    running.write(B)
    running.store.fault = None
    await until_marked(running, 3)
