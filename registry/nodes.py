"""Planners of what concerns nodes: application, review, suspension, revocation, and new keys.

Which state follows on which is in `registry.membership`.
"""

import re
from typing import Final, Literal

from msgspec import Struct
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

    `key` is the SubjectPublicKeyInfo (DER, in base64). `parent` is the secondary node that an enterprise belongs to.
    `industry` is a class by GB/T 4754 (C, 39, C3911), or empty.
    """

    node: str
    tier: Literal["secondary", "enterprise"]
    organisation: str
    key: bytes
    parent: str = ""
    industry: str = ""


class Review(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of node-review.v1: what an operator decides about an application."""

    node: str
    decision: Literal["enable", "reject"]
    reason: str = ""


class Ruling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of node-suspend.v1, node-resume.v1 and node-revoke.v1: what an operator does with a node, and why."""

    node: str
    reason: str = ""


class Rotation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of node-rotate.v1, signed by the node's key and by the new one: `key` is as in an application."""

    key: bytes


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
    if act is Act.ENABLE:
        (node,) = plan.nodes
        _check_parent(node.tier, node.parent, state)
    return plan


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


def _rule(request: Request, state: State, act: Act, ruling: Ruling) -> Plan:
    """Plan what only operators do."""
    if not request.actor.is_operator:
        raise Fault(Reason.NOT_AUTHORISED, f"Only operators {act.value} nodes.")
    if ruling.reason:
        _check_text(ruling.reason, REASON_BYTES, field="reason")
    node = state.node(ruling.node)
    if node is None:
        raise unknown(ruling.node, field="node")
    follows = after(node.node, node.state, act)
    return _changed(replace(node, state=follows, changed_at=request.at, reason=ruling.reason))


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
    if tier is Tier.SECONDARY:
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
