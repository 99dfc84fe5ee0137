"""What every store must do with counts, whatever it is made of."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from resolver.counting import IN_TOTAL, Figures
from resolver.errors import Fault
from resolver.store.counts import JOURNAL, Counts, Delta, Life, SourceDay, copy_counts, rows_of, worker_source
from tests.places import NewPlace, Place, Store, cassandra_place, embedded_place
from tests.small_store import put
from tests.stores import write

KINDS = ["embedded", pytest.param("cassandra", marks=pytest.mark.needs("cassandra"))]
DAY = 20_786
ONE = worker_source("1a")
OTHER = worker_source("2b")


@pytest.fixture(scope="session", params=KINDS)
def new_place(request: pytest.FixtureRequest) -> NewPlace:
    """Make places for stores of one kind, each with nothing in it."""
    if request.param == "embedded":
        return embedded_place
    return partial(cassandra_place, request.getfixturevalue("keyspaces"))


@pytest.fixture
async def place(new_place: NewPlace) -> AsyncIterator[Place]:
    async with new_place() as made:
        yield made


@pytest.fixture
async def store(place: Place) -> Store:
    return await place.open()


@pytest.fixture
async def counts(store: Store) -> Counts:
    return store.counts


def delta(sequence: int, *, source: str = ONE, day: int = DAY, **queries: int) -> Delta:
    """Make a delta of queries below 88.NAME."""
    rows = [(f"88.{name}".encode(), Figures(count, 1)) for name, count in queries.items()]
    return Delta(source=source, sequence=sequence, day=day, rows=rows)


async def held(counts: Counts, source: str = ONE, day: int = DAY) -> dict[str, int]:
    return {prefix.decode(): figures.queries for prefix, figures in await counts.rows(source, day, None, 1_000)}


async def test_a_new_store_has_counted_nothing(counts: Counts) -> None:
    assert await counts.days() == []
    assert await counts.sources(DAY) == []
    assert await counts.rows(ONE, DAY, None, 10) == []
    assert await counts.reached(ONE, DAY) == SourceDay()
    assert await counts.lives() == []


async def test_deltas_add_up_and_each_is_added_once(counts: Counts) -> None:
    first, second = delta(1, A=3, B=1), delta(2, A=4)
    for given_deltas in ([first], [first, second], [second], [first]):
        await counts.add(given_deltas)
    assert await held(counts) == {"88.A": 7, "88.B": 1}
    assert await counts.rows(ONE, DAY, None, 1) == [(b"88.A", Figures(7, 2))]
    assert (await counts.reached(ONE, DAY)).sequence == 2


async def test_sources_and_days_have_their_own_numbers(counts: Counts) -> None:
    await counts.add([delta(5, A=1), delta(1, source=OTHER, A=2), delta(1, day=DAY + 1, A=4)])
    await counts.add([delta(1, source=JOURNAL, day=IN_TOTAL, A=8), delta(4, A=100)])
    assert await held(counts) == {"88.A": 1}
    assert await held(counts, OTHER) == {"88.A": 2}
    assert await held(counts, ONE, DAY + 1) == {"88.A": 4}
    assert await held(counts, JOURNAL, IN_TOTAL) == {"88.A": 8}
    assert await counts.days() == [IN_TOTAL, DAY, DAY + 1]
    assert await counts.sources(DAY) == [ONE, OTHER]
    assert await counts.sources(DAY + 2) == []


async def test_all_of_it_is_there_when_the_store_is_opened_again(place: Place) -> None:
    store = await place.open()
    await put(store, [write("88.1/A")])
    await store.counts.add([replace(delta(1, A=3), kept=b"kept", is_partial=True)])
    await store.counts.put_life(Life(source=ONE, host="h", day=DAY))
    reopened = await place.open()
    assert await reopened.head() == 1
    await reopened.counts.add([delta(1, A=3), delta(2, A=5)])
    assert await held(reopened.counts) == {"88.A": 8}
    assert await reopened.counts.lives() == [Life(source=ONE, host="h", day=DAY)]


async def test_a_delta_that_does_not_follow_on_what_is_reached_is_refused(counts: Counts) -> None:
    await counts.add([replace(delta(4, A=1), follows=0)])
    for follows in (0, 3, 5):
        with pytest.raises(Fault):
            await counts.add([replace(delta(6, A=10), follows=follows)])
    await counts.add([replace(delta(4, A=1), follows=0), replace(delta(6, A=100), follows=4)])
    assert await held(counts) == {"88.A": 101}


async def test_what_a_delta_keeps_stands_until_the_next(counts: Counts) -> None:
    await counts.add([replace(delta(1, A=1), kept=b"first")])
    await counts.add([replace(delta(1, A=1), kept=b"not taken")])
    assert await counts.reached(ONE, DAY) == SourceDay(1, b"first")
    await counts.add([replace(delta(2), kept=b"second")])
    assert await counts.reached(ONE, DAY) == SourceDay(2, b"second")
    await counts.add([delta(3)])
    assert await counts.reached(ONE, DAY) == SourceDay(3)


async def test_a_day_is_marked_by_a_delta_or_apart_and_stays_so(counts: Counts) -> None:
    await counts.add([delta(1, A=1)])
    await counts.mark(ONE, DAY, is_partial=True)
    await counts.add([delta(2, A=1)])
    assert await counts.reached(ONE, DAY) == SourceDay(2, is_partial=True)
    await counts.mark(ONE, DAY, is_partial=False)
    assert await counts.reached(ONE, DAY) == SourceDay(2)
    await counts.add([replace(delta(3), is_partial=True)])
    await counts.add([delta(4)])
    assert (await counts.reached(ONE, DAY)).is_partial
    # Nothing was counted on a day that is marked all the same.
    await counts.mark(OTHER, DAY, is_partial=True)
    assert await counts.sources(DAY) == [ONE, OTHER]


async def test_rows_come_in_the_order_of_prefixes_page_by_page(counts: Counts) -> None:
    names = sorted(f"{number}" for number in range(25))
    rows = [(f"88.{name}".encode(), Figures(1)) for name in reversed(names)]
    await counts.add([Delta(source=ONE, sequence=1, day=DAY, rows=rows)])
    found: list[bytes] = []
    while page := await counts.rows(ONE, DAY, found[-1] if found else None, 10):
        found += [prefix for prefix, _ in page]
    assert found == [f"88.{name}".encode() for name in names]


async def test_many_rows_are_one_delta(counts: Counts) -> None:
    rows = [(f"88.{number}".encode(), Figures(number)) for number in range(3_000)]
    await counts.add([Delta(source=ONE, sequence=1, day=DAY, rows=rows)])
    await counts.add([Delta(source=OTHER, sequence=1, day=DAY, rows=rows[::2])])
    found = {row.prefix: row.by_source async for row in rows_of(counts, DAY, await counts.sources(DAY))}
    assert list(found) == sorted(prefix for prefix, _ in rows)
    for number, (prefix, figures) in enumerate(rows):
        assert found[prefix] == {ONE: figures} | ({} if number % 2 else {OTHER: figures})
    behind = [row.prefix async for row in rows_of(counts, DAY, [ONE], after=b"88.2")]
    assert behind == sorted(prefix for prefix, _ in rows if prefix > b"88.2")


async def test_processes_are_remembered_as_they_were_last(counts: Counts) -> None:
    for life in (
        Life(source=ONE, host="h", day=DAY),
        Life(source=OTHER, host="h", day=DAY),
        Life(source=ONE, host="h", day=DAY + 1, has_ended=True),
    ):
        await counts.put_life(life)
    assert sorted(life.source for life in await counts.lives()) == [ONE, OTHER]
    assert Life(source=ONE, host="h", day=DAY + 1, has_ended=True) in await counts.lives()


async def test_old_days_are_forgotten_and_totals_and_the_living_are_not(counts: Counts) -> None:
    await counts.add([delta(1, day=IN_TOTAL, A=1), delta(1, day=DAY, A=2), delta(1, day=DAY + 1, A=4)])
    await counts.put_life(Life(source=ONE, host="h", day=DAY, has_ended=True))
    await counts.put_life(Life(source=OTHER, host="h", day=DAY))
    await counts.forget(DAY + 1)
    assert await counts.days() == [IN_TOTAL, DAY + 1]
    assert (await held(counts, ONE, IN_TOTAL), await held(counts)) == ({"88.A": 1}, {})
    assert await held(counts, ONE, DAY + 1) == {"88.A": 4}
    assert [life.source for life in await counts.lives()] == [OTHER]


async def test_what_is_given_at_once_by_several_is_all_added(counts: Counts) -> None:
    await asyncio.gather(
        *(counts.add([delta(n, source=source, A=1)]) for source in (ONE, OTHER, JOURNAL) for n in (1, 1))
    )
    assert [await held(counts, source) for source in (ONE, OTHER, JOURNAL)] == [{"88.A": 1}] * 3


DELTAS = st.lists(
    st.tuples(
        st.sampled_from([ONE, OTHER]),
        st.sampled_from([DAY, DAY + 1]),
        st.dictionaries(st.sampled_from(["A", "B", "A.1", "é"]), st.integers(0, 9), max_size=3),
        st.integers(0, 2),
    ),
    max_size=12,
)


@given(steps=DELTAS)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_however_often_deltas_come_again_the_sums_are_right(new_place: NewPlace, steps: list) -> None:  # type: ignore[type-arg] # of hypothesis
    """The figures are those of every delta once, whatever was given again."""
    numbers: dict[tuple[str, int], int] = {}
    expected: dict[tuple[str, int, str], int] = {}
    async with new_place() as place:
        counts = (await place.open()).counts
        for source, day, queries, again in steps:
            number = numbers[source, day] = numbers.get((source, day), 0) + 1
            made = delta(number, source=source, day=day, **queries)
            for name, count in queries.items():
                expected[source, day, f"88.{name}"] = expected.get((source, day, f"88.{name}"), 0) + count
            for _ in range(again + 1):
                await counts.add([made])
        found = {
            (source, day, prefix): count
            for source in (ONE, OTHER)
            for day in (DAY, DAY + 1)
            for prefix, count in (await held(counts, source, day)).items()
        }
    assert found == expected


async def test_counts_can_be_copied_into_another_store(counts: Counts) -> None:
    many = [(b"88.N%04d" % number, Figures(number + 1, 1)) for number in range(1_200)]
    await counts.add([replace(delta(7), rows=many, kept=b"kept", is_partial=True), delta(3, day=IN_TOTAL, A=9)])
    await counts.add([delta(1, source=OTHER, A=2)])
    await counts.mark(JOURNAL, DAY + 1, is_partial=True)
    await counts.put_life(Life(source=ONE, host="h", day=DAY))
    async with embedded_place() as place:
        copied = (await place.open()).counts
        await copy_counts(counts, copied)
        assert await held(copied) == await held(counts)
        assert await copied.rows(ONE, DAY, b"88.N1100", 1_000) == await counts.rows(ONE, DAY, b"88.N1100", 1_000)
        assert await copied.days() == [IN_TOTAL, DAY, DAY + 1]
        for day in await counts.days():
            assert await copied.sources(day) == await counts.sources(day)
            for source in await counts.sources(day):
                assert await copied.reached(source, day) == await counts.reached(source, day)
        assert await copied.lives() == await counts.lives()


async def test_what_is_added_to_while_it_is_read_is_copied_in_one_state(counts: Counts) -> None:
    """Also where a source is added to all the time: then it is not copied at all."""
    await counts.add([delta(1, A=1)])

    class Growing:
        """Counts to which there is added as often as they are asked for their rows."""

        def __init__(self, times: int) -> None:
            self.lives, self.days, self.sources, self.reached = (
                counts.lives,
                counts.days,
                counts.sources,
                counts.reached,
            )
            self.times = times

        async def rows(self, source: str, day: int, after: bytes | None, limit: int) -> list[tuple[bytes, Figures]]:
            if self.times:
                self.times -= 1
                await counts.add([delta((await counts.reached(source, day)).sequence + 1, A=1)])
            return await counts.rows(source, day, after, limit)

    async with embedded_place() as place:
        copied = (await place.open()).counts
        with pytest.raises(Fault, match="faster"):
            await copy_counts(Growing(1_000), copied)
        assert await held(copied) == {}
        await copy_counts(Growing(2), copied)
        assert await held(copied) == await held(counts)
