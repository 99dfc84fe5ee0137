"""Envelopes: signed bytes with their type (DSSE, secure-systems-lab/dsse), and the names of types.

An envelope has exactly one encoding: the protobuf message with each field once, in the order of their numbers, and
nothing unknown or empty. Other bytes are refused, so that nobody can make a second envelope of the same signatures.
That is why it is read here and not by protobuf, which is lenient; and a large payload is copied once only.
"""

import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from resolver.bounds import ENVELOPE_BYTES
from resolver.errors import Fault, Reason
from resolver.trust.keys import PrivateKey

SIGNATURES: Final = 2
"""An envelope has no more: every kind needs one, but for a change of keys, which needs those of both keys."""

SIGNATURE_BYTES: Final = 4_096
"""No signature is longer (ML-DSA-65 has 3,309)."""

# Tags of fields that are length-delimited: their number and the wire type 2.
_PAYLOAD: Final = 0x0A
_PAYLOAD_TYPE: Final = 0x12
_SIGNATURE: Final = 0x1A
_SIG: Final = 0x0A
_KEY_NAME: Final = 0x12

_KEY_ID: Final = re.compile(r"[0-9a-f]{64}")
_TYPE: Final = re.compile(r"application/vnd\.topnode\.([a-z]+(?:-[a-z]+)*\.v[1-9][0-9]{0,2})\+json")
_KIND: Final = re.compile(r"[a-z]+(?:-[a-z]+)*\.v[1-9][0-9]{0,2}")


class Signature(Struct, frozen=True):
    """A signature, and the key that it names: 64 hexadecimal digits, lower case."""

    key_id: str
    sig: bytes


class Envelope(Struct, frozen=True, kw_only=True):
    """Signed bytes: nothing in `payload` is to be believed, or even read, before a signature holds."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]

    @staticmethod
    def from_bytes(octets: bytes) -> "Envelope":
        """Read an envelope in its one encoding.

        Raises:
            Fault: REQUEST_TOO_LARGE, ENVELOPE_MALFORMED (with the field).
        """
        if len(octets) > ENVELOPE_BYTES:
            raise Fault(Reason.REQUEST_TOO_LARGE, variables={"bytes": str(len(octets))})
        payload, at = _field(_PAYLOAD, octets, 0, "payload")
        payload_type, at = _field(_PAYLOAD_TYPE, octets, at, "payload_type")
        return Envelope(
            payload_type=_text(payload_type, "payload_type"), payload=payload, signatures=_signatures(octets, at)
        )

    def to_bytes(self) -> bytes:
        """Give the encoding; every field must have something in it."""
        encoded = [
            _encoded(_SIGNATURE, _encoded(_SIG, each.sig) + _encoded(_KEY_NAME, each.key_id.encode()))
            for each in self.signatures
        ]
        payload_type = _encoded(_PAYLOAD_TYPE, self.payload_type.encode())
        return b"".join((_encoded(_PAYLOAD, self.payload), payload_type, *encoded))

    def pae(self) -> bytes:
        """Give the bytes that are signed."""
        return pae(self.payload_type, self.payload)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Encode type and payload so that neither can be taken for a part of the other (DSSE, "pre-authentication")."""
    name = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def seal(payload_type: str, payload: bytes, keys: Sequence[PrivateKey]) -> Envelope:
    """Sign with each of these keys."""
    message = pae(payload_type, payload)
    signatures = tuple(Signature(key.public.key_id, key.sign(message)) for key in keys)
    return Envelope(payload_type=payload_type, payload=payload, signatures=signatures)


def kind_of(payload_type: str) -> str:
    """Give the kind with its version: `identifiers.v1`.

    Raises:
        Fault: PAYLOAD_TYPE_UNKNOWN.
    """
    found = _TYPE.fullmatch(payload_type)
    if found is None:
        raise Fault(Reason.PAYLOAD_TYPE_UNKNOWN, field="payload_type")
    return found[1]


def payload_type_of(kind: str) -> str:
    """Give the payload type of a kind with its version."""
    if not _KIND.fullmatch(kind):
        raise ValueError(kind)
    return f"application/vnd.topnode.{kind}+json"


def _encoded(tag: int, octets: bytes) -> bytes:
    """Encode a field: its tag, the length in as few bytes as it needs, the least significant first, and the bytes."""
    head, length = bytearray((tag,)), len(octets)
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    return bytes(head) + octets


def _field(tag: int, octets: bytes, at: int, name: str) -> tuple[bytes, int]:
    """Read the field that must stand here, and where it ends; it is not empty."""
    if octets[at : at + 1] != bytes((tag,)):
        raise _malformed("It is missing, or something else stands in its place.", name)
    length, at = _length(octets, at + 1, name)
    end = at + length
    if not length or end > len(octets):
        raise _malformed("It is cut off." if length else "It is empty.", name)
    return octets[at:end], end


def _length(octets: bytes, at: int, name: str) -> tuple[int, int]:
    """Read a length in as few bytes as it needs: 28 bits, more than any envelope has."""
    length = 0
    for place, octet in enumerate(octets[at : at + 4]):
        length |= (octet & 0x7F) << 7 * place
        if octet < 0x80 and (octet or not place):
            return length, at + place + 1
    raise _malformed("Its length is cut off, or has more bytes than it needs.", name)


def _signatures(octets: bytes, at: int) -> tuple[Signature, ...]:
    """Read what stands from here to the end."""
    signatures: list[Signature] = []
    while at < len(octets) or not signatures:
        encoded, at = _field(_SIGNATURE, octets, at, "signatures")
        signatures.append(_signature(encoded, f"signatures[{len(signatures)}]"))
        if len(signatures) > SIGNATURES or len({each.key_id for each in signatures}) < len(signatures):
            raise _malformed(f"An envelope has 1 to {SIGNATURES} signatures, by different keys.", "signatures")
    return tuple(signatures)


def _signature(octets: bytes, name: str) -> Signature:
    sig, at = _field(_SIG, octets, 0, f"{name}.sig")
    key_id, at = _field(_KEY_NAME, octets, at, f"{name}.keyid")
    if at != len(octets):
        raise _malformed("Something stands behind it.", name)
    if len(sig) > SIGNATURE_BYTES:
        raise _malformed(f"A signature has at most {SIGNATURE_BYTES} bytes.", f"{name}.sig")
    text = _text(key_id, f"{name}.keyid")
    if not _KEY_ID.fullmatch(text):
        raise _malformed("A key is named by 64 hexadecimal digits in lower case.", f"{name}.keyid")
    return Signature(text, sig)


def _text(octets: bytes, name: str) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise _malformed("It is not UTF-8.", name) from None


def _malformed(detail: str, field: str) -> Fault:
    return Fault(Reason.ENVELOPE_MALFORMED, detail, field=field)
