"""Selecting, in a whole read path: filters, referrals with and without the copy, and what passes straight through."""

from typing import Any

import pytest

from resolver import wire
from resolver.answer import Answer, Failed, Outcome, Ready, Standing
from resolver.errors import Fault, Reason
from resolver.query import Mode
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState, Protocol
from resolver.trace import Trace
from tests.small_node import NODE, PREFIXES, SmallNode, decoded
from tests.small_store import SmallStore, body

CHILD = Prefix(
    "88.700", "88.700", hosting=Hosting.DELEGATED, endpoints=(Endpoint(Protocol.GRPC, "child.example.org", 3_641),)
)
CLOSED = Prefix("88.800", "88.800", hosting=Hosting.DELEGATED, state=PrefixState.DISABLED)

RECORDS = {
    b"88.100/A": body("88.100/A"),
    b"88.100/GONE": body("88.100/GONE", deleted=True),
    b"88.700/A": body("88.700/A"),
}


async def make_node() -> SmallNode:
    return await SmallNode(SmallStore(RECORDS, [*PREFIXES, CHILD, CLOSED])).start()


def indexes(answer: Answer) -> list[int]:
    assert answer.record is not None
    return [value.index for value in answer.record.values]


# --- filters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"types": ["URL"]}, [1]),
        ({"types": ["url"]}, [1]),
        ({"types": ["NAME."]}, [2]),
        ({"types": ["NAME"]}, []),
        ({"indexes": [2]}, [2]),
        ({"indexes": [7]}, []),
        ({"types": ["URL"], "indexes": [2]}, [1, 2]),
    ],
)
async def test_gives_only_the_values_that_are_wanted(wanted: dict[str, Any], expected: list[int]) -> None:
    node = await make_node()
    (answer,) = decoded(await node.chain.resolve(node.query("88.100/A", **wanted)))
    assert indexes(answer) == expected
    assert (answer.outcome, answer.standing, answer.authority) == (Outcome.FOUND, Standing.AUTHORITATIVE, NODE)


async def test_the_whole_answer_is_cached_and_not_the_cut_one() -> None:
    node = await make_node()
    await node.chain.resolve(node.query("88.100/A", types=["URL"]))
    (whole,) = await node.ask("88.100/A")
    assert indexes(whole) == [1, 2]
    (cut,) = decoded(await node.chain.resolve(node.query("88.100/A", indexes=[2])))
    assert indexes(cut) == [2]
    assert len(node.store.asked) == 1


async def test_what_has_no_values_is_not_cut() -> None:
    """Absences, tombstones, refusals and failures pass as they are, in their places."""
    node = await make_node()
    names = ["88.100/NO", "88.100/GONE", "88.400/A", "nonsense", "88.100/A", "77/A"]
    plain = await node.chain.resolve(node.query(*names))
    cut = await node.chain.resolve(node.query(*names, types=["URL"]))
    for place in (0, 1, 5):
        assert cut[place].frame == plain[place].frame
    reasons = [ready.fault.reason if isinstance(ready, Failed) else None for ready in cut]
    assert reasons == [None, None, Reason.PREFIX_DISABLED, Reason.IDENTIFIER_NO_SLASH, None, None]


async def test_a_cut_frame_is_a_frame() -> None:
    node = await make_node()
    (ready,) = await node.chain.resolve(node.query("88.100/A", types=["URL"]))
    assert wire.frame(wire.answer_bytes(ready.frame)) == ready.frame


# --- referrals -----------------------------------------------------------------------------------------------------

BEYOND_LOCAL = pytest.mark.parametrize("mode", [Mode.REFERRAL, Mode.RECURSIVE])


async def test_local_gives_the_copy_and_no_referral() -> None:
    node = await make_node()
    copy, lacking = await node.ask("88.700/A", "88.700/NO")
    assert (copy.outcome, copy.standing, copy.referral) == (Outcome.FOUND, Standing.REGISTERED_COPY, None)
    assert (lacking.outcome, lacking.referral) == (Outcome.NOT_HERE, None)


@BEYOND_LOCAL
async def test_refers_to_the_holder_without_asking_the_store(mode: Mode) -> None:
    node = await make_node()
    (answer,) = decoded(await node.chain.resolve(node.query("88.700.5/a", mode=mode)))
    assert answer.outcome is Outcome.REFERRAL
    assert answer.referral is not None
    assert (answer.referral.prefix, answer.referral.holder) == ("88.700", "88.700")
    assert answer.referral.endpoints == CHILD.endpoints
    assert (answer.record, answer.standing) == (None, Standing.UNSPECIFIED)
    assert (answer.authority, answer.prefix) == ("88.700", "88.700")
    assert node.store.asked == []


@BEYOND_LOCAL
async def test_gives_the_copy_beside_the_referral_when_asked_for_and_held(mode: Mode) -> None:
    node = await make_node()
    query = node.query("88.700/A", "88.700/NO", mode=mode, with_copy=True)
    both, bare = decoded(await node.chain.resolve(query))
    assert (both.outcome, both.standing, both.authority) == (Outcome.REFERRAL, Standing.REGISTERED_COPY, "88.700")
    assert both.referral is not None
    assert indexes(both) == [1, 2]
    assert (bare.outcome, bare.record) == (Outcome.REFERRAL, None)


@BEYOND_LOCAL
async def test_answers_as_ever_where_there_is_nobody_to_refer_to(mode: Mode) -> None:
    """Hosted, faulty, refused and unknown ones in one batch with a referral, in their places."""
    node = await make_node()
    names = ["88.100/a", "88.700/A", "nonsense", "88.800/A", "88.100/NO", "77/A"]
    local = await node.chain.resolve(node.query(*names))
    answers = await node.chain.resolve(node.query(*names, mode=mode))
    assert answers[1].outcome == Outcome.REFERRAL
    assert [ready.frame for place, ready in enumerate(answers) if place != 1] == [
        ready.frame for place, ready in enumerate(local) if place != 1
    ]
    assert [_reason(answers[place]) for place in (2, 3)] == [Reason.IDENTIFIER_NO_SLASH, Reason.PREFIX_DISABLED]


def _reason(ready: Ready) -> Reason | None:
    return ready.fault.reason if isinstance(ready, Failed) else None


async def test_cuts_the_copy_beside_a_referral() -> None:
    node = await make_node()
    query = node.query("88.700/A", mode=Mode.REFERRAL, with_copy=True, types=["URL"])
    (answer,) = decoded(await node.chain.resolve(query))
    assert answer.referral is not None
    assert indexes(answer) == [1]


async def test_refers_although_the_store_does_not_answer() -> None:
    node = await make_node()
    node.store.fault = Fault(Reason.STORE_UNAVAILABLE)
    query = node.query("88.700/A", "88.100/A", mode=Mode.REFERRAL, with_copy=True)
    referral, failed = await node.chain.resolve(query)
    assert referral.outcome == Outcome.REFERRAL
    assert _reason(failed) is Reason.STORE_UNAVAILABLE
    with pytest.raises(Fault):
        await node.chain.resolve(node.query("88.100/A", mode=Mode.REFERRAL))


async def test_a_changed_route_is_referred_to() -> None:
    node = await make_node()
    await node.chain.resolve(node.query("88.700/A", mode=Mode.REFERRAL))
    node.store.commit(prefixes=[Prefix("88.700", "88.701", hosting=Hosting.DELEGATED)])
    await node.catch_up()
    (answer,) = decoded(await node.chain.resolve(node.query("88.700/A", mode=Mode.REFERRAL)))
    assert answer.referral is not None
    assert (answer.referral.holder, answer.referral.endpoints) == ("88.701", ())


async def test_leaves_a_step_in_the_trace() -> None:
    node = await make_node()
    trace = Trace(NODE, node.clock)
    await node.chain.resolve(node.query("88.700/A", "88.700/NO", mode=Mode.REFERRAL, trace=trace))
    assert [(step.tier, step.verdict) for step in trace.steps] == [("admission", "passed"), ("routes", "2 referred")]
