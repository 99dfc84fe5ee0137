"""The 51 % rule: who is down, what is due, and that nothing is begun while more than half fail together."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.probing.deciding import Due, Evidence, Rule, Standing, decide, standing
from nodes.probing.window import Tally

RULE = Rule(least=20, settle=22.0)
GOOD = Evidence(tally=Tally(30, 0), is_full=True, fails_now=False)


def dead(**more: Any) -> Evidence:
    said = {"tally": Tally(30, 30), "is_full": True, "fails_now": True, "down_for": 60.0, "agreement": True}
    return Evidence(**{**said, **more})


def due(seen: Evidence, beside: int = 3) -> Due:
    """Decide about one child beside so many good ones."""
    return decide({"it": seen, **{f"88.{number}": GOOD for number in range(beside)}}, RULE).due["it"]


@pytest.mark.parametrize(
    ("probes", "failed", "expected"),
    [
        (0, 0, Standing.UNKNOWN),
        (19, 19, Standing.UNKNOWN),
        (20, 0, Standing.UP),
        (20, 10, Standing.UP),
        (20, 11, Standing.DOWN),
        (100, 50, Standing.UP),
        (100, 51, Standing.DOWN),
        (30, 15, Standing.UP),
        (30, 16, Standing.DOWN),
    ],
)
def test_51_of_100_and_at_least_20_probes(probes: int, failed: int, expected: Standing) -> None:
    assert standing(Tally(probes, failed), RULE.least) is expected


def test_a_child_that_is_down_and_agreed_is_taken_over_by_itself() -> None:
    assert due(dead()) is Due.TAKE_OVER


def test_without_an_agreement_it_is_an_operators_to_take_over() -> None:
    assert due(dead(agreement=False)) is Due.OPERATOR_TAKES_OVER


def test_where_an_operator_ended_it_while_the_child_was_down_it_is_left_to_operators() -> None:
    assert due(dead(is_held=True)) is Due.OPERATOR_TAKES_OVER


def test_before_the_others_have_been_probed_too_nothing_is_due() -> None:
    assert due(dead(down_for=RULE.settle - 0.1)) is Due.NOTHING


def test_a_child_that_was_not_probed_often_enough_is_left_alone() -> None:
    assert due(dead(tally=Tally(19, 19))) is Due.NOTHING


def test_a_taken_over_child_that_stays_down_stays_taken_over() -> None:
    assert due(dead(takeover=True, is_automatic=True)) is Due.NOTHING


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, Due.HAND_BACK),
        ({"is_automatic": False}, Due.OPERATOR_HANDS_BACK),
        ({"agreement": False}, Due.HAND_BACK),
        ({"is_full": False}, Due.NOTHING),
        ({"tally": Tally(30, 1)}, Due.NOTHING),
        ({"tally": Tally(19, 0)}, Due.NOTHING),
    ],
)
def test_hand_back_after_a_whole_window_without_a_failure(more: dict[str, Any], expected: Due) -> None:
    said = {"tally": Tally(30, 0), "is_full": True, "fails_now": False, "takeover": True, "is_automatic": True}
    assert due(Evidence(**{**said, **more})) is expected


@pytest.mark.parametrize(
    ("failing", "all_of_them", "suspects"), [(1, 1, True), (1, 2, False), (2, 3, True), (2, 4, False)]
)
def test_more_than_half_failing_is_this_nodes_own_failure(failing: int, all_of_them: int, *, suspects: bool) -> None:
    seen = {f"88.{number}": dead() if number < failing else GOOD for number in range(all_of_them)}
    decided = decide(seen, RULE)
    assert decided.suspects_itself is suspects
    assert (decided.failing, decided.counted) == (failing, all_of_them)
    expected = Due.NOTHING if suspects else Due.TAKE_OVER
    assert [decided.due[f"88.{number}"] for number in range(failing)] == [expected] * failing


def test_those_whose_newest_probe_failed_count_before_their_windows_say_so() -> None:
    """The network of this node has just gone: one child was weak before and is the first to be down."""
    just_now = Evidence(tally=Tally(30, 2), is_full=True, fails_now=True)
    decided = decide({"weak": dead(), "a": just_now, "b": GOOD}, RULE)
    assert decided.suspects_itself
    assert decided.due["weak"] is Due.NOTHING


def test_children_that_were_not_probed_yet_are_not_counted() -> None:
    nothing = Evidence(tally=Tally(), is_full=False, fails_now=False)
    assert decide({"it": dead(), "new": nothing}, RULE).suspects_itself


def test_without_children_nothing_is_suspected() -> None:
    assert not decide({}, RULE).suspects_itself


@st.composite
def evidence(draw: st.DrawFn) -> Evidence:
    probes = draw(st.integers(0, 40))
    return Evidence(
        tally=Tally(probes, draw(st.integers(0, probes))),
        is_full=draw(st.booleans()),
        fails_now=bool(probes) and draw(st.booleans()),
        down_for=draw(st.floats(0, 100)),
        takeover=draw(st.booleans()),
        is_automatic=draw(st.booleans()),
        agreement=draw(st.booleans()),
        is_held=draw(st.booleans()),
    )


@given(st.dictionaries(st.text(max_size=4), evidence(), max_size=12))
def test_whatever_was_seen_the_bounds_of_a_takeover_hold(children: dict[str, Evidence]) -> None:
    decided = decide(children, RULE)
    begun = [name for name, each in decided.due.items() if each in {Due.TAKE_OVER, Due.OPERATOR_TAKES_OVER}]
    failing = sum(each.fails_now or standing(each.tally, 20) is Standing.DOWN for each in children.values())
    counted = sum(each.tally.probes > 0 for each in children.values())
    assert not begun or 2 * failing <= counted
    for name, each in decided.due.items():
        seen = children[name]
        if each is Due.TAKE_OVER:
            assert seen.agreement
            assert not seen.takeover
            assert not seen.is_held
            assert seen.tally.failed * 100 >= 51 * seen.tally.probes >= 51 * 20
        if each is Due.HAND_BACK:
            assert seen.takeover
            assert seen.is_automatic
            assert seen.tally.failed == 0
