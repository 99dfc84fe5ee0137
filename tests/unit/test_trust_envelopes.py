"""Envelopes: one encoding, and what is signed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.bounds import ENVELOPE_BYTES
from resolver.errors import Fault, Reason
from resolver.trust.envelopes import Envelope, Signature, kind_of, pae, payload_type_of, seal
from resolver.trust.keys import PrivateKey
from resolver.v1 import resolver_pb2 as pb

KEYS = (PrivateKey.generate(), PrivateKey.generate())

key_ids = st.binary(min_size=32, max_size=32).map(bytes.hex)
signatures = st.builds(Signature, key_ids, st.binary(min_size=1, max_size=100))
envelopes = st.builds(
    Envelope,
    payload_type=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60),
    payload=st.binary(min_size=1, max_size=200),
    signatures=st.lists(signatures, min_size=1, max_size=2, unique_by=lambda each: each.key_id).map(tuple),
)


def test_pae_is_that_of_dsse() -> None:
    """The example of the DSSE protocol."""
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(envelopes)
def test_an_envelope_comes_back_from_its_bytes(envelope: Envelope) -> None:
    assert Envelope.from_bytes(envelope.to_bytes()) == envelope


@given(envelopes)
def test_it_is_the_encoding_of_protobuf(envelope: Envelope) -> None:
    """What any protobuf library writes is read, and the other way round."""
    message = pb.Envelope(payload=envelope.payload, payload_type=envelope.payload_type)
    for each in envelope.signatures:
        message.signatures.add(sig=each.sig, keyid=each.key_id)
    assert message.SerializeToString() == envelope.to_bytes()
    assert pb.Envelope.FromString(envelope.to_bytes()) == message


@pytest.mark.parametrize("size", [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_lengths_of_every_size_are_those_of_protobuf(size: int) -> None:
    envelope = seal("application/vnd.topnode.identifiers.v1+json", bytes(size), KEYS[:1])
    octets = envelope.to_bytes()
    assert pb.Envelope.FromString(octets).SerializeToString() == octets
    assert Envelope.from_bytes(octets) == envelope


@given(st.binary(max_size=100))
def test_any_bytes_are_refused(octets: bytes) -> None:
    with pytest.raises(Fault) as caught:
        Envelope.from_bytes(octets)
    assert caught.value.reason is Reason.ENVELOPE_MALFORMED


@settings(max_examples=300)
@given(envelopes, st.data())
def test_altered_bytes_are_refused_or_another_envelope(envelope: Envelope, data: st.DataObject) -> None:
    """Of all bytes, only those are taken that are the one encoding of what they say."""
    octets = bytearray(envelope.to_bytes())
    at = data.draw(st.integers(0, len(octets) - 1))
    del octets[at : at + data.draw(st.integers(0, 3))]
    octets[at:at] = data.draw(st.binary(max_size=3))
    try:
        read = Envelope.from_bytes(bytes(octets))
    except Fault as fault:
        is_told = fault.reason is Reason.ENVELOPE_MALFORMED
        assert is_told
    else:
        assert read.to_bytes() == bytes(octets)
        assert (read == envelope) is (bytes(octets) == envelope.to_bytes())


@given(st.text(max_size=20), st.binary(max_size=20), st.text(max_size=20), st.binary(max_size=20))
def test_different_content_is_signed_differently(type_a: str, a: bytes, type_b: str, b: bytes) -> None:
    assert (pae(type_a, a) == pae(type_b, b)) is ((type_a, a) == (type_b, b))


def test_sealing_signs_with_each_key_in_order() -> None:
    envelope = seal("application/vnd.topnode.node-rotate.v1+json", b"{}", KEYS)
    assert [each.key_id for each in envelope.signatures] == [key.public.key_id for key in KEYS]
    for key, signature in zip(KEYS, envelope.signatures, strict=True):
        assert key.public.verify(signature.sig, envelope.pae())
    assert Envelope.from_bytes(envelope.to_bytes()) == envelope


def test_the_largest_envelope_is_taken_and_no_larger_one() -> None:
    small = seal("application/vnd.topnode.identifiers.v1+json", b"x" * 3_000_000, KEYS[:1]).to_bytes()
    room = ENVELOPE_BYTES - len(small)
    exact = seal("application/vnd.topnode.identifiers.v1+json", b"x" * (3_000_000 + room), KEYS[:1]).to_bytes()
    assert len(exact) == ENVELOPE_BYTES
    assert Envelope.from_bytes(exact).to_bytes() == exact
    with pytest.raises(Fault) as caught:
        Envelope.from_bytes(exact + b"\x00")
    assert caught.value.reason is Reason.REQUEST_TOO_LARGE


def test_malformed_fields_are_named() -> None:
    good = seal("application/vnd.topnode.identifiers.v1+json", b"{}", KEYS[:1])
    (signature,) = good.signatures
    cases = {
        "payload": Envelope(payload_type="x", payload=b"", signatures=good.signatures),
        "payload_type": Envelope(payload_type="", payload=b"x", signatures=good.signatures),
        "signatures": Envelope(payload_type="x", payload=b"x", signatures=()),
        "signatures[0].keyid": Envelope(
            payload_type="x", payload=b"x", signatures=(Signature("XYZ", signature.sig),)
        ),
        "signatures[1].sig": Envelope(
            payload_type="x", payload=b"x", signatures=(signature, Signature("0" * 64, b""))
        ),
    }
    for field, envelope in cases.items():
        with pytest.raises(Fault) as caught:
            Envelope.from_bytes(envelope.to_bytes())
        assert (caught.value.reason, caught.value.field) == (Reason.ENVELOPE_MALFORMED, field)


@given(st.from_regex(r"[a-z]+(-[a-z]+){0,2}\.v[1-9][0-9]{0,2}", fullmatch=True))
def test_kinds_come_back_from_their_payload_types(kind: str) -> None:
    assert kind_of(payload_type_of(kind)) == kind


@pytest.mark.parametrize("kind", ["", "identifiers", "identifiers.v0", "Identifiers.v1", "a.v1\n"])
def test_what_is_no_kind_has_no_payload_type(kind: str) -> None:
    with pytest.raises(ValueError, match=kind.strip() or "^$"):
        payload_type_of(kind)
