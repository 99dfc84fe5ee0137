"""Following the feed: what others wrote comes into routes and cache, and what happens when it cannot be read."""

import asyncio

import pytest

from resolver.answer import FOUND, Ready
from resolver.errors import Fault, Reason
from resolver.following import FollowingSettings
from resolver.routes import Prefix, Verdict
from resolver.store import Changes
from resolver.trust.actors import Key, Node, NodeState, Tier
from resolver.units import Duration
from tests.small_node import PREFIXES, SmallNode
from tests.small_store import SmallStore, body


def make_node(*, settings: FollowingSettings | None = None) -> SmallNode:
    return SmallNode(SmallStore({b"88.100/A": body("88.100/A")}, PREFIXES), following=settings)


def signer(name: str, state: NodeState = NodeState.ENABLED) -> Node:
    """Make the row of a node with a key."""
    return Node(node=name, tier=Tier.SECONDARY, state=state, keys=(Key(f"key of {name}", b"spki", since=1),))


def keep(node: SmallNode, key: bytes = b"88.100/A", as_of: int | None = None) -> bool:
    """Put an answer into the cache as a reading of this state would, and tell whether it was taken."""
    state = node.store.index if as_of is None else as_of
    return bool(node.cache.put([key], [Ready(b"frame", FOUND, 9_999.0, as_of=state)]))


async def test_starts_with_all_prefixes_and_at_the_head() -> None:
    node = make_node()
    assert not node.following.is_current
    await node.following.start()
    assert len(node.routes) == len(PREFIXES)
    assert node.following.applied == node.store.index
    assert node.following.is_current


async def test_reads_more_prefixes_than_fit_on_a_page() -> None:
    rows = [Prefix(f"88.{number}", "88") for number in range(2_345)]
    node = await SmallNode(SmallStore({}, rows)).start()
    assert len(node.routes) == 2_345


async def test_reads_more_nodes_than_fit_on_a_page() -> None:
    store = SmallStore()
    store.commit(nodes=[signer(f"88.{number}") for number in range(2_345)])
    node = await SmallNode(store).start()
    assert len(node.nodes) == 2_345
    found = node.nodes.holder_of("key of 88.2344")
    assert found is not None
    assert (found.node, found.epoch) == ("88.2344", 1)


async def test_applies_rows_of_nodes() -> None:
    node = make_node()
    await node.following.start()
    node.store.commit(nodes=[signer("88.1"), signer("88.2")])
    node.store.commit(nodes=[signer("88.1", NodeState.SUSPENDED)])
    assert len(node.nodes) == 0
    await node.catch_up()
    states = [(row.state, row.epoch) for row in map(node.nodes.node, ("88.1", "88.2")) if row is not None]
    index = node.store.index
    assert states == [(NodeState.SUSPENDED, index), (NodeState.ENABLED, index - 1)]
    assert node.following.applied == index


async def test_applies_keys_rows_and_what_is_below() -> None:
    node = make_node()
    await node.following.start()
    keep(node)
    epoch = node.routes.scope(b"88.200").epoch
    node.store.commit({b"88.100/A": body("88.100/A", 2)})
    node.store.commit(prefixes=[Prefix("88.999", "88.999")])
    node.store.commit(below=[b"88.200"])
    await node.catch_up()
    held = node.cache.find(b"88.100/A")
    assert held is not None
    assert held.frame == b""
    assert not keep(node, as_of=node.store.index - 3)
    assert node.routes.scope(b"88.999").verdict is Verdict.ANSWER
    assert node.routes.scope(b"88.200").epoch > epoch
    assert node.following.applied == node.store.index


async def test_reads_a_long_feed_to_its_end_in_one_look() -> None:
    node = make_node()
    await node.following.start()
    for number in range(1_234):
        node.store.commit({b"88.100/%d" % number: body(f"88.100/{number}")})
    await node.catch_up()
    assert node.following.applied == node.store.index


async def test_a_change_during_the_start_is_not_lost() -> None:
    """The head is read before the rows: what is committed in between is applied afterwards, once more."""

    class Moving(SmallStore):
        async def head(self) -> int:
            head = await super().head()
            self.commit(prefixes=[Prefix("88.999", "88.999")])
            return head

    node = await SmallNode(Moving({}, PREFIXES)).start()
    assert node.following.applied == node.store.index - 1
    await node.catch_up()
    assert node.following.applied == node.store.index
    assert node.routes.scope(b"88.999").verdict is Verdict.ANSWER


async def test_behind_the_feeds_memory_it_starts_afresh() -> None:
    node = make_node()
    node.store.commit(nodes=[signer("88.1")])
    await node.following.start()
    keep(node)
    old = node.store.index
    node.store.commit({b"88.100/A": body("88.100/A", 2)})
    node.store.commit(
        prefixes=[Prefix("88.999", "88.999")], nodes=[signer("88.1", NodeState.REVOKED), signer("88.2")]
    )
    node.store.forgotten = node.store.index
    await node.catch_up()
    assert len(node.cache) == 0
    assert not keep(node, as_of=old)
    assert node.routes.scope(b"88.999").verdict is Verdict.ANSWER
    states = [row and row.state for row in map(node.nodes.node, ("88.1", "88.2"))]
    assert states == [NodeState.REVOKED, NodeState.ENABLED]
    assert (node.following.applied, node.following.is_current) == (node.store.index, True)
    assert node.sample("topnode_following_restarts_total") == 2


async def test_after_a_restore_nothing_of_the_other_store_is_known() -> None:
    """The store is behind the reader: it is another one."""
    node = make_node()
    node.store.commit(prefixes=[Prefix("88.999", "88.999")], nodes=[signer("88.1")])
    node.store.commit(nodes=[signer("88.2")])
    await node.following.start()
    node.store.become(SmallStore({}, PREFIXES))
    await node.catch_up()
    assert node.routes.allocation(b"88.999") is None
    assert (len(node.nodes), node.nodes.holder_of("key of 88.1")) == (0, None)
    assert node.following.applied == node.store.index == 1


async def test_what_was_known_holds_until_all_is_read_again() -> None:
    """Rows are read page by page, and callers are served meanwhile."""
    seen: list[tuple[int, Node | None]] = []

    class Watched(SmallStore):
        async def nodes(self, after: str | None, limit: int) -> list[Node]:
            seen.append((len(node.routes), node.nodes.node("88.1")))
            return await super().nodes(after, limit)

    node = SmallNode(Watched({}, PREFIXES))
    node.store.commit(nodes=[signer("88.1")])
    await node.following.start()
    seen.clear()
    node.store.commit(prefixes=[Prefix("88.999", "88.999")], nodes=[signer("88.1", NodeState.REVOKED)])
    node.store.forgotten = node.store.index
    await node.catch_up()
    assert [(count, row and row.state) for count, row in seen] == [(len(PREFIXES), NodeState.ENABLED)] * 2
    assert len(node.routes) == len(PREFIXES) + 1


async def test_terms_end_with_the_time() -> None:
    node = make_node()
    await node.following.start()
    assert node.routes.scope(b"88.500").verdict is Verdict.ANSWER
    node.clock.advance(100)
    await node.catch_up()
    assert node.routes.scope(b"88.500").verdict is Verdict.REFUSE_EXPIRED


async def test_terms_that_had_ended_before_the_start_have_ended() -> None:
    node = await SmallNode(SmallStore({}, [Prefix("88.1", "88", expires_at=1)])).start()
    assert node.routes.scope(b"88.1").verdict is Verdict.REFUSE_EXPIRED


# --- when it cannot be read ----------------------------------------------------------------------------------------


async def test_is_current_for_as_long_as_it_may_be() -> None:
    node = make_node(settings=FollowingSettings(bypass_after=Duration(2)))
    await node.following.start()
    node.clock.advance(2)
    assert node.following.is_current
    node.clock.advance(0.001)
    assert not node.following.is_current
    assert node.sample("topnode_following_lag_seconds") == pytest.approx(2.001)
    await node.catch_up()
    assert node.following.is_current
    assert node.sample("topnode_following_lag_seconds") == 0


async def test_counts_from_the_beginning_of_a_look() -> None:
    """What is committed while a look lasts may not be seen by it."""
    node = make_node()
    await node.following.start()
    node.store.hold()
    looking = asyncio.create_task(node.catch_up())
    await asyncio.sleep(0)
    node.clock.advance(1.5)
    node.store.release()
    await looking
    assert not node.following.is_current


async def test_what_was_read_before_a_failure_is_applied_and_does_not_make_it_current() -> None:
    class Breaking(SmallStore):
        async def changes(self, after: int, limit: int) -> Changes:
            if after > 100:
                raise Fault(Reason.STORE_UNAVAILABLE)
            return await super().changes(after, limit)

    node = await SmallNode(Breaking({}, PREFIXES)).start()
    for _ in range(180):
        node.store.commit({b"88.100/A": body("88.100/A")})
    node.clock.advance(1.5)
    with pytest.raises(Fault):
        await node.catch_up()
    assert (node.following.applied, node.following.is_current) == (101, False)


async def test_a_feed_whose_end_cannot_be_read_yet_is_not_current() -> None:
    class Gap(SmallStore):
        async def changes(self, after: int, limit: int) -> Changes:
            read = await super().changes(after, limit)
            return Changes(read.changes[:0], read.head)

    node = await SmallNode(Gap({}, PREFIXES)).start()
    node.store.commit({b"88.100/A": body("88.100/A")})
    node.clock.advance(1.5)
    await node.catch_up()
    assert not node.following.is_current
    assert node.sample("topnode_following_pending_changes") == 1


# --- running -------------------------------------------------------------------------------------------------------


async def test_runs_through_failures_and_sees_what_is_written() -> None:
    class Watched(SmallStore):
        """Tells of each look at its feed when it begins."""

        looks: asyncio.Queue[None] = asyncio.Queue()

        async def changes(self, after: int, limit: int) -> Changes:
            self.looks.put_nowait(None)
            return await super().changes(after, limit)

    store = Watched({b"88.100/A": body("88.100/A")}, PREFIXES)
    node = await SmallNode(store, following=FollowingSettings(poll_every=Duration(0.001))).start()
    await node.ask("88.100/A")
    store.fault = Fault(Reason.STORE_UNAVAILABLE)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        running = group.create_task(node.following.run())
        for _ in range(3):
            await store.looks.get()
        store.fault = None
        store.commit({b"88.100/A": body("88.100/A", 2)})
        for _ in range(2):
            await store.looks.get()
        running.cancel()
    (answer,) = await node.ask("88.100/A")
    assert answer.record is not None
    assert answer.record.version == 2
    assert node.sample("topnode_following_failures_total") >= 2


async def test_who_is_told_of_a_change_looks_at_once_unless_it_is_known() -> None:
    looks: asyncio.Queue[int] = asyncio.Queue()

    class Watched(SmallStore):
        async def changes(self, after: int, limit: int) -> Changes:
            looks.put_nowait(after)
            return await super().changes(after, limit)

    store = Watched({b"88.100/A": body("88.100/A")}, PREFIXES)
    seldom = FollowingSettings(poll_every=Duration(3_600), bypass_after=Duration(7_200))
    node = await SmallNode(store, following=seldom).start()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        running = group.create_task(node.following.run())
        node.following.wake(node.following.applied)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert looks.empty()
        node.following.wake(store.commit({b"88.100/A": body("88.100/A", 2)}))
        await looks.get()
        running.cancel()
    assert node.following.applied == store.index


async def test_a_mistake_is_not_a_failure_of_the_store() -> None:
    node = make_node(settings=FollowingSettings(poll_every=Duration(0.001)))
    await node.following.start()
    node.store.fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(10):
            await node.following.run()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"poll_every": Duration(0)}, "poll_every"),
        ({"poll_every": Duration(2), "bypass_after": Duration(2)}, "bypass_after"),
    ],
)
def test_refuses_settings_that_follow_nothing(settings: dict[str, Duration], field: str) -> None:
    with pytest.raises(Fault) as caught:
        FollowingSettings(**settings)
    assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, field)
