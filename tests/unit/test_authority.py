"""Who may write, delegate and change what: pure functions of an actor and of rows."""

import pytest

from registry.authority import Role, check_allocate, check_write, roles
from registry.plans import Actor
from resolver.errors import Fault, Reason
from resolver.routes import Prefix, PrefixState, RouteTable, Scope
from tests.planning import NOW, OPERATOR, node

SECONDARY = Actor("88.1", node("88.1"))
MAKER = Actor("maker", node("maker", parent="88.1"))
STRANGER = Actor("88.2", node("88.2"))


def scope(*rows: Prefix, of: bytes = b"88.1") -> Scope:
    """Give what holds below a prefix in a table of these rows."""
    table = RouteTable()
    table.put(rows)
    table.tell_time(NOW)
    return table.scope(of)


def refusal(*args: object) -> tuple[Reason, str] | None:
    """Call the first with the others, and give the reason and field of its refusal."""
    check, *rest = args
    assert callable(check)
    try:
        check(*rest)
    except Fault as fault:
        return fault.reason, fault.field
    return None


TOP = Prefix("88.1", "88.1")
DELEGATED = Prefix("88.1.5", "maker")


def test_the_holder_of_the_longest_allocation_writes_and_operators_do() -> None:
    below = scope(TOP, DELEGATED, of=b"88.1.5.9")
    assert refusal(check_write, MAKER, below) is None
    assert refusal(check_write, OPERATOR, below) is None
    assert refusal(check_write, SECONDARY, below) == (Reason.PREFIX_NOT_HELD, "identifier")
    assert refusal(check_write, STRANGER, below) == (Reason.PREFIX_NOT_HELD, "identifier")


def test_segments_are_compared_not_their_beginnings() -> None:
    table = (Prefix("88.111", "88.1"),)
    assert refusal(check_write, SECONDARY, scope(*table, of=b"88.111.0")) is None
    for other in (b"88.1110", b"88.11", b"88"):
        assert refusal(check_write, SECONDARY, scope(*table, of=other)) == (Reason.PREFIX_NOT_ALLOCATED, "identifier")


@pytest.mark.parametrize("actor", [SECONDARY, OPERATOR])
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (Prefix("88.1", "88.1", PrefixState.DISABLED), Reason.PREFIX_DISABLED),
        (Prefix("88.1", "88.1", PrefixState.TO_DELETE), Reason.PREFIX_DISABLED),
        (Prefix("88.1", "88.1", PrefixState.PENDING), Reason.PREFIX_NOT_ALLOCATED),
        (Prefix("88.1", "88.1", PrefixState.IN_REVIEW), Reason.PREFIX_NOT_ALLOCATED),
        (Prefix("88.1", "88.1", PrefixState.REJECTED), Reason.PREFIX_NOT_ALLOCATED),
        (Prefix("88.1", "88.1", expires_at=NOW), Reason.PREFIX_EXPIRED),
        (Prefix("88.1", "88.1", expires_at=NOW + 1), None),
    ],
)
def test_nothing_is_written_where_nothing_is_said(actor: Actor, row: Prefix, reason: Reason | None) -> None:
    assert refusal(check_write, actor, scope(row)) == (reason and (reason, "identifier"))


def test_a_silenced_prefix_silences_the_writers_below_it() -> None:
    for above in (Prefix("88.1", "88.1", PrefixState.DISABLED), Prefix("88.1", "88.1", expires_at=NOW)):
        found = refusal(check_write, MAKER, scope(above, DELEGATED, of=b"88.1.5"))
        assert found is not None
        assert found[0] in {Reason.PREFIX_DISABLED, Reason.PREFIX_EXPIRED}


def test_a_stranger_is_not_told_the_state_first() -> None:
    row = Prefix("88.1", "88.1", PrefixState.DISABLED)
    assert refusal(check_write, STRANGER, scope(row)) == (Reason.PREFIX_NOT_HELD, "identifier")


def test_a_prefix_of_this_node_is_written_by_operators_only() -> None:
    below = scope(Prefix("88.1", "top"))
    assert refusal(check_write, OPERATOR, below) is None
    assert refusal(check_write, SECONDARY, below) == (Reason.PREFIX_NOT_HELD, "identifier")


@pytest.mark.parametrize(
    ("actor", "holder", "expected"),
    [
        (OPERATOR, STRANGER.node, None),
        (OPERATOR, None, None),
        (SECONDARY, SECONDARY.node, None),
        (SECONDARY, MAKER.node, None),
        (SECONDARY, STRANGER.node, (Reason.NOT_AUTHORISED, "holder")),
        (SECONDARY, node("else", parent="88.2"), (Reason.NOT_AUTHORISED, "holder")),
        (SECONDARY, None, (Reason.NOT_AUTHORISED, "holder")),
        (STRANGER, STRANGER.node, (Reason.PREFIX_NOT_HELD, "prefix")),
        (MAKER, MAKER.node, (Reason.PREFIX_NOT_HELD, "prefix")),
    ],
)
def test_who_delegates_to_whom(actor: Actor, holder: object, expected: tuple[Reason, str] | None) -> None:
    assert refusal(check_allocate, actor, scope(TOP), holder) == expected


def test_at_the_top_only_operators_allocate() -> None:
    assert refusal(check_allocate, OPERATOR, scope(), SECONDARY.node) is None
    assert refusal(check_allocate, SECONDARY, scope(), SECONDARY.node) == (Reason.NOT_AUTHORISED, "prefix")


def test_nothing_is_delegated_out_of_a_silenced_prefix() -> None:
    silenced = scope(Prefix("88.1", "88.1", PrefixState.DISABLED))
    assert refusal(check_allocate, SECONDARY, silenced, MAKER.node) == (Reason.PREFIX_DISABLED, "prefix")
    assert refusal(check_allocate, OPERATOR, silenced, MAKER.node) is None


def test_what_an_actor_is_to_a_prefix() -> None:
    assert roles(OPERATOR, DELEGATED, scope(TOP)) == {Role.OPERATOR}
    assert roles(MAKER, DELEGATED, scope(TOP)) == {Role.HOLDER}
    assert roles(SECONDARY, DELEGATED, scope(TOP)) == {Role.PARENT}
    assert roles(STRANGER, DELEGATED, scope(TOP)) == set()
    assert roles(SECONDARY, Prefix("88.1.6", "88.1"), scope(TOP)) == {Role.HOLDER, Role.PARENT}


@pytest.mark.parametrize(
    "above",
    [
        Prefix("88.1", "88.1", PrefixState.DISABLED),
        Prefix("88.1", "88.1", PrefixState.TO_DELETE),
        Prefix("88.1", "88.1", PrefixState.PENDING),
        Prefix("88.1", "88.1", expires_at=NOW),
    ],
)
def test_a_parent_whose_own_prefix_is_silenced_is_none(above: Prefix) -> None:
    assert roles(SECONDARY, DELEGATED, scope(above)) == set()
