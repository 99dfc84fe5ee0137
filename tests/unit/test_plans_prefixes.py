"""Planners of prefixes, through the public kinds of requests: allocating, applying, states, terms and routes."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.allocation import ENDPOINTS_MAX, plan_allocate, plan_allocation
from registry.drafts import Draft
from registry.nodes import plan_resume, plan_suspend
from registry.plans import Outcome, Plan
from registry.prefix_changes import plan_apply, plan_renew, plan_route, plan_state
from registry.rows import PrefixRow
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState, Protocol, RouteTable
from resolver.trust.actors import Node, NodeState
from tests.planning import NOW, OPERATOR, OWN_NAME, Planner, Planning, node

NODES = (
    node("88.1"),
    node("88.2"),
    node("maker", parent="88.1"),
    node("other", parent="88.2"),
    node("gone", parent="88.1", state=NodeState.REVOKED),
)
TOP = Prefix("88.1", "88.1")
ENDPOINT = {"protocol": "grpc", "address": "10.0.0.1", "port": 3641}


async def begin(*prefixes: Prefix, keys: Sequence[bytes] = (), nodes: Sequence[Node] = NODES) -> Planning:
    return await Planning.begin(nodes=nodes, prefixes=prefixes, keys=keys)


def row(prefix: str, holder: str, **more: Any) -> dict[str, Any]:
    return {"prefix": prefix, "holder": holder, **more}


async def allocate(planning: Planning, actor: str, *rows: dict[str, Any]) -> Plan:
    return await planning.plan(plan_allocate, actor, {"rows": list(rows)})


async def refusal(planning: Planning, actor: str, prefix: str, holder: str, **more: Any) -> tuple[Reason, str]:
    """Allocate one prefix, which must be refused, and give why."""
    plan = await allocate(planning, actor, row(prefix, holder, **more))
    assert plan.outcomes == (Outcome.REFUSED,)
    assert not plan.prefixes
    return plan.refusals[0].reason, plan.refusals[0].field


def told(plan: Plan) -> dict[int, tuple[Reason, str]]:
    return {number: (fault.reason, fault.field) for number, fault in sorted(plan.refusals.items())}


# --- allocating ----------------------------------------------------------------------------------------------------


async def test_an_operator_allocates_and_the_holder_delegates() -> None:
    planning = await begin()
    plan = await allocate(planning, "local", row("88.1", "88.1", expires_at=NOW + 9))
    assert plan.outcomes == (Outcome.REGISTERED,)
    assert planning.row("88.1") == Prefix("88.1", "88.1", expires_at=NOW + 9, epoch=2)
    endpoints = [{**ENDPOINT, "priority": 1, "tls_name": "a.example"}]
    plan = await allocate(
        planning, "88.1", row("88.1.M", "maker", hosting="delegated", endpoints=endpoints, expires_at=NOW + 8)
    )
    assert plan.outcomes == (Outcome.REGISTERED,)
    made = planning.row("88.1.M")
    assert (made.holder, made.hosting, made.expires_at) == ("maker", Hosting.DELEGATED, NOW + 8)
    assert made.endpoints == (Endpoint(Protocol.GRPC, "10.0.0.1", 3641, 1, "a.example"),)


@pytest.mark.parametrize(
    ("actor", "prefix", "holder", "expected"),
    [
        ("88.1", "88.2", "88.1", (Reason.NOT_AUTHORISED, "prefix")),
        ("88.1", "88.10", "88.1", (Reason.NOT_AUTHORISED, "prefix")),
        ("88.1", "88.1", "88.1", (Reason.NOT_AUTHORISED, "prefix")),
        ("88.2", "88.1.5", "88.2", (Reason.PREFIX_NOT_HELD, "prefix")),
        ("maker", "88.1.5", "maker", (Reason.PREFIX_NOT_HELD, "prefix")),
        ("88.1", "88.1.5", "88.2", (Reason.NOT_AUTHORISED, "holder")),
        ("88.1", "88.1.5", "other", (Reason.NOT_AUTHORISED, "holder")),
        ("88.1", "88.1.5", OWN_NAME, (Reason.NOT_AUTHORISED, "holder")),
        ("88.1", "88.1.5", "gone", (Reason.NODE_NOT_ENABLED, "holder")),
        ("local", "88.1.5", "gone", (Reason.NODE_NOT_ENABLED, "holder")),
        ("local", "88.1.5", "nobody", (Reason.NODE_UNKNOWN, "holder")),
        ("local", "88.1", "88.1", (Reason.PREFIX_EXISTS, "prefix")),
        ("local", "88.1", "88.2", (Reason.PREFIX_EXISTS, "prefix")),
        ("local", "88.1/a", "88.1", (Reason.PREFIX_HAS_SLASH, "prefix")),
        ("local", "88..1", "88.1", (Reason.PREFIX_EMPTY_SEGMENT, "prefix")),
        ("local", "", "88.1", (Reason.IDENTIFIER_EMPTY, "prefix")),
        ("local", "x" * 2_049, "88.1", (Reason.IDENTIFIER_TOO_LONG, "prefix")),
        ("local", "88.3", "", (Reason.FIELD_OUT_OF_RANGE, "holder")),
    ],
)
async def test_an_allocation_that_is_refused(
    actor: str, prefix: str, holder: str, expected: tuple[Reason, str]
) -> None:
    planning = await begin(Prefix("88.1", "88.1", expires_at=NOW + 99))
    assert await refusal(planning, actor, prefix, holder) == expected


async def test_below_a_delegation_its_holder_delegates_and_no_longer_the_one_above() -> None:
    planning = await begin(TOP, Prefix("88.1.5", "maker"))
    assert await refusal(planning, "88.1", "88.1.5.1", "88.1") == (Reason.PREFIX_NOT_HELD, "prefix")
    assert (await allocate(planning, "maker", row("88.1.5.1", "maker"))).outcomes == (Outcome.REGISTERED,)


async def test_the_same_row_again_changes_nothing() -> None:
    planning = await begin()
    again = row("88.1", "88.1", case="sensitive", hosting="delegated", endpoints=[ENDPOINT])
    await allocate(planning, "local", again)
    plan = await allocate(planning, "local", again)
    assert plan.outcomes == (Outcome.UNCHANGED,)
    assert not plan.prefixes


async def test_a_prefix_of_this_node_itself() -> None:
    planning = await begin()
    assert (await allocate(planning, "local", row("88.0", OWN_NAME))).outcomes == (Outcome.REGISTERED,)


async def test_an_allocation_begins_enabled() -> None:
    planning = await begin()
    assert await refusal(planning, "local", "88.1", "88.1", state="disabled") == (Reason.FIELD_OUT_OF_RANGE, "state")


async def test_an_application_gives_way_to_an_allocation() -> None:
    for state in (PrefixState.PENDING, PrefixState.IN_REVIEW, PrefixState.REJECTED):
        planning = await begin(TOP, Prefix("88.1.5", "other", state, CaseRule.SENSITIVE))
        assert (await allocate(planning, "88.1", row("88.1.5", "maker"))).outcomes == (Outcome.REPLACED,)
        assert planning.row("88.1.5") == Prefix("88.1.5", "maker", epoch=2)


async def test_endpoints_have_bounds() -> None:
    planning = await begin()
    wrong = [ENDPOINT, {**ENDPOINT, "port": 0}]
    refused = await refusal(planning, "local", "88.1", "88.1", endpoints=wrong)
    assert refused == (Reason.FIELD_OUT_OF_RANGE, "endpoints[1].port")
    many = [ENDPOINT] * (ENDPOINTS_MAX + 1)
    refused = await refusal(planning, "local", "88.1", "88.1", endpoints=many)
    assert refused == (Reason.FIELD_OUT_OF_RANGE, "endpoints")


async def test_all_rows_or_none() -> None:
    planning = await begin(TOP)
    rows = [row("88.1.1", "maker"), row("88.1.2", "nobody"), row("88.1.3", "maker"), row("88.2.1", "maker")]
    plan = await allocate(planning, "88.1", *rows)
    assert plan.outcomes == (Outcome.REFUSED,) * 4
    assert not plan.prefixes
    assert told(plan) == {
        0: (Reason.ROW_NOT_TAKEN, ""),
        1: (Reason.NODE_UNKNOWN, "holder"),
        2: (Reason.ROW_NOT_TAKEN, ""),
        3: (Reason.NOT_AUTHORISED, "prefix"),
    }


async def test_a_row_counts_for_those_after_it() -> None:
    planning = await begin()
    rows = [row("88.1", "88.1", case="sensitive"), row("88.1.5", "maker"), row("88.1.5.1", "maker")]
    assert (await allocate(planning, "local", *rows)).outcomes == (Outcome.REGISTERED,) * 3
    assert {planning.row(each["prefix"]).case for each in rows} == {CaseRule.SENSITIVE}


async def test_planning_changes_nothing_and_gives_the_same_again() -> None:
    planning = await begin(TOP)
    body = {"rows": [row("88.1.5", "maker", case="sensitive"), row("88.1.5.1", "maker")]}
    request = planning.request("local", body)
    first = await plan_allocate(request, planning.state)
    assert first.outcomes == (Outcome.REGISTERED,) * 2
    assert await plan_allocate(request, planning.state) == first


async def test_rows_of_one_prefix_are_all_refused() -> None:
    planning = await begin()
    plan = await allocate(planning, "local", row("88.a", "88.1"), row("88.2", "88.2"), row("88.A", "88.1"))
    assert told(plan) == {
        0: (Reason.ROW_REPEATED, "prefix"),
        1: (Reason.ROW_NOT_TAKEN, ""),
        2: (Reason.ROW_REPEATED, "prefix"),
    }


@pytest.mark.parametrize(("rows", "reason"), [(0, Reason.BATCH_EMPTY), (1_001, Reason.BATCH_TOO_LARGE)])
async def test_a_request_has_1_to_1000_rows(rows: int, reason: Reason) -> None:
    planning = await begin()
    body = {"rows": [row(f"88.{number}", "88.1") for number in range(rows)]}
    fault = await planning.refused(plan_allocate, "local", body)
    assert (fault.reason, fault.field) == (reason, "rows")


# --- terms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expires_at", "expected"),
    [
        (0, None),  # ends with the one above
        (NOW + 1, None),
        (NOW + 100, None),
        (NOW + 101, Reason.PREFIX_TERM_INVALID),
        (NOW, Reason.PREFIX_TERM_INVALID),
        (1, Reason.PREFIX_TERM_INVALID),
    ],
)
async def test_a_term_ends_ahead_and_not_after_any_above(expires_at: int, expected: Reason | None) -> None:
    above = (Prefix("88.1", "88.1", expires_at=NOW + 100), Prefix("88.1.5", "maker"))
    planning = await begin(*above)
    for prefix, actor in (("88.1.6", "88.1"), ("88.1.5.1", "maker"), ("88.1.5.2", "local")):
        plan = await allocate(planning, actor, row(prefix, "maker", expires_at=expires_at))
        assert told(plan) == ({0: (expected, "expires_at")} if expected else {})


async def test_an_application_above_has_no_term_that_counts() -> None:
    planning = await begin(TOP, Prefix("88.1.5", "maker", PrefixState.PENDING, expires_at=NOW + 1))
    assert not (await allocate(planning, "88.1", row("88.1.5.1", "maker", expires_at=NOW + 9))).refusals


@pytest.mark.parametrize("actor", ["local", "88.1"])
async def test_a_term_is_renewed_even_when_it_is_over(actor: str) -> None:
    planning = await begin(
        Prefix("88.1", "88.1", expires_at=NOW + 100), Prefix("88.1.5", "maker", expires_at=NOW + 1)
    )
    planning.pass_time(NOW + 50)
    for end in (NOW + 100, NOW + 60, 0):
        body = {"prefix": "88.1.5", "expires_at": end}
        assert await planning.outcome(plan_renew, actor, body) is Outcome.REPLACED
        assert planning.row("88.1.5").expires_at == end
        assert await planning.outcome(plan_renew, actor, body) is Outcome.UNCHANGED


@pytest.mark.parametrize(
    ("actor", "prefix", "end", "expected"),
    [
        ("maker", "88.1.5", NOW + 9, (Reason.NOT_AUTHORISED, "prefix")),
        ("88.1", "88.1", NOW + 9, (Reason.NOT_AUTHORISED, "prefix")),
        ("other", "88.1.5", NOW + 9, (Reason.PREFIX_NOT_HELD, "prefix")),
        ("88.1", "88.1.5.1", NOW + 9, (Reason.PREFIX_NOT_HELD, "prefix")),
        ("88.1", "88.1.5", NOW + 101, (Reason.PREFIX_TERM_INVALID, "expires_at")),
        ("88.1", "88.1.5", NOW, (Reason.PREFIX_TERM_INVALID, "expires_at")),
        ("88.1", "88.1.6", NOW + 9, (Reason.PREFIX_STATE_CONFLICT, "prefix")),
        ("local", "88.1.7", NOW + 9, (Reason.PREFIX_STATE_CONFLICT, "prefix")),
        ("local", "88.1.8", NOW + 9, (Reason.PREFIX_NOT_ALLOCATED, "prefix")),
        ("local", "88.1.5", 2**32, (Reason.PAYLOAD_MALFORMED, "expires_at")),
    ],
)
async def test_a_renewal_that_is_refused(actor: str, prefix: str, end: int, expected: tuple[Reason, str]) -> None:
    planning = await begin(
        Prefix("88.1", "88.1", expires_at=NOW + 100),
        Prefix("88.1.5", "maker"),
        Prefix("88.1.5.1", "maker"),
        Prefix("88.1.6", "maker", PrefixState.TO_DELETE),
        Prefix("88.1.7", "maker", PrefixState.PENDING),
    )
    fault = await planning.refused(plan_renew, actor, {"prefix": prefix, "expires_at": end})
    assert (fault.reason, fault.field) == expected


async def test_a_disabled_prefix_is_renewed_and_stays_disabled() -> None:
    planning = await begin(Prefix("88.1", "88.1", PrefixState.DISABLED))
    await planning.plan(plan_renew, "local", {"prefix": "88.1", "expires_at": NOW + 9})
    assert (planning.row("88.1").state, planning.row("88.1").expires_at) == (PrefixState.DISABLED, NOW + 9)


# --- case rules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"88.1.5/A", b"88.1.5.7/A"])
async def test_an_allocation_never_changes_the_rule_of_what_is_registered(key: bytes) -> None:
    planning = await begin(TOP, keys=[key])
    refused = await refusal(planning, "88.1", "88.1.5", "maker", case="sensitive")
    assert refused == (Reason.PREFIX_RULE_FIXED, "case")
    assert not (await allocate(planning, "88.1", row("88.1.5", "maker"))).refusals  # by the rule that is there


async def test_keys_of_neighbours_do_not_count() -> None:
    planning = await begin(TOP, keys=[b"88.1.50/A", b"88.1.4/A", b"88.1/5/A"])
    assert not (await allocate(planning, "88.1", row("88.1.5", "maker", case="sensitive"))).refusals


async def test_keys_of_the_same_request_count() -> None:
    planning = await begin(TOP)
    sensitive = PrefixRow(prefix="88.1.5", holder="maker", case="sensitive")
    for keys, expected in (([b"88.1.5.1/A"], Reason.PREFIX_RULE_FIXED), ([b"88.1.50/A"], Outcome.REGISTERED)):
        became = await plan_allocation(sensitive, OPERATOR, Draft(planning.state, keys))
        assert (became.reason if isinstance(became, Fault) else became) is expected


async def test_the_rule_of_an_allocation_is_fixed() -> None:
    planning = await begin(Prefix("88.1", "88.1", case=CaseRule.SENSITIVE))
    assert await refusal(planning, "local", "88.1", "88.1", case="insensitive") == (Reason.PREFIX_RULE_FIXED, "case")


async def test_an_application_with_another_rule_is_checked_when_it_is_enabled() -> None:
    planning = await begin(TOP, keys=[b"88.1.5/A"])
    await planning.plan(plan_apply, "maker", {"prefix": "88.1.5", "case": "sensitive"})
    fault = await planning.refused(plan_state, "88.1", {"prefix": "88.1.5", "state": "enabled"})
    assert (fault.reason, fault.field) == (Reason.PREFIX_RULE_FIXED, "case")


# --- applying ------------------------------------------------------------------------------------------------------


async def test_a_node_applies_and_the_holder_above_reviews() -> None:
    planning = await begin(TOP)
    body = {"prefix": "88.1.m", "hosting": "delegated", "endpoints": [ENDPOINT], "expires_at": NOW + 9}
    assert await planning.outcome(plan_apply, "maker", body) is Outcome.REGISTERED
    held = planning.row("88.1.M")
    assert (held.text, held.holder, held.state) == ("88.1.m", "maker", PrefixState.PENDING)
    assert planning.state.scope(b"88.1.M").prefix == planning.row("88.1")
    for state in ("in_review", "enabled"):
        await planning.plan(plan_state, "88.1", {"prefix": "88.1.M", "state": state})
    assert planning.state.scope(b"88.1.M").prefix == planning.row("88.1.M")
    assert planning.row("88.1.M").endpoints == held.endpoints


@pytest.mark.parametrize(
    ("row_there", "expected"),
    [
        (Prefix("88.1.5", "maker"), Reason.PREFIX_EXISTS),
        (Prefix("88.1.5", "88.1", PrefixState.DISABLED), Reason.PREFIX_EXISTS),
        (Prefix("88.1.5", "maker", PrefixState.TO_DELETE), Reason.PREFIX_EXISTS),
        (Prefix("88.1.5", "other", PrefixState.PENDING), Reason.PREFIX_EXISTS),
        (Prefix("88.1.5", "other", PrefixState.IN_REVIEW), Reason.PREFIX_EXISTS),
        (Prefix("88.1.5", "maker", PrefixState.IN_REVIEW), Reason.PREFIX_STATE_CONFLICT),
        (Prefix("88.1.5", "maker", PrefixState.PENDING), None),
        (Prefix("88.1.5", "maker", PrefixState.REJECTED), None),
        (Prefix("88.1.5", "other", PrefixState.REJECTED), None),
    ],
)
async def test_what_stands_in_the_way_of_an_application(row_there: Prefix, expected: Reason | None) -> None:
    planning = await begin(TOP, row_there)
    body = {"prefix": "88.1.5", "hosting": "delegated"}
    if expected:
        fault = await planning.refused(plan_apply, "maker", body)
        assert (fault.reason, fault.field) == (expected, "prefix")
    else:
        assert await planning.outcome(plan_apply, "maker", body) is Outcome.REPLACED
        assert planning.row("88.1.5").holder == "maker"


async def test_an_operator_does_not_apply() -> None:
    planning = await begin()
    assert (await planning.refused(plan_apply, "local", {"prefix": "88.1"})).reason is Reason.NOT_AUTHORISED


@pytest.mark.parametrize("end", [NOW, NOW + 101])
async def test_an_application_for_a_term_that_cannot_be(end: int) -> None:
    planning = await begin(Prefix("88.1", "88.1", expires_at=NOW + 100))
    fault = await planning.refused(plan_apply, "maker", {"prefix": "88.1.5", "expires_at": end})
    assert (fault.reason, fault.field) == (Reason.PREFIX_TERM_INVALID, "expires_at")


# --- states --------------------------------------------------------------------------------------------------------


async def change(planning: Planning, actor: str, state: str, prefix: str = "88.1.5") -> Outcome:
    return await planning.outcome(plan_state, actor, {"prefix": prefix, "state": state})


async def change_refused(planning: Planning, actor: str, state: str, prefix: str = "88.1.5") -> tuple[Reason, str]:
    fault = await planning.refused(plan_state, actor, {"prefix": prefix, "state": state})
    return fault.reason, fault.field


async def test_the_life_of_a_prefix() -> None:
    planning = await begin(TOP, Prefix("88.1.5", "maker"))
    for actor, state in (
        ("local", "disabled"),
        ("88.1", "enabled"),
        ("maker", "to_delete"),
        ("88.1", "enabled"),
        ("88.1", "to_delete"),
        ("local", "disabled"),
    ):
        assert await change(planning, actor, state) is Outcome.REPLACED
        assert planning.row("88.1.5").state is PrefixState[state.upper()]


async def test_whoever_may_not() -> None:
    planning = await begin(TOP, Prefix("88.1.5", "maker"), Prefix("88.1.5.1", "maker"))
    assert await change_refused(planning, "maker", "disabled") == (Reason.NOT_AUTHORISED, "state")
    assert await change_refused(planning, "other", "disabled") == (Reason.PREFIX_NOT_HELD, "prefix")
    assert await change_refused(planning, "88.1", "disabled", "88.1.5.1") == (Reason.PREFIX_NOT_HELD, "prefix")
    assert await change_refused(planning, "88.1", "disabled", "88.1") == (Reason.NOT_AUTHORISED, "state")
    assert await change_refused(planning, "local", "pending") == (Reason.PREFIX_STATE_CONFLICT, "state")
    assert await change_refused(planning, "local", "disabled", "88.9") == (Reason.PREFIX_NOT_ALLOCATED, "prefix")


async def test_a_state_that_is_there_already_changes_nothing_for_whoever_it_concerns() -> None:
    planning = await begin(TOP, Prefix("88.1.5", "maker"))
    assert await change(planning, "maker", "enabled") is Outcome.UNCHANGED
    assert await change_refused(planning, "other", "enabled") == (Reason.PREFIX_NOT_HELD, "prefix")


async def test_enabling_an_application_is_an_allocation() -> None:
    planning = await begin(TOP)
    await planning.plan(plan_apply, "other", {"prefix": "88.1.5"})
    assert await change_refused(planning, "other", "enabled") == (Reason.NOT_AUTHORISED, "state")
    assert await change_refused(planning, "88.1", "enabled") == (Reason.NOT_AUTHORISED, "holder")
    await planning.plan(plan_suspend, "local", {"node": "other"})
    assert await change_refused(planning, "local", "enabled") == (Reason.NODE_NOT_ENABLED, "holder")
    await planning.plan(plan_resume, "local", {"node": "other"})
    assert await change(planning, "local", "enabled") is Outcome.REPLACED


async def test_at_the_top_only_operators_enable_an_application() -> None:
    planning = await begin()
    await planning.plan(plan_apply, "88.1", {"prefix": "88.1"})
    assert await change_refused(planning, "88.1", "enabled", "88.1") == (Reason.NOT_AUTHORISED, "state")
    assert await change(planning, "local", "enabled", "88.1") is Outcome.REPLACED


async def test_an_application_whose_term_went_by_is_not_enabled() -> None:
    planning = await begin(TOP)
    await planning.plan(plan_apply, "maker", {"prefix": "88.1.5", "expires_at": NOW + 1})
    planning.pass_time(NOW + 1)
    assert await change_refused(planning, "88.1", "enabled") == (Reason.PREFIX_TERM_INVALID, "expires_at")


async def test_an_application_is_taken_back() -> None:
    planning = await begin(TOP)
    await planning.plan(plan_apply, "maker", {"prefix": "88.1.5"})
    assert await change(planning, "maker", "rejected") is Outcome.REPLACED


async def test_a_prefix_whose_holder_was_suspended_is_enabled_again() -> None:
    planning = await begin(TOP, Prefix("88.1.5", "gone", PrefixState.DISABLED))
    assert await change(planning, "88.1", "enabled") is Outcome.REPLACED


# --- routes --------------------------------------------------------------------------------------------------------

ROUTE = {"prefix": "88.1.5", "hosting": "delegated", "endpoints": [ENDPOINT, {**ENDPOINT, "protocol": "http"}]}


async def test_the_holder_says_where_its_prefix_is_answered() -> None:
    planning = await begin(TOP, Prefix("88.1.5", "maker", case=CaseRule.SENSITIVE, expires_at=NOW + 9))
    assert await planning.outcome(plan_route, "maker", ROUTE) is Outcome.REPLACED
    assert planning.row("88.1.5") == Prefix(
        "88.1.5",
        "maker",
        case=CaseRule.SENSITIVE,
        hosting=Hosting.DELEGATED,
        expires_at=NOW + 9,
        endpoints=(Endpoint(Protocol.GRPC, "10.0.0.1", 3641), Endpoint(Protocol.HTTP, "10.0.0.1", 3641)),
        epoch=2,
    )
    assert await planning.outcome(plan_route, "maker", ROUTE) is Outcome.UNCHANGED
    assert await planning.outcome(plan_route, "local", {"prefix": "88.1.5", "hosting": "here"}) is Outcome.REPLACED
    assert (planning.row("88.1.5").hosting, planning.row("88.1.5").endpoints) == (Hosting.HERE, ())


@pytest.mark.parametrize(
    ("actor", "more", "expected"),
    [
        ("88.1", {}, (Reason.PREFIX_NOT_HELD, "prefix")),
        ("other", {}, (Reason.PREFIX_NOT_HELD, "prefix")),
        ("maker", {"prefix": "88.1.6"}, (Reason.PREFIX_DISABLED, "prefix")),
        ("maker", {"prefix": "88.1.7"}, (Reason.PREFIX_STATE_CONFLICT, "prefix")),
        ("maker", {"prefix": "88.1.8"}, (Reason.PREFIX_EXPIRED, "prefix")),
        ("maker", {"prefix": "88.1.9"}, (Reason.PREFIX_NOT_ALLOCATED, "prefix")),
        ("maker", {"endpoints": []}, (Reason.FIELD_OUT_OF_RANGE, "endpoints")),
        ("maker", {"endpoints": [{**ENDPOINT, "port": 65_536}]}, (Reason.FIELD_OUT_OF_RANGE, "endpoints[0].port")),
        ("maker", {"endpoints": [ENDPOINT] * 33}, (Reason.FIELD_OUT_OF_RANGE, "endpoints")),
        ("maker", {"endpoints": [{"protocol": "ftp"}]}, (Reason.PAYLOAD_MALFORMED, "endpoints[0].protocol")),
        ("maker", {"holder": "other"}, (Reason.PAYLOAD_MALFORMED, "holder")),
    ],
)
async def test_a_route_that_is_refused(actor: str, more: dict[str, Any], expected: tuple[Reason, str]) -> None:
    planning = await begin(
        TOP,
        Prefix("88.1.5", "maker"),
        Prefix("88.1.6", "maker", PrefixState.DISABLED),
        Prefix("88.1.7", "maker", PrefixState.PENDING),
        Prefix("88.1.8", "maker", expires_at=NOW),
    )
    fault = await planning.refused(plan_route, actor, ROUTE | more)
    assert (fault.reason, fault.field) == expected


# --- rows of imports -----------------------------------------------------------------------------------------------


async def become(draft: Draft, fields: Mapping[str, Any], *, overwrite: bool = False) -> Outcome | Reason:
    became = await plan_allocation(PrefixRow(**fields), OPERATOR, draft, overwrite=overwrite)
    return became.reason if isinstance(became, Fault) else became


@pytest.mark.parametrize("state", ["disabled", "to_delete", "rejected", "pending", "in_review"])
async def test_an_import_brings_any_state_and_terms_that_are_over(state: str) -> None:
    planning = await begin()
    draft = Draft(planning.state)
    fields = {"prefix": "88.1", "holder": "88.1", "state": state, "expires_at": 1}
    assert await become(draft, fields) is Outcome.REGISTERED
    assert await become(draft, fields) is Outcome.UNCHANGED
    assert draft.rows[b"88.1"] == Prefix("88.1", "88.1", PrefixState[state.upper()], expires_at=1)


async def test_an_import_replaces_only_when_that_is_asked_for() -> None:
    planning = await begin(TOP)
    draft = Draft(planning.state)
    other = {"prefix": "88.1", "holder": "88.2", "state": "disabled"}
    assert await become(draft, other) is Reason.PREFIX_EXISTS
    assert not draft.rows
    assert await become(draft, other, overwrite=True) is Outcome.REPLACED
    assert await become(draft, {**other, "case": "sensitive"}, overwrite=True) is Reason.PREFIX_RULE_FIXED
    assert draft.plan().prefixes == tuple(draft.rows.values())


async def test_an_import_may_know_holders_that_have_not_applied_yet() -> None:
    planning = await begin()
    for any_holder, expected in ((False, Reason.NODE_UNKNOWN), (True, Outcome.REGISTERED)):
        new = PrefixRow(prefix="88.7", holder="88.7")
        became = await plan_allocation(new, OPERATOR, Draft(planning.state), any_holder=any_holder)
        assert (became.reason if isinstance(became, Fault) else became) is expected


async def test_an_import_does_not_take_a_rule_from_what_is_registered() -> None:
    planning = await begin(TOP, Prefix("88.1.5", "maker", case=CaseRule.SENSITIVE), keys=[b"88.1.5/a"])
    going = {"prefix": "88.1.5", "holder": "maker", "state": "rejected"}
    assert await become(Draft(planning.state), going, overwrite=True) is Reason.PREFIX_RULE_FIXED


async def test_a_fault_of_the_store_is_no_fault_of_the_row() -> None:
    planning = await begin(TOP)
    planning.store.fault = Fault(Reason.STORE_UNAVAILABLE)
    sensitive = row("88.1.5", "maker", case="sensitive")
    with pytest.raises(Fault, match="STORE_UNAVAILABLE"):
        await allocate(planning, "local", sensitive)


# --- drafts --------------------------------------------------------------------------------------------------------

segments = st.sampled_from(["1", "2", "A"])
texts = st.lists(segments, min_size=1, max_size=4).map(".".join)
rows = st.builds(
    Prefix,
    texts,
    st.sampled_from(["h", "i"]),
    st.sampled_from(PrefixState),
    st.sampled_from(CaseRule),
    expires_at=st.sampled_from([0, NOW - 1, NOW, NOW + 1]),
)


@given(st.lists(rows, max_size=6), st.lists(rows, max_size=6), texts)
async def test_a_draft_gives_the_scopes_that_the_table_will_give(
    held: list[Prefix], new: list[Prefix], asked: str
) -> None:
    planning = await Planning.begin(prefixes=held)
    draft = Draft(planning.state)
    for each in new:
        draft.take(draft.read(PrefixRow(**as_row(each))))
    table = RouteTable()
    table.put(held)
    table.put(draft.rows.values())
    table.tell_time(NOW)
    found, expected = draft.scope(asked.encode()), table.scope(asked.encode())
    assert found.verdict is expected.verdict
    assert found.case_sensitive is expected.case_sensitive
    assert (found.prefix and found.prefix.text) == (expected.prefix and expected.prefix.text)


def as_row(prefix: Prefix) -> dict[str, Any]:
    return {
        "prefix": prefix.text,
        "holder": prefix.holder,
        "state": prefix.state.name.lower(),
        "case": prefix.case.name.lower(),
        "expires_at": prefix.expires_at,
    }


PLANNERS: list[Planner] = [plan_allocate, plan_apply, plan_state, plan_renew, plan_route]


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("body", [b"", b"[]", b'{"prefix": 1}', b'{"prefix": "88.1", "more": 1}', b'{"rows": [{}]}'])
async def test_a_body_of_another_shape_is_refused(planner: Planner, body: bytes) -> None:
    planning = await begin()
    assert (await planning.refused(planner, "maker", body)).reason is Reason.PAYLOAD_MALFORMED


async def test_a_prefix_of_a_thousand_segments_is_walked() -> None:
    deep = ".".join("1" * 1_000)
    planning = await begin(TOP)
    plan = await allocate(planning, "local", row("1", "88.1"), row(deep, "88.1"), row(deep + ".2", "88.1"))
    assert plan.outcomes == (Outcome.REGISTERED,) * 3
