"""Who may do what: pure functions of an actor and of rows as they are now. Nothing is looked up here.

Operators may do everything but speak for a node. Below a prefix only the holder of the longest allocated prefix
writes; whoever may write directly below a prefix may also delegate there.
"""

from enum import Enum

from registry.plans import Actor
from resolver.errors import Fault, Reason
from resolver.routes import Prefix, PrefixState, Scope, Verdict
from resolver.trust.actors import Node


class Role(Enum):
    """What an actor is to a prefix. The parent is the holder of the longest allocated prefix above it."""

    OPERATOR = "operator"
    PARENT = "parent"
    HOLDER = "holder"


def check_write(actor: Actor, scope: Scope, *, field: str = "identifier") -> None:
    """Check that this actor may write identifiers directly below a prefix with this scope.

    Raises:
        Fault: PREFIX_NOT_ALLOCATED, PREFIX_NOT_HELD, PREFIX_EXPIRED or PREFIX_DISABLED, with this field.
    """
    prefix = scope.prefix
    if prefix is None:
        raise Fault(Reason.PREFIX_NOT_ALLOCATED, field=field)
    if not (actor.is_operator or prefix.holder == actor.name):
        raise not_held(prefix, field=field)
    if scope.verdict is not Verdict.ANSWER or prefix.state is not PrefixState.ENABLED:
        raise _silenced(scope, prefix, field=field)


def check_allocate(actor: Actor, above: Scope, holder: Node | None) -> None:
    """Check that this actor may allocate a prefix to this holder; None: the prefix is held by this node itself.

    `above` is the scope of the prefix above it. A node delegates to itself and to the enterprises that belong to it.

    Raises:
        Fault: NOT_AUTHORISED (with the field `holder` where it is because of the holder), and as `check_write` with
            the field `prefix`.
    """
    if actor.is_operator:
        return
    if above.prefix is None:
        detail = "Where no prefix above is allocated, only operators allocate."
        raise Fault(Reason.NOT_AUTHORISED, detail, field="prefix")
    check_write(actor, above, field="prefix")
    if holder is None or actor.name not in (holder.node, holder.parent):
        raise Fault(
            Reason.NOT_AUTHORISED,
            f"{actor.name} delegates to itself and to the enterprises that belong to it; an operator may do more.",
            field="holder",
        )


def roles(actor: Actor, prefix: Prefix, above: Scope) -> frozenset[Role]:
    """Give all that an actor is to a prefix, whose prefix above has this scope.

    A parent whose own prefix is silenced or about to be deleted is none.
    """
    if actor.is_operator:
        return frozenset((Role.OPERATOR,))
    found = set[Role]()
    if prefix.holder == actor.name:
        found.add(Role.HOLDER)
    if _holds(actor, above):
        found.add(Role.PARENT)
    return frozenset(found)


def not_held(prefix: Prefix, *, field: str) -> Fault:
    """Make the Fault of an actor to whom a prefix does not belong."""
    return Fault(
        Reason.PREFIX_NOT_HELD,
        f"The prefix {prefix.text} is held by {prefix.holder}.",
        field=field,
        variables={"prefix": prefix.text, "holder": prefix.holder},
    )


def _holds(actor: Actor, scope: Scope) -> bool:
    prefix = scope.prefix
    if prefix is None or prefix.holder != actor.name:
        return False
    return scope.verdict is Verdict.ANSWER and prefix.state is PrefixState.ENABLED


def _silenced(scope: Scope, prefix: Prefix, *, field: str) -> Fault:
    reason, detail = Reason.PREFIX_DISABLED, f"The prefix {prefix.text} is about to be deleted."
    if scope.verdict is Verdict.REFUSE_EXPIRED:
        reason = Reason.PREFIX_EXPIRED
        detail = f"The term of the prefix {prefix.text}, or of one above it, has ended."
    if scope.verdict is Verdict.REFUSE_DISABLED:
        detail = f"The prefix {prefix.text}, or one above it, is disabled."
    return Fault(reason, detail, field=field, variables={"prefix": prefix.text})
