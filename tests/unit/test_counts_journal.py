"""Counts follow the journal: each entry once, whoever follows and however often that breaks off."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from nodes.auditing import rebuild_store
from registry.counts_journal import JournalCounting
from registry.keyring import read_operators
from registry.rebuild import Trust
from registry.settings import RegistrySettings
from registry.v1 import registry_pb2 as pb
from resolver.clock import SetClock
from resolver.counting import IN_TOTAL, Figures, day_of, day_to_text
from resolver.store import Entry
from resolver.store.counts import JOURNAL, Counts, Delta, node_source
from resolver.store.embedded import EmbeddedWriter, Owner
from tests.small_registry import SECONDARY, SmallRegistry, opened_over


class Scene:
    """A registry over a store in a folder, and what is counted in it."""

    def __init__(self, store: EmbeddedWriter, small: SmallRegistry) -> None:
        self.store = store
        self.small = small
        self.counting = JournalCounting(store, CollectorRegistry())

    @property
    def today(self) -> int:
        return day_of(self.small.clock.wall())

    async def register(self, *names: str, op: str = "register") -> None:
        said: dict[str, Any] = {"values": []} if op == "register" else {"op": op}
        rows = [{"identifier": f"{SECONDARY}/{name}", **said} for name in names]
        await self.small.submit(SECONDARY, "identifiers.v1", {"rows": rows})

    async def report(self, request_id: str = "", *, day: int | None = None, **figures: int) -> None:
        rows = [{"prefix": SECONDARY, **figures}, {"prefix": "77", "queries": 1_000}]
        body = {"day": day_to_text(self.today if day is None else day), "rows": rows}
        await self.small.submit(SECONDARY, "counts.v1", body, request_id)

    async def caught_up(self) -> "Counts":
        await self.counting.catch_up()
        return self.store.counts

    async def figures(self, source: str, day: int) -> Figures:
        counts = await self.caught_up()
        return dict(await counts.rows(source, day, None, 100)).get(SECONDARY.encode(), Figures())


@asynccontextmanager
async def scene(data: Path, clock: SetClock) -> AsyncIterator[Scene]:
    with closing(EmbeddedWriter.open(data, owner=Owner.here("test", clock=clock))) as store:
        async with opened_over(store, data, clock) as small:
            yield Scene(store, small)


async def test_registrations_are_counted_of_the_day_and_in_total(tmp_path: Path) -> None:
    clock = SetClock()
    async with scene(tmp_path, clock) as here:
        await here.small.join(SECONDARY)
        await here.register("A", "B", "C")
        first = here.today
        assert await here.figures(JOURNAL, first) == Figures(registered=3)
        clock.advance(86_400)
        await here.register("D")
        await here.register("A", op="delete")
        assert await here.figures(JOURNAL, here.today) == Figures(registered=1, deleted=1)
        assert await here.figures(JOURNAL, first) == Figures(registered=3)
        assert await here.figures(JOURNAL, IN_TOTAL) == Figures(registered=4, deleted=1)


async def test_each_entry_is_counted_once_whoever_follows(tmp_path: Path) -> None:
    clock = SetClock()
    async with scene(tmp_path, clock) as here:
        await here.small.join(SECONDARY)
        for number in range(10):
            await here.register(f"N{number}")
            if number % 3 == 0:
                here.counting = JournalCounting(here.store, CollectorRegistry(), group=3)
                await here.caught_up()
        total = await here.figures(JOURNAL, IN_TOTAL)
    assert total == Figures(registered=10)
    async with scene(tmp_path, clock) as here:
        assert await here.figures(JOURNAL, here.today) == total


async def test_a_day_that_was_added_before_it_broke_off_is_not_added_again(tmp_path: Path) -> None:
    """On a ring the deltas of one group are written one after the other: days first, the total last."""
    async with scene(tmp_path, SetClock()) as here:
        await here.small.join(SECONDARY)
        await here.register("A")
        kept = await here.store.told(0, 100)

        class BreaksOff:
            """Counts that take the first delta, and fail."""

            def __init__(self, counts: Counts) -> None:
                self.reached = counts.reached
                self.counts = counts

            async def add(self, deltas: Any) -> None:
                await self.counts.add(deltas[:1])
                raise ConnectionError

        breaking = JournalCounting(here.store, CollectorRegistry())
        breaking._counts = BreaksOff(here.store.counts)  # type: ignore[assignment] # as much of them as is asked
        with suppress(ConnectionError):
            await breaking._take(kept)
        assert (await here.store.counts.reached(JOURNAL, here.today)).sequence == kept[-1].index
        await here.register("B")
        assert await here.figures(JOURNAL, here.today) == Figures(registered=2)
        assert await here.figures(JOURNAL, IN_TOTAL) == Figures(registered=2)


async def test_entries_that_cannot_be_read_are_left_out_and_counted(tmp_path: Path) -> None:
    """As they stand in the journals of benchmarks, or where a report is not what its statement says."""
    async with scene(tmp_path, SetClock()) as here:
        await here.small.join(SECONDARY)
        report = pb.Statement(kind="counts.v1", actor=SECONDARY).SerializeToString()
        unread = [(b"\xff" * 16, (), b""), (report, (), b""), (report, (b"no envelope",), b""), (b"", (), b"\xff")]
        for number, (statement, artefacts, result) in enumerate(unread):
            entry = Entry(statement=statement, artefacts=artefacts, result=result, request=b"%032d" % number, at=1)
            await here.small.registry.journal.commit([entry])
        await here.register("A")
        assert await here.figures(JOURNAL, IN_TOTAL) == Figures(registered=1)
        assert here.counting.skipped._value.get() == len(unread)
        assert await here.counting.catch_up() == await here.store.head()


async def test_the_counts_of_a_node_are_the_sum_of_its_accepted_reports(tmp_path: Path) -> None:
    clock = SetClock()
    source = node_source(SECONDARY)
    async with scene(tmp_path, clock) as here:
        await here.small.join(SECONDARY)
        await here.report("one", queries=5, found=3)
        await here.report("one", queries=5, found=3)
        await here.report("two", queries=2, recursive_queries=7)
        await here.report("total", day=IN_TOTAL, registered=9)
        expected = Figures(7, 3, 7)
        assert await here.figures(source, here.today) == expected
        # Rows that were refused are none.
        assert await (await here.caught_up()).rows(source, here.today, None, 10) == [(SECONDARY.encode(), expected)]
    async with scene(tmp_path, clock) as here:
        here.small.keys = {}
        assert await here.figures(source, here.today) == expected
        assert await here.figures(source, IN_TOTAL) == Figures(registered=9)


async def test_a_report_marks_the_day_of_its_node(tmp_path: Path) -> None:
    async with scene(tmp_path, SetClock()) as here:
        await here.small.join(SECONDARY)
        body = {"day": day_to_text(here.today), "rows": [], "partial": True}
        await here.small.submit(SECONDARY, "counts.v1", body)
        counts = await here.caught_up()
        assert (await counts.reached(node_source(SECONDARY), here.today)).is_partial


async def test_a_store_made_anew_out_of_its_journal_has_counted_the_same(tmp_path: Path) -> None:
    """What was asked stands in no journal, and what was registered is not counted twice."""
    clock = SetClock()
    data = tmp_path / "data"
    async with scene(data, clock) as here:
        await here.small.join(SECONDARY)
        await here.register("A")
        await here.caught_up()
        asked = Delta(source="worker 1", sequence=1, day=here.today, rows=[(SECONDARY.encode(), Figures(5, 4))])
        await here.store.counts.add([asked])
        trust = Trust(
            node="top",
            operators=read_operators(RegistrySettings(), data),
            verifier_key=here.small.registry.journal.verifier_key,
        )
    await rebuild_store(data, tmp_path / "anew", trust, clock=clock, told=lambda _: lambda _done, _all: None)
    async with scene(tmp_path / "anew", clock) as again:
        assert await again.figures(JOURNAL, again.today) == Figures(registered=1)
        assert await again.figures(JOURNAL, IN_TOTAL) == Figures(registered=1)
        assert await again.figures("worker 1", again.today) == Figures(5, 4)
