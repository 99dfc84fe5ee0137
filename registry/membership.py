"""The states of nodes and how they follow on each other: one table, a pure function. Rows are in `trust.actors`."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from resolver.errors import Fault, Reason
from resolver.trust.actors import Node, NodeState


class Act(Enum):
    """What is done with a node. It applies, rotates its key and agrees itself; operators do everything else."""

    APPLY = "apply"
    ENABLE = "enable"
    REJECT = "reject"
    SUSPEND = "suspend"
    RESUME = "resume"
    REVOKE = "revoke"
    ROTATE = "rotate"
    AGREE = "agree"
    TAKE_OVER = "take over"
    HAND_BACK = "hand back"


TRANSITIONS: Final[Mapping[tuple[NodeState | None, Act], NodeState]] = MappingProxyType(
    {
        (None, Act.APPLY): NodeState.APPLIED,
        # A rejected application is like none: whoever applies next under this identifier is looked at anew.
        (NodeState.REJECTED, Act.APPLY): NodeState.APPLIED,
        (NodeState.APPLIED, Act.ENABLE): NodeState.ENABLED,
        (NodeState.APPLIED, Act.REJECT): NodeState.REJECTED,
        (NodeState.ENABLED, Act.ROTATE): NodeState.ENABLED,
        (NodeState.ENABLED, Act.SUSPEND): NodeState.SUSPENDED,
        (NodeState.SUSPENDED, Act.RESUME): NodeState.ENABLED,
        (NodeState.APPLIED, Act.AGREE): NodeState.APPLIED,
        (NodeState.ENABLED, Act.AGREE): NodeState.ENABLED,
        (NodeState.SUSPENDED, Act.AGREE): NodeState.SUSPENDED,
        # Prefixes may still lead to a node that was suspended or revoked, and things in the field must resolve.
        (NodeState.ENABLED, Act.TAKE_OVER): NodeState.ENABLED,
        (NodeState.SUSPENDED, Act.TAKE_OVER): NodeState.SUSPENDED,
        (NodeState.REVOKED, Act.TAKE_OVER): NodeState.REVOKED,
        (NodeState.ENABLED, Act.HAND_BACK): NodeState.ENABLED,
        (NodeState.SUSPENDED, Act.HAND_BACK): NodeState.SUSPENDED,
        (NodeState.REVOKED, Act.HAND_BACK): NodeState.REVOKED,
        # Revoking is for good: the identifier is not given out again.
        (NodeState.ENABLED, Act.REVOKE): NodeState.REVOKED,
        (NodeState.SUSPENDED, Act.REVOKE): NodeState.REVOKED,
    }
)
"""The state that follows, by the state before (None: there is no such node) and what is done. All else is refused."""


def after(node: str, state: NodeState | None, act: Act) -> NodeState:
    """Give the state that a node comes to; None: there is no node with this identifier.

    Raises:
        Fault: NODE_EXISTS of an application, NODE_UNKNOWN, NODE_STATE_CONFLICT; always with the field `node`.
    """
    follows = TRANSITIONS.get((state, act))
    if follows is not None:
        return follows
    if state is None:
        raise unknown(node, field="node")
    said = state.name.lower()
    raise Fault(
        Reason.NODE_EXISTS if act is Act.APPLY else Reason.NODE_STATE_CONFLICT,
        f"The node {node} is {said}: it cannot {act.value}."
        if act in {Act.APPLY, Act.ROTATE}
        else f"The node {node} is {said}: an operator cannot {act.value} it.",
        field="node",
        variables={"node": node, "state": said, "act": act.value},
    )


def unknown(name: str, *, field: str) -> Fault:
    """Make the Fault of a node that is not there."""
    return Fault(Reason.NODE_UNKNOWN, f"No node is named {name}.", field=field, variables={"node": name})


def not_enabled(node: Node, *, field: str) -> Fault:
    """Make the Fault of a node that is not enabled, where an enabled one is needed."""
    said = node.state.name.lower()
    return Fault(
        Reason.NODE_NOT_ENABLED,
        f"The node {node.node} is {said}.",
        field=field,
        variables={"node": node.node, "state": said},
    )
