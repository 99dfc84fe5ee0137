"""Which children are probed: enabled holders of delegated prefixes, by one reading of all and then by the feed."""

from collections.abc import Iterable
from typing import Any

from nodes.probing.children import Children
from nodes.probing.holdings import ENDPOINTS
from resolver.clock import SetClock
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState, Protocol
from resolver.trust.actors import Node, NodeState, Tier
from tests.small_store import SmallStore

PAUSE = 10.0


def node(name: str, **more: Any) -> Node:
    said = {"node": name, "tier": Tier.SECONDARY, "state": NodeState.ENABLED, "keys": ()}
    return Node(**{**said, **more})


def at(port: int, priority: int = 0) -> Endpoint:
    return Endpoint(Protocol.GRPC, "192.0.2.1", port, priority)


def delegated(text: str, holder: str, *endpoints: Endpoint, **more: Any) -> Prefix:
    said = {"text": text, "holder": holder, "hosting": Hosting.DELEGATED, "endpoints": endpoints}
    return Prefix(**{**said, **more})


class CountingStore(SmallStore):
    """Counts how often all prefixes were begun to be read."""

    readings = 0

    async def prefixes(self, after: bytes | None, limit: int) -> list[Prefix]:
        self.readings += after is None
        return await super().prefixes(after, limit)


class Place:
    """Children over a small store, with a clock that stands still."""

    def __init__(self, nodes: Iterable[Node] = (), prefixes: Iterable[Prefix] = (), most: int = 10) -> None:
        self.store = CountingStore()
        self.clock = SetClock()
        self.store.commit({}, list(prefixes), list(nodes))
        self.children = Children(self.store, self.clock, own="top", most=most, pause=PAUSE)

    async def ports(self) -> dict[str, list[int]]:
        await self.children.refresh()
        return {name: [each.port for each in child.endpoints] for name, child in self.children.current().items()}


async def test_enabled_holders_of_delegated_prefixes_are_children() -> None:
    place = Place(
        [node("a"), node("b"), node("c"), node("s", state=NodeState.SUSPENDED), node("top")],
        [
            delegated("88.1", "a", at(1)),
            delegated("88.2", "b", at(2), hosting=Hosting.HERE),
            delegated("88.3", "c"),
            delegated("88.4", "s", at(4)),
            delegated("88.5", "nobody", at(5)),
            delegated("88.6", "top", at(6)),
            delegated("88.7", "c", at(7), state=PrefixState.DISABLED),
        ],
    )
    assert await place.ports() == {"a": [1]}


async def test_endpoints_of_all_prefixes_are_probed_by_priority_and_not_too_many() -> None:
    many = [delegated(f"88.1.{each}", "a", at(each + 1, priority=100 - each)) for each in range(40)]
    place = Place([node("a")], [*many, delegated("88.2", "a", at(77)), delegated("88.3", "a", at(77))])
    (ports,) = (await place.ports()).values()
    assert ports == [77, *range(40, 40 - ENDPOINTS + 1, -1)]


async def test_changes_of_nodes_are_known_at_once() -> None:
    place = Place([node("a")], [delegated("88.1", "a", at(1))])
    assert await place.ports() == {"a": [1]}
    place.store.commit({}, (), [node("a", takeover=True)])
    await place.children.refresh()
    assert place.children.current()["a"].row.takeover
    place.store.commit({}, (), [node("a", state=NodeState.SUSPENDED)])
    assert await place.ports() == {}


async def test_a_changed_route_is_known_at_once_and_the_rest_is_not_read_again() -> None:
    place = Place([node("a"), node("b")], [delegated("88.1", "a", at(1)), delegated("88.2", "b", at(2))])
    await place.ports()
    place.store.commit({}, [delegated("88.1", "a", at(3))], ())
    assert await place.ports() == {"a": [3], "b": [2]}
    # From one holder to another.
    place.store.commit({}, [delegated("88.1", "b", at(3))], ())
    assert await place.ports() == {"b": [2, 3]}
    # Gone, in each of the ways.
    place.store.commit({}, [delegated("88.1", "b", at(3), state=PrefixState.DISABLED)], ())
    assert await place.ports() == {"b": [2]}
    place.store.commit({}, [delegated("88.1", "b", at(3))], ())
    place.store.commit({}, [delegated("88.2", "b", at(2), hosting=Hosting.HERE)], ())
    assert await place.ports() == {"b": [3]}
    place.store.commit({}, [delegated("88.1", "top", at(3))], ())
    assert await place.ports() == {}
    place.clock.advance(100 * PAUSE)
    assert await place.ports() == {}
    assert place.store.readings == 1


async def test_an_endpoint_stays_as_long_as_one_prefix_leads_there() -> None:
    place = Place([node("a")], [delegated(text, "a", at(1)) for text in ("88.1", "88.2")])
    place.store.commit({}, [delegated("88.1", "a", at(2), at(1))], ())
    assert await place.ports() == {"a": [1, 2]}
    place.store.commit({}, [delegated("88.2", "a")], ())
    assert await place.ports() == {"a": [1, 2]}
    place.store.commit({}, [delegated("88.1", "a", at(2))], ())
    assert await place.ports() == {"a": [2]}
    assert place.store.readings == 1


async def test_a_node_that_joins_is_a_child_with_its_first_route() -> None:
    place = Place([node("a")], [delegated("88.1", "a", at(1))])
    await place.ports()
    place.store.commit({}, (), [node("b", state=NodeState.APPLIED)])
    place.store.commit({}, (), [node("b")])
    place.store.commit({}, [delegated("88.2", "b", at(2))], ())
    assert await place.ports() == {"a": [1], "b": [2]}
    # Node and route in one entry.
    place.store.commit({}, [delegated("88.3", "c", at(3))], [node("c")])
    assert await place.ports() == {"a": [1], "b": [2], "c": [3]}
    assert place.store.readings == 1


async def test_a_node_to_whom_prefixes_led_before_it_was_known_is_found_by_reading_all_again() -> None:
    """After a pause. Which prefixes those are is not remembered."""
    place = Place([], [delegated("88.1", "a", at(1))])
    assert await place.ports() == {}
    place.store.commit({}, (), [node("a")])
    assert await place.ports() == {}
    place.clock.advance(PAUSE)
    assert await place.ports() == {"a": [1]}
    assert place.store.readings == 2


async def test_where_the_feed_is_lost_all_is_read_again() -> None:
    place = Place([node("a")], [delegated("88.1", "a", at(1))])
    await place.ports()
    place.store.commit({}, [delegated("88.1", "a", at(2))], ())
    place.store.forgotten = place.store.index
    place.clock.advance(PAUSE)
    assert await place.ports() == {"a": [2]}
    assert place.store.readings == 2


async def test_who_changes_nothing_is_given_the_same_again() -> None:
    place = Place([node("a")], [delegated("88.1", "a", at(1))])
    await place.ports()
    children = place.children.current()
    place.clock.advance(PAUSE)
    place.store.commit({b"88.1/A": b"record"}, [delegated("88.1", "a", at(1), expires_at=1_900_000_000)], ())
    await place.ports()
    assert place.children.current() is children
    assert place.store.readings == 1


async def test_secondary_nodes_come_before_others_and_those_left_out_are_counted() -> None:
    names = ["a", "b", "z"]
    place = Place(
        [node("a", tier=Tier.ENTERPRISE), node("b", tier=Tier.ENTERPRISE), node("z")],
        [delegated(f"88.{each}", each, at(1)) for each in names],
        most=2,
    )
    assert list(await place.ports()) == ["z", "a"]
    assert place.children.left_out == 1
