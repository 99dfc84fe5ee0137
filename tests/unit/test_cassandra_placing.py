"""Which node is asked for which key."""

import asyncio
from collections.abc import Sequence

from cassandra.policies import RoundRobinPolicy
from cassandra.query import SimpleStatement
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from resolver.store.cassandra.connecting import Directed
from resolver.store.cassandra.layout import HASH_MAX, hash_of
from resolver.store.cassandra.placing import Placing
from resolver.store.cassandra.records import WIDTH_MIN, Records
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.statements import PUBLIC_NEAR, Way
from tests.small_driver import Node, Nodes, SmallDriver, TokenMap, asking_of

THIRDS = [-HASH_MAX // 3, HASH_MAX // 3, HASH_MAX]
KEYS = [b"%04d" % number for number in range(1_000)]


def nodes_of(replicas: int, *names: str, tokens: Sequence[int] = THIRDS) -> Nodes:
    nodes = Nodes(*names)
    nodes.token_map = TokenMap(nodes.nodes, tokens, replicas)
    return nodes


def placing_of(nodes: Nodes) -> Placing:
    return Placing(nodes, keyspace="small", datacenter="datacenter1")


@given(
    keys=st.lists(st.binary(min_size=1, max_size=9), max_size=50),
    tokens=st.lists(st.integers(-HASH_MAX, HASH_MAX), min_size=2, max_size=20, unique=True).map(sorted),
)
def test_every_key_goes_to_the_node_that_holds_its_hash(keys: list[bytes], tokens: list[int]) -> None:
    names = [f"n{number}" for number in range(len(tokens))]
    places = list(placing_of(nodes_of(1, *names, tokens=tokens)).places(keys))
    assert sorted(key for _, some in places for key in some) == sorted(keys)
    for (node,), some in places:
        for key in some:
            above = [number for number, token in enumerate(tokens) if hash_of(key) <= token]
            assert node.name == f"n{above[0] if above else 0}"


def test_where_every_node_holds_everything_keys_stay_together() -> None:
    assert list(placing_of(nodes_of(3, "a", "b", "c")).places(KEYS)) == [((), KEYS)]
    assert list(placing_of(Nodes("a", "b", "c")).places(KEYS)) == [((), KEYS)]


def test_nodes_of_another_data_centre_are_none() -> None:
    nodes = Nodes("a", "b")
    nodes.nodes += [Node("far", "elsewhere"), Node("farther", "elsewhere")]
    nodes.token_map = TokenMap([nodes.nodes[each] for each in (0, 2, 1, 3)], [*THIRDS, HASH_MAX], 2)
    assert {node.name for held, _ in placing_of(nodes).places(KEYS) for node in held} == {"a", "b"}


def test_a_ring_that_changes_is_followed() -> None:
    nodes = nodes_of(2, "a", "b", "c")
    placing = placing_of(nodes)
    assert len(list(placing.places(KEYS))) == 3
    nodes.token_map = TokenMap(nodes.nodes[:2], THIRDS[1:], 2)
    del nodes.nodes[2]
    assert list(placing.places(KEYS)) == [((), KEYS)]


def test_keys_of_a_node_that_is_down_go_to_the_next_that_has_them() -> None:
    nodes = nodes_of(2, "a", "b", "c")
    placing = placing_of(nodes)
    held = {tuple(node.name for node in held): keys for held, keys in placing.places(KEYS)}
    assert held.keys() == {("a", "b"), ("b", "c"), ("c", "a")}
    nodes.nodes[1].is_up = False
    found = {held[0].name: set(keys) for held, keys in placing.places(KEYS)}
    assert found == {"a": set(held["a", "b"]), "c": {*held["b", "c"], *held["c", "a"]}}


async def test_each_node_gets_lists_of_its_own_and_every_caller_all_of_its_keys() -> None:
    driver = SmallDriver("a", "b", "c", rows={Way.NEAR: {key: (key,) for key in KEYS}})
    driver.metadata.token_map = TokenMap(driver.metadata.nodes, THIRDS, 1)
    registry = CollectorRegistry()
    placing = placing_of(driver.metadata)
    records = Records(asking_of(driver, registry), placing, CassandraSettings(hosts=("a",)), registry)
    calls = [records.public(KEYS, confirmed=False), *(records.public([key], confirmed=False) for key in KEYS)]
    found = await asyncio.gather(*calls)
    assert found == [KEYS, *([key] for key in KEYS)]
    held = {nodes[0]: set(keys) for nodes, keys in placing.places(KEYS)}
    for future in driver.asked:
        assert set(future.names) <= held[future.attempted_hosts[0]]
    assert len({future.attempted_hosts[0] for future in driver.asked}) == 3


async def test_few_keys_are_asked_of_each_node_at_once_and_wait_only_where_that_one_is_busy() -> None:
    driver = SmallDriver("a", "b", "c", rows={Way.NEAR: {key: (key,) for key in KEYS}})
    driver.metadata.token_map = TokenMap(driver.metadata.nodes, THIRDS, 1)
    driver.is_held = True
    registry = CollectorRegistry()
    placing = placing_of(driver.metadata)
    records = Records(asking_of(driver, registry), placing, CassandraSettings(hosts=("a",)), registry)
    of_one, of_other, _ = (list(keys) for _, keys in placing.places(KEYS))
    busy = asyncio.ensure_future(records.public(of_one[: 8 * WIDTH_MIN], confirmed=False))
    await driver.has_asked(3)
    sent = len(driver.asked)
    waits = asyncio.ensure_future(records.public(of_one[:1], confirmed=False))
    goes = asyncio.ensure_future(records.public(of_other[:1], confirmed=False))
    await driver.has_asked(sent + 1)
    assert driver.asked[-1].names == of_other[:1]
    driver.release()
    assert await waits == of_one[:1]
    assert await goes == of_other[:1]
    assert await busy == of_one[: 8 * WIDTH_MIN]


def test_a_node_that_is_wanted_comes_first_and_one_that_was_asked_comes_last() -> None:
    nodes = [Node("one"), Node("two"), Node("three")]
    child = RoundRobinPolicy()
    child.populate(None, nodes)
    policy = Directed(child)
    bound = SimpleStatement(PUBLIC_NEAR.cql)
    assert {next(policy.make_query_plan(None, bound)) for _ in range(6)} == set(nodes)
    bound.wanted = [nodes[1], nodes[0]]
    assert [list(policy.make_query_plan(None, bound)) for _ in range(6)] == [[nodes[1], nodes[0], nodes[2]]] * 6
    bound.avoided = nodes[1]
    assert [list(policy.make_query_plan(None, bound)) for _ in range(6)] == [[nodes[0], nodes[2], nodes[1]]] * 6
