"""A window of probes: what falls out of it, what it counts, and that it counts like a plain list would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.probing.window import Probe, Tally, Window

LENGTH = 300.0


def window(*probes: Probe, most: int = 1_000) -> Window:
    made = Window(LENGTH, most, began=0.0)
    for probe in probes:
        made.add(probe)
    return made


def probe(at: float, *, is_good: bool = True, seconds: float = 0.01) -> Probe:
    return Probe(at, seconds, is_good)


def test_an_empty_window_says_nothing() -> None:
    assert window().tally == Tally(0, 0)
    assert window().tally.availability is None
    assert window().percentiles() == {}


def test_good_and_failed_probes_are_counted() -> None:
    tally = window(probe(1), probe(2, is_good=False), probe(3), probe(4)).tally
    assert tally == Tally(4, 1)
    assert tally.availability == 0.75
    assert tally + Tally(1, 1) == Tally(5, 2)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    made = window(probe(0, is_good=False), probe(100))
    made.forget(299.9)
    assert made.tally == Tally(2, 1)
    made.forget(300)
    assert made.tally == Tally(1, 0)
    made.forget(10_000)
    assert made.tally == Tally(0, 0)


def test_it_is_full_when_its_whole_length_was_watched() -> None:
    made = Window(LENGTH, 10, began=50.0)
    assert not made.is_full(349.9)
    assert made.is_full(350)


def test_no_more_are_kept_than_there_is_room_for() -> None:
    made = window(*(probe(at, is_good=at > 4) for at in range(10)), most=6)
    assert made.tally == Tally(6, 1)


def test_latencies_are_those_of_good_probes_by_nearest_rank() -> None:
    good = [probe(number, seconds=number / 100) for number in range(1, 101)]
    assert window(*good).percentiles() == {50: 0.5, 95: 0.95, 99: 0.99}
    assert window(probe(1, seconds=9, is_good=False), probe(2, seconds=0.2)).percentiles() == {
        50: 0.2,
        95: 0.2,
        99: 0.2,
    }


@given(st.lists(st.tuples(st.floats(0, 60), st.booleans()), max_size=100), st.integers(1, 50))
def test_it_counts_as_a_list_of_all_probes_would(steps: list[tuple[float, bool]], most: int) -> None:
    made, all_of_them, now = window(most=most), [], 0.0
    for step, is_good in steps:
        now += step
        all_of_them.append(probe(now, is_good=is_good))
        made.add(all_of_them[-1])
        expected = [each for each in all_of_them[-most:] if each.at > now - LENGTH]
        assert made.tally == Tally(len(expected), sum(not each.is_good for each in expected))


@pytest.mark.parametrize("percent", [50, 95, 99])
@given(st.lists(st.floats(0, 10), min_size=1, max_size=50))
def test_a_percentile_is_one_of_the_latencies_with_as_many_below_it(percent: int, took: list[float]) -> None:
    given_one = window(*(probe(1, seconds=seconds) for seconds in took)).percentiles()[percent]
    assert given_one in took
    assert sum(seconds <= given_one for seconds in took) * 100 >= percent * len(took)
