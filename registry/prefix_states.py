"""The six states of a prefix and how they follow on each other: one table, a pure function.

What resolvers say in each of them is `resolver.routes.verdict`; who an actor is to a prefix, `authority.roles`.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

from registry.authority import Role, not_held
from resolver.errors import Fault, Reason
from resolver.routes import Prefix, PrefixState

_ABOVE: Final = frozenset((Role.OPERATOR, Role.PARENT))
_ALL: Final = frozenset(Role)

TRANSITIONS: Final[Mapping[tuple[PrefixState, PrefixState], frozenset[Role]]] = MappingProxyType(
    {
        (PrefixState.PENDING, PrefixState.IN_REVIEW): _ABOVE,
        (PrefixState.PENDING, PrefixState.ENABLED): _ABOVE,
        # Whoever applied may take it back.
        (PrefixState.PENDING, PrefixState.REJECTED): _ALL,
        (PrefixState.IN_REVIEW, PrefixState.ENABLED): _ABOVE,
        (PrefixState.IN_REVIEW, PrefixState.REJECTED): _ALL,
        (PrefixState.ENABLED, PrefixState.DISABLED): _ABOVE,
        # The row does not say who disabled it: a holder who could undo it could undo a suspension.
        (PrefixState.DISABLED, PrefixState.ENABLED): _ABOVE,
        (PrefixState.ENABLED, PrefixState.TO_DELETE): _ALL,
        (PrefixState.TO_DELETE, PrefixState.ENABLED): _ABOVE,
        # How a deletion ends: records stay below it, so the prefix does not go back to the one above.
        (PrefixState.TO_DELETE, PrefixState.DISABLED): _ABOVE,
    }
)
"""Who may have a state follow on another. All else is refused: from disabled to to-delete it would answer again,
and what was allocated does not become an application. REJECTED is left by applying or allocating anew."""

PRESENT: Final = frozenset((PrefixState.ENABLED, PrefixState.DISABLED, PrefixState.TO_DELETE))
"""The states of an allocation; in the others a row is an application, and means nothing to resolvers."""


def check_change(prefix: Prefix, to: PrefixState, roles: Collection[Role]) -> None:
    """Check that an actor with these roles may bring a prefix into a state that it is not in.

    Raises:
        Fault: PREFIX_NOT_HELD, PREFIX_STATE_CONFLICT or NOT_AUTHORISED.
    """
    if not roles:
        raise not_held(prefix, field="prefix")
    before, after = _spelled(prefix.state), _spelled(to)
    allowed = TRANSITIONS.get((prefix.state, to))
    if allowed is None:
        raise Fault(
            Reason.PREFIX_STATE_CONFLICT,
            f"The prefix {prefix.text} is {before}: {after} does not follow on that.",
            field="state",
            variables={"prefix": prefix.text, "state": before, "asked": after},
        )
    if allowed.isdisjoint(roles):
        raise Fault(
            Reason.NOT_AUTHORISED,
            f"From {before} to {after} only operators and the holder of the prefix above bring {prefix.text}.",
            field="state",
            variables={"prefix": prefix.text, "state": before, "asked": after},
        )


def _spelled(state: PrefixState) -> str:
    return state.name.lower()
