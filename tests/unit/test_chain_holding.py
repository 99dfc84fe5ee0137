"""Holding, in a whole read path: who is shown restricted values, and that nobody else is, by whatever way."""

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from resolver import wire
from resolver.answer import FOUND, Failed, Outcome, Ready, Standing
from resolver.cache.memory import MemorySettings
from resolver.chain.holding import Holding
from resolver.errors import Fault, Reason
from resolver.holders import Holders
from resolver.query import PUBLIC, Asker, Mode, Query
from resolver.routes import Prefix, PrefixState, RouteTable
from resolver.store import Fetched
from resolver.trace import Trace
from resolver.trust.actors import Node, NodeState, NodeTable, Tier
from resolver.units import Size
from tests.small_node import NODE, PREFIXES, SmallNode, decoded
from tests.small_store import SmallStore, body
from tests.stores import record

SECRET: Final = b"only its holder may read this"

HOLDER: Final = Asker(identity="88.100")
OTHER: Final = Asker(identity="88.200")
OPERATOR: Final = Asker(identity="alice", is_operator=True)

ROWS: Final = (
    *PREFIXES,
    Prefix("88.100.5", "88.105"),
    Prefix("88.100.7", "88.107", state=PrefixState.PENDING),
    Prefix("88.1000", "88.999"),
    Prefix("88.Own", NODE),
)
NAMES: Final = (
    "88.100/A",
    "88.100/B",
    "88.100.5/A",
    "88.100.7/A",
    "88.1000/A",
    "88.200/A",
    "88.300/a",
    "88.Own/A",
    "88.400/A",
)


def signer(name: str, state: NodeState = NodeState.ENABLED) -> Node:
    return Node(node=name, tier=Tier.SECONDARY, state=state, keys=())


def secret_of(name: str) -> bytes:
    return SECRET + b" of " + name.encode()


def key_of(name: str) -> bytes:
    return name.encode() if name.startswith("88.300/") else name.upper().encode()


def public(name: str) -> bytes:
    return wire.record_body(record(name, secret=secret_of(name)), public=True) + wire.version_field(1)


def full(name: str) -> bytes:
    return wire.record_body(record(name, secret=secret_of(name)), public=False) + wire.version_field(1)


async def make_node(*nodes: Node) -> SmallNode:
    """Start a node that holds a restricted value for every name; all holders are enabled nodes."""
    records = {key_of(name): public(name) for name in NAMES} | {b"88.100/GONE": body("88.100/GONE", deleted=True)}
    store = SmallStore(records, ROWS, full={key_of(name): full(name) for name in NAMES})
    store.commit(nodes=[*map(signer, ("88.100", "88.105", "88.107", "88.999", "88.200", "88.300")), *nodes])
    return await SmallNode(store).start()


def is_shown(ready: Ready) -> bool:
    """Does an answer hold anything that is restricted?"""
    return SECRET in ready.frame


async def shown(node: SmallNode, name: str, asker: Asker, **wanted: Any) -> bool:
    (ready,) = await node.chain.resolve(node.query(name, asker=asker, **wanted))
    assert ready.outcome == FOUND
    return is_shown(ready)


async def turns() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


# --- who is shown what ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "asker", "expected"),
    [
        ("88.100/A", HOLDER, True),
        ("88.100/a", HOLDER, True),
        ("88.100.9/A", HOLDER, None),
        ("88.100/A", PUBLIC, False),
        ("88.100/A", Asker(address="192.0.2.1"), False),
        ("88.100/A", OTHER, False),
        # The prefix below is another's: whoever holds the one above reads as everybody.
        ("88.100.5/A", HOLDER, False),
        ("88.100.5/A", Asker(identity="88.105"), True),
        ("88.100/A", Asker(identity="88.105"), False),
        # An application is no allocation.
        ("88.100.7/A", HOLDER, True),
        ("88.100.7/A", Asker(identity="88.107"), False),
        # Prefixes are compared by segments, and holders by their whole names.
        ("88.1000/A", HOLDER, False),
        ("88.100/A", Asker(identity="88.10"), False),
        ("88.100/A", Asker(identity="88"), False),
        # A copy that a child deposited, and case-sensitive keys.
        ("88.200/A", OTHER, True),
        ("88.300/a", Asker(identity="88.300"), True),
        # Operators speak for this node, which holds a prefix itself, and for nobody else.
        ("88.Own/A", OPERATOR, True),
        ("88.OWN/a", OPERATOR, True),
        ("88.100/A", OPERATOR, False),
        ("88.100/A", Asker(identity="88.100", is_operator=True), False),
        ("88.Own/A", HOLDER, False),
        # A certificate may carry any name: an operator's, or this node's own.
        ("88.Own/A", Asker(identity="alice"), False),
        ("88.Own/A", Asker(identity=NODE), False),
    ],
)
async def test_only_the_holder_of_the_longest_allocation_is_shown_all(
    name: str, asker: Asker, *, expected: bool | None
) -> None:
    node = await make_node()
    (ready,) = await node.chain.resolve(node.query(name, asker=asker))
    if expected is None:
        assert decoded([ready])[0].outcome is Outcome.ABSENT
    else:
        assert is_shown(ready) is expected


async def test_the_name_of_this_node_is_nobody_elses() -> None:
    """Even where a row of that name got into the store."""
    node = await make_node(signer(NODE))
    assert not await shown(node, "88.Own/A", Asker(identity=NODE))


@pytest.mark.parametrize("state", NodeState)
async def test_only_enabled_nodes_are_holders(state: NodeState) -> None:
    node = await make_node(signer("88.100", state))
    assert await shown(node, "88.100/A", HOLDER) is (state is NodeState.ENABLED)


@pytest.mark.parametrize("state", [NodeState.SUSPENDED, NodeState.REVOKED])
async def test_who_was_suspended_or_revoked_is_the_public_after_the_next_look_at_the_feed(state: NodeState) -> None:
    node = await make_node()
    assert await shown(node, "88.100/A", HOLDER)
    node.store.commit(nodes=[signer("88.100", state)])
    await node.wait(0.2)
    assert not await shown(node, "88.100/A", HOLDER)
    (theirs,) = await node.chain.resolve(node.query("88.100/A", asker=HOLDER))
    (everybodys,) = await node.chain.resolve(node.query("88.100/A"))
    assert theirs.frame == everybodys.frame
    node.store.commit(nodes=[signer("88.100")])
    await node.wait(0.2)
    assert await shown(node, "88.100/A", HOLDER), "resumed"


async def test_a_prefix_that_passed_on_is_its_new_holders() -> None:
    node = await make_node()
    assert await shown(node, "88.100/A", HOLDER)
    node.store.commit(prefixes=[Prefix("88.100", "88.200")])
    await node.wait(0.2)
    assert not await shown(node, "88.100/A", HOLDER)
    assert await shown(node, "88.100/A", OTHER)


async def test_nothing_is_shown_below_a_prefix_that_is_silent() -> None:
    node = await make_node(signer("88.400"))
    (ready,) = await node.chain.resolve(node.query("88.400/A", asker=Asker(identity="88.400")))
    assert isinstance(ready, Failed)
    assert ready.fault.reason is Reason.PREFIX_DISABLED


async def test_a_holder_is_told_everything_else_as_everybody_is() -> None:
    """Spelling, version, standing, authority; absent and deleted ones, and what is wrong with an identifier."""
    node = await make_node()
    (answer,) = decoded(await node.chain.resolve(node.query("88.100/a", asker=HOLDER)))
    assert answer.record is not None
    assert (answer.record.identifier.to_text(), answer.record.version) == ("88.100/A", 1)
    assert [(value.index, value.data) for value in answer.record.values][1] == (2, secret_of("88.100/A"))
    assert (answer.standing, answer.authority, answer.prefix) == (Standing.AUTHORITATIVE, NODE, "88.100")
    names: list[str | bytes] = [
        "88.100/NO",
        "88.100/GONE",
        "88.100/",
        "88.100",
        "88..100/A",
        "/A",
        "",
        b"88.100/\xff",
    ]
    theirs = await node.chain.resolve(node.query(*names, asker=HOLDER))
    everybodys = await node.chain.resolve(node.query(*names))
    assert [_said(ready) for ready in theirs] == [_said(ready) for ready in everybodys]


def _said(ready: Ready) -> bytes | Reason:
    return ready.fault.reason if isinstance(ready, Failed) else ready.frame


# --- nobody else, by whatever way ----------------------------------------------------------------------------------


def cached_frames(node: SmallNode) -> list[bytes]:
    """Give all frames that the memory cache holds."""
    entries = node.cache._entries
    assert len(entries) == len(node.cache)
    return [ready.frame for ready in entries.values()]


async def test_what_a_holder_reads_is_not_kept() -> None:
    node = await make_node()
    names = ["88.100/A", "88.100/NO", "88.100/GONE"]
    answers = await node.chain.resolve(node.query(*names, asker=HOLDER))
    assert is_shown(answers[0])
    assert [ready.expires for ready in answers] == [0.0, 0.0, 0.0], "no cache may keep it, whoever were to try"
    assert cached_frames(node) == []


async def test_the_public_asks_after_the_holder_and_sees_what_the_public_sees() -> None:
    node = await make_node()
    assert await shown(node, "88.100/A", HOLDER)
    assert not await shown(node, "88.100/A", PUBLIC)
    assert not await shown(node, "88.100/A", OTHER)
    assert not any(SECRET in frame for frame in cached_frames(node))


async def test_what_the_public_has_had_cached_is_neither_given_to_the_holder_nor_changed() -> None:
    node = await make_node()
    assert not await shown(node, "88.100/A", PUBLIC)
    (before,) = cached_frames(node)
    assert await shown(node, "88.100/A", HOLDER)
    assert cached_frames(node) == [before]
    assert not await shown(node, "88.100/A", PUBLIC)
    assert len(node.store.asked) == 2, "the last one came out of the cache"


@pytest.mark.parametrize("order", list(itertools.permutations([HOLDER, PUBLIC, OTHER])))
async def test_nobody_joins_the_flight_of_a_holder(order: Sequence[Asker]) -> None:
    """All three ask while nothing has landed, in every order: the public share a flight, the holder has its own."""
    node = await make_node()
    node.store.hold()
    asked = []
    for asker in order:
        asked.append(asyncio.create_task(shown(node, "88.100/A", asker)))
        await turns()
    node.store.release()
    told = dict(zip(order, await asyncio.gather(*asked), strict=True))
    assert told == {HOLDER: True, PUBLIC: False, OTHER: False}
    assert len(node.store.asked) == 2
    assert not any(SECRET in frame for frame in cached_frames(node))


async def test_two_askers_of_one_turn_do_not_share_either() -> None:
    """Before anything departs: what is gathered in one turn of the loop is one batch for the public only."""
    node = await make_node()
    askers = [PUBLIC, HOLDER, OTHER, HOLDER]
    told = await asyncio.gather(*(shown(node, "88.100/A", asker) for asker in askers))
    assert told == [False, True, False, True]


async def test_a_stale_answer_is_the_publics_and_never_the_holders() -> None:
    """A holder whose store does not answer is told so: the public's answer would look as if values were gone."""
    node = await make_node()
    await shown(node, "88.100/A", HOLDER)
    await shown(node, "88.100/A", PUBLIC)
    node.clock.advance(3_700)
    await node.catch_up()
    node.store.fault = Fault(Reason.STORE_UNAVAILABLE)
    (stale,) = await node.ask("88.100/A")
    assert stale.stale
    with pytest.raises(Fault, match="STORE_UNAVAILABLE"):
        await node.chain.resolve(node.query("88.100/A", asker=HOLDER))


async def test_a_trace_tells_the_way_and_no_value() -> None:
    node = await make_node()
    trace = Trace(NODE, node.clock)
    query = node.query("88.100/A", "88.200/A", asker=HOLDER, trace=trace)
    assert is_shown((await node.chain.resolve(query))[0])
    steps = [(step.tier, step.verdict) for step in trace.steps]
    assert steps == [
        ("admission", "passed"),
        ("holding", "1 with all values"),
        ("memory", "bypassed"),
        ("gathering", "alone"),
        ("store", "1 held, 0 not held"),
        ("memory", "0 hit, 1 miss"),
        ("gathering", "alone"),
        ("store", "1 held, 0 not held"),
    ]
    assert SECRET not in wire.trace_message(trace.steps)


@pytest.mark.parametrize("wanted", [{"authoritative": True}, {"types": ["SECRET"]}, {"indexes": [2]}])
async def test_no_wish_shows_more_to_whoever_is_not_the_holder(wanted: dict[str, Any]) -> None:
    node = await make_node()
    for asker in (PUBLIC, OTHER, OPERATOR):
        assert not await shown(node, "88.100/A", asker, **wanted)
    assert await shown(node, "88.100/A", HOLDER, **wanted)
    assert not any(SECRET in frame for frame in cached_frames(node))


async def test_filters_cut_what_a_holder_is_shown_too() -> None:
    node = await make_node()
    assert not await shown(node, "88.100/A", HOLDER, types=["NAME"])


async def test_a_copy_beside_a_referral_is_shown_whole_to_its_holder_only() -> None:
    node = await make_node()
    for asker, expected in ((PUBLIC, False), (HOLDER, False), (OTHER, True)):
        query = node.query("88.200/A", asker=asker, mode=Mode.REFERRAL, with_copy=True)
        (ready,) = await node.chain.resolve(query)
        assert decoded([ready])[0].outcome is Outcome.REFERRAL
        assert is_shown(ready) is expected


# --- batches -------------------------------------------------------------------------------------------------------

MIXED: Final = (*NAMES, "88.100/NO", "88.100.5/NO", "77/A", "nonsense", "88..1/A", "88.100/a")


@given(
    names=st.lists(st.sampled_from(MIXED), min_size=1, max_size=30),
    asker=st.sampled_from([HOLDER, OTHER, OPERATOR, PUBLIC]),
)
def test_a_batch_is_answered_as_if_each_were_asked_alone(names: list[str], asker: Asker) -> None:
    """One's own and others', repeats, faulty and refused ones: each in its place, restricted values in no other."""

    async def compare() -> None:
        node = await make_node()
        together = await node.chain.resolve(node.query(*names, asker=asker))
        alone = [(await node.chain.resolve(node.query(name, asker=asker)))[0] for name in names]
        assert [_said(ready) for ready in together] == [_said(ready) for ready in alone]
        holder = {HOLDER: "88.100", OTHER: "88.200", OPERATOR: NODE, PUBLIC: "nobody"}[asker]
        for name, ready in zip(names, together, strict=True):
            scope = node.routes.scope(name.upper().encode().partition(b"/")[0]) if ".." not in name else None
            held = scope is not None and scope.prefix is not None and scope.prefix.holder == holder
            assert is_shown(ready) == (held and ready.outcome == FOUND)
        assert not any(SECRET in frame for frame in cached_frames(node))

    asyncio.run(compare())


async def test_one_part_that_fails_leaves_the_other() -> None:
    """What is one's own cannot be read, what is everybody's is cached."""
    node = await make_node()
    await node.ask("88.200/A")
    node.store.fault = Fault(Reason.STORE_UNAVAILABLE, retry_after=2.0)
    others, own = await node.chain.resolve(node.query("88.200/A", "88.100/A", asker=HOLDER))
    assert decoded([others])[0].outcome is Outcome.FOUND
    assert isinstance(own, Failed)
    assert (own.fault.reason, own.fault.retry_after) == (Reason.STORE_UNAVAILABLE, 2.0)
    assert own.fault.__traceback__ is None, "its frames hold what holds the fault"


async def test_nothing_restricted_is_shown_while_nobody_knows_who_is_suspended() -> None:
    """The feed was not read for too long: the holder is told to come again, everybody else is served."""
    node = await make_node()
    node.clock.advance(1.1)
    with pytest.raises(Fault, match="STORE_UNAVAILABLE") as caught:
        await node.chain.resolve(node.query("88.100/A", asker=HOLDER))
    assert caught.value.retry_after
    own, others = await node.chain.resolve(node.query("88.100/A", "88.200/A", asker=HOLDER))
    assert isinstance(own, Failed)
    assert others.outcome == FOUND
    assert not await shown(node, "88.100/A", PUBLIC)
    await node.catch_up()
    assert await shown(node, "88.100/A", HOLDER)


async def test_what_was_shown_to_holders_is_counted() -> None:
    node = await make_node()
    await node.chain.resolve(node.query("88.100/A", "88.100/B", "88.200/A", asker=HOLDER))
    await node.chain.resolve(node.query("88.100/A", "88.100/B"))
    assert node.sample("topnode_holding_identifiers_total") == 2


# --- what it costs the public --------------------------------------------------------------------------------------


async def test_the_public_is_handed_what_the_link_below_gives_and_nothing_in_between() -> None:
    """The coroutine itself: no frame of this link is in the way of a public query, and no row is looked at."""
    handed: list[Coroutine[Any, Any, Sequence[Ready]]] = []

    class Below:
        def resolve(self, query: Query) -> Coroutine[Any, Any, Sequence[Ready]]:
            async def answer() -> Sequence[Ready]:
                return [Ready()] * len(query.identifiers)

            handed.append(answer())
            return handed[-1]

    class Untouched(NodeTable):
        def node(self, name: str) -> Node | None:
            raise AssertionError(name)

    holders = Holders(NODE, nodes=Untouched(), routes=RouteTable(), is_current=lambda: True)
    holding = Holding(Below(), holders=holders, registry=CollectorRegistry())
    given = holding.resolve(Query(identifiers=[b"88.100/A"], deadline=1.0, asker=Asker(address="192.0.2.1")))
    assert given is handed[0]
    await given


# --- a suspended prefix, however much is cached ---------------------------------------------------------------------


class Alike(SmallStore):
    """A store that holds the same record under every key, so that a million take no room."""

    BODY = body("88.100/ALIKE")

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:  # noqa: ARG002 - no replicas
        return Fetched([self.BODY] * len(keys), self.index)


async def test_a_suspended_prefix_is_silent_at_once_with_a_million_answers_cached() -> None:
    """One look at the feed, which drops nothing and goes through nothing, and none of them is given any more."""
    node = SmallNode(Alike(prefixes=ROWS), memory=MemorySettings(size=Size(1 << 30), entries=1_100_000))
    await node.start()
    batches = [
        [b"88.100/%d" % number for number in range(first, first + 1_000)] for first in range(0, 1_000_000, 1_000)
    ]
    for batch in batches:
        await node.chain.resolve(node.query(*batch))
    assert len(node.cache) == 1_000_000
    await node.chain.resolve(node.query(*batches[0]))
    assert node.cache.hits == 1_000
    node.store.commit(prefixes=[Prefix("88.100", "88.100", state=PrefixState.DISABLED)])
    await node.catch_up()
    assert len(node.cache) == 1_000_000, "nothing was gone through"
    for batch in batches[::50]:
        answers = await node.chain.resolve(node.query(*batch))
        assert {_said(ready) for ready in answers} == {Reason.PREFIX_DISABLED}
    node.store.commit(prefixes=[Prefix("88.100", "88.100")])
    await node.catch_up()
    assert {ready.outcome for ready in await node.chain.resolve(node.query(*batches[-1]))} == {FOUND}
