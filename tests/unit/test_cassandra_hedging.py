"""When a second node is asked, and which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from resolver.store.cassandra.hedging import (
    DELAY_MAX,
    DELAY_MIN,
    Hedging,
    HedgingMetrics,
    percentile,
)
from resolver.store.cassandra.statements import Way
from tests.small_driver import Node, Nodes


def hedging_of(nodes: Nodes, registry: CollectorRegistry | None = None) -> Hedging:
    metrics = HedgingMetrics(registry or CollectorRegistry())
    return Hedging(Way.NEAR, metrics, datacenter="datacenter1", metadata=nodes)


@given(values=st.lists(st.floats(0, 10), min_size=1), which=st.integers(1, 100))
def test_a_percentile_is_not_exceeded_by_that_many_hundredths(values: list[float], which: int) -> None:
    found = percentile(values, which)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= which * len(values)
    assert sum(value < found for value in values) * 100 < which * len(values)


def test_the_delay_is_the_longest_before_anything_was_measured() -> None:
    assert hedging_of(Nodes("one")).delay == DELAY_MAX


@pytest.mark.parametrize(
    ("usual", "slow", "delay"), [(0.004, 0.004, 0.004), (0.0001, 0.0001, DELAY_MIN), (0.01, 5.0, DELAY_MAX)]
)
def test_the_delay_follows_the_slowest_hundredth_within_bounds(usual: float, slow: float, delay: float) -> None:
    registry = CollectorRegistry()
    hedging = hedging_of(Nodes("one"), registry)
    for number in range(512):
        hedging.note(slow if number % 50 == 0 else usual)
    assert hedging.delay == delay
    assert registry.get_sample_value("topnode_cassandra_hedge_delay_seconds", {"way": "near"}) == delay


def test_one_slow_answer_in_a_thousand_changes_little() -> None:
    hedging = hedging_of(Nodes("one"))
    for number in range(1_024):
        hedging.note(5.0 if number == 7 else 0.01)
    assert hedging.delay == 0.01


def test_another_node_is_one_of_the_same_data_centre_that_is_up() -> None:
    nodes = Nodes("one")
    for added, has_others in (
        (Node("far", "elsewhere"), False),
        (Node("down", is_up=False), False),
        (Node("two"), True),
    ):
        nodes.nodes.append(added)
        hedging = hedging_of(nodes)
        assert hedging.has_others is has_others
    nodes.nodes.pop()
    for _ in range(256):
        hedging.note(0.01)
    assert not hedging.has_others
