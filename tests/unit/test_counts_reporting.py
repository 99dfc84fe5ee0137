"""Reports to the node above: each day when it is over, until they are answered, and again where nothing was taken."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import CollectorRegistry

from nodes.client import Fault, Reason, RegistryClient, RegistryClientSettings, Signer
from nodes.counting.reporting import FIRST_WAIT, LONGEST_WAIT, LOOK_SECONDS, SETTLING_SECONDS, Reported, Reporting
from registry.counts_journal import JournalCounting
from registry.service import RegistryService
from registry.settings import RegistrySettings
from resolver.clock import SetClock
from resolver.counting import DAY_SECONDS, IN_TOTAL, Figures, day_ends, day_of, day_to_text
from resolver.rpc.calls import Context
from resolver.rpc.serving import ServingSettings, build_server
from resolver.store.counts import JOURNAL, SENT, Counts, Delta, node_source, worker_source
from resolver.store.embedded import EmbeddedWriter, Owner
from tests.small_registry import SmallRegistry, opened_over

CHILD: Final = "88.111"
STRANGER: Final = "77"
OWN: Final = b"88.111"
LATER: Final = b"77.5"
"""A prefix that the node above gives to the child late, if at all."""

BROKEN: Final = Fault(Reason.INTERNAL, "It was pulled out.")
SOURCE: Final = worker_source("1a")


class Above(RegistryService):
    """The registry of the node above, which may fail before it takes a report, or after it took it."""

    before: list[Fault]
    after: list[Fault]
    asked: int

    async def _submit(self, octets: bytes, context: Context) -> bytes:
        self.asked += 1
        if self.before:
            raise self.before.pop(0)
        answer = await super()._submit(octets, context)
        if self.after:
            raise self.after.pop(0)
        return answer


class Breaking:
    """Counts of which only the first so many deltas at once are added, as when a process ends there; None: all."""

    def __init__(self, counts: Counts) -> None:
        self.adds: int | None = None
        self._counts = counts
        self.reached, self.days, self.sources = counts.reached, counts.days, counts.sources
        self.rows, self.lives, self.mark = counts.rows, counts.lives, counts.mark
        self.put_life, self.forget = counts.put_life, counts.forget

    async def add(self, deltas: Sequence[Delta]) -> None:
        await self._counts.add(deltas if self.adds is None else deltas[: self.adds])
        if self.adds is not None:
            raise Fault(Reason.STORE_UNAVAILABLE)


class Scene:
    """A child that has joined and counts, and the node above it; one clock for both."""

    def __init__(
        self, folder: Path, small: SmallRegistry, store: EmbeddedWriter, counts: Counts, clock: SetClock
    ) -> None:
        self.clock = clock
        self.small = small
        self.counts = Breaking(counts)
        self.metrics = CollectorRegistry()
        self.address = f"unix:{folder / 'top.sock'}"
        self.above = Above(small.registry, RegistrySettings(), clock, small.metrics)
        self.above.before, self.above.after, self.above.asked = [], [], 0
        self._store = store
        self._journal = JournalCounting(store, CollectorRegistry())
        self._numbers = 0
        self.reporting = self.begin()

    def begin(self) -> Reporting:
        """Begin to report, as after a start."""
        self.metrics = CollectorRegistry()
        self.reporting = Reporting(self.counts, self._client, self.clock, self.metrics)
        return self.reporting

    @property
    def today(self) -> int:
        return day_of(self.clock.wall())

    async def count(self, prefix: bytes, queries: int, *, day: int | None = None, source: str = SOURCE) -> None:
        """Let the child have counted so many queries below a prefix."""
        self._numbers += 1
        rows = [(prefix, Figures(queries))]
        day = self.today if day is None else day
        await self.counts.add([Delta(source=source, sequence=self._numbers, day=day, rows=rows)])

    def wait_until(self, wall: float) -> None:
        self.clock.advance(wall - self.clock.wall())

    async def report(self) -> Reported:
        return await self.reporting.report_now()

    async def known(self, day: int | None = None) -> dict[bytes, int]:
        """Give the queries that the node above knows of, by prefix, each once."""
        await self._journal.catch_up()
        day = self.today if day is None else day
        rows = await self._store.counts.rows(node_source(CHILD), day, None, 1_000)
        return {prefix: figures.queries for prefix, figures in rows}

    async def is_partial(self, day: int) -> bool:
        await self._journal.catch_up()
        return (await self._store.counts.reached(node_source(CHILD), day)).is_partial

    async def give(self, prefix: bytes) -> None:
        """Let the node above allocate a prefix to the child."""
        row = {"prefix": prefix.decode(), "holder": CHILD}
        await self.small.submit("local", "prefix-allocate.v1", {"rows": [row]})

    def sample(self, name: str) -> float:
        value = self.metrics.get_sample_value(f"topnode_counts_{name}")
        assert value is not None, f"no metric {name}"
        return value

    def _client(self) -> RegistryClient:
        signer = Signer(CHILD, self.small.keys[CHILD])
        return RegistryClient(self.address, signer, RegistryClientSettings(), clock=self.clock)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    clock = SetClock()
    owner = Owner.here("test", clock=clock)
    async with AsyncExitStack() as stack:
        top = stack.enter_context(closing(EmbeddedWriter.open(tmp_path / "top", owner=owner)))
        child = stack.enter_context(closing(EmbeddedWriter.open(tmp_path / "child", owner=owner)))
        small = await stack.enter_async_context(opened_over(top, tmp_path / "top", clock))
        await small.join(CHILD)
        made = Scene(tmp_path, small, top, child.counts, clock)
        server = build_server(ServingSettings(address=made.address))
        made.above.add_to(server)
        await server.start()
        stack.push_async_callback(server.stop)
        yield made


# --- each day -------------------------------------------------------------------------------------------------------


async def test_a_day_is_reported_once_when_it_is_over_in_shanghai_and_has_settled(scene: Scene) -> None:
    day = scene.today
    assert day_to_text(day) == "2027-01-15"
    await scene.count(OWN, 3)
    assert await scene.reporting.step() == LOOK_SECONDS
    # Midnight in Asia/Shanghai; whoever has counted may still be handing on.
    scene.wait_until(datetime(2027, 1, 15, 16, 0, tzinfo=UTC).timestamp() + SETTLING_SECONDS - 1)
    await scene.reporting.step()
    assert (scene.above.asked, await scene.known(day)) == (0, {})
    scene.clock.advance(1)
    assert await scene.reporting.step() == LOOK_SECONDS
    assert (scene.above.asked, await scene.known(day)) == (1, {OWN: 3})
    assert scene.sample("reported_timestamp_seconds") == scene.clock.wall()
    for _ in range(5):
        scene.clock.advance(LOOK_SECONDS)
        assert await scene.reporting.step() == LOOK_SECONDS
    scene.begin()
    await scene.reporting.step()
    assert (scene.above.asked, await scene.known(day)) == (1, {OWN: 3})


async def test_what_comes_of_a_day_after_its_report_goes_with_the_next(scene: Scene) -> None:
    day = scene.today
    await scene.count(OWN, 3)
    scene.wait_until(day_ends(day) + SETTLING_SECONDS)
    await scene.reporting.step()
    await scene.count(OWN, 4, day=day)
    await scene.count(OWN, 7)
    await scene.reporting.step()
    assert await scene.known(day) == {OWN: 3}
    scene.clock.advance(DAY_SECONDS)
    await scene.reporting.step()
    assert (await scene.known(day), await scene.known(day + 1)) == ({OWN: 7}, {OWN: 7})


@pytest.mark.parametrize("is_taken", [False, True])
async def test_a_report_that_is_not_answered_is_sent_again_later_and_later(scene: Scene, *, is_taken: bool) -> None:
    """Whether it was taken or not, it is counted once."""
    day = scene.today
    await scene.count(OWN, 3)
    scene.wait_until(day_ends(day) + SETTLING_SECONDS)
    (scene.above.after if is_taken else scene.above.before).extend([BROKEN] * 12)
    waits = [await scene.reporting.step() for _ in range(12)]
    assert waits == [min(FIRST_WAIT * 2**each, LONGEST_WAIT) for each in range(12)]
    assert scene.sample("reporting_failures_total") == 12
    assert scene.sample("reported_timestamp_seconds") == 0
    assert await scene.reporting.step() == LOOK_SECONDS
    await scene.reporting.step()
    assert (scene.above.asked, await scene.known(day)) == (13, {OWN: 3})
    # The next failure is waited for as the first one was.
    await scene.count(OWN, 1)
    scene.clock.advance(DAY_SECONDS)
    scene.above.before.append(BROKEN)
    assert await scene.reporting.step() == FIRST_WAIT


async def test_it_goes_on_by_itself_until_it_is_told_to_stop(scene: Scene) -> None:
    day = scene.today
    await scene.count(OWN, 3)
    scene.wait_until(day_ends(day) + SETTLING_SECONDS)
    scene.above.before.append(BROKEN)
    running = asyncio.create_task(scene.reporting.run())
    async with asyncio.timeout(20):
        while not await scene.known(day):  # noqa: ASYNC110 - what is waited for happens in the task, and nobody is told
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (running.cancelled(), scene.above.asked, await scene.known(day)) == (True, 2, {OWN: 3})


async def test_a_day_that_is_not_all_is_told_so_once_also_where_nothing_was_counted(scene: Scene) -> None:
    day = scene.today
    await scene.counts.mark(SOURCE, day, is_partial=True)
    for _ in range(2):
        await scene.report()
    assert (scene.above.asked, await scene.is_partial(day)) == (1, True)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_held", [False, True])
async def test_a_prefix_that_is_not_the_nodes_there_is_owed_until_it_is(scene: Scene, *, is_held: bool) -> None:
    """Whether it is nobody's, or still somebody else's."""
    if is_held:
        await scene.small.join(STRANGER)
    await scene.count(OWN, 3)
    await scene.count(LATER, 2)
    assert await scene.report() == Reported(1, 1, 1)
    assert await scene.known() == {OWN: 3}
    await scene.count(LATER, 4)
    assert await scene.report() == Reported(0, 0, 1)
    assert (scene.sample("owed_again_rows_total"), scene.sample("refused_rows_total")) == (2, 0)
    assert scene.sample("reports_total") == 1
    await scene.give(LATER)
    assert await scene.report() == Reported(1, 1, 0)
    assert await scene.known() == {OWN: 3, LATER: 6}
    assert await scene.report() == Reported()


async def test_such_a_prefix_costs_one_row_each_time_however_many_days_are_owed(scene: Scene) -> None:
    first = scene.today
    await scene.count(LATER, 1, day=IN_TOTAL, source=JOURNAL)
    for queries in (1, 2, 4):
        await scene.count(LATER, queries)
        scene.clock.advance(DAY_SECONDS)
    await scene.count(OWN, 8, day=first + 2)
    for _ in range(2):
        scene.clock.advance(DAY_SECONDS)
        await scene.reporting.step()
        scene.clock.advance(LOOK_SECONDS)
        await scene.reporting.step()
    assert (scene.above.asked, await scene.known(first + 2)) == (3, {OWN: 8})
    await scene.give(LATER)
    scene.clock.advance(DAY_SECONDS)
    await scene.reporting.step()
    assert await scene.known(IN_TOTAL) == {LATER: 1}
    assert [await scene.known(first + each) for each in range(3)] == [{LATER: 1}, {LATER: 2}, {OWN: 8, LATER: 4}]


async def test_a_prefix_that_cannot_be_one_there_is_refused_for_good(scene: Scene) -> None:
    await scene.count(b"88.111." + b"1" * 300, 2)
    await scene.count(OWN, 3)
    assert await scene.report() == Reported(1, 1, 1)
    assert (scene.sample("owed_again_rows_total"), scene.sample("refused_rows_total")) == (0, 1)
    assert await scene.report() == Reported()


async def test_a_report_that_is_refused_as_a_whole_is_refused_for_good(scene: Scene) -> None:
    await scene.count(OWN, 3)
    scene.above.before.append(Fault(Reason.FIELD_OUT_OF_RANGE, "Counts are taken of other days.", field="day"))
    assert await scene.report() == Reported(refused=1)
    assert (scene.sample("owed_again_rows_total"), scene.sample("refused_rows_total")) == (0, 1)
    assert await scene.report() == Reported()


@pytest.mark.parametrize("added", [0, 1])
async def test_who_ends_while_it_notes_what_is_owed_again_counts_nothing_twice(scene: Scene, added: int) -> None:
    """Before anything of it is noted, or between what is owed again and that the report was answered."""
    await scene.count(OWN, 3)
    await scene.count(LATER, 2)
    (report,) = [each async for each in scene.reporting._reports(scene.today, ())]
    async with scene._client() as client:
        scene.counts.adds = added
        with pytest.raises(Fault):
            await scene.reporting._send(client, report, set())
    scene.counts.adds = None
    scene.begin()
    assert (await scene.report()).refused
    rows = dict(await scene.counts.rows(SENT, scene.today, None, 10))
    assert rows == {OWN: Figures(3), LATER: Figures()}
    await scene.give(LATER)
    for _ in range(2):
        await scene.report()
    assert await scene.known() == {OWN: 3, LATER: 2}


async def test_two_processes_that_are_given_the_same_answer_take_back_once(scene: Scene) -> None:
    """On a ring, while one machine takes over from another."""
    await scene.count(OWN, 3)
    await scene.count(LATER, 2)
    (report,) = [each async for each in scene.reporting._reports(scene.today, ())]
    async with scene._client() as client:
        await scene.begin()._send(client, report, set())
        await scene.count(OWN, 8)
        await scene.report()
        await scene.begin()._send(client, report, set())
    await scene.give(LATER)
    await scene.report()
    assert await scene.known() == {OWN: 11, LATER: 2}
