"""When a client asks again: a table."""

import pytest

from nodes.client.counts import Counts
from nodes.client.retries import ATTEMPTS, FIRST_WAIT, LONGEST_WAIT, Patience, wait_before_retry
from resolver.clock import SetClock
from resolver.errors import Fault, Reason

LEFT = 10.0


@pytest.mark.parametrize("reason", [Reason.NODE_UNREACHABLE, Reason.NODE_DRAINING, Reason.STORE_UNAVAILABLE])
def test_what_passes_is_tried_again_after_growing_waits(reason: Reason) -> None:
    longest = [wait_before_retry(Fault(reason), attempt, LEFT, 1.0) for attempt in range(1, ATTEMPTS + 1)]
    assert longest == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT, None]
    shortest = [wait_before_retry(Fault(reason), attempt, LEFT, 0.0) for attempt in range(1, ATTEMPTS)]
    assert shortest == [FIRST_WAIT / 2, FIRST_WAIT, 2 * FIRST_WAIT]


@pytest.mark.parametrize("reason", [Reason.RATE_LIMITED, Reason.TOO_MANY_IN_FLIGHT])
def test_a_node_that_says_when_to_come_back_is_believed(reason: Reason) -> None:
    assert wait_before_retry(Fault(reason, retry_after=3.0), 1, LEFT, 0.5) == 3.0 + FIRST_WAIT / 4
    assert wait_before_retry(Fault(reason), 1, LEFT, 0.5) is None


def test_nothing_is_waited_for_beyond_the_deadline() -> None:
    assert wait_before_retry(Fault(Reason.RATE_LIMITED, retry_after=3.0), 1, 2.0, 0.0) is None
    assert wait_before_retry(Fault(Reason.NODE_UNREACHABLE), 1, 0.0, 0.0) is None


@pytest.mark.parametrize(
    "reason",
    [
        Reason.IDENTIFIER_EMPTY,
        Reason.PREFIX_DISABLED,
        Reason.LISTING_NOT_ALLOWED,
        Reason.DEADLINE_SPENT,
        Reason.ANSWER_TOO_LARGE,
        Reason.INTERNAL,
    ],
)
def test_what_stays_so_is_final(reason: Reason) -> None:
    assert wait_before_retry(Fault(reason), 1, LEFT, 0.0) is None


def test_a_write_is_tried_again_until_its_deadline_after_waits_that_stop_growing() -> None:
    unheard = Fault(Reason.DEADLINE_SPENT)
    waits = [wait_before_retry(unheard, attempt, LEFT, 1.0, is_write=True) for attempt in range(1, 2_000)]
    assert waits[:3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert set(waits[7:]) == {LONGEST_WAIT}
    assert wait_before_retry(unheard, 2_000, LONGEST_WAIT, 1.0, is_write=True) is None


@pytest.mark.parametrize("reason", [Reason.STORE_FULL, Reason.NODE_NOT_ENABLED, Reason.INTERNAL])
def test_what_stays_so_is_final_for_writes_too(reason: Reason) -> None:
    assert wait_before_retry(Fault(reason), 1, LEFT, 0.0, is_write=True) is None


async def test_patience_waits_and_counts_until_nothing_is_left() -> None:
    counts, clock = Counts(), SetClock()
    patience = Patience(clock, 0.2, counts)
    await patience.wait_after(Fault(Reason.NODE_UNREACHABLE))
    assert counts.retries == 1
    clock.advance(0.2)
    assert patience.left == pytest.approx(0.0)
    with pytest.raises(Fault) as raised:
        await patience.wait_after(Fault(Reason.NODE_UNREACHABLE))
    assert raised.value.reason is Reason.NODE_UNREACHABLE
    assert counts.retries == 1
