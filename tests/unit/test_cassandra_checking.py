"""What makes a ring fit for a registry, and what does not."""

import pytest

from resolver.store.cassandra.checking import Fitness, Seat, judge, judge_keyspace

FIT = {
    "commitlog_sync": "group",
    "commitlog_sync_group_window": "2ms",
    "hinted_handoff_enabled": "true",
    "max_hint_window": "3h",
    "paxos_variant": "v2",
    "sstable.selected_format": "bti",
}


def seat(rack: str = "rack1", **other: str) -> Seat:
    return Seat("10.0.0.7", rack, FIT | other)


def unfit(settings: dict[str, str]) -> dict[str, Fitness]:
    """What is not good about a node with these settings, by what was looked at."""
    judged = judge(Seat("10.0.0.7", "rack1", settings))
    return {each.what: each.fitness for each in judged if each.fitness is not Fitness.GOOD}


def test_a_node_as_deploy_sets_it_is_fit() -> None:
    assert unfit(FIT) == {}
    assert next(each.found for each in judge(seat())) == "group, 2ms"


@pytest.mark.parametrize("sync", ["periodic", ""])
def test_one_that_tells_of_writes_before_they_are_on_its_disk_is_refused(sync: str) -> None:
    assert unfit(FIT | {"commitlog_sync": sync}) == {"commitlog_sync": Fitness.REFUSED}


def test_one_that_syncs_each_batch_is_fit() -> None:
    assert unfit(FIT | {"commitlog_sync": "batch"}) == {}


@pytest.mark.parametrize("name", sorted(set(FIT) - {"commitlog_sync", "commitlog_sync_group_window"}))
def test_what_only_costs_or_mends_less_is_doubtful(name: str) -> None:
    assert unfit(FIT | {name: "other"}) == {name: Fitness.DOUBTFUL}
    assert unfit({key: value for key, value in FIT.items() if key != name}) == {name: Fitness.DOUBTFUL}


def test_one_that_does_not_tell_is_refused() -> None:
    assert unfit({}) == {"answer": Fitness.REFUSED}


@pytest.mark.parametrize(
    ("replicas", "racks", "copies", "spread"),
    [
        (3, 3, Fitness.GOOD, Fitness.GOOD),
        (3, 2, Fitness.GOOD, Fitness.DOUBTFUL),
        (3, 1, Fitness.GOOD, Fitness.DOUBTFUL),
        (5, 3, Fitness.GOOD, Fitness.GOOD),
        (2, 2, Fitness.REFUSED, Fitness.GOOD),
        (1, 1, Fitness.REFUSED, Fitness.GOOD),
    ],
)
def test_three_copies_in_three_racks(replicas: int, racks: int, copies: Fitness, spread: Fitness) -> None:
    judged = judge_keyspace("topnode", replicas, [seat(f"rack{each}") for each in range(racks)])
    assert [each.fitness for each in judged] == [copies, spread]
