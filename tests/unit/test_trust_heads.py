"""Heads and payloads: reading, times, audience, and what makes two requests the same."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from resolver.errors import Fault, Reason
from resolver.trust.heads import LIFETIME, SKEW, Head, Payload, body_digest, check_audience, check_times, new_head

NOW = 1_800_000_000
HEAD = Head(
    node="top",
    method="topnode.registry.v1.RegistryService/Submit",
    request_id="request-1",
    issued_at=NOW,
    expires_at=NOW + LIFETIME,
    nonce="0123456789abcdef" * 2,
    actor="88.111",
)

names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40)
times = st.integers(0, 2**40 - 1)
heads = st.builds(
    Head,
    node=names,
    method=names,
    request_id=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128),
    issued_at=times,
    expires_at=times,
    nonce=st.binary(min_size=16, max_size=16).map(bytes.hex),
    actor=names,
)
bodies = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text('abc"\\{}', max_size=4), inner)),
    max_leaves=8,
).map(lambda body: json.dumps(body).encode())


@given(heads, bodies)
def test_a_payload_comes_back_from_its_bytes(head: Head, body: bytes) -> None:
    """The body is the bytes that were signed, to the last space."""
    assert Payload.from_bytes(Payload(head, body).to_bytes()) == Payload(head, body)


@given(heads, bodies, st.sampled_from([None, 0]))
def test_payloads_as_other_libraries_write_them_are_read(head: Head, body: bytes, indent: int | None) -> None:
    """In another order, with white space, with escapes: JSON is JSON."""
    written = {"body": json.loads(body), "head": dict(reversed(asdict(head).items()))}
    payload = Payload.from_bytes(json.dumps(written, indent=indent).encode())
    assert payload.head == head
    assert json.loads(payload.body) == json.loads(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_with_a_reason(octets: bytes) -> None:
    with pytest.raises(Fault) as caught:
        Payload.from_bytes(octets)
    assert caught.value.reason is Reason.PAYLOAD_MALFORMED


@given(heads, bodies, st.sampled_from(["head", "body"]))
def test_a_second_member_is_found_wherever_it_stands(head: Head, body: bytes, name: str) -> None:
    once = Payload(head, body).to_bytes()
    for twice in (b'{"%b":0,' % name.encode() + once[1:], once[:-1] + b',"%b":0}' % name.encode()):
        with pytest.raises(Fault) as caught:
            Payload.from_bytes(twice)
        assert caught.value.reason is Reason.PAYLOAD_MALFORMED


def test_bytes_that_are_not_utf8_are_refused() -> None:
    octets = Payload(HEAD, b"{}").to_bytes().replace(b"88.111", b"88.\xff11")
    with pytest.raises(Fault) as caught:
        Payload.from_bytes(octets)
    assert caught.value.reason is Reason.PAYLOAD_MALFORMED


@pytest.mark.parametrize(
    ("changes", "now", "reason"),
    [
        ({}, NOW, None),
        ({}, NOW - SKEW, None),
        ({}, NOW - SKEW - 0.1, Reason.ENVELOPE_NOT_YET_VALID),
        ({}, NOW + LIFETIME + SKEW, None),
        ({}, NOW + LIFETIME + SKEW + 0.1, Reason.ENVELOPE_EXPIRED),
        ({"expires_at": NOW + 1}, NOW + 1 + SKEW, None),
        ({"expires_at": NOW + 1}, NOW + 2 + SKEW, Reason.ENVELOPE_EXPIRED),
        ({"expires_at": NOW + LIFETIME + 1}, NOW, Reason.ENVELOPE_LIFETIME),
        ({"expires_at": NOW}, NOW, Reason.ENVELOPE_LIFETIME),
        ({"expires_at": NOW - 1}, NOW, Reason.ENVELOPE_LIFETIME),
        ({"expires_at": 2**40 - 1}, NOW, Reason.ENVELOPE_LIFETIME),
        ({"issued_at": 0, "expires_at": LIFETIME}, NOW, Reason.ENVELOPE_EXPIRED),
        ({"issued_at": NOW + 3_600, "expires_at": NOW + 3_700}, NOW, Reason.ENVELOPE_NOT_YET_VALID),
    ],
)
def test_times(changes: dict[str, Any], now: float, reason: Reason | None) -> None:
    """At most five minutes, and half a minute of skew at both ends."""
    head = replace(HEAD, **changes)
    if reason is None:
        check_times(head, now)
        return
    with pytest.raises(Fault) as caught:
        check_times(head, now)
    assert caught.value.reason is reason
    if reason is not Reason.ENVELOPE_LIFETIME:
        assert caught.value.variables == {"server_time": str(int(now))}


def test_the_audience_is_one_node_and_one_method() -> None:
    check_audience(HEAD, node="top", method=HEAD.method)
    for field, node, method in (("head.node", "other", HEAD.method), ("head.method", "top", "Other/Submit")):
        with pytest.raises(Fault) as caught:
            check_audience(HEAD, node=node, method=method)
        assert (caught.value.reason, caught.value.field) == (Reason.AUDIENCE_WRONG, field)


def test_a_new_head_is_fresh_and_has_its_own_nonce() -> None:
    made = [
        new_head(node="top", method=HEAD.method, actor="88.111", request_id="r", now=NOW + 0.9) for _ in range(100)
    ]
    for head in made:
        check_times(head, NOW)
        assert Payload.from_bytes(Payload(head, b"{}").to_bytes()).head == head
    assert len({head.nonce for head in made}) == 100


def test_requests_are_the_same_by_kind_and_body() -> None:
    """Freshly signed, a request is the same; of another kind, or with other bytes, it is not."""
    assert body_digest("a.v1", b"{}") == body_digest("a.v1", b"{}")
    others = {body_digest("a.v1", b"{ }"), body_digest("a.v2", b"{}"), body_digest("a.v", b"1{}")}
    assert body_digest("a.v1", b"{}") not in others
    assert len(others) == 3
