"""From identifiers as they are spelled to canonical keys: batches against the rules of one identifier alone."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolver.answer import NOT_HERE, Failed, Ready
from resolver.bounds import IDENTIFIER_BYTES
from resolver.chain.keys import KeyMaker, Keys
from resolver.chain.scopes import Speaker
from resolver.errors import Fault, Reason
from resolver.handle import canonical, split
from resolver.routes import RouteTable, Verdict
from tests.small_node import PREFIXES


def make_routes() -> RouteTable:
    routes = RouteTable()
    routes.put(PREFIXES)
    routes.tell_time(1_800_000_000)
    return routes


ROUTES = make_routes()
MAKER = KeyMaker(ROUTES, Speaker("top"))


def alone(identifier: bytes) -> bytes | Reason | None:
    """What becomes of one identifier, step by step: its key, what is wrong with it, or None where nobody answers."""
    try:
        prefix, _ = split(identifier)
    except Fault as fault:
        return fault.reason
    scope = ROUTES.scope(prefix.upper())
    refused = {
        Verdict.REFUSE_DISABLED: Reason.PREFIX_DISABLED,
        Verdict.REFUSE_EXPIRED: Reason.PREFIX_EXPIRED,
        Verdict.NOT_ALLOCATED: None,
    }
    if scope.verdict in refused:
        return refused[scope.verdict]
    return canonical(identifier, prefix_length=len(prefix), case_sensitive=scope.case_sensitive)


def together(identifiers: list[bytes]) -> list[bytes | Reason | None]:
    made = MAKER.keys(identifiers)
    return [_outcome(made, place) for place in range(len(identifiers))]


def _outcome(made: Keys, place: int) -> bytes | Reason | None:
    settled = made.settled.get(place)
    if settled is None:
        return made.keys[place]
    if isinstance(settled, Failed):
        return settled.fault.reason
    assert settled.outcome == NOT_HERE
    return None


texts = st.sampled_from(["88.100/a", "88.100.7/SN-1", "88.300/aB", "88.300.x/aB", "88.400/a", "88.600/a", "77/a"])
near = st.text("8.130/aB\n\x7f é光", max_size=14)
identifiers = st.one_of(texts, near).map(str.encode) | st.binary(max_size=8)


@given(st.lists(identifiers, min_size=1, max_size=12))
@example([b"88.100/a\n88.100/b", b"88.100/c"])
@example([b"88.100/a", b""])
@example([b"", b""])
@example([b"88.100/\xff", b"88.100/a"])
@example(["88.100/\x85".encode(), b"88.100/a", "88.100/光é".encode()])
@example([b"88.100/", b"88.300/", b"/a", b"88..1/a"])
@example([b"88.100/" + b"a" * (IDENTIFIER_BYTES - 7), b"88.100/b"])
@example([b"88.100/" + b"a" * (IDENTIFIER_BYTES - 6), b"88.100/b"])
def test_a_batch_makes_of_each_identifier_what_it_is_alone(batch: list[bytes]) -> None:
    assert together(batch) == [alone(identifier) for identifier in batch]


def test_wanted_are_the_unsettled_keys_each_once_and_every_place_gets_its_answer() -> None:
    made = MAKER.keys([b"88.100/b", b"88.100/B", b"nonsense", b"88.100/a", b"88.100/b"])
    wanted = made.wanted()
    assert wanted == [b"88.100/B", b"88.100/A"]
    given_answers = [Ready(key, 1) for key in wanted]
    answers = made.answers(wanted, given_answers)
    assert [answer.frame for answer in answers] == [b"88.100/B", b"88.100/B", b"", b"88.100/A", b"88.100/B"]
    assert isinstance(answers[2], Failed)


def test_where_all_are_wanted_answers_pass_through() -> None:
    made = MAKER.keys([b"88.100/A", b"88.100/B"])
    given_answers = [Ready(b"a", 1), Ready(b"b", 1)]
    assert made.answers(made.wanted(), given_answers) is given_answers


@pytest.mark.parametrize("identifier", [b"88.400/a", b"88.400.1/a"])
def test_a_refusal_names_the_prefix(identifier: bytes) -> None:
    settled = MAKER.keys([identifier]).settled[0]
    assert isinstance(settled, Failed)
    assert settled.fault.variables == {"prefix": "88.400"}
