"""The demo compares answers: here it is seen that it would notice each kind of wrong one."""

import pytest
from msgspec.structs import replace

from nodes.demo import expectations
from nodes.demo.corpus import Corpus
from nodes.demo.expectations import Expected
from nodes.demo.questions import everyday, referrals, special
from resolver.answer import Answer, Outcome, Standing
from resolver.errors import Fault, Reason
from resolver.handle import Handle
from resolver.record import Record, Value
from resolver.routes import Hosting, Referral

CORPUS = Corpus(20_000)
HERE = next(n for n in range(len(CORPUS)) if CORPUS.prefix(n).hosting is Hosting.HERE)
BELOW = next(n for n in range(len(CORPUS)) if CORPUS.prefix(n).hosting is Hosting.DELEGATED)


def right_answer(expected: Expected) -> Answer:
    """Give what a correct node answers."""
    return Answer(
        outcome=expected.outcome,
        prefix=expected.prefix.text if expected.prefix else "",
        authority="top",
        standing=expected.standing,
        record=Record(identifier=Handle.from_text(expected.identifier), values=expected.values)
        if expected.identifier
        else None,
    )


@pytest.mark.parametrize("number", [HERE, BELOW])
def test_the_right_answer_is_right(number: int) -> None:
    """With whatever time stamps the node has set."""
    expected = expectations.registered(CORPUS.registration(number))
    answer = right_answer(expected)
    assert expected.difference(answer) == ""
    assert answer.record
    stamped = tuple(replace(value, timestamp=1_800_000_000) for value in answer.record.values)
    assert expected.difference(replace(answer, record=replace(answer.record, values=stamped))) == ""


def test_each_wrong_part_of_an_answer_is_noticed() -> None:
    expected = expectations.registered(CORPUS.registration(HERE))
    answer = right_answer(expected)
    record = answer.record
    assert record
    first = record.values[0]
    for wrong in (
        replace(answer, outcome=Outcome.ABSENT),
        replace(answer, outcome=Outcome.NOT_HERE, record=None),
        replace(answer, prefix="88"),
        replace(answer, standing=Standing.REGISTERED_COPY),
        replace(answer, record=None),
        replace(answer, record=replace(record, identifier=Handle.from_text(CORPUS.identifier(HERE + 1)))),
        replace(answer, record=replace(record, values=record.values[1:])),
        replace(answer, record=replace(record, values=(*record.values, Value(index=999, type="X", data=b"")))),
        replace(answer, record=replace(record, values=(replace(first, data=b"x"), *record.values[1:]))),
        replace(answer, record=replace(record, values=(replace(first, type="X"), *record.values[1:]))),
        Fault(Reason.STORE_UNAVAILABLE),
    ):
        assert expected.difference(wrong), wrong


def test_restricted_values_must_not_be_told() -> None:
    registration = next(each for each in map(CORPUS.registration, range(20_000)) if each.values != each.public)
    expected = expectations.registered(registration)
    full = replace(
        right_answer(expected),
        record=Record(identifier=Handle.from_text(registration.identifier), values=registration.values),
    )
    assert "values" in expected.difference(full)


def test_nothing_is_absent_where_the_authority_is_and_else_not_here() -> None:
    for number, right, wrong in ((HERE, Outcome.ABSENT, Outcome.NOT_HERE), (BELOW, Outcome.NOT_HERE, Outcome.ABSENT)):
        prefix = CORPUS.prefix(number)
        expected = expectations.unregistered(CORPUS.unregistered(number), prefix)
        assert expected.difference(Answer(outcome=right, prefix=prefix.text)) == ""
        assert expected.difference(Answer(outcome=wrong, prefix=prefix.text))


def test_a_referral_names_the_holder_and_all_endpoints() -> None:
    prefix = CORPUS.prefix(BELOW)
    expected = expectations.referred("88/x", prefix)
    referral = Referral(prefix=prefix.text, holder=prefix.holder, endpoints=prefix.endpoints)
    right = Answer(outcome=Outcome.REFERRAL, prefix=prefix.text, referral=referral)
    assert expected.difference(right) == ""
    assert expected.difference(replace(right, referral=replace(referral, endpoints=())))
    assert expected.difference(replace(right, referral=None))


def test_a_refusal_has_its_reason() -> None:
    expected = expectations.refused("88", Reason.IDENTIFIER_NO_SLASH)
    assert expected.difference(Fault(Reason.IDENTIFIER_NO_SLASH)) == ""
    assert expected.difference(Fault(Reason.IDENTIFIER_EMPTY))
    assert expected.difference(Answer(outcome=Outcome.FOUND))


def test_everyday_questions_are_of_all_kinds_and_about_all_enterprises() -> None:
    questions = list(everyday(CORPUS, 4_000))
    assert {each.outcome for each in questions} == {Outcome.FOUND, Outcome.ABSENT, Outcome.NOT_HERE}
    assert {each.standing for each in questions} == set(Standing) - {Standing.CACHED}
    assert any(each.asked != each.identifier == each.identifier for each in questions if each.identifier)
    assert {each.prefix.text for each in questions if each.prefix} >= {each.prefix for each in CORPUS.enterprises}


def test_questions_about_routes_are_about_every_delegated_enterprise() -> None:
    asked = {each.prefix.text for each in referrals(CORPUS, 1_000) if each.prefix}
    delegated = {each.prefix for each in CORPUS.enterprises if each.allocation.hosting is Hosting.DELEGATED}
    assert asked == delegated


def test_special_questions_are_there_even_in_a_small_corpus() -> None:
    asked = [each.asked for each in special(Corpus(2_000))]
    assert any(each.startswith("88.101.42/") for each in asked)
    assert any(each.startswith("88.101.0042/") for each in asked)
    assert any(each.startswith("88.1021.150/") and each.islower() for each in asked)
