"""What a child may say: a table of what is taken, cut and refused."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from resolver import wire
from resolver.answer import Outcome, Standing
from resolver.federation.checking import Deeper, Refused, Said, Terms, Wanted, check
from resolver.query import Mode
from resolver.routes import Protocol
from resolver.trust.verdicts import Trust
from resolver.v1 import resolver_pb2 as pb

NOW = 1_800_000_000.0
WANTED = Wanted(b"88.1.5/A", b"88.1", case_sensitive=False)
TERMS = Terms(child="88.1", protocol=Protocol.GRPC, now=NOW, positive_for=100, absent_for=10)


def found(**changed: Any) -> pb.Answer:
    """An answer as a child gives it, with two values, of which one is not for everybody."""
    message = pb.Answer(
        outcome=pb.OUTCOME_FOUND,
        standing=pb.STANDING_AUTHORITATIVE,
        version=7,
        record=pb.Record(
            identifier="88.1.5/a",
            values=[
                pb.Value(index=1, type="URL", data=b"x", permissions=0b1110),
                pb.Value(index=2, type="KEY", data=b"secret", permissions=0b1100),
            ],
        ),
        provenance=pb.Provenance(authority="88.1.5", prefix="88.1.5"),
    )
    message.MergeFrom(pb.Answer(**changed))
    return message


def valued(*lifetimes: dict[str, Any]) -> pb.Record:
    """Values that say how long they may be kept."""
    values = [
        pb.Value(index=9 + place, type="URL", permissions=0b1110, **each) for place, each in enumerate(lifetimes)
    ]
    return pb.Record(values=values)


def said(message: pb.Answer, wanted: Wanted = WANTED) -> Said:
    verdict = check(message.SerializeToString(), wanted, TERMS)
    assert isinstance(verdict, Said), verdict
    return verdict


def test_an_answer_becomes_this_nodes_own_cached_and_by_one_more_hop() -> None:
    taken = said(found())
    answer = wire.decode_answer(wire.answer_bytes(taken.frame))
    assert (taken.outcome, taken.keep_for) == (Outcome.FOUND, 100)
    assert (answer.standing, answer.authority, answer.prefix) == (Standing.CACHED, "88.1.5", "88.1.5")
    assert [(hop.node, hop.protocol, hop.obtained_at) for hop in answer.hops] == [
        ("88.1", Protocol.GRPC, round(NOW * 1_000))
    ]
    assert (answer.expires_at, answer.trust) == (int(NOW) + 100, Trust.UNKNOWN)
    assert wire.decode_record(wire.answer_bytes(taken.frame)).version == 7


@pytest.mark.parametrize("trust", [Trust.TRUSTED, Trust.UNKNOWN, Trust.NOT_TRUSTED])
def test_what_a_signature_is_worth_is_told_and_what_is_forged_is_not_kept(trust: Trust) -> None:
    verdict = check(found().SerializeToString(), WANTED, replace(TERMS, trust=trust))
    assert isinstance(verdict, Said)
    assert wire.decode_answer(wire.answer_bytes(verdict.frame)).trust is trust
    assert verdict.keep_for == (0 if trust is Trust.NOT_TRUSTED else 100)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (pb.TRUST_TRUSTED, Trust.TRUSTED),
        (pb.TRUST_UNKNOWN, Trust.UNKNOWN),
        (pb.TRUST_NOT_TRUSTED, Trust.NOT_TRUSTED),
        (99, Trust.NOT_TRUSTED),
    ],
)
def test_what_a_child_has_from_below_is_worth_no_more_than_it_says(told: int, expected: Trust) -> None:
    message = found()
    message.provenance.hops.add(node="far", protocol=pb.PROTOCOL_GRPC, obtained_at=5)
    message.provenance.trust = told  # type: ignore[assignment] # a number that nobody knows yet
    verdict = check(message.SerializeToString(), WANTED, replace(TERMS, trust=Trust.TRUSTED))
    assert isinstance(verdict, Said)
    assert wire.decode_answer(wire.answer_bytes(verdict.frame)).trust is expected


def test_only_what_everybody_may_read_is_taken() -> None:
    record = wire.decode_record(wire.answer_bytes(said(found()).frame))
    assert [value.index for value in record.values] == [1]


def test_what_the_child_leaves_out_is_filled_in() -> None:
    message = found()
    message.ClearField("provenance")
    answer = wire.decode_answer(wire.answer_bytes(said(message).frame))
    assert (answer.authority, answer.prefix) == ("88.1", "88.1")


def test_hops_of_the_child_come_before_its_own() -> None:
    hop = pb.Hop(node="far", protocol=pb.PROTOCOL_GRPC, obtained_at=5)
    answer = wire.decode_answer(wire.answer_bytes(said(found(provenance=pb.Provenance(hops=[hop]))).frame))
    assert [hop.node for hop in answer.hops] == ["far", "88.1"]


def test_unknown_fields_are_not_passed_on() -> None:
    octets = found().SerializeToString() + b"\xa2\x06\x03abc"
    taken = check(octets, WANTED, TERMS)
    assert isinstance(taken, Said)
    assert b"abc" not in taken.frame


@pytest.mark.parametrize(
    ("changed", "keep_for"),
    [
        ({}, 100),
        ({"provenance": pb.Provenance(expires_at=int(NOW) + 30)}, 30),
        ({"provenance": pb.Provenance(expires_at=int(NOW) + 3_000)}, 100),
        ({"provenance": pb.Provenance(expires_at=int(NOW) - 3_000)}, 0),
        ({"standing": pb.STANDING_CACHED}, 100),
        ({"record": valued({"ttl_seconds": 5}, {"ttl_seconds": 86_400})}, 5),
        ({"record": valued({"ttl_seconds": 0})}, 0),
        ({"record": valued({"expires_at": int(NOW) + 20})}, 20),
        ({"record": valued({"expires_at": int(NOW) - 20})}, 0),
        ({"standing": pb.STANDING_REGISTERED_COPY}, 0),
        ({"stale": True}, 0),
        ({"takeover": True}, 0),
    ],
)
def test_how_long_an_answer_is_kept(changed: dict[str, Any], keep_for: float) -> None:
    taken = said(found(**changed))
    assert taken.keep_for == keep_for
    answer = wire.decode_answer(wire.answer_bytes(taken.frame))
    assert answer.expires_at == (int(NOW + keep_for) if keep_for else 0)
    assert (answer.stale, answer.takeover) == (changed.get("stale", False), changed.get("takeover", False))
    copy = "standing" in changed and changed["standing"] == pb.STANDING_REGISTERED_COPY
    assert answer.standing is (Standing.REGISTERED_COPY if copy else Standing.CACHED)


@pytest.mark.parametrize(
    ("standing", "keep_for"),
    [(pb.STANDING_AUTHORITATIVE, 10), (pb.STANDING_CACHED, 10), (pb.STANDING_UNSPECIFIED, 0)],
)
def test_only_the_authoritys_absence_is_kept(standing: Any, keep_for: float) -> None:
    taken = said(pb.Answer(outcome=pb.OUTCOME_ABSENT, standing=standing))
    assert (taken.outcome, taken.keep_for) == (Outcome.ABSENT, keep_for)


def test_a_tombstone_is_an_absence_with_a_record() -> None:
    message = pb.Answer(outcome=pb.OUTCOME_ABSENT, standing=pb.STANDING_AUTHORITATIVE)
    message.record.identifier = "88.1.5/A"
    message.record.tombstone.reason = "scrapped"
    record = wire.decode_record(wire.answer_bytes(said(message).frame))
    assert record.tombstone is not None


def test_not_here_is_given_and_not_kept() -> None:
    taken = said(pb.Answer(outcome=pb.OUTCOME_NOT_HERE, provenance=pb.Provenance(authority="88.1")))
    assert (taken.outcome, taken.keep_for) == (Outcome.NOT_HERE, 0)


def test_where_case_counts_the_spelling_must_be_the_one_asked_for() -> None:
    strict = Wanted(b"88.1.5/a", b"88.1", case_sensitive=True)
    assert said(found(), strict)
    other = found()
    other.record.identifier = "88.1.5/A"
    assert check(other.SerializeToString(), strict, TERMS) == Refused("identifier")


def tampered(change: Callable[[pb.Answer], object]) -> bytes:
    message = found()
    change(message)
    return message.SerializeToString()


def put(path: str, value: Any) -> Callable[[pb.Answer], object]:
    """Set a field by its path."""

    def change(message: pb.Answer) -> None:
        *way, last = path.split(".")
        target: Any = message
        for name in way:
            target = getattr(target, name)
        setattr(target, last, value)

    return change


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"\xff\xff", "malformed"),
        (b"", "malformed"),
        (tampered(put("outcome", 9)), "malformed"),
        (tampered(put("standing", 9)), "malformed"),
        (tampered(put("standing", -1)), "malformed"),
        (tampered(put("record.identifier", "88.1.5/B")), "identifier"),
        (tampered(put("record.identifier", "88.2.5/a")), "identifier"),
        (tampered(put("record.identifier", "no slash")), "identifier"),
        (tampered(lambda message: message.ClearField("record")), "record"),
        (tampered(put("outcome", pb.OUTCOME_ABSENT)), "record"),
        (tampered(put("record.tombstone.reason", "gone")), "record"),
        (tampered(put("provenance.prefix", "88")), "prefix"),
        (tampered(put("provenance.prefix", "88.2")), "prefix"),
        (tampered(put("provenance.prefix", "88.1.6")), "prefix"),
        (tampered(put("provenance.prefix", "88.15")), "prefix"),
        (tampered(put("provenance.authority", "x" * 200)), "authority"),
        (tampered(put("provenance.authority", "a\nb")), "authority"),
        (tampered(lambda message: message.provenance.hops.add(node="", protocol=1)), "hops"),
        (tampered(lambda message: message.provenance.hops.add(node="a", protocol=77)), "hops"),
        (
            tampered(
                lambda message: [message.provenance.hops.add(node="a", protocol=pb.PROTOCOL_GRPC) for _ in range(8)]
            ),
            "hops",
        ),
        (tampered(lambda message: message.record.values.add(index=3, data=b"x" * 300_000)), "size"),
        (wire.bare_body(Outcome.REFERRAL), "referral"),
    ],
)
def test_what_is_refused_and_why(octets: bytes, why: str) -> None:
    assert check(octets, WANTED, TERMS) == Refused(why)


@pytest.mark.parametrize(
    ("prefix", "holder", "taken"),
    [
        ("88.1.5", "deep", True),
        ("88.1", "deep", True),
        ("88.1", TERMS.child, False),
        ("88", "deep", False),
        ("88.1.50", "deep", False),
        ("88.2.5", "deep", False),
        ("88.1.5", "", False),
    ],
)
def test_a_referral_leads_on_to_what_was_asked(prefix: str, holder: str, *, taken: bool) -> None:
    endpoint = pb.Endpoint(protocol=pb.PROTOCOL_GRPC, address="10.0.0.1", port=1)
    message = pb.Answer(
        outcome=pb.OUTCOME_REFERRAL, referral=pb.Referral(prefix=prefix, holder=holder, endpoints=[endpoint])
    )
    verdict = check(message.SerializeToString(), WANTED, TERMS)
    if not taken:
        assert verdict == Refused("referral")
        return
    assert isinstance(verdict, Deeper)
    assert (verdict.referral.prefix, verdict.referral.holder) == (prefix, holder)
    assert (verdict.said.outcome, verdict.said.keep_for) == (Outcome.REFERRAL, 0)


def test_a_referral_that_cannot_be_read_is_refused() -> None:
    endpoint = pb.Endpoint(protocol=pb.PROTOCOL_GRPC, address="10.0.0.1", port=70_000)
    message = pb.Answer(
        outcome=pb.OUTCOME_REFERRAL, referral=pb.Referral(prefix="88.1.5", holder="deep", endpoints=[endpoint])
    )
    assert check(message.SerializeToString(), WANTED, TERMS) == Refused("malformed")


def test_modes_of_the_wire_are_those_of_the_noun() -> None:
    assert wire.mode_from_wire(pb.MODE_RECURSIVE) is Mode.RECURSIVE
