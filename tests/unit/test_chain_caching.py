"""Caching, in a whole read path over a small store: what is asked below, what is given from memory, for how long."""

import asyncio

import pytest
from msgspec.structs import replace

from resolver.answer import Failed, Outcome
from resolver.chain import ChainSettings
from resolver.errors import Fault, Reason
from resolver.freshness import FreshnessSettings
from resolver.handle import CaseRule
from resolver.query import Asker
from resolver.routes import Hosting, Prefix, PrefixState
from resolver.trace import Trace
from resolver.units import Duration
from tests.small_node import NODE, PREFIXES, SmallNode
from tests.small_store import SmallStore, body

RECORDS = {
    b"88.100/A": body("88.100/A"),
    b"88.100/B": body("88.100/B"),
    b"88.200/A": body("88.200/A"),
    b"88.300/aB": body("88.300/aB"),
    b"88.300/AB": body("88.300/AB"),
    b"88.500/A": body("88.500/A"),
}


async def make_node(settings: ChainSettings | None = None) -> SmallNode:
    return await SmallNode(SmallStore(RECORDS, PREFIXES), settings).start()


def down() -> Fault:
    return Fault(Reason.STORE_UNAVAILABLE, retry_after=1.0)


# --- hits and misses -----------------------------------------------------------------------------------------------


async def test_asks_the_store_once_for_what_is_asked_again() -> None:
    node = await make_node()
    first = await node.ask("88.100/A", "88.100/B")
    assert await node.ask("88.100/A", "88.100/B") == first
    assert node.store.asked == [[b"88.100/A", b"88.100/B"]]
    assert node.sample("topnode_cache_lookups_total", tier="memory", verdict="hit") == 2
    assert node.sample("topnode_cache_lookups_total", tier="memory", verdict="miss") == 2


async def test_a_hit_makes_nothing() -> None:
    """What is given is the very object that is kept."""
    node = await make_node()
    await node.ask("88.100/A")
    (given,) = await node.chain.resolve(node.query("88.100/A"))
    assert given is node.cache.find(b"88.100/A")


async def test_asks_below_only_for_what_is_missing_each_key_once_and_answers_in_order() -> None:
    node = await make_node()
    await node.ask("88.100/B")
    names = ["88.100/A", "88.100/NO", "88.100/B", "88.100/a", "88.100/A", "88.100/no"]
    answers = await node.ask(*names)
    assert node.store.asked[1:] == [[b"88.100/A", b"88.100/NO"]]
    found = [answer.record.identifier.to_text() if answer.record else None for answer in answers]
    assert found == ["88.100/A", None, "88.100/B", "88.100/A", "88.100/A", None]


async def test_other_spellings_hit_the_same_entry() -> None:
    node = await make_node()
    upper = await node.ask("88.100/A")
    assert await node.ask("88.100/a") == upper
    assert len(node.store.asked) == 1


async def test_a_case_sensitive_prefix_keeps_spellings_apart_and_folds_only_itself() -> None:
    store = SmallStore(
        {b"X.300/aB": body("x.300/aB"), b"X.300/AB": body("x.300/AB")},
        [Prefix("x.300", "88.300", case=CaseRule.SENSITIVE)],
    )
    node = await SmallNode(store).start()
    texts = [
        answer.record.identifier.to_text() if answer.record else None
        for answer in await node.ask("x.300/aB", "X.300/AB", "X.300/ab", "X.300/aB")
    ]
    assert texts == ["x.300/aB", "x.300/AB", None, "x.300/aB"]
    assert store.asked == [[b"X.300/aB", b"X.300/AB", b"X.300/ab"]]


async def test_a_faulty_identifier_spoils_no_other() -> None:
    node = await make_node()
    names = [b"88.100/A", b"", b"no slash", b"88.100/\xff", b"88.100/\x00", b"88.100/B", b"88..1/A"]
    for _ in range(2):
        answers = await node.chain.resolve(node.query(*names))
        reasons = [ready.fault.reason if isinstance(ready, Failed) else None for ready in answers]
        assert reasons == [
            None,
            Reason.IDENTIFIER_EMPTY,
            Reason.IDENTIFIER_NO_SLASH,
            Reason.IDENTIFIER_NOT_UTF8,
            Reason.IDENTIFIER_CONTROL_CHARACTER,
            None,
            Reason.PREFIX_EMPTY_SEGMENT,
        ]
    assert node.store.asked == [[b"88.100/A", b"88.100/B"]]


async def test_faulty_identifiers_alone_are_answered_each_and_ask_nobody() -> None:
    node = await make_node()
    answers = await node.chain.resolve(node.query("one", "two"))
    assert all(isinstance(ready, Failed) for ready in answers)
    assert node.store.asked == []


# --- refusals ------------------------------------------------------------------------------------------------------


async def test_refusing_prefixes_answer_at_once() -> None:
    node = await make_node()
    disabled, pending, unknown, found = await node.chain.resolve(
        node.query("88.400/A", "88.600/A", "99/A", "88.100/A")
    )
    assert isinstance(disabled, Failed)
    assert disabled.fault.reason is Reason.PREFIX_DISABLED
    assert [ready.outcome for ready in (pending, unknown, found)] == [
        Outcome.NOT_HERE,
        Outcome.NOT_HERE,
        Outcome.FOUND,
    ]
    assert node.store.asked == [[b"88.100/A"]]


async def test_what_is_kept_is_not_given_any_more_when_the_term_ends() -> None:
    """The end of a term has no entry in the feed: it comes with the time."""
    node = await make_node()
    await node.ask("88.500/A")
    await node.wait(100)
    (ready,) = await node.chain.resolve(node.query("88.500/A"))
    assert isinstance(ready, Failed)
    assert ready.fault.reason is Reason.PREFIX_EXPIRED


# --- absent --------------------------------------------------------------------------------------------------------


async def test_absent_is_kept_for_a_minute_and_found_for_an_hour() -> None:
    node = await make_node()
    await node.ask("88.100/NO", "88.100/A")
    await node.wait(59.9)
    await node.ask("88.100/NO", "88.100/A")
    assert len(node.store.asked) == 1
    await node.wait(0.1)
    await node.ask("88.100/NO", "88.100/A")
    assert node.store.asked[1:] == [[b"88.100/NO"]]
    await node.wait(3_540)
    await node.ask("88.100/A")
    assert node.store.asked[2:] == [[b"88.100/A"]]


async def test_not_here_is_not_kept() -> None:
    node = await make_node()
    for _ in range(2):
        (answer,) = await node.ask("88.200/NO")
        assert answer.outcome is Outcome.NOT_HERE
    assert len(node.store.asked) == 2


# --- coherence -----------------------------------------------------------------------------------------------------


async def test_a_change_is_seen_when_the_feed_is_followed() -> None:
    node = await make_node()
    await node.ask("88.100/A", "88.100/NEW")
    node.store.commit({b"88.100/A": body("88.100/A", 2, data="moved"), b"88.100/NEW": body("88.100/NEW", 2)})
    await node.catch_up()
    changed, new = await node.ask("88.100/A", "88.100/NEW")
    assert changed.record is not None
    assert changed.record.values[0].data == b"moved"
    assert new.outcome is Outcome.FOUND


async def test_an_answer_read_before_a_change_is_given_and_not_kept() -> None:
    """The reading began before the commit and ends after the feed told of it."""
    node = await make_node()
    node.store.hold()
    asking = asyncio.create_task(node.ask("88.100/A"))
    await _until_asked(node, 1)
    node.store.commit({b"88.100/A": body("88.100/A", 2, data="moved")})
    node.cache.drop([b"88.100/A"], node.store.index)
    node.store.release()
    (old,) = await asking
    assert old.record is not None
    assert old.record.version == 1
    assert node.sample("topnode_cache_refused_total", tier="memory") == 1
    (new,) = await node.ask("88.100/A")
    assert new.record is not None
    assert new.record.version == 2


async def _until_asked(node: SmallNode, batches: int) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
        if len(node.store.asked) == batches:
            return
    pytest.fail("the store was not asked")


async def test_a_load_below_a_prefix_voids_what_is_kept_below_it_and_nothing_else() -> None:
    node = await make_node()
    await node.ask("88.100/A", "88.100.7/NO", "88.200/A")
    node.store.commit({b"88.100/A": body("88.100/A", 2)}, below=[b"88.100"])
    await node.catch_up()
    await node.ask("88.100/A", "88.100.7/NO", "88.200/A")
    assert node.store.asked[1:] == [[b"88.100/A", b"88.100.7/NO"]]


async def test_a_change_elsewhere_costs_no_reading() -> None:
    """Every entry is compared once by its epoch, and then counts as before."""
    node = await make_node()
    await node.ask("88.100/A")
    node.store.commit(prefixes=[Prefix("88.999", "88.999")])
    await node.catch_up()
    await node.ask("88.100/A")
    entry = node.cache.find(b"88.100/A")
    assert entry is not None
    assert entry.generation == node.routes.generation
    assert len(node.store.asked) == 1
    assert node.sample("topnode_cache_lookups_total", tier="memory", verdict="hit") == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (replace(PREFIXES[0], state=PrefixState.DISABLED), Reason.PREFIX_DISABLED),
        (Prefix("88", "88", state=PrefixState.DISABLED), Reason.PREFIX_DISABLED),
        (Prefix("88", "88", expires_at=1), Reason.PREFIX_EXPIRED),
    ],
)
async def test_a_prefix_or_a_parent_that_ends_silences_what_is_kept(row: Prefix, reason: Reason) -> None:
    node = await make_node()
    await node.ask("88.100/A")
    node.store.commit(prefixes=[row])
    await node.catch_up()
    (ready,) = await node.chain.resolve(node.query("88.100/A"))
    assert isinstance(ready, Failed)
    assert ready.fault.reason is reason


async def test_a_prefix_that_is_delegated_changes_what_is_said_of_what_is_kept() -> None:
    node = await make_node()
    (before,) = await node.ask("88.100/A")
    node.store.commit(prefixes=[replace(PREFIXES[0], hosting=Hosting.DELEGATED)])
    await node.catch_up()
    (after,) = await node.ask("88.100/A")
    assert (before.authority, after.authority) == (NODE, "88.100")


# --- stale ---------------------------------------------------------------------------------------------------------


async def test_gives_what_is_past_its_time_marked_when_the_store_does_not_answer() -> None:
    node = await make_node()
    fresh = await node.ask("88.100/A", "88.100/NO")
    await node.wait(3_601)
    node.store.fault = down()
    stale = await node.ask("88.100/A", "88.100/NO")
    assert [answer.stale for answer in stale] == [True, True]
    assert [replace(answer, stale=False) for answer in stale] == fresh
    assert node.sample("topnode_cache_lookups_total", tier="memory", verdict="stale") == 2


async def test_gives_nothing_beyond_the_stale_limit() -> None:
    node = await make_node(ChainSettings(freshness=FreshnessSettings(stale_for=Duration(10))))
    await node.ask("88.100/A")
    await node.wait(3_610)
    node.store.fault = down()
    with pytest.raises(Fault) as caught:
        await node.ask("88.100/A")
    assert (caught.value.reason, caught.value.retry_after) == (Reason.STORE_UNAVAILABLE, 1.0)


async def test_gives_nothing_stale_that_is_known_to_have_changed() -> None:
    node = await make_node()
    await node.ask("88.100/A", "88.100/B")
    node.store.commit({b"88.100/A": body("88.100/A", 2)})
    node.store.commit(below=[b"88.100"])
    await node.catch_up()
    node.store.fault = down()
    for name in ("88.100/A", "88.100/B"):
        with pytest.raises(Fault):
            await node.ask(name)


async def test_what_can_be_answered_is_and_the_rest_says_why_not() -> None:
    """One fresh, one stale, one that was never asked for, one that is faulty."""
    node = await make_node()
    await node.ask("88.100/A")
    await node.wait(3_601)
    await node.ask("88.100/B")
    node.store.fault = down()
    stale, fresh, lacking, faulty = await node.chain.resolve(
        node.query("88.100/A", "88.100/B", "88.200/A", "nonsense")
    )
    assert [ready.outcome for ready in (stale, fresh)] == [Outcome.FOUND, Outcome.FOUND]
    assert isinstance(lacking, Failed)
    assert lacking.fault.reason is Reason.STORE_UNAVAILABLE
    assert isinstance(faulty, Failed)
    assert faulty.fault.reason is Reason.IDENTIFIER_NO_SLASH


async def test_a_hit_is_given_although_all_else_fails() -> None:
    node = await make_node()
    await node.ask("88.100/A")
    node.store.fault = down()
    hit, lacking = await node.chain.resolve(node.query("88.100/A", "88.100/B"))
    assert hit.outcome == Outcome.FOUND
    assert isinstance(lacking, Failed)
    assert lacking.fault.reason is Reason.STORE_UNAVAILABLE


async def test_raises_when_nothing_of_a_query_can_be_answered() -> None:
    node = await make_node()
    node.store.fault = down()
    with pytest.raises(Fault) as caught:
        await node.ask("88.100/A", "88.100/B")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_a_store_in_trouble_is_asked_once_a_second_where_stale_answers_are_held() -> None:
    """A store that hangs costs one caller its patience, not every one (RFC 8767 section 5)."""
    node = await make_node()
    await node.ask("88.100/A", "88.100/B")
    node.clock.advance(3_601)
    node.store.fault = down()
    for _ in range(5):
        await node.ask("88.100/A")
    assert len(node.store.asked) == 2
    node.clock.advance(1)
    node.store.fault = None
    for name in ("88.100/A", "88.100/B"):
        (answer,) = await node.ask(name)
        assert not answer.stale
    assert node.store.asked[2:] == [[b"88.100/A"], [b"88.100/B"]]


async def test_a_store_in_trouble_is_asked_for_what_is_not_held() -> None:
    node = await make_node()
    await node.ask("88.100/A")
    node.clock.advance(3_601)
    node.store.fault = down()
    await node.ask("88.100/A")
    node.store.fault = None
    stale, fresh = await node.ask("88.100/A", "88.100/B")
    assert (stale.stale, fresh.stale) == (True, False)
    assert node.store.asked[-1] == [b"88.100/B"]


async def test_while_the_feed_is_not_followed_nothing_kept_is_given_as_fresh() -> None:
    node = await make_node()
    await node.ask("88.100/A")
    node.clock.advance(1.5)
    assert not node.following.is_current
    (answer,) = await node.ask("88.100/A")
    assert not answer.stale
    assert len(node.store.asked) == 2
    node.store.fault = down()
    (answer,) = await node.ask("88.100/A")
    assert answer.stale
    node.store.fault = None
    await node.catch_up()
    (answer,) = await node.ask("88.100/A")
    assert not answer.stale
    assert len(node.store.asked) == 3


# --- who is not served from memory ---------------------------------------------------------------------------------


async def test_an_authoritative_answer_comes_from_the_store() -> None:
    node = await make_node()
    await node.ask("88.100/A")
    node.store.commit({b"88.100/A": body("88.100/A", 2)})
    (ready,) = await node.chain.resolve(node.query("88.100/a", authoritative=True))
    assert node.store.asked[1:] == [[b"88.100/A"]]
    assert b"\x38\x02" in ready.frame
    node.store.fault = down()
    with pytest.raises(Fault):
        await node.chain.resolve(node.query("88.100/A", authoritative=True))


async def test_who_asks_does_not_matter() -> None:
    """Nobody is shown more than the public is, so a proven identity is served from what everybody asked."""
    node = await make_node()
    await node.ask("88.100/A")
    await node.chain.resolve(node.query("88.100/A", asker=Asker(identity="88.100")))
    assert len(node.store.asked) == 1


# --- trace ---------------------------------------------------------------------------------------------------------


async def test_a_trace_tells_the_way_of_a_miss_and_of_a_hit() -> None:
    node = await make_node()

    async def way() -> list[tuple[str, str]]:
        trace = Trace(NODE, node.clock)
        await node.chain.resolve(node.query("88.100/A", "88.100/NO", "88.100/a", trace=trace))
        return [(step.tier, step.verdict) for step in trace.steps]

    assert await way() == [
        ("admission", "passed"),
        ("memory", "0 hit, 2 miss"),
        ("gathering", "alone"),
        ("store", "1 held, 1 not held"),
    ]
    assert await way() == [("admission", "passed"), ("memory", "3 hit, 0 miss")]
    await node.wait(3_601)
    node.store.fault = down()
    assert (await way())[-1] == ("memory", "2 stale")
