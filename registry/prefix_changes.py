"""Planners of what becomes of a prefix: application, state, term, route. Allocation is in `registry.allocation`."""

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from registry import authority
from registry.allocation import (
    breaks_rule,
    check_ahead,
    check_endpoints,
    check_new,
    check_term,
    holder_of,
    rule_fixed,
)
from registry.authority import Role
from registry.bodies import decode
from registry.drafts import Change, Draft
from registry.plans import Actor, Plan, Request
from registry.prefix_states import PRESENT, check_change
from registry.rows import EndpointRow, PrefixRow
from registry.state import State
from resolver.bounds import SECONDS_MAX
from resolver.errors import Fault, Reason
from resolver.handle import check_prefix, encoded
from resolver.routes import Hosting, Prefix, PrefixState

Seconds = Annotated[int, Meta(ge=0, le=SECONDS_MAX)]

_RENEWED: Final = frozenset((PrefixState.ENABLED, PrefixState.DISABLED))


class PrefixApplication(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of prefix-apply.v1: a prefix that a node wants to hold. Fields as in the row of a prefix."""

    prefix: str
    case: Literal["insensitive", "sensitive"] | UnsetType = UNSET
    hosting: Literal["here", "delegated"] = "here"
    expires_at: Seconds = 0
    endpoints: list[EndpointRow] = []


class StateChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of prefix-state.v1: the state that a prefix is to have."""

    prefix: str
    state: Literal["disabled", "enabled", "to_delete", "rejected", "pending", "in_review"]


class Renewal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of prefix-renew.v1: when the term of a prefix is to end (Unix seconds).

    0: it has no term of its own, and ends with that of the prefix above.
    """

    prefix: str
    expires_at: Seconds


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of route.v1: where the records of a prefix have their authority, and where that answers."""

    prefix: str
    hosting: Literal["here", "delegated"]
    endpoints: list[EndpointRow] = []


async def plan_apply(request: Request, state: State) -> Plan:
    """Plan that a node asks for a prefix (prefix-apply.v1); until it is enabled, that means nothing to resolvers.

    Raises:
        Fault: PAYLOAD_MALFORMED, NOT_AUTHORISED, PREFIX_* and IDENTIFIER_* of the prefix, FIELD_OUT_OF_RANGE,
            PREFIX_EXISTS, PREFIX_STATE_CONFLICT, PREFIX_TERM_INVALID.
    """
    body = decode(request.body, PrefixApplication)
    if request.actor.is_operator:
        raise Fault(Reason.NOT_AUTHORISED, "A node applies for itself; operators allocate.")
    draft = Draft(state)
    row = PrefixRow(
        prefix=body.prefix,
        holder=request.actor.name,
        state="pending",
        case=body.case,
        hosting=body.hosting,
        expires_at=body.expires_at,
        endpoints=body.endpoints,
    )
    change = draft.read(row)
    if change.held is not None:
        _check_application(change.held, request.actor)
    check_ahead(row.expires_at, request.at)
    check_new(change, holder_of(change.prefix, state), draft)
    return draft.plan(draft.take(change))


async def plan_state(request: Request, state: State) -> Plan:
    """Plan another state of a prefix (prefix-state.v1). From pending or in review to enabled, it is an allocation.

    Raises:
        Fault: PAYLOAD_MALFORMED, PREFIX_NOT_ALLOCATED, PREFIX_NOT_HELD, NOT_AUTHORISED, PREFIX_STATE_CONFLICT; of an
            allocation also what refuses one; the store's.
    """
    body = decode(request.body, StateChange)
    draft = Draft(state)
    held = _row(body.prefix, draft)
    to = PrefixState[body.state.upper()]
    change = Change(held, replace(held, state=to), draft.above(held.key))
    roles = authority.roles(request.actor, held, change.above)
    if to is not held.state or not roles:
        check_change(held, to, roles)
    if change.is_coming:
        await _check_coming(change, request, draft)
    return draft.plan(draft.take(change))


async def plan_renew(request: Request, state: State) -> Plan:
    """Plan another end of a prefix's term (prefix-renew.v1), an earlier one too.

    Raises:
        Fault: PAYLOAD_MALFORMED, PREFIX_NOT_ALLOCATED, PREFIX_NOT_HELD, NOT_AUTHORISED, PREFIX_STATE_CONFLICT,
            PREFIX_TERM_INVALID.
    """
    body = decode(request.body, Renewal)
    draft = Draft(state)
    held = _row(body.prefix, draft)
    above = draft.above(held.key)
    roles = authority.roles(request.actor, held, above)
    if not roles:
        raise authority.not_held(held, field="prefix")
    if roles == {Role.HOLDER}:
        detail = f"Only operators and the holder of the prefix above renew {held.text}."
        raise Fault(Reason.NOT_AUTHORISED, detail, field="prefix")
    if held.state not in _RENEWED:
        raise _conflict(held, "it has no term that could be renewed")
    check_ahead(body.expires_at, request.at)
    prefix = replace(held, expires_at=body.expires_at)
    check_term(prefix, draft)
    return draft.plan(draft.take(Change(held, prefix, above)))


async def plan_route(request: Request, state: State) -> Plan:
    """Plan where the records of a prefix have their authority, and where that answers (route.v1).

    Raises:
        Fault: PAYLOAD_MALFORMED, PREFIX_NOT_ALLOCATED, PREFIX_STATE_CONFLICT, FIELD_OUT_OF_RANGE, and as
            `authority.check_write`.
    """
    body = decode(request.body, Route)
    draft = Draft(state)
    held = _row(body.prefix, draft)
    if held.state not in PRESENT:
        raise _conflict(held, "it is not allocated")
    authority.check_write(request.actor, draft.scope(held.key), field="prefix")
    hosting = Hosting[body.hosting.upper()]
    if hosting is Hosting.DELEGATED and not body.endpoints:
        raise Fault(Reason.FIELD_OUT_OF_RANGE, "A delegated prefix is answered somewhere.", field="endpoints")
    row = PrefixRow(prefix=held.text, holder=held.holder, endpoints=body.endpoints)
    prefix = replace(held, hosting=hosting, endpoints=row.to_prefix(held.case).endpoints)
    check_endpoints(prefix)
    return draft.plan(draft.take(Change(held, prefix, draft.above(held.key))))


def _row(text: str, draft: Draft) -> Prefix:
    held = draft.allocation(check_prefix(encoded(text, field="prefix")))
    if held is None:
        detail = f"The prefix {text} is not allocated, and nobody has applied for it."
        raise Fault(Reason.PREFIX_NOT_ALLOCATED, detail, field="prefix", variables={"prefix": text})
    return held


async def _check_coming(change: Change, request: Request, draft: Draft) -> None:
    """Check an application that is to become an allocation as it stands."""
    holder = holder_of(change.prefix, draft.state)
    authority.check_allocate(request.actor, change.above, holder)
    check_ahead(change.prefix.expires_at, request.at)
    check_new(change, holder, draft)
    if await breaks_rule(change, draft):
        raise rule_fixed(change.prefix)


def _check_application(held: Prefix, actor: Actor) -> None:
    """Check that an application may take the place of this row."""
    if held.state is PrefixState.REJECTED:
        return
    if held.state in PRESENT or held.holder != actor.name:
        raise Fault(Reason.PREFIX_EXISTS, "The prefix is given, or another asked for it before.", field="prefix")
    if held.state is PrefixState.IN_REVIEW:
        raise _conflict(held, "the application is being looked at")


def _conflict(held: Prefix, why: str) -> Fault:
    said = held.state.name.lower()
    return Fault(
        Reason.PREFIX_STATE_CONFLICT,
        f"The prefix {held.text} is {said}: {why}.",
        field="prefix",
        variables={"prefix": held.text, "state": said},
    )
