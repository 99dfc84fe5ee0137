"""Planners of what concerns nodes: application, review, suspension, revocation, new keys, and taking over.

Which state follows on which is in `registry.membership`.
"""

import re
from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from registry.bodies import decode
from registry.membership import Act, after, not_enabled, unknown
from registry.plans import Actor, Outcome, Plan, Request
from registry.state import State
from resolver.errors import Fault, Reason
from resolver.trust.actors import Key, Node, NodeState, Tier, check_node
from resolver.trust.keys import PublicKey

ORGANISATION_BYTES: Final = 256
"""The name of a legal entity in UTF-8."""

REASON_BYTES: Final = 512
"""What an operator says at a change of state, in UTF-8."""

KEYS_KEPT: Final = 16
"""Keys that a node's row holds, the one in use and those before it; the oldest are forgotten."""

APPLICATIONS_MAX: Final = 1_000
"""Applications that wait for their review. Anybody can send one, so more are refused until operators have looked."""

_REVIEW_SECONDS: Final = 3_600.0

_INDUSTRY: Final = re.compile("[A-T]|[A-T]?[0-9]{2,4}")


class Application(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of node-apply.v1, signed by the applicant's own key, which stands in it.

    `key` is the SubjectPublicKeyInfo (DER, in base64). `parent` is the secondary node that an enterprise belongs
    to: one that is registered here, or this node itself. `industry` is a class by GB/T 4754 (C, 39, C3911), or empty.
    `agreement`: this node may answer in its place when it is down, without an operator having looked at it.
    """

    node: str
    tier: Literal["secondary", "enterprise"]
    organisation: str
    key: bytes
    parent: str = ""
    industry: str = ""
    agreement: bool = False


class Review(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of node-review.v1: what an operator decides about an application.

    `agreement` is what was agreed with the applicant, in the place of what its application says; unset: as that says.
    """

    node: str
    decision: Literal["enable", "reject"]
    reason: str = ""
    agreement: bool | UnsetType = UNSET


class Ruling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of node-suspend.v1, node-resume.v1 and node-revoke.v1: what an operator does with a node, and why."""

    node: str
    reason: str = ""


class Rotation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of node-rotate.v1, signed by the node's key and by the new one: `key` is as in an application."""

    key: bytes


class Agreement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of node-agreement.v1: may this node answer in the other's place, when that is down, by itself?"""

    node: str
    agreement: bool


class Takeover(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of node-takeover.v1: this node answers in the other's place, or no longer.

    `automatic`: no operator has looked at it; this node's own prober asks for it.
    """

    node: str
    takeover: bool
    reason: str
    automatic: bool = False


async def plan_apply(request: Request, state: State) -> Plan:
    """Plan a node's application (node-apply.v1); a rejected one may be followed by another, with another key.

    Raises:
        Fault: PAYLOAD_MALFORMED, FIELD_OUT_OF_RANGE, ACTOR_MISMATCH, KEY_INVALID, SIGNATURE_INVALID, NODE_EXISTS,
            APPLICATIONS_WAITING; of the parent (field `parent`) NODE_UNKNOWN and NODE_NOT_ENABLED.
    """
    body = decode(request.body, Application)
    _check_name(body.node, request.actor, state)
    _check_text(body.organisation, ORGANISATION_BYTES, field="organisation")
    _check_industry(body.industry)
    key = _new_key(body.key, state, of=body.node)
    if request.key_ids != (key.key_id,):
        raise Fault(Reason.SIGNATURE_INVALID, "An application is signed by the key that it brings.", field="key")
    held = state.node(body.node)
    follows = after(body.node, held.state if held else None, Act.APPLY)
    tier = Tier[body.tier.upper()]
    _check_parent(tier, body.parent, state)
    if state.nodes.applied >= APPLICATIONS_MAX:
        raise Fault(Reason.APPLICATIONS_WAITING, retry_after=_REVIEW_SECONDS)
    node = Node(
        node=body.node,
        tier=tier,
        state=follows,
        keys=(Key(key.key_id, key.spki, request.at),),
        parent=body.parent,
        organisation=body.organisation,
        industry=body.industry,
        applied_at=request.at,
        changed_at=request.at,
        agreement=body.agreement,
    )
    return Plan(outcomes=(Outcome.REPLACED if held else Outcome.REGISTERED,), nodes=(node,))


async def plan_review(request: Request, state: State) -> Plan:
    """Plan what an operator decides about an application (node-review.v1).

    Raises:
        Fault: PAYLOAD_MALFORMED, NOT_AUTHORISED, FIELD_OUT_OF_RANGE, NODE_UNKNOWN, NODE_STATE_CONFLICT; of the parent
            of one that is to be enabled (field `parent`) NODE_UNKNOWN and NODE_NOT_ENABLED.
    """
    body = decode(request.body, Review)
    act = Act(body.decision)
    plan = _rule(request, state, act, Ruling(node=body.node, reason=body.reason))
    (node,) = plan.nodes
    if act is Act.ENABLE:
        _check_parent(node.tier, node.parent, state)
    return plan if body.agreement is UNSET else _changed(replace(node, agreement=body.agreement))


async def plan_suspend(request: Request, state: State) -> Plan:
    """Plan that a node signs nothing for now (node-suspend.v1); what it registered goes on resolving.

    Raises:
        Fault: PAYLOAD_MALFORMED, NOT_AUTHORISED, FIELD_OUT_OF_RANGE, NODE_UNKNOWN, NODE_STATE_CONFLICT.
    """
    return _rule(request, state, Act.SUSPEND, decode(request.body, Ruling))


async def plan_resume(request: Request, state: State) -> Plan:
    """Plan that a suspended node may sign again (node-resume.v1).

    Raises:
        Fault: as `plan_suspend`.
    """
    return _rule(request, state, Act.RESUME, decode(request.body, Ruling))


async def plan_revoke(request: Request, state: State) -> Plan:
    """Plan that a node never signs again (node-revoke.v1); what it registered goes on resolving.

    Raises:
        Fault: as `plan_suspend`.
    """
    return _rule(request, state, Act.REVOKE, decode(request.body, Ruling))


async def plan_rotate(request: Request, state: State) -> Plan:
    """Plan that a node's new key takes the place of the one it has (node-rotate.v1); both have signed.

    Raises:
        Fault: PAYLOAD_MALFORMED, NOT_AUTHORISED, NODE_STATE_CONFLICT, KEY_INVALID, SIGNATURE_INVALID.
    """
    body = decode(request.body, Rotation)
    name = request.actor.name
    node = None if request.actor.is_operator else state.node(name)
    if node is None:
        raise Fault(Reason.NOT_AUTHORISED, "A node changes its key itself.")
    follows = after(name, node.state, Act.ROTATE)
    key = _new_key(body.key, state, of="")
    in_use = {each.key_id for each in node.keys if not each.until}
    if set(request.key_ids) != in_use | {key.key_id}:
        raise Fault(Reason.SIGNATURE_INVALID, "A new key is signed by the node's key and by itself.", field="key")
    retired = (each if each.until else Key(each.key_id, each.spki, each.since, request.at) for each in node.keys)
    keys = (*retired, Key(key.key_id, key.spki, request.at))[-KEYS_KEPT:]
    return _changed(replace(node, state=follows, keys=keys, changed_at=request.at))


async def plan_agreement(request: Request, state: State) -> Plan:
    """Plan whether a node may be taken over without an operator (node-agreement.v1): its own word, or an operator's.

    Raises:
        Fault: PAYLOAD_MALFORMED, NOT_AUTHORISED, NODE_UNKNOWN, NODE_STATE_CONFLICT.
    """
    body = decode(request.body, Agreement)
    if not request.actor.is_operator and request.actor.name != body.node:
        raise Fault(Reason.NOT_AUTHORISED, "A node agrees for itself, or an operator says what was agreed.")
    node = _known(body.node, state)
    after(node.node, node.state, Act.AGREE)
    if node.agreement == body.agreement:
        return _UNCHANGED
    return _changed(replace(node, agreement=body.agreement, changed_at=request.at))


async def plan_takeover(request: Request, state: State) -> Plan:
    """Plan that this node answers in another's place, or no longer (node-takeover.v1).

    What no operator has looked at is begun only where that was agreed on, and ends only what was begun so: an
    operator's reasons are no prober's to overrule. An operator may make an automatic takeover their own.

    Raises:
        Fault: PAYLOAD_MALFORMED, NOT_AUTHORISED, FIELD_OUT_OF_RANGE, NODE_UNKNOWN, NODE_STATE_CONFLICT.
    """
    body = decode(request.body, Takeover)
    if not request.actor.is_operator:
        raise Fault(Reason.NOT_AUTHORISED, "Only operators have this node answer in another's place.")
    _check_text(body.reason, REASON_BYTES, field="reason")
    node = _known(body.node, state)
    after(node.node, node.state, Act.TAKE_OVER if body.takeover else Act.HAND_BACK)
    is_automatic = body.takeover and body.automatic
    if node.takeover == body.takeover and (is_automatic or not node.takeover_automatic):
        return _UNCHANGED
    if body.automatic:
        _check_agreed(node, takeover=body.takeover)
    since = (node.takeover_since or request.at) if body.takeover else 0
    changed = replace(
        node,
        takeover=body.takeover,
        takeover_automatic=is_automatic,
        takeover_since=since,
        takeover_reason=body.reason,
        changed_at=request.at,
    )
    return _changed(changed)


def _check_agreed(node: Node, *, takeover: bool) -> None:
    """Check that what no operator has looked at may be done."""
    if takeover and not node.agreement:
        detail = f"It was not agreed that {node.node} is taken over without an operator."
        raise Fault(Reason.NOT_AUTHORISED, detail, field="automatic")
    if not takeover and not node.takeover_automatic:
        detail = f"An operator has taken {node.node} over: an operator hands its prefixes back."
        raise Fault(Reason.NOT_AUTHORISED, detail, field="automatic")


def _rule(request: Request, state: State, act: Act, ruling: Ruling) -> Plan:
    """Plan what only operators do."""
    if not request.actor.is_operator:
        raise Fault(Reason.NOT_AUTHORISED, f"Only operators {act.value} nodes.")
    if ruling.reason:
        _check_text(ruling.reason, REASON_BYTES, field="reason")
    node = _known(ruling.node, state)
    follows = after(node.node, node.state, act)
    return _changed(replace(node, state=follows, changed_at=request.at, reason=ruling.reason))


_UNCHANGED: Final = Plan(outcomes=(Outcome.UNCHANGED,))


def _known(name: str, state: State) -> Node:
    node = state.node(name)
    if node is None:
        raise unknown(name, field="node")
    return node


def _changed(node: Node) -> Plan:
    return Plan(outcomes=(Outcome.REPLACED,), nodes=(node,))


def _check_name(name: str, actor: Actor, state: State) -> None:
    check_node(name, field="node")
    if name != actor.name:
        raise Fault(Reason.ACTOR_MISMATCH, "A node applies for itself: the head names another actor.", field="node")
    if name == state.own_name:
        raise Fault(Reason.NODE_EXISTS, f"{name} is this node itself.", field="node", variables={"node": name})


def _new_key(spki: bytes, state: State, *, of: str) -> PublicKey:
    """Read a key that no node has, or had, but the applicant of this name."""
    try:
        key = PublicKey.from_spki(spki)
    except Fault as fault:
        raise fault.anew(field="key") from None
    holder = state.nodes.holder_of(key.key_id)
    is_held = holder is not None and any(each.key_id == key.key_id for each in holder.keys)
    if holder is not None and is_held and holder.node != of:
        raise Fault(Reason.KEY_INVALID, "This key is registered already.", field="key")
    return key


def _check_parent(tier: Tier, name: str, state: State) -> None:
    if tier is Tier.SECONDARY and name:
        raise Fault(Reason.FIELD_OUT_OF_RANGE, "A secondary node has no parent.", field="parent")
    if tier is Tier.SECONDARY or name == state.own_name:
        # An enterprise that applies at the very node that it belongs to: that one has no row of itself.
        return
    parent = state.node(name)
    if parent is None and name:
        raise unknown(name, field="parent")
    if parent is None or parent.tier is not Tier.SECONDARY:
        raise Fault(Reason.FIELD_OUT_OF_RANGE, "An enterprise belongs to a secondary node.", field="parent")
    if parent.state is not NodeState.ENABLED:
        raise not_enabled(parent, field="parent")


def _check_text(text: str, most: int, *, field: str) -> None:
    if not text.strip() or not text.isprintable() or len(text.encode(errors="replace")) > most:
        detail = f"This is printable text of 1 to {most} bytes."
        raise Fault(Reason.FIELD_OUT_OF_RANGE, detail, field=field, variables={"allowed": str(most)})


def _check_industry(industry: str) -> None:
    if industry and not _INDUSTRY.fullmatch(industry):
        detail = "A class by GB/T 4754 is a letter A to T, two to four digits, or both."
        raise Fault(Reason.FIELD_OUT_OF_RANGE, detail, field="industry")
