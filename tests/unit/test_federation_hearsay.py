"""What a prober says of endpoints: when it counts, and what outweighs it."""

import pytest

from resolver.clock import SetClock
from resolver.federation.hearsay import Hearsay, place
from resolver.routes import Endpoint, Protocol

ONE = Endpoint(Protocol.GRPC, "192.0.2.1", 1)
NEVER = float("-inf")


@pytest.mark.parametrize(
    ("answered_at", "now", "is_against"),
    [
        pytest.param(NEVER, 1_000, True, id="nothing was ever answered here"),
        pytest.param(960, 1_000, True, id="what was answered is older than the probes"),
        pytest.param(980, 1_000, False, id="something was answered since the first of the probes"),
        pytest.param(NEVER, 1_029, True, id="it counts still"),
        pytest.param(NEVER, 1_030, False, id="it has run out"),
    ],
)
def test_it_counts_for_a_while_and_where_nothing_here_says_otherwise(
    answered_at: float, now: float, *, is_against: bool
) -> None:
    clock = SetClock(monotonic=now)
    hearsay = Hearsay(clock)
    hearsay.hear({ONE: 970.0}, until=1_030)
    assert hearsay.is_against(ONE, answered_at) is is_against


def test_the_newest_word_replaces_the_one_before() -> None:
    hearsay = Hearsay(SetClock())
    assert not hearsay.is_against(ONE, NEVER)
    hearsay.hear({ONE: 970.0}, until=1_030)
    assert hearsay.is_against(ONE, NEVER)
    hearsay.hear({}, until=1_031)
    assert not hearsay.is_against(ONE, NEVER)


def test_an_endpoint_is_the_same_at_every_priority() -> None:
    hearsay = Hearsay(SetClock())
    hearsay.hear({Endpoint(Protocol.GRPC, "192.0.2.1", 1, priority=7): 970.0}, until=1_030)
    assert hearsay.is_against(place(Endpoint(Protocol.GRPC, "192.0.2.1", 1, priority=9)), NEVER)
    assert not hearsay.is_against(Endpoint(Protocol.GRPC, "192.0.2.1", 1, tls_name="other"), NEVER)
