"""Allocation of prefixes: the rules that every new row keeps, one row at a time, and the planner of many.

Who may allocate is in `registry.authority`; what becomes of a prefix afterwards, in `registry.prefix_changes`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from registry import authority
from registry.bodies import check_rows, decode
from registry.drafts import Change, Draft
from registry.membership import not_enabled, unknown
from registry.plans import Actor, Outcome, Plan, Request
from registry.rows import PrefixRow
from registry.state import State
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule
from resolver.routes import Prefix
from resolver.trust.actors import Node, NodeState

ENDPOINTS_MAX: Final = 32
"""Endpoints of one prefix."""


class Allocations(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of prefix-allocate.v1: 1 to 1,000 rows as `topnode load` reads them, all of them or none.

    Whoever holds the prefix above delegates with it; at the top it is operators who allocate.
    """

    rows: list[PrefixRow]


async def plan_allocate(request: Request, state: State) -> Plan:
    """Plan the allocation of prefixes (prefix-allocate.v1): where one row is refused, all are.

    A prefix is allocated enabled, with a term ahead; an application for it gives way.

    Raises:
        Fault: PAYLOAD_MALFORMED, BATCH_EMPTY, BATCH_TOO_LARGE; the store's.
    """
    rows = decode(request.body, Allocations).rows
    check_rows(len(rows))
    draft, outcomes = Draft(state), list[Outcome]()
    refusals = _repeated(rows)
    for number, row in enumerate(rows):
        if number in refusals:
            continue
        became = _not_new(row, request.at) or await plan_allocation(row, request.actor, draft)
        if isinstance(became, Fault):
            refusals[number] = became
        else:
            outcomes.append(became)
    return _refused(len(rows), refusals) if refusals else draft.plan(*outcomes)


async def plan_allocation(
    row: PrefixRow,
    actor: Actor,
    draft: Draft,
    *,
    overwrite: bool = False,
    any_holder: bool = False,
) -> Outcome | Fault:
    """Take one row of a prefix into the draft, or say why not; what follows is planned by it.

    The row may have any state, and a term that is over: an import brings what another system knew, with `any_holder`
    also for holders that have not applied yet. With `overwrite` it takes the place of what is allocated already,
    whatever its state.

    Raises:
        Fault: the store's.
    """
    try:
        change = draft.read(row)
        holder = None if any_holder else holder_of(change.prefix, draft.state)
        authority.check_allocate(actor, change.above, holder)
        if change.prefix == change.held:
            return Outcome.UNCHANGED
        _check_held(change, overwrite=overwrite)
        check_new(change, holder, draft)
    except Fault as fault:
        return fault
    if await breaks_rule(change, draft):
        return rule_fixed(change.prefix)
    return draft.take(change)


def holder_of(prefix: Prefix, state: State) -> Node | None:
    """Give the node that is to hold a prefix; None: this node itself.

    Raises:
        Fault: NODE_UNKNOWN.
    """
    if prefix.holder == state.own_name:
        return None
    holder = state.node(prefix.holder)
    if holder is None:
        raise unknown(prefix.holder, field="holder")
    return holder


def check_new(change: Change, holder: Node | None, draft: Draft) -> None:
    """Check what a row says anew, and all of it when it becomes an allocation.

    Raises:
        Fault: NODE_NOT_ENABLED, PREFIX_TERM_INVALID, FIELD_OUT_OF_RANGE.
    """
    before = None if change.is_coming else change.held
    if before is None or before.holder != change.prefix.holder:
        _check_holder(holder)
    if before is None or before.expires_at != change.prefix.expires_at:
        check_term(change.prefix, draft)
    check_endpoints(change.prefix)


def check_term(prefix: Prefix, draft: Draft) -> None:
    """Check that a term does not end after that of a prefix above; one that has none ends with that anyway.

    Raises:
        Fault: PREFIX_TERM_INVALID.
    """
    if not prefix.expires_at:
        return
    for above in draft.allocated_above(prefix.key):
        if 0 < above.expires_at < prefix.expires_at:
            raise Fault(
                Reason.PREFIX_TERM_INVALID,
                f"The term of {above.text}, above it, ends at {above.expires_at}.",
                field="expires_at",
                variables={"prefix": above.text, "latest": str(above.expires_at)},
            )


def check_ahead(expires_at: int, at: int) -> None:
    """Check that a term ends after this time, or never.

    Raises:
        Fault: PREFIX_TERM_INVALID.
    """
    if 0 < expires_at <= at:
        detail = f"The term would have ended at {expires_at}; now it is {at}."
        raise Fault(Reason.PREFIX_TERM_INVALID, detail, field="expires_at", variables={"now": str(at)})


def check_endpoints(prefix: Prefix) -> None:
    """Check that a prefix has no more endpoints than a referral should carry.

    Raises:
        Fault: FIELD_OUT_OF_RANGE.
    """
    if len(prefix.endpoints) > ENDPOINTS_MAX:
        detail = f"A prefix has at most {ENDPOINTS_MAX} endpoints."
        raise Fault(Reason.FIELD_OUT_OF_RANGE, detail, field="endpoints", variables={"allowed": str(ENDPOINTS_MAX)})


async def breaks_rule(change: Change, draft: Draft) -> bool:
    """Would the coming or going of this allocation change the case rule of anything that is registered below it?

    Raises:
        Fault: the store's.
    """
    prefix = change.prefix
    if not (change.is_coming or change.is_going) or prefix.case is CaseRule(change.above.case_sensitive):
        return False
    return await draft.holds_below(prefix.key)


def rule_fixed(prefix: Prefix) -> Fault:
    """Make the Fault of an allocation that would change the meaning of keys."""
    return Fault(
        Reason.PREFIX_RULE_FIXED,
        f"Identifiers below {prefix.text} are registered by the other case rule.",
        field="case",
        variables={"prefix": prefix.text},
    )


def _check_held(change: Change, *, overwrite: bool) -> None:
    """Check what stands there already: an application gives way to an allocation."""
    held = change.held
    if held is None or change.is_coming:
        return
    if change.was_present and held.case is not change.prefix.case:
        raise Fault(
            Reason.PREFIX_RULE_FIXED,
            f"The prefix {held.text} was created with the case rule {held.case.name.lower()}.",
            field="case",
            variables={"prefix": held.text},
        )
    if not overwrite:
        raise Fault(Reason.PREFIX_EXISTS, field="prefix", variables={"prefix": held.text})


def _check_holder(holder: Node | None) -> None:
    if holder is not None and holder.state is not NodeState.ENABLED:
        raise not_enabled(holder, field="holder")


def _repeated(rows: Sequence[PrefixRow]) -> dict[int, Fault]:
    """Refuse all rows of a prefix that has several."""
    keys = [row.prefix.encode().upper() for row in rows]
    counted = Counter(keys)
    return {number: Fault(Reason.ROW_REPEATED, field="prefix") for number, key in enumerate(keys) if counted[key] > 1}


def _not_new(row: PrefixRow, at: int) -> Fault | None:
    """Say why a row can be no new allocation, as only imports bring them."""
    if row.state != "enabled":
        return Fault(Reason.FIELD_OUT_OF_RANGE, "A prefix is allocated enabled.", field="state")
    try:
        check_ahead(row.expires_at, at)
    except Fault as fault:
        return fault
    return None


def _refused(rows: int, refusals: dict[int, Fault]) -> Plan:
    others = {number: Fault(Reason.ROW_NOT_TAKEN) for number in range(rows) if number not in refusals}
    return Plan(outcomes=(Outcome.REFUSED,) * rows, refusals=refusals | others)
