"""From a resolver into the store: handed on once, kept once, and a day is marked where something is missing."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from nodes.counting.handing import DELTA_ROWS, WAITING_ROWS, Handing
from nodes.counting.keeping import SILENT_SECONDS, Keeping
from nodes.counting.spool import Left, NumberedTally, Spool, adopted, left_behind
from resolver.answer import FOUND, Ready
from resolver.clock import SetClock
from resolver.counting import Counting, Figures, day_ends, day_of, tags_of
from resolver.errors import Fault, Reason
from resolver.query import Mode
from resolver.store.counts import Counts, SourceDay, rows_of, worker_source
from resolver.store.embedded import EmbeddedWriter, Owner

TAG, _ = tags_of(b"88.1")


class Flaky:
    """A keeper in front of another one: it may fail before what is given is kept, or after."""

    def __init__(self, keeper: Keeping) -> None:
        self.keeper = keeper
        self.fails_before = self.fails_after = self.only_first = False

    async def take(self, boot: str, tallies: Sequence[NumberedTally], *, is_last: bool) -> None:
        if self.fails_before:
            raise Fault(Reason.STORE_UNAVAILABLE)
        await self.keeper.take(boot, tallies[:1] if self.only_first else tallies, is_last=is_last)
        if self.fails_after or self.only_first:
            raise Fault(Reason.STORE_UNAVAILABLE)


class Scene:
    """One resolver's counting, and the keeper of its node."""

    def __init__(self, counts: Counts, clock: SetClock, spools: Path) -> None:
        self.counts = counts
        self.spools = spools
        self.clock = clock
        self.registry, self.registry_of_later = CollectorRegistry(), CollectorRegistry()
        self.counting = Counting(clock)
        self.keeping = self.other_keeping("host", self.registry)
        self.keeper = Flaky(self.keeping)
        self.handing = Handing(self.counting, self.keeper, spools, clock, self.registry)
        self.source = worker_source(self.handing.boot)

    def other_keeping(self, host: str = "host", registry: CollectorRegistry | None = None) -> Keeping:
        return Keeping(self.counts, host, self.spools, self.clock, registry or CollectorRegistry())

    @property
    def today(self) -> int:
        return day_of(self.clock.wall())

    def count(self, times: int = 1, tag: bytes = TAG) -> None:
        self.counting.count([Ready(b"frame", FOUND, tag=tag)] * times, Mode.LOCAL)

    async def hand_on(self) -> bool:
        return await self.handing._hand_on()

    async def kept(self, day: int | None = None) -> dict[bytes, int]:
        rows = await self.counts.rows(self.source, self.today if day is None else day, None, 1_000)
        return {prefix: figures.queries for prefix, figures in rows}

    async def reached(self) -> SourceDay:
        return await self.counts.reached(self.source, self.today)

    def sample(self, name: str) -> float:
        return self.registry.get_sample_value(name) or 0.0


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    clock = SetClock()
    with closing(EmbeddedWriter.open(tmp_path / "store", owner=Owner.here("test", clock=clock))) as store:
        yield Scene(store.counts, clock, tmp_path / "spools")


async def test_what_was_counted_is_handed_on_once(scene: Scene) -> None:
    for times in (3, 4):
        scene.count(times)
        assert await scene.hand_on()
    assert await scene.hand_on()
    assert await scene.kept() == {b"88.1": 7}
    assert (await scene.reached()).sequence == 2


@pytest.mark.parametrize("is_kept", [False, True])
async def test_what_is_not_answered_is_handed_on_again_and_counted_once(scene: Scene, *, is_kept: bool) -> None:
    scene.keeper.fails_before, scene.keeper.fails_after = not is_kept, is_kept
    for _ in range(3):
        scene.count(2)
        assert not await scene.hand_on()
    assert scene.sample("topnode_counts_waiting_rows") == 2
    scene.keeper.fails_before = scene.keeper.fails_after = False
    assert await scene.hand_on()
    assert await scene.kept() == {b"88.1": 6}
    assert scene.sample("topnode_counts_waiting_rows") == 0
    assert scene.sample("topnode_counts_handing_failures_total") == 3


async def test_each_day_gets_what_was_counted_on_it_also_when_nobody_took_it(scene: Scene) -> None:
    scene.keeper.fails_before = True
    first = scene.today
    scene.count(2)
    await scene.hand_on()
    scene.clock.advance(day_ends(first) - scene.clock.wall())
    scene.handing._gather()
    scene.count(5)
    scene.keeper.fails_before = False
    assert await scene.hand_on()
    assert (await scene.kept(first), await scene.kept(first + 1)) == ({b"88.1": 2}, {b"88.1": 5})


async def test_many_prefixes_go_in_several_deltas(scene: Scene) -> None:
    for number in range(2 * DELTA_ROWS + 1):
        scene.count(1, tags_of(b"88.%d" % number)[0])
    assert await scene.hand_on()
    assert (await scene.reached()).sequence == 3
    assert sum((await scene.kept()).values()) == 1_000


async def test_more_than_may_wait_is_left_out_and_the_day_is_marked(scene: Scene) -> None:
    scene.keeper.fails_before = True
    for number in range(WAITING_ROWS + 2):
        scene.count(2, tags_of(b"88.%d" % number)[0])
    scene.handing._gather()
    scene.count(1, tags_of(b"88.0")[0])
    assert not await scene.hand_on()
    assert scene.sample("topnode_counts_left_out_total") == 4
    scene.keeper.fails_before = False
    scene.handing._numbered = type(scene.handing._numbered)(list(scene.handing._numbered)[-1:])
    assert await scene.hand_on()
    assert (await scene.reached()).is_partial


async def test_who_ends_as_it_should_leaves_no_mark(scene: Scene) -> None:
    scene.count(3)
    assert await scene.handing.end(1.0)
    scene.clock.advance(2 * SILENT_SECONDS)
    await scene.other_keeping().watch()
    await scene.keeping.watch()
    assert await scene.kept() == {b"88.1": 3}
    assert not (await scene.reached()).is_partial
    assert [life.has_ended for life in await scene.counts.lives()] == [True]


async def test_who_cannot_hand_on_the_rest_gives_up_in_time(scene: Scene) -> None:
    scene.count(3)
    scene.keeper.fails_before = True
    assert not await scene.handing.end(0.0)


async def test_who_falls_silent_is_dead_and_its_day_is_marked(scene: Scene) -> None:
    scene.count(3)
    await scene.hand_on()
    scene.clock.advance(SILENT_SECONDS - 1)
    await scene.keeping.watch()
    assert not (await scene.reached()).is_partial
    scene.clock.advance(2)
    await scene.keeping.watch()
    assert (await scene.reached()).is_partial
    assert scene.sample("topnode_counts_processes_lost_total") == 1
    assert await scene.kept() == {b"88.1": 3}


async def test_who_was_only_held_up_loses_nothing_and_the_mark_goes(scene: Scene) -> None:
    await scene.hand_on()
    scene.clock.advance(2 * SILENT_SECONDS)
    await scene.keeping.watch()
    scene.count(4)
    await scene.hand_on()
    assert await scene.reached() == SourceDay(1)
    assert await scene.kept() == {b"88.1": 4}


async def test_a_keeper_that_comes_later_knows_who_was_there(scene: Scene) -> None:
    """The owner of the store was killed too: resolvers that live are heard by the next one, the dead are not."""
    scene.count(3)
    await scene.hand_on()
    later = scene.other_keeping()
    await later.watch()
    other = scene.other_keeping("another host")
    await other.watch()
    scene.clock.advance(SILENT_SECONDS + 1)
    await other.watch()
    assert not (await scene.reached()).is_partial
    await later.watch()
    assert (await scene.reached()).is_partial


async def test_the_dead_of_a_machine_that_is_gone_are_found_by_another(scene: Scene) -> None:
    await scene.hand_on()
    day = scene.today
    scene.clock.advance(2 * 86_400)
    other = scene.other_keeping("another host")
    await other.watch()
    scene.clock.advance(SILENT_SECONDS + 1)
    await other.watch()
    assert (await scene.counts.reached(scene.source, day)).is_partial


async def test_who_lives_on_is_known_to_live_on_the_next_day(scene: Scene) -> None:
    await scene.hand_on()
    first = scene.today
    scene.clock.advance(day_ends(first) - scene.clock.wall() + 10)
    await scene.hand_on()
    assert [life.day for life in await scene.counts.lives()] == [first + 1]
    scene.clock.advance(2 * SILENT_SECONDS)
    await scene.keeping.watch()
    assert not (await scene.counts.reached(scene.source, first)).is_partial
    assert (await scene.counts.reached(scene.source, first + 1)).is_partial


async def test_at_midnight_both_days_may_lack_what_is_lost(scene: Scene) -> None:
    first = scene.today
    scene.clock.advance(day_ends(first) - scene.clock.wall() - 0.3)
    await scene.hand_on()
    scene.clock.advance(2 * SILENT_SECONDS)
    await scene.keeping.watch()
    for day in (first, first + 1):
        assert (await scene.counts.reached(scene.source, day)).is_partial


# --- what nobody takes, and a resolver that is killed then ---------------------------------------------------------


def killed(scene: Scene) -> None:
    """Let go of everything that the resolver's process held, as its death does."""
    locked = scene.handing._spool._locked
    assert locked is not None
    os.close(locked)
    scene.handing._spool._locked = None


async def refused(scene: Scene, times: int) -> None:
    """Count, with nobody who takes it, until it stands in the spool."""
    scene.keeper.fails_before = True
    scene.count(times)
    assert not await scene.hand_on()
    assert await scene.handing._put_in_spool()


async def test_what_nobody_took_is_adopted_when_the_resolver_is_gone_and_the_day_is_marked(scene: Scene) -> None:
    await scene.hand_on()
    await refused(scene, 5)
    killed(scene)
    later = scene.other_keeping(registry=scene.registry_of_later)
    await later.watch()
    scene.clock.advance(SILENT_SECONDS + 1)
    await later.watch()
    await later.watch()
    assert await scene.kept() == {b"88.1": 5}
    assert (await scene.reached()).is_partial
    assert left_behind(scene.spools) == []
    assert scene.registry_of_later.get_sample_value("topnode_counts_adopted_total") == 1


async def test_also_of_one_that_was_never_heard_of(scene: Scene) -> None:
    await refused(scene, 5)
    killed(scene)
    await scene.keeping.watch()
    scene.clock.advance(SILENT_SECONDS + 1)
    await scene.keeping.watch()
    assert await scene.kept() == {b"88.1": 5}
    assert await scene.counts.days() == [scene.today]


async def test_what_was_taken_under_the_same_numbers_is_not_counted_again(scene: Scene) -> None:
    """Its answer did not come; the resolver counted on, and put both into the spool."""
    scene.count(2)
    scene.keeper.fails_after = True
    assert not await scene.hand_on()
    scene.count(3)
    scene.handing._gather()
    assert await scene.handing._put_in_spool()
    killed(scene)
    scene.clock.advance(SILENT_SECONDS + 1)
    await scene.keeping.watch()
    assert await scene.kept() == {b"88.1": 5}


async def test_what_gets_its_numbers_later_gets_them_in_the_spool_first(scene: Scene) -> None:
    """Half of it is taken, then both processes are killed: the rest is adopted, and the half not twice."""
    scene.keeper.fails_before = True
    for number in range(DELTA_ROWS // 2):
        scene.count(1, tags_of(b"88.%d" % number)[0])
    scene.handing._gather()
    assert await scene.handing._put_in_spool()
    scene.clock.advance(day_ends(scene.today) - scene.clock.wall())
    first = scene.today - 1
    scene.handing._gather()
    for number in range(DELTA_ROWS):
        scene.handing._merged[first].rows[b"89.%d" % number] = Figures(1)
    scene.count(7)
    scene.keeper.only_first = True
    scene.keeper.fails_before = False
    assert not await scene.hand_on()
    killed(scene)
    scene.clock.advance(SILENT_SECONDS + 1)
    await scene.keeping.watch()
    rows = [row async for row in rows_of(scene.counts, first, [scene.source])]
    assert len(rows) == DELTA_ROWS + DELTA_ROWS // 2
    assert {row.by_source[scene.source] for row in rows} == {Figures(1, 1), Figures(1)}
    assert await scene.kept() == {b"88.1": 7}


async def test_one_that_lives_keeps_its_spool_and_removes_it_when_all_is_taken(scene: Scene) -> None:
    await refused(scene, 5)
    await scene.keeping.watch()
    scene.clock.advance(SILENT_SECONDS + 1)
    await scene.keeping.watch()
    assert await scene.kept() == {}
    assert left_behind(scene.spools) == [scene.handing.boot]
    scene.count(1)
    scene.keeper.fails_before = False
    assert await scene.hand_on()
    assert await scene.kept() == {b"88.1": 6}
    assert left_behind(scene.spools) == []
    assert not (await scene.reached()).is_partial


async def test_one_that_ended_in_order_while_nobody_took_anything_lacks_nothing(scene: Scene) -> None:
    scene.count(3)
    scene.keeper.fails_before = True
    assert not await scene.handing.end(0.0)
    killed(scene)
    await scene.keeping.watch()
    scene.clock.advance(SILENT_SECONDS + 1)
    await scene.keeping.watch()
    assert await scene.kept() == {b"88.1": 3}
    assert not (await scene.reached()).is_partial
    assert scene.sample("topnode_counts_processes_lost_total") == 0


async def test_a_spool_that_cannot_be_written_is_counted_and_nothing_else_changes(scene: Scene) -> None:
    scene.spools.write_bytes(b"a file where the folder should be")
    scene.keeper.fails_before = True
    scene.count(3)
    assert not await scene.hand_on()
    assert not await scene.handing._put_in_spool()
    assert scene.sample("topnode_counts_spool_failures_total") == 1
    scene.keeper.fails_before = False
    assert await scene.hand_on()
    assert await scene.kept() == {b"88.1": 3}


async def test_a_spool_that_is_not_whole_is_lost_and_the_day_is_marked(scene: Scene) -> None:
    await scene.hand_on()
    scene.spools.mkdir()
    (scene.spools / scene.handing.boot).write_bytes(b"torn")
    scene.clock.advance(SILENT_SECONDS + 1)
    await scene.keeping.watch()
    assert left_behind(scene.spools) == []
    assert (await scene.reached()).is_partial
    assert scene.sample("topnode_counts_keeping_failures_total") == 1


async def test_a_spool_that_is_replaced_just_now_belongs_to_one_that_lives(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ab" * 16)
    await spool.write(1.0, [])
    with adopted(tmp_path, "ab" * 16) as left:
        assert left is None
    await spool.write(2.0, [], has_ended=True)
    assert spool._locked is not None
    os.close(spool._locked)
    with adopted(tmp_path, "ab" * 16) as left:
        assert left == Left(written=2.0, has_ended=True, tallies=[])
    with adopted(tmp_path, "ab" * 16) as left:
        assert left is None
    assert left_behind(tmp_path) == []
