"""What is checked natively comes to what Python makes of it, byte for byte, or is left to Python."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver import wire
from resolver.answer import FOUND
from resolver.errors import Fault, Reason
from resolver.federation.checking import Said, Terms, Wanted, check
from resolver.federation.usual import native_split, native_usual, none_usual
from resolver.routes import Protocol
from resolver.trust.verdicts import Trust
from resolver.v1 import octets_pb2
from resolver.v1 import resolver_pb2 as pb

pytestmark = pytest.mark.needs("native-front")

NOW = 1_800_000_000.25
TERMS = Terms(child="88.1", protocol=Protocol.GRPC, now=NOW, positive_for=100.5, absent_for=10)
WANTED = Wanted(b"88.1.5/A-\xc3\xa9", b"88.1", case_sensitive=False)


def mostly(usual: Sequence[Any], odd: Sequence[Any]) -> st.SearchStrategy[Any]:
    """As nearly all answers have it; seldom otherwise, so that of all that is generated about half is usual."""
    return st.integers(0, 31).flatmap(lambda chance: st.sampled_from(usual if chance else odd))


lifetimes = st.sampled_from(
    [{}, {"ttl_seconds": 0}, {"ttl_seconds": 7}, {"expires_at": int(NOW) + 9}, {"expires_at": 1}]
)
texts = st.sampled_from(["", "x", "88.1/é", "中" * 60])
values: st.SearchStrategy[Any] = st.builds(
    lambda terms, index, permissions, data, text, stamp, references: pb.Value(
        index=index,
        type=text,
        data=data,
        timestamp=stamp,
        permissions=permissions,
        references=[pb.Reference(handle=handle, index=number) for handle, number in references],
        **terms,
    ),
    lifetimes,
    st.sampled_from([0, 1, 300, 2**32 - 1]),
    mostly([2, 0b1110], [0b1100, 0]),
    st.binary(max_size=200),
    texts,
    mostly([0, 1, 2**40], [-1]),
    st.lists(st.tuples(texts, st.sampled_from([0, 1, 300])), max_size=2),
)
records: st.SearchStrategy[Any] = st.builds(
    lambda identifier, values, registrant, stamps: pb.Record(
        identifier=identifier, values=values, registrant=registrant, registered_at=stamps[0], updated_at=stamps[1]
    ),
    mostly(["88.1.5/A-é", "88.1.5/a-é"], ["88.1.5/a-É", "88.1.5/B-é", "88.1.5", ""]),
    st.lists(values, max_size=3),
    texts,
    st.tuples(*[mostly([0, 1, 2**40], [-1])] * 2),
)
provenances: st.SearchStrategy[Any] = st.builds(
    lambda authority, prefix, hops, terms: pb.Provenance(
        authority=authority,
        prefix=prefix,
        hops=[pb.Hop(node=hop, protocol=pb.PROTOCOL_GRPC, obtained_at=5) for hop in hops],
        **terms,
    ),
    mostly(["88.1", "88.1.5", "a b"], ["", "a\nb", "é", "x" * 129]),
    mostly(["88.1", "88.1.5"], ["88", "88.15", ""]),
    mostly([()], [("88.1.5",)]),
    mostly([{}], [{"expires_at": int(NOW) + 3}, {"trust": pb.TRUST_TRUSTED}]),
)
answers: st.SearchStrategy[Any] = st.builds(
    lambda record, provenance, version, standing, rest: pb.Answer(
        record=record,
        provenance=provenance,
        version=version,
        standing=standing,
        **{"outcome": pb.OUTCOME_FOUND, **rest},
    ),
    records,
    provenances,
    st.sampled_from([0, 1, 2**40]),
    mostly([pb.STANDING_AUTHORITATIVE], [pb.STANDING_CACHED, pb.STANDING_UNSPECIFIED]),
    mostly([{}], [{"stale": True}, {"takeover": True}, {"outcome": pb.OUTCOME_ABSENT}]),
)
terms = st.sampled_from([Trust.UNKNOWN, Trust.TRUSTED, Trust.NOT_TRUSTED]).map(
    lambda trust: Terms(child="88.1", protocol=Protocol.GRPC, now=NOW, positive_for=100.5, absent_for=10, trust=trust)
)
rules = st.booleans().map(lambda strict: Wanted(WANTED.key, WANTED.below, case_sensitive=strict))


def usual_one() -> pb.Answer:
    """An answer as a node of this project gives it for an identifier that it holds."""
    return pb.Answer(
        outcome=pb.OUTCOME_FOUND,
        version=7,
        standing=pb.STANDING_AUTHORITATIVE,
        provenance=pb.Provenance(authority="88.1", prefix="88.1.5"),
        record=pb.Record(
            identifier="88.1.5/a-é",
            registrant="88.1",
            registered_at=1_790_000_000,
            values=[pb.Value(index=1, type="URL", data=b"x", ttl_seconds=86_400, timestamp=1, permissions=0b1110)],
        ),
    )


def agreed(octets: bytes, wanted: Wanted, terms: Terms) -> Said | None:
    """Give what is made natively, having compared it with what Python makes."""
    (said,) = native_usual()([octets], [wanted], terms)
    assert said is None or said == check(octets, wanted, terms)
    return said


@given(answers, rules, terms)
def test_what_is_made_natively_python_would_have_made(answer: pb.Answer, wanted: Wanted, terms: Terms) -> None:
    agreed(answer.SerializeToString(), wanted, terms)


@given(answers, st.data())
def test_whatever_is_wrong_with_the_bytes_python_says_it(answer: pb.Answer, data: st.DataObject) -> None:
    octets = bytearray(answer.SerializeToString())
    for place in data.draw(st.lists(st.integers(0, len(octets) - 1), min_size=1, max_size=3)):
        octets[place] = data.draw(st.integers(0, 255))
    agreed(bytes(octets), WANTED, TERMS)


@given(st.lists(st.sampled_from(usual_one().SerializeToString()[:0:-1]), max_size=9).map(bytes))
def test_what_stands_behind_an_answer_is_seen(behind: bytes) -> None:
    agreed(usual_one().SerializeToString() + behind, WANTED, TERMS)


def test_what_a_node_says_of_what_it_holds_is_usual_in_either_order_of_its_pieces() -> None:
    octets = usual_one().SerializeToString()
    said = agreed(octets, WANTED, TERMS)
    assert said is not None
    assert (said.outcome, said.keep_for) == (FOUND, 100.5)
    tail = pb.Answer(standing=pb.STANDING_AUTHORITATIVE, provenance=usual_one().provenance).SerializeToString()
    body = usual_one()
    body.ClearField("standing")
    body.ClearField("provenance")
    joined = body.SerializeToString() + tail
    assert joined != octets
    assert agreed(joined, WANTED, TERMS) == said


def test_each_result_has_its_place_and_a_fault_is_nobodys_answer() -> None:
    octets = usual_one().SerializeToString()
    results: list[bytes | Fault] = [Fault(Reason.HOP_LIMIT), octets, b"\xff", octets]
    said = native_usual()(results, [WANTED] * 4, TERMS)
    assert [each is not None for each in said] == [False, True, False, True]
    assert none_usual(results, [WANTED] * 4, TERMS) == [None] * 4


def test_a_batch_of_answers_is_split_and_any_other_is_not() -> None:
    split = native_split()
    framed = wire.frame(b"one") + wire.frame(b"") + wire.frame(bytes(300))
    assert split(framed) == [b"one", b"", bytes(300)]
    read = octets_pb2.BatchResolveResponseOctets.FromString(framed)
    assert [each.answer for each in read.results] == split(framed)
    with_error = octets_pb2.BatchResolveResponseOctets()
    with_error.results.add(answer=b"one")
    with_error.results.add().error.code = 5
    assert split(with_error.SerializeToString()) is None
    assert split(framed[:-1]) is None
