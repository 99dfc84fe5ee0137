"""The payload of an envelope: a head that is alike for all kinds, and a body that only its kind understands.

    {"head": {"node": ..., "method": ..., "request_id": ..., "issued_at": ..., "expires_at": ..., "nonce": ...,
              "actor": ...}, "body": {...}}

JSON in UTF-8. The body is carried as the bytes that were signed: they, with the kind, say whether two requests are
the same. A member stands once: of members with the same name one reader would take the first, another the last.
"""

import json
import re
import secrets
from hashlib import sha256
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from resolver.errors import Fault, Reason
from resolver.trust.actors import NODE_BYTES

LIFETIME: Final = 300
"""Seconds from issue to expiry, at most."""

SKEW: Final = 30
"""Seconds by which the signer's clock may differ from ours, at both ends."""

_Time = Annotated[int, Meta(ge=0, lt=2**40)]
_Name = Annotated[str, Meta(min_length=1, max_length=NODE_BYTES)]

_SPACE: Final = 8
"""White space outside of head and body; a repeated member needs at least one byte more (`"body":0,`)."""

_EMPTY: Final = len(b'{"head":,"body":}')
_NONCE: Final = re.compile(r"[0-9a-f]{32}")
_REQUEST_ID: Final = re.compile(r"[!-~]{1,128}")


class Head(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who asks whom for what, and when. Times are Unix seconds.

    `node` and `method` are the audience: the node's identifier and the full name of the method, without the leading
    slash. `request_id` (1 to 128 visible ASCII characters) stays the same when a request is signed anew; `nonce` (32
    hexadecimal digits) does not.
    """

    node: _Name
    method: _Name
    request_id: str
    issued_at: _Time
    expires_at: _Time
    nonce: str
    actor: _Name


class Payload(Struct, frozen=True):
    """What is signed; `body` is its JSON exactly as it stands there."""

    head: Head
    body: bytes

    @staticmethod
    def from_bytes(octets: bytes) -> "Payload":
        """Read a payload; nothing of the body is looked at.

        Raises:
            Fault: PAYLOAD_MALFORMED with the field.
        """
        parts = _decoded(_parts_decoder, octets, field="")
        head = _decoded(_head_decoder, parts.head, field="head")
        if len(octets) - len(parts.head) - len(parts.body) - _EMPTY > _SPACE:
            raise Fault(
                Reason.PAYLOAD_MALFORMED, "A member stands twice, or much white space outside of head and body."
            )
        _check_head(head, bytes(parts.head))
        return Payload(head, bytes(parts.body))

    def to_bytes(self) -> bytes:
        return b'{"head":%b,"body":%b}' % (_encoder.encode(self.head), self.body)


class _Parts(Struct, forbid_unknown_fields=True):
    head: msgspec.Raw
    body: msgspec.Raw


_Decoded = TypeVar("_Decoded")

_encoder: Final = msgspec.json.Encoder()
_parts_decoder: Final = msgspec.json.Decoder(_Parts)
_head_decoder: Final = msgspec.json.Decoder(Head)


def new_head(*, node: str, method: str, actor: str, request_id: str, now: float, lifetime: int = LIFETIME) -> Head:
    """Make the head of a request that is issued now, with a fresh nonce."""
    issued_at = int(now)
    return Head(
        node=node,
        method=method,
        request_id=request_id,
        issued_at=issued_at,
        expires_at=issued_at + lifetime,
        nonce=secrets.token_hex(16),
        actor=actor,
    )


def check_audience(head: Head, *, node: str, method: str) -> None:
    """Check that this was signed for this node and this method.

    Raises:
        Fault: AUDIENCE_WRONG with the field.
    """
    for field, asked, here in (("head.node", head.node, node), ("head.method", head.method, method)):
        if asked != here:
            raise Fault(
                Reason.AUDIENCE_WRONG,
                f"The request was signed for {asked!r}; this is {here!r}.",
                field=field,
                variables={"expected": here},
            )


def check_times(head: Head, now: float) -> None:
    """Check that a request may be sent now.

    Raises:
        Fault: ENVELOPE_LIFETIME, ENVELOPE_NOT_YET_VALID, ENVELOPE_EXPIRED; the latter two with `server_time`.
    """
    if not 0 < head.expires_at - head.issued_at <= LIFETIME:
        raise Fault(Reason.ENVELOPE_LIFETIME, field="head.expires_at")
    told = {"server_time": str(int(now))}
    if now < head.issued_at - SKEW:
        raise Fault(Reason.ENVELOPE_NOT_YET_VALID, field="head.issued_at", variables=told)
    if now > head.expires_at + SKEW:
        raise Fault(Reason.ENVELOPE_EXPIRED, field="head.expires_at", variables=told)


def body_digest(kind: str, body: bytes) -> bytes:
    """Give the SHA-256 that is equal for equal requests: of the kind, a zero byte, and the body as it was signed."""
    return sha256(b"%b\x00%b" % (kind.encode(), body)).digest()


def _check_head(head: Head, octets: bytes) -> None:
    if not _REQUEST_ID.fullmatch(head.request_id):
        raise Fault(
            Reason.PAYLOAD_MALFORMED, "A request id is 1 to 128 visible ASCII characters.", field="head.request_id"
        )
    if not _NONCE.fullmatch(head.nonce):
        raise Fault(Reason.PAYLOAD_MALFORMED, "A nonce is 32 hexadecimal digits.", field="head.nonce")
    for field, name in (("head.actor", head.actor), ("head.node", head.node), ("head.method", head.method)):
        if not name.isprintable():
            raise Fault(Reason.PAYLOAD_MALFORMED, "A name is printable text.", field=field)
    # As most heads are written, which says that no member stands twice; to look at each takes ten times as long.
    if _encoder.encode(head) == octets:
        return
    members = json.loads(octets, object_pairs_hook=list)
    if len(members) != len(Head.__struct_fields__):
        raise Fault(Reason.PAYLOAD_MALFORMED, "A member of the head stands twice.", field="head")


def _decoded(decoder: "msgspec.json.Decoder[_Decoded]", octets: bytes | msgspec.Raw, *, field: str) -> _Decoded:
    try:
        return decoder.decode(octets)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        # The sentence ends with "- at `$.path`" where it is about a member.
        said, _, place = str(error).partition(" - at `$")
        raise Fault(Reason.PAYLOAD_MALFORMED, f"{said}.", field=field + place.rstrip("`")) from None
