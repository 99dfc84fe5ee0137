"""The states of prefixes: every pair of states, and who may, as the table in docs/registry.md has it."""

from itertools import product

import pytest

from registry.authority import Role
from registry.prefix_states import PRESENT, check_change
from resolver.errors import Fault, Reason
from resolver.routes import Prefix, PrefixState, Verdict, verdict

DISABLED, ENABLED, TO_DELETE = PrefixState.DISABLED, PrefixState.ENABLED, PrefixState.TO_DELETE
REJECTED, PENDING, IN_REVIEW = PrefixState.REJECTED, PrefixState.PENDING, PrefixState.IN_REVIEW

ABOVE = {Role.OPERATOR, Role.PARENT}
EVERYBODY = {*ABOVE, Role.HOLDER}
TABLE = {
    (PENDING, IN_REVIEW): ABOVE,
    (PENDING, ENABLED): ABOVE,
    (PENDING, REJECTED): EVERYBODY,
    (IN_REVIEW, ENABLED): ABOVE,
    (IN_REVIEW, REJECTED): EVERYBODY,
    (ENABLED, DISABLED): ABOVE,
    (DISABLED, ENABLED): ABOVE,
    (ENABLED, TO_DELETE): EVERYBODY,
    (TO_DELETE, ENABLED): ABOVE,
    (TO_DELETE, DISABLED): ABOVE,
}
PAIRS = [(before, after) for before, after in product(PrefixState, repeat=2) if before is not after]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_state_follows_for_whoever_may(before: PrefixState, after: PrefixState, role: Role) -> None:
    prefix = Prefix("88.1", "h", before)
    allowed = TABLE.get((before, after), set())
    if role in allowed:
        check_change(prefix, after, {role})
        return
    with pytest.raises(Fault) as caught:
        check_change(prefix, after, {role})
    expected = Reason.NOT_AUTHORISED if allowed else Reason.PREFIX_STATE_CONFLICT
    assert (caught.value.reason, caught.value.field) == (expected, "state")


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_stranger_may_nothing(before: PrefixState, after: PrefixState) -> None:
    with pytest.raises(Fault, match="PREFIX_NOT_HELD"):
        check_change(Prefix("88.1", "h", before), after, ())


def test_several_roles_may_what_each_of_them_may() -> None:
    check_change(Prefix("88.1", "h", DISABLED), ENABLED, {Role.HOLDER, Role.PARENT})


def test_present_are_the_states_that_mean_something_to_resolvers() -> None:
    said = {state: verdict(state, is_expired=False) for state in PrefixState}
    assert {state for state, each in said.items() if each is not Verdict.NOT_ALLOCATED} == PRESENT


def test_a_holder_never_makes_a_silent_prefix_answer() -> None:
    answering = {state for state in PrefixState if verdict(state, is_expired=False) is Verdict.ANSWER}
    for before, after in PAIRS:
        if before not in answering and after in answering:
            with pytest.raises(Fault):
                check_change(Prefix("88.1", "h", before), after, {Role.HOLDER})
