"""How the embedded writer cuts its work into transactions, and what it keeps of the feed."""

import asyncio
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from resolver.clock import SystemClock
from resolver.routes import Prefix
from resolver.store import Checkpoint, Write, Written
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.store.embedded.bulk import FIRST_SPELL, next_spell
from resolver.store.embedded.listing import SCANNED_MAX
from resolver.store.embedded.writing import NAMED_MAX, Retention
from tests.stores import listed, write, writes


class SteppingClock:
    """Each look at it is this many seconds later than the one before."""

    def __init__(self, step: float) -> None:
        self._steps = count()
        self._step = step

    def wall(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return next(self._steps) * self._step


ALL_OF_IT = Retention()


def own(path: Path, *, step: float = 0.0, retention: Retention = ALL_OF_IT) -> EmbeddedWriter:
    return EmbeddedWriter.open(
        path, owner=Owner.here("test", clock=SystemClock()), clock=SteppingClock(step), retention=retention
    )


def many(texts: range, prefix: str = "88.1") -> list[Write]:
    body = write("88.1/ANY").public
    return [Write(b"%s/%07d" % (prefix.encode(), each), body) for each in texts]


class TestTransactions:
    async def test_a_load_within_the_time_is_one(self, tmp_path: Path) -> None:
        with closing(own(tmp_path)) as writer:
            await writer.load(many(range(20_000)), (), name="n", checkpoint=Checkpoint())
            assert await writer.head() == 1

    @pytest.mark.parametrize("step", [1, -1])
    async def test_a_load_is_cut_when_the_time_is_over(self, tmp_path: Path, step: int) -> None:
        """Appended or inserted: each transaction writes on until it has used its time, and the last has the rest."""
        with closing(own(tmp_path, step=0.01)) as writer:
            committed = await writer.load(many(range(20_000))[::step], (), name="n", checkpoint=Checkpoint(lines=1))
            assert committed.written == [Written.REGISTERED] * 20_000
            assert await writer.head() == committed.index > 5
            changes = (await writer.changes(0, 1_000)).changes
            assert [change.below for change in changes] == [(b"88.1",)] * committed.index
            assert (await writer.checkpoint("n")).lines == 1

    async def test_a_load_that_falls_out_of_order_later_goes_on_sorted(self, tmp_path: Path) -> None:
        """What the first transactions appended stays; the rest is sorted, with what is there twice told as such."""
        rising, falling = many(range(10_000)), many(range(9_000, 12_000))[::-1]
        with closing(own(tmp_path, step=0.01)) as writer:
            committed = await writer.load(rising + falling, (), name="n", checkpoint=Checkpoint())
            assert committed.written == [Written.REGISTERED] * 12_000 + [Written.EXISTS] * 1_000
            assert committed.index > 2
            keys = [each.key for each in many(range(12_000))]
            assert None not in (await writer.public(keys)).bodies

    async def test_a_load_below_prefixes_too_long_to_show_in_their_keys_names_them_all(self, tmp_path: Path) -> None:
        prefix = "88." + "p" * 600
        part = [write(f"{prefix}{each % 3}/{each:03}") for each in range(30)]
        with closing(own(tmp_path)) as writer:
            await writer.load(part, (), name="n", checkpoint=Checkpoint())
            (change,) = (await writer.changes(0, 9)).changes
            assert set(change.below) == {f"{prefix}{each}".upper().encode() for each in range(3)}

    async def test_a_load_is_cut_when_it_touches_too_many_prefixes(self, tmp_path: Path) -> None:
        """An entry of the feed stays small, whatever is loaded."""
        part = writes([f"88.{each:05}/A" for each in range(12_000)])
        with closing(own(tmp_path)) as writer:
            await writer.load(part, (), name="n", checkpoint=Checkpoint())
            named = [len(change.below) for change in (await writer.changes(0, 10)).changes]
            assert sum(named) == 12_000
            assert max(named) < NAMED_MAX + 256

    async def test_rows_of_prefixes_are_cut_too(self, tmp_path: Path) -> None:
        with closing(own(tmp_path)) as writer:
            rows = [Prefix(f"88.{each}", "h") for each in range(4_500)]
            await writer.load((), rows, name="n", checkpoint=Checkpoint(lines=1))
            named = [len(change.prefixes) for change in (await writer.changes(0, 10)).changes]
            assert named == [2_000, 2_000, 500]
            assert (await writer.checkpoint("n")).lines == 1

    async def test_other_writes_come_between_the_transactions_of_a_load(self, tmp_path: Path) -> None:
        with closing(own(tmp_path, step=0.01)) as writer:
            loading = asyncio.create_task(writer.load(many(range(20_000)), (), name="n", checkpoint=Checkpoint()))
            await asyncio.sleep(0)
            committed = await writer.commit([write("88.2/A")])
            assert committed.index < (await loading).index

    async def test_reads_go_on_while_the_disk_is_waited_for(self, tmp_path: Path) -> None:
        """The event loop is free as long as a transaction runs."""
        with closing(own(tmp_path)) as writer:
            committing = asyncio.create_task(writer.commit(many(range(20_000))))
            reads = 0
            while not committing.done():
                await writer.head()
                reads += 1
                await asyncio.sleep(0)
            assert reads > 10

    async def test_commits_at_once_outgrow_the_map_together(self, tmp_path: Path) -> None:
        owner = Owner.here("growing", clock=SystemClock())
        with closing(EmbeddedWriter.open(tmp_path, owner=owner, map_size=128 << 10)) as writer:
            committed = await asyncio.gather(*(writer.commit(many(range(500), f"88.{each}")) for each in range(60)))
            assert sorted(each.index for each in committed) == list(range(1, 61))
            assert (await writer.public([b"88.59/0000499"])).bodies != [None]

    async def test_the_next_index_is_known(self, tmp_path: Path) -> None:
        with closing(own(tmp_path)) as writer:
            assert writer.next_index == 1
            committed = await writer.commit([write("88.1/A")])
            assert writer.next_index == committed.index + 1

    async def test_a_caller_that_goes_away_stops_no_other(self, tmp_path: Path) -> None:
        with closing(own(tmp_path)) as writer:
            leaving = asyncio.create_task(writer.commit(many(range(5_000), "88.1")))
            staying = asyncio.create_task(writer.commit([write("88.2/A")]))
            await asyncio.sleep(0)
            leaving.cancel()
            assert (await staying).written == [Written.REGISTERED]
            assert (await writer.commit([write("88.3/A")])).written == [Written.REGISTERED]

    def test_closing_twice_is_closing(self, tmp_path: Path) -> None:
        writer = own(tmp_path)
        writer.close()
        writer.close()


class TestListing:
    async def test_a_page_looks_at_so_many_rows_and_the_next_one_goes_on(self, tmp_path: Path) -> None:
        gone = write("88.1/ANY", deleted=True).public
        with closing(own(tmp_path)) as writer:
            deleted = [Write(each.key, gone) for each in many(range(2 * SCANNED_MAX + 5))]
            await writer.load([*deleted, write("88.1/LAST")], (), name="n", checkpoint=Checkpoint())
            assert await listed(writer, b"88.1") == (["88.1/LAST"], 3)

    async def test_what_lies_behind_the_prefix_is_not_looked_at(self, tmp_path: Path) -> None:
        with closing(own(tmp_path)) as writer:
            part = [write("88.1/A"), *many(range(SCANNED_MAX + 5), "88.2")]
            await writer.load(part, (), name="n", checkpoint=Checkpoint())
            for derived in (False, True):
                assert await listed(writer, b"88.1", derived=derived) == (["88.1/A"], 1)


class TestSpell:
    @pytest.mark.parametrize(
        ("spell", "took", "following"),
        [
            (0.02, 0.02, 0.04),  # room: at most twice as long
            (0.02, 0.03, 0.04),
            (0.04, 0.04, 0.06),  # but never longer than what all of it should take
            (0.05, 0.06, 0.05),
            (0.05, 0.12, 0.025),  # its commit took as long again: half of it
            (0.02, 10.0, 0.005),  # a disk that hesitates: short, but not without end
            (0.02, 0.0, 0.04),
        ],
    )
    def test_the_next_one_follows_from_what_the_last_one_took(
        self, spell: float, took: float, following: float
    ) -> None:
        assert next_spell(spell, took) == pytest.approx(following)

    @pytest.mark.parametrize("commit_takes", [0.0, 0.2, 1.0, 5.0])
    def test_it_settles_below_a_tenth_of_a_second(self, commit_takes: float) -> None:
        """However long the commit is, measured by what was written before it."""
        spell = FIRST_SPELL
        for _ in range(20):
            spell = next_spell(spell, spell * (1 + commit_takes))
        assert 0.05 < spell * (1 + commit_takes) < 0.1


class TestFeed:
    async def test_it_forgets_the_oldest_where_its_bytes_are_too_many(self, tmp_path: Path) -> None:
        with closing(own(tmp_path, retention=Retention(octets=256 << 10))) as writer:
            for turn in range(40):
                await writer.commit(many(range(turn * 1_000, turn * 1_000 + 1_000)))
            assert (await writer.changes(0, 1)).is_lost
            kept = (await writer.changes(35, 100)).changes
            assert [change.index for change in kept] == [36, 37, 38, 39, 40]

    async def test_the_newest_is_kept_however_large_it_is(self, tmp_path: Path) -> None:
        with closing(own(tmp_path, retention=Retention(octets=1))) as writer:
            for turn in range(3):
                await writer.commit(many(range(turn * 1_000, turn * 1_000 + 1_000)))
            assert [change.index for change in (await writer.changes(2, 9)).changes] == [3]

    async def test_prefixes_that_are_too_many_are_named_by_those_above_them(self, tmp_path: Path) -> None:
        part = writes([f"88.{each % 3}.{each}.7/A" for each in range(6_000)])
        with closing(own(tmp_path)) as writer:
            await writer.commit(part)
            (change,) = (await writer.changes(0, 9)).changes
            assert set(change.below) == {b"88.0", b"88.1", b"88.2"}
