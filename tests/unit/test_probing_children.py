"""Which children are probed: enabled holders of delegated prefixes, by the feed and by reading all of them again."""

from collections.abc import Iterable
from typing import Any

from nodes.probing.children import ENDPOINTS, Children
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
    """Counts how often all nodes were begun to be read."""

    readings = 0

    async def nodes(self, after: str | None, limit: int) -> list[Node]:
        self.readings += after is None
        return await super().nodes(after, limit)


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


async def test_new_endpoints_are_known_at_once_and_old_ones_go_with_the_next_reading() -> None:
    place = Place([node("a")], [delegated("88.1", "a", at(1))])
    await place.ports()
    place.store.commit({}, [delegated("88.1", "a", at(2))], ())
    assert await place.ports() == {"a": [1, 2]}
    place.clock.advance(PAUSE - 1)
    assert await place.ports() == {"a": [1, 2]}
    place.clock.advance(1)
    assert await place.ports() == {"a": [2]}


async def test_a_new_holder_is_found_with_the_next_reading() -> None:
    place = Place([node("a"), node("b")], [delegated("88.1", "a", at(1))])
    await place.ports()
    place.store.commit({}, [delegated("88.1", "b", at(1))], ())
    place.clock.advance(PAUSE)
    assert await place.ports() == {"b": [1]}


async def test_what_changes_nothing_of_it_has_nothing_read_again() -> None:
    place = Place([node("a")], [delegated("88.1", "a", at(1))])
    await place.ports()
    place.clock.advance(PAUSE)
    place.store.commit({b"88.1/A": b"record"}, (), ())
    assert await place.ports() == {"a": [1]}
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
