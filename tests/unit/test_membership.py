"""The states of nodes: every pair of a state and an act, as the table in docs/registry.md has it."""

from typing import Final

import pytest

from registry.membership import Act, after
from resolver.errors import Fault, Reason
from resolver.trust.actors import NodeState

_: Final = None
APPLIED, REJECTED = NodeState.APPLIED, NodeState.REJECTED
ENABLED, SUSPENDED, REVOKED = NodeState.ENABLED, NodeState.SUSPENDED, NodeState.REVOKED

ACTS = (
    Act.APPLY,
    Act.ENABLE,
    Act.REJECT,
    Act.SUSPEND,
    Act.RESUME,
    Act.REVOKE,
    Act.ROTATE,
    Act.AGREE,
    Act.TAKE_OVER,
    Act.HAND_BACK,
)
# What follows on each state (None: no such node), in the order of ACTS; _ where it is refused.
TABLE: dict[NodeState | None, tuple[NodeState | None, ...]] = {
    None: (APPLIED, _, _, _, _, _, _, _, _, _),
    APPLIED: (_, ENABLED, REJECTED, _, _, _, _, APPLIED, _, _),
    REJECTED: (APPLIED, _, _, _, _, _, _, _, _, _),
    ENABLED: (_, _, _, SUSPENDED, _, REVOKED, ENABLED, ENABLED, ENABLED, ENABLED),
    SUSPENDED: (_, _, _, _, ENABLED, REVOKED, _, SUSPENDED, SUSPENDED, SUSPENDED),
    REVOKED: (_, _, _, _, _, _, _, _, REVOKED, REVOKED),
}
CELLS = [(state, act, follows) for state, row in TABLE.items() for act, follows in zip(ACTS, row, strict=True)]


def test_the_table_names_every_state_and_every_act() -> None:
    assert set(TABLE) == {None, *NodeState}
    assert set(ACTS) == set(Act)


@pytest.mark.parametrize(("state", "act", "follows"), CELLS)
def test_a_state_follows_or_the_act_is_refused(state: NodeState | None, act: Act, follows: NodeState | None) -> None:
    if follows is not None:
        assert after("88.1", state, act) is follows
        return
    with pytest.raises(Fault) as caught:
        after("88.1", state, act)
    assert caught.value.field == "node"
    assert caught.value.reason is refusal(state, act)


def refusal(state: NodeState | None, act: Act) -> Reason:
    if state is None:
        return Reason.NODE_UNKNOWN
    return Reason.NODE_EXISTS if act is Act.APPLY else Reason.NODE_STATE_CONFLICT
