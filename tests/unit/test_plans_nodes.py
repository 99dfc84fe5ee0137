"""Planners of nodes, through the public kinds of requests: applying, reviewing, suspending, revoking, rotating."""

from base64 import b64encode
from typing import Any

import pytest

from registry.nodes import (
    APPLICATIONS_MAX,
    KEYS_KEPT,
    plan_agreement,
    plan_apply,
    plan_resume,
    plan_review,
    plan_revoke,
    plan_rotate,
    plan_suspend,
    plan_takeover,
)
from registry.plans import Actor, Outcome
from resolver.errors import Fault, Reason
from resolver.trust.actors import Key, NodeState, Tier
from resolver.trust.keys import PrivateKey, PublicKey
from tests.planning import NOW, OWN_NAME, Planner, Planning, node


def new_key() -> PublicKey:
    return PrivateKey.generate().public


def application(name: str, public: PublicKey, **more: Any) -> dict[str, Any]:
    spki = b64encode(public.spki).decode()
    return {"node": name, "tier": "secondary", "organisation": f"{name} Ltd", "key": spki, **more}


async def apply(planning: Planning, name: str, key: PublicKey | None = None, **more: Any) -> Outcome:
    key = key or new_key()
    body = application(name, key, **more)
    return await planning.outcome(plan_apply, applicant(name), body, key_ids=(key.key_id,))


async def refused_application(planning: Planning, name: str, **more: Any) -> tuple[Reason, str]:
    key = new_key()
    fault = await planning.refused(plan_apply, applicant(name), application(name, key, **more), key_ids=(key.key_id,))
    return fault.reason, fault.field


def applicant(name: str) -> Actor:
    """Give an actor as the ladder makes one of somebody who is not known yet."""
    return Actor(name, node(name, state=NodeState.APPLIED))


@pytest.fixture
async def planning() -> Planning:
    return await Planning.begin(nodes=[node("88.1"), node("88.2", state=NodeState.SUSPENDED)])


# --- applying ------------------------------------------------------------------------------------------------------


async def test_an_application_becomes_a_row(planning: Planning) -> None:
    key = new_key()
    made = await apply(planning, "maker", key, tier="enterprise", parent="88.1", industry="C3911")
    assert made is Outcome.REGISTERED
    row = planning.node("maker")
    assert (row.tier, row.state, row.parent) == (Tier.ENTERPRISE, NodeState.APPLIED, "88.1")
    assert (row.organisation, row.industry) == ("maker Ltd", "C3911")
    assert (row.applied_at, row.changed_at) == (NOW, NOW)
    assert row.keys == (Key(key.key_id, key.spki, NOW),)


@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        ({"organisation": ""}, (Reason.FIELD_OUT_OF_RANGE, "organisation")),
        ({"organisation": "  "}, (Reason.FIELD_OUT_OF_RANGE, "organisation")),
        ({"organisation": "a\nb"}, (Reason.FIELD_OUT_OF_RANGE, "organisation")),
        ({"organisation": "厂" * 86}, (Reason.FIELD_OUT_OF_RANGE, "organisation")),
        ({"industry": "U"}, (Reason.FIELD_OUT_OF_RANGE, "industry")),
        ({"industry": "C39111"}, (Reason.FIELD_OUT_OF_RANGE, "industry")),
        ({"industry": "٣٩"}, (Reason.FIELD_OUT_OF_RANGE, "industry")),
        ({"parent": "88.1"}, (Reason.FIELD_OUT_OF_RANGE, "parent")),
        ({"tier": "enterprise"}, (Reason.FIELD_OUT_OF_RANGE, "parent")),
        ({"tier": "enterprise", "parent": "88.9"}, (Reason.NODE_UNKNOWN, "parent")),
        ({"tier": "enterprise", "parent": "88.2"}, (Reason.NODE_NOT_ENABLED, "parent")),
        ({"tier": "operator"}, (Reason.PAYLOAD_MALFORMED, "tier")),
        ({"state": "enabled"}, (Reason.PAYLOAD_MALFORMED, "state")),
        ({"key": "bm8="}, (Reason.KEY_INVALID, "key")),
        ({"node": "another"}, (Reason.ACTOR_MISMATCH, "node")),
    ],
)
async def test_an_application_that_cannot_be_one(planning: Planning, more: Any, refusal: tuple[Reason, str]) -> None:
    assert await refused_application(planning, "new", **more) == refusal


@pytest.mark.parametrize("industry", ["", "C", "39", "C39", "391", "C3911"])
async def test_classes_of_industry(planning: Planning, industry: str) -> None:
    assert await apply(planning, "new", industry=industry) is Outcome.REGISTERED


@pytest.mark.parametrize("name", ["", "a\x00b", "x" * 129])
async def test_a_name_that_cannot_be_one(planning: Planning, name: str) -> None:
    key = new_key()
    actor = Actor(name, node("x", state=NodeState.APPLIED))
    fault = await planning.refused(plan_apply, actor, application(name, key), key_ids=(key.key_id,))
    assert (fault.reason, fault.field) == (Reason.FIELD_OUT_OF_RANGE, "node")


async def test_an_enterprise_may_belong_to_this_very_node(planning: Planning) -> None:
    assert await apply(planning, "maker", tier="enterprise", parent=OWN_NAME) is Outcome.REGISTERED
    assert planning.node("maker").parent == OWN_NAME


async def test_an_enterprise_belongs_to_no_enterprise(planning: Planning) -> None:
    planning.state.nodes.put([node("maker", parent="88.1")])
    found = await refused_application(planning, "new", tier="enterprise", parent="maker")
    assert found == (Reason.FIELD_OUT_OF_RANGE, "parent")


async def test_nobody_applies_under_this_nodes_own_name(planning: Planning) -> None:
    assert await refused_application(planning, OWN_NAME) == (Reason.NODE_EXISTS, "node")


async def test_so_many_applications_wait_and_no_more(planning: Planning) -> None:
    """Until one of them is reviewed."""
    planning.state.nodes.put(
        node(f"88.{number}", state=NodeState.APPLIED) for number in range(1_000, 1_000 + APPLICATIONS_MAX)
    )
    assert (await refused_application(planning, "new"))[0] is Reason.APPLICATIONS_WAITING
    planning.state.nodes.put([node("88.1000")])
    assert await apply(planning, "new") is Outcome.REGISTERED


@pytest.mark.parametrize("state", [each for each in NodeState if each is not NodeState.REJECTED])
async def test_an_identifier_that_is_taken(planning: Planning, state: NodeState) -> None:
    planning.state.nodes.put([node("taken", state=state)])
    assert await refused_application(planning, "taken") == (Reason.NODE_EXISTS, "node")


async def test_who_was_rejected_may_apply_again_with_the_same_key_or_another(planning: Planning) -> None:
    first, second = new_key(), new_key()
    for key, made in ((first, Outcome.REGISTERED), (first, Outcome.REPLACED), (second, Outcome.REPLACED)):
        assert await apply(planning, "maker", key) is made
        assert [each.key_id for each in planning.node("maker").keys] == [key.key_id]
        await planning.plan(plan_review, "local", {"node": "maker", "decision": "reject"})
    assert await apply(planning, "other", first) is Outcome.REGISTERED  # nobody has it any more


async def test_an_application_is_signed_by_the_key_that_it_brings(planning: Planning) -> None:
    key, other = new_key(), new_key()
    for key_ids in ((other.key_id,), (key.key_id, other.key_id), ()):
        fault = await planning.refused(plan_apply, applicant("new"), application("new", key), key_ids=key_ids)
        assert (fault.reason, fault.field) == (Reason.SIGNATURE_INVALID, "key")


async def test_a_key_belongs_to_one_node(planning: Planning) -> None:
    key = new_key()
    await apply(planning, "maker", key)
    fault = await planning.refused(plan_apply, applicant("new"), application("new", key), key_ids=(key.key_id,))
    assert (fault.reason, fault.field) == (Reason.KEY_INVALID, "key")


# --- what operators do ---------------------------------------------------------------------------------------------


async def test_an_application_is_reviewed_suspended_resumed_and_revoked(planning: Planning) -> None:
    await apply(planning, "maker")
    steps: list[tuple[Planner, dict[str, str], NodeState]] = [
        (plan_review, {"decision": "enable", "reason": "papers seen"}, NodeState.ENABLED),
        (plan_suspend, {"reason": "unpaid"}, NodeState.SUSPENDED),
        (plan_resume, {}, NodeState.ENABLED),
        (plan_revoke, {"reason": "closed"}, NodeState.REVOKED),
    ]
    for step, (planner, more, state) in enumerate(steps, 1):
        planning.pass_time(NOW + step)
        assert await planning.outcome(planner, "local", {"node": "maker", **more}) is Outcome.REPLACED
        row = planning.node("maker")
        assert (row.state, row.reason) == (state, more.get("reason", ""))
        assert (row.applied_at, row.changed_at) == (NOW, NOW + step)


RULINGS: list[tuple[Planner, dict[str, str]]] = [
    (plan_review, {"decision": "enable"}),
    (plan_review, {"decision": "reject"}),
    (plan_suspend, {}),
    (plan_resume, {}),
    (plan_revoke, {}),
]


@pytest.mark.parametrize(("planner", "more"), RULINGS)
async def test_only_operators_rule(planning: Planning, planner: Planner, more: dict[str, str]) -> None:
    for name in ("88.1", "88.2"):
        fault = await planning.refused(planner, "88.1", {"node": name, **more})
        assert fault.reason is Reason.NOT_AUTHORISED


@pytest.mark.parametrize(("planner", "more"), RULINGS)
async def test_a_ruling_on_a_node_that_is_not_there(
    planning: Planning, planner: Planner, more: dict[str, str]
) -> None:
    fault = await planning.refused(planner, "local", {"node": "nobody", **more})
    assert (fault.reason, fault.field) == (Reason.NODE_UNKNOWN, "node")


@pytest.mark.parametrize(("planner", "more"), RULINGS[:2])
async def test_what_is_no_application_is_not_reviewed(
    planning: Planning, planner: Planner, more: dict[str, str]
) -> None:
    fault = await planning.refused(planner, "local", {"node": "88.1", **more})
    assert (fault.reason, fault.field) == (Reason.NODE_STATE_CONFLICT, "node")
    assert fault.variables["state"] == "enabled"


async def test_what_operators_say_has_bounds(planning: Planning) -> None:
    for reason in ("a\nb", "x" * 513):
        fault = await planning.refused(plan_suspend, "local", {"node": "88.1", "reason": reason})
        assert (fault.reason, fault.field) == (Reason.FIELD_OUT_OF_RANGE, "reason")


async def test_an_enterprise_is_enabled_while_its_secondary_is(planning: Planning) -> None:
    await apply(planning, "maker", tier="enterprise", parent="88.1")
    await planning.plan(plan_suspend, "local", {"node": "88.1"})
    body = {"node": "maker", "decision": "enable"}
    fault = await planning.refused(plan_review, "local", body)
    assert (fault.reason, fault.field) == (Reason.NODE_NOT_ENABLED, "parent")
    await planning.plan(plan_resume, "local", {"node": "88.1"})
    assert await planning.outcome(plan_review, "local", body) is Outcome.REPLACED


# --- rotating ------------------------------------------------------------------------------------------------------


def rotation(key: PublicKey) -> dict[str, str]:
    return {"key": b64encode(key.spki).decode()}


async def rotate(planning: Planning, name: str, key: PublicKey) -> Outcome:
    old = planning.node(name).keys[-1].key_id
    return await planning.outcome(plan_rotate, name, rotation(key), key_ids=(old, key.key_id))


async def test_a_new_key_takes_the_place_of_the_old_one(planning: Planning) -> None:
    key = new_key()
    planning.pass_time(NOW + 5)
    assert await rotate(planning, "88.1", key) is Outcome.REPLACED
    row = planning.node("88.1")
    assert row.keys == (Key("key of 88.1", b"", NOW - 100, NOW + 5), Key(key.key_id, key.spki, NOW + 5))
    assert (row.state, row.changed_at) == (NodeState.ENABLED, NOW + 5)


async def test_both_keys_sign(planning: Planning) -> None:
    key, other = new_key(), new_key()
    wrong = [(key.key_id,), ("key of 88.1",), ("key of 88.1", other.key_id), (other.key_id, key.key_id)]
    for key_ids in wrong:
        fault = await planning.refused(plan_rotate, "88.1", rotation(key), key_ids=key_ids)
        assert (fault.reason, fault.field) == (Reason.SIGNATURE_INVALID, "key")


async def test_a_key_that_anybody_has_or_had_is_not_new(planning: Planning) -> None:
    first, second, others = new_key(), new_key(), new_key()
    await apply(planning, "maker", others)
    await rotate(planning, "88.1", first)
    await rotate(planning, "88.1", second)
    for key in (first, second, others):
        fault = await planning.refused(plan_rotate, "88.1", rotation(key), key_ids=(second.key_id, key.key_id))
        assert (fault.reason, fault.field) == (Reason.KEY_INVALID, "key")


async def test_a_node_changes_its_own_key_and_only_while_it_is_enabled(planning: Planning) -> None:
    key = new_key()
    for name, reason in (("local", Reason.NOT_AUTHORISED), ("88.2", Reason.NODE_STATE_CONFLICT)):
        fault = await planning.refused(plan_rotate, name, rotation(key), key_ids=(f"key of {name}", key.key_id))
        assert fault.reason is reason


async def test_the_oldest_keys_are_forgotten(planning: Planning) -> None:
    keys = [new_key() for _ in range(KEYS_KEPT + 1)]
    for key in keys:
        await rotate(planning, "88.1", key)
    held = planning.node("88.1").keys
    assert [each.key_id for each in held] == [key.key_id for key in keys[1:]]
    assert [bool(each.until) for each in held] == [True] * (KEYS_KEPT - 1) + [False]


async def test_planning_it_again_gives_the_same(planning: Planning) -> None:
    key = new_key()
    request = planning.request(applicant("new"), application("new", key), key_ids=(key.key_id,))
    assert await plan_apply(request, planning.state) == await plan_apply(request, planning.state)


async def test_a_body_of_another_kind_is_refused(planning: Planning) -> None:
    for planner in (plan_apply, plan_review, plan_suspend, plan_rotate):
        with pytest.raises(Fault, match="PAYLOAD_MALFORMED"):
            await planner(planning.request("local", {"prefix": "88.1"}), planning.state)


# --- taking over ---------------------------------------------------------------------------------------------------


async def take_over(planning: Planning, name: str = "88.1", actor: str = "local", **more: Any) -> Outcome:
    body = {"node": name, "takeover": True, "reason": "17 of 30 probes failed", **more}
    return await planning.outcome(plan_takeover, actor, body)


async def refused_takeover(planning: Planning, name: str = "88.1", actor: str = "local", **more: Any) -> Fault:
    body = {"node": name, "takeover": True, "reason": "17 of 30 probes failed", **more}
    return await planning.refused(plan_takeover, actor, body)


async def test_an_application_says_what_is_agreed_and_a_review_may_say_otherwise(planning: Planning) -> None:
    await apply(planning, "a", agreement=True)
    await apply(planning, "b", agreement=True)
    assert planning.node("a").agreement
    await planning.plan(plan_review, "local", {"node": "a", "decision": "enable"})
    await planning.plan(plan_review, "local", {"node": "b", "decision": "enable", "agreement": False})
    assert (planning.node("a").agreement, planning.node("b").agreement) == (True, False)
    assert planning.node("b").state is NodeState.ENABLED


@pytest.mark.parametrize("actor", ["88.1", "local"])
async def test_a_node_agrees_for_itself_or_an_operator_says_so(planning: Planning, actor: str) -> None:
    agreed = {"node": "88.1", "agreement": True}
    assert await planning.outcome(plan_agreement, actor, agreed) is Outcome.REPLACED
    assert planning.node("88.1").agreement
    assert await planning.outcome(plan_agreement, actor, agreed) is Outcome.UNCHANGED
    await planning.plan(plan_agreement, actor, {**agreed, "agreement": False})
    assert not planning.node("88.1").agreement


async def test_nobody_agrees_for_another_node(planning: Planning) -> None:
    fault = await planning.refused(plan_agreement, "88.1", {"node": "88.2", "agreement": True})
    assert fault.reason is Reason.NOT_AUTHORISED
    fault = await planning.refused(plan_agreement, "local", {"node": "88.9", "agreement": True})
    assert (fault.reason, fault.field) == (Reason.NODE_UNKNOWN, "node")


async def test_an_operator_takes_over_and_hands_back(planning: Planning) -> None:
    planning.pass_time(NOW + 60)
    assert await take_over(planning) is Outcome.REPLACED
    row = planning.node("88.1")
    assert (row.takeover, row.takeover_automatic, row.takeover_since) == (True, False, NOW + 60)
    assert (row.takeover_reason, row.state) == ("17 of 30 probes failed", NodeState.ENABLED)
    planning.pass_time(NOW + 120)
    assert await take_over(planning, reason="again") is Outcome.UNCHANGED
    assert await take_over(planning, takeover=False, reason="it is back") is Outcome.REPLACED
    row = planning.node("88.1")
    assert (row.takeover, row.takeover_since, row.takeover_reason) == (False, 0, "it is back")
    assert await take_over(planning, takeover=False) is Outcome.UNCHANGED


async def test_a_node_that_was_suspended_or_revoked_can_be_taken_over(planning: Planning) -> None:
    assert await take_over(planning, "88.2") is Outcome.REPLACED
    await planning.plan(plan_revoke, "local", {"node": "88.1"})
    assert await take_over(planning) is Outcome.REPLACED
    assert planning.node("88.1").state is NodeState.REVOKED


async def test_without_an_agreement_nothing_is_taken_over_automatically(planning: Planning) -> None:
    fault = await refused_takeover(planning, automatic=True)
    assert (fault.reason, fault.field) == (Reason.NOT_AUTHORISED, "automatic")
    await planning.plan(plan_agreement, "88.1", {"node": "88.1", "agreement": True})
    assert await take_over(planning, automatic=True) is Outcome.REPLACED
    assert planning.node("88.1").takeover_automatic


async def test_what_was_begun_automatically_ends_so_also_when_the_agreement_is_gone(planning: Planning) -> None:
    await planning.plan(plan_agreement, "88.1", {"node": "88.1", "agreement": True})
    await take_over(planning, automatic=True)
    await planning.plan(plan_agreement, "88.1", {"node": "88.1", "agreement": False})
    assert await take_over(planning, takeover=False, automatic=True) is Outcome.REPLACED
    row = planning.node("88.1")
    assert (row.takeover, row.takeover_automatic) == (False, False)


async def test_what_an_operator_has_begun_or_made_their_own_only_operators_end(planning: Planning) -> None:
    await planning.plan(plan_agreement, "88.1", {"node": "88.1", "agreement": True})
    await take_over(planning, automatic=True)
    planning.pass_time(NOW + 60)
    assert await take_over(planning, reason="it is being moved") is Outcome.REPLACED
    row = planning.node("88.1")
    assert (row.takeover_automatic, row.takeover_since, row.takeover_reason) == (False, NOW, "it is being moved")
    assert await take_over(planning, automatic=True) is Outcome.UNCHANGED
    fault = await refused_takeover(planning, takeover=False, automatic=True)
    assert (fault.reason, fault.field) == (Reason.NOT_AUTHORISED, "automatic")
    assert planning.node("88.1").takeover


@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        ({"actor": "88.1"}, (Reason.NOT_AUTHORISED, "")),
        ({"name": "88.9"}, (Reason.NODE_UNKNOWN, "node")),
        ({"reason": ""}, (Reason.FIELD_OUT_OF_RANGE, "reason")),
        ({"takeover": "yes"}, (Reason.PAYLOAD_MALFORMED, "takeover")),
    ],
)
async def test_a_takeover_that_is_refused(planning: Planning, more: Any, refusal: tuple[Reason, str]) -> None:
    fault = await refused_takeover(planning, **more)
    assert (fault.reason, fault.field) == refusal


async def test_an_applicant_cannot_be_taken_over(planning: Planning) -> None:
    await apply(planning, "a")
    fault = await refused_takeover(planning, "a")
    assert (fault.reason, fault.field) == (Reason.NODE_STATE_CONFLICT, "node")
