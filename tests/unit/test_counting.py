"""Counting in one process: which day it is, what an answer counts for, and that nothing is counted twice or lost."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.answer import ABSENT, FOUND, REFERRAL, Failed, Ready
from resolver.clock import SetClock
from resolver.counting import (
    IN_TOTAL,
    NOTHING,
    PREFIX_BYTES,
    Counting,
    Figures,
    Tally,
    day_ends,
    day_from_text,
    day_of,
    day_to_text,
    tags_of,
)
from resolver.errors import Fault, Reason
from resolver.query import Mode
from tests.small_node import PREFIXES, SmallNode
from tests.small_store import SmallStore, body

RECORDS = {
    b"88.100/A": body("88.100/a"),
    b"88.100/GONE": body("88.100/gone", deleted=True),
    b"88.200/A": body("88.200/a"),
}
SHANGHAI = ZoneInfo("Asia/Shanghai")
FOUND_TAG, OTHER_TAG = tags_of(b"88.1")


@given(wall=st.integers(800_000_000, 4_000_000_000))
def test_days_are_those_of_shanghai(wall: int) -> None:
    day = day_of(wall)
    assert day_to_text(day) == datetime.fromtimestamp(wall, SHANGHAI).date().isoformat()
    assert day_of(day_ends(day) - 1) == day
    assert day_of(day_ends(day)) == day + 1
    assert day_from_text(day_to_text(day)) == day


def test_midnight_is_that_of_shanghai() -> None:
    midnight = datetime(2026, 11, 29, tzinfo=SHANGHAI).timestamp()
    assert [day_to_text(day_of(midnight + seconds)) for seconds in (-0.001, 0)] == ["2026-11-28", "2026-11-29"]


@pytest.mark.parametrize(
    "text", ["", "today", "2026-1-2", "2026-02-30", "1970-01-01", "1969-12-31", "20261129", "\u0662026-11-29"]
)
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(Fault) as raised:
        day_from_text(text)
    assert (raised.value.reason, raised.value.field) == (Reason.FIELD_OUT_OF_RANGE, "day")


def test_in_total_is_written_as_a_word() -> None:
    assert day_from_text(day_to_text(IN_TOTAL)) == IN_TOTAL == 0


def test_figures_are_added_and_taken_away_one_by_one() -> None:
    one, other = Figures(*range(1, 8)), Figures(*range(10, 80, 10))
    assert one + other == Figures(*(11 * each for each in range(1, 8)))
    assert one + other - other == one
    assert not one - one
    assert one
    assert Figures() == NOTHING


def ready(tag: bytes) -> Ready:
    return Ready(b"frame", FOUND, tag=tag)


@pytest.mark.parametrize("size", [1, 3, 7, 8, 9, 1_000])
def test_batches_of_any_size_are_counted_by_prefix_and_way(size: int) -> None:
    """Small batches and large ones are counted in different ways."""
    counting = Counting(SetClock())
    other, _ = tags_of(b"88.2")
    answers = [ready((FOUND_TAG, OTHER_TAG, other)[place % 3]) for place in range(size)]
    counting.count(answers, Mode.LOCAL)
    counting.count(answers, Mode.REFERRAL)
    counting.count(answers, Mode.RECURSIVE)
    first, second, third = (len(range(start, size, 3)) for start in range(3))
    expected = {b"88.1": Figures(2 * (first + second), 2 * first, first + second, first)}
    if third:
        expected[b"88.2"] = Figures(2 * third, 2 * third, third, third)
    assert counting.take().rows == expected


def test_what_was_taken_is_not_given_again_and_the_day_is_that_of_the_beginning() -> None:
    clock = SetClock(wall=day_ends(20_000) - 1.0)
    counting = Counting(clock)
    counting.count([ready(FOUND_TAG)], Mode.LOCAL)
    clock.advance(2)
    assert counting.take() == Tally(20_000, {b"88.1": Figures(1, 1)})
    assert counting.take() == Tally(20_001, {})


def test_what_a_front_has_counted_by_itself_is_taken_too_direct_and_recursive_apart() -> None:
    counting = Counting(SetClock())
    counting.count([ready(FOUND_TAG)], Mode.RECURSIVE)
    counting.count_beside(lambda: [(FOUND_TAG, 3, 10), (OTHER_TAG, 0, 2), (b"", 7, 7)])
    assert counting.take().rows == {b"88.1": Figures(3, 3, 13, 11)}


def test_what_has_no_tag_is_not_counted() -> None:
    counting = Counting(SetClock())
    counting.count([Failed(fault=Fault(Reason.PREFIX_DISABLED)), Ready(b"frame", ABSENT)] * 10, Mode.LOCAL)
    assert counting.take().rows == {}


def test_long_prefixes_are_not_counted() -> None:
    assert tags_of(b"8" * (PREFIX_BYTES + 1)) == (b"", b"")
    assert all(tags_of(b"8" * PREFIX_BYTES))


class TestThroughTheChain:
    """Which tag the answers of a whole chain have."""

    async def counted(
        self, *identifiers: str, mode: Mode = Mode.LOCAL, rounds: int = 1, **more: Any
    ) -> dict[bytes, Figures]:
        node = SmallNode(SmallStore(RECORDS, PREFIXES))
        await node.following.start()
        counting = Counting(node.clock)
        for _ in range(rounds):
            counting.count(await self.asked(node, identifiers, mode, **more), mode)
        return counting.take().rows

    async def asked(self, node: SmallNode, identifiers: Sequence[str], mode: Mode, **more: Any) -> Sequence[Ready]:
        return await node.chain.resolve(node.query(*identifiers, mode=mode, **more))

    @pytest.mark.parametrize(
        ("identifier", "prefix", "figures"),
        [
            ("88.100/a", b"88.100", Figures(1, 1)),
            ("88.100/NO", b"88.100", Figures(1, 0)),
            ("88.100/gone", b"88.100", Figures(1, 0)),
            ("88.100.7/derived", b"88.100", Figures(1, 0)),
            ("88.200/a", b"88.200", Figures(1, 1)),
            ("88.200/NO", b"88.200", Figures(1, 0)),
        ],
    )
    async def test_an_answer_counts_for_the_longest_allocated_prefix(
        self, identifier: str, prefix: bytes, figures: Figures
    ) -> None:
        assert await self.counted(identifier) == {prefix: figures}
        # From memory as well as from the store, and under other spellings.
        thrice = Figures(3 * figures.queries, 3 * figures.found)
        assert await self.counted(identifier, rounds=3) == {prefix: thrice}
        assert await self.counted(identifier.upper(), rounds=3) == {prefix: thrice}

    @pytest.mark.parametrize("identifier", ["77/A", "88.400/A", "88.600/A", "no identifier", "88.100/"])
    async def test_what_lies_below_no_prefix_or_is_refused_counts_for_none(self, identifier: str) -> None:
        assert await self.counted(identifier, "88.100/a") == {b"88.100": Figures(1, 1)}

    async def test_filters_and_referrals_count_too(self) -> None:
        assert await self.counted("88.100/a", types=("NAME",)) == {b"88.100": Figures(1, 1)}
        assert await self.counted("88.200/a", mode=Mode.REFERRAL) == {b"88.200": Figures(1, 0)}
        assert await self.counted("88.200/a", mode=Mode.REFERRAL, with_copy=True) == {b"88.200": Figures(1, 0)}
        assert await self.counted("88.100/a", mode=Mode.RECURSIVE) == {b"88.100": Figures(0, 0, 1, 1)}

    async def test_stale_answers_count_as_what_they_say(self) -> None:
        node = SmallNode(SmallStore(RECORDS, PREFIXES))
        await node.following.start()
        counting = Counting(node.clock)
        await self.asked(node, ["88.100/a"], Mode.LOCAL)
        node.clock.advance(3_700)
        node.store.fault = Fault(Reason.STORE_UNAVAILABLE)
        answers = await self.asked(node, ["88.100/a"], Mode.LOCAL)
        counting.count(answers, Mode.LOCAL)
        assert counting.take().rows == {b"88.100": Figures(1, 1)}


def test_a_referral_says_which_prefix_it_is_about() -> None:
    assert Ready(b"frame", REFERRAL, tag=OTHER_TAG).tag == b"-88.1"
