"""Signed queries: a reader proves who it is, by an envelope over the SHA-256 of its request.

It travels in the metadata `topnode-query-bin`. Its nonce is not spent: the same bytes may be sent again as long as
they are fresh, because a read changes nothing, and what it shows goes to whoever holds the request's connection. A
query is worth nothing for another request, method or node.
"""

import secrets
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.trust.actors import NodeTable
from resolver.trust.envelopes import Envelope, kind_of, payload_type_of, seal
from resolver.trust.heads import LIFETIME, Payload, check_audience, check_times, new_head
from resolver.trust.keys import PrivateKey
from resolver.trust.operators import Operators
from resolver.trust.signers import Signer, Signers

QUERY_KEY: Final = "topnode-query-bin"
"""The name of the metadata in which the envelope travels."""

QUERY_KIND: Final = "query.v1"

QUERY_BYTES: Final = 8 * 1024
"""No query's envelope is longer: gRPC takes 8 KiB of metadata."""


class _Body(Struct, frozen=True, forbid_unknown_fields=True):
    """Which request this is about: the SHA-256 of its message's bytes, in hexadecimal digits."""

    request_sha256: str


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Body)


def sign_query(
    request: bytes, *, node: str, method: str, actor: str, key: PrivateKey, now: float, lifetime: int = LIFETIME
) -> bytes:
    """Sign the bytes of a request to this method of this node; the result is the metadata's value."""
    head = new_head(
        node=node, method=method, actor=actor, request_id=secrets.token_hex(8), now=now, lifetime=lifetime
    )
    payload = Payload(head, _encoder.encode(_Body(sha256(request).hexdigest())))
    return seal(payload_type_of(QUERY_KIND), payload.to_bytes(), [key]).to_bytes()


class QueryVerifier:
    """Tells who signed a query."""

    def __init__(self, node: str, nodes: NodeTable, operators: Operators, clock: Clock) -> None:
        self._node = node
        self._signers = Signers(nodes, operators)
        self._clock = clock

    def identity(self, envelope_octets: bytes, method: str, request_octets: bytes) -> str:
        """Give the node's identifier, or the operator's name, that this request to this method comes from.

        Raises:
            Fault: as `signer`.
        """
        return self.signer(envelope_octets, method, request_octets).name

    def signer(self, envelope_octets: bytes, method: str, request_octets: bytes) -> Signer:
        """Give the node or the operator that this request to this method comes from, told apart by the key.

        Raises:
            Fault: whatever the registry's ladder says of an envelope (but for spent nonces).
        """
        if len(envelope_octets) > QUERY_BYTES:
            raise Fault(Reason.ENVELOPE_MALFORMED, f"A signed query has at most {QUERY_BYTES} bytes.")
        envelope = Envelope.from_bytes(envelope_octets)
        if kind_of(envelope.payload_type) != QUERY_KIND:
            raise Fault(Reason.PAYLOAD_TYPE_UNKNOWN, field="payload_type")
        payload, signer = self._signers.open(envelope)
        check_audience(payload.head, node=self._node, method=method)
        check_times(payload.head, self._clock.wall())
        _check_request(payload.body, request_octets)
        return signer


def _check_request(body: bytes, request: bytes) -> None:
    try:
        named = _decoder.decode(body).request_sha256
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Fault(Reason.PAYLOAD_MALFORMED, str(error), field="body") from None
    if named != sha256(request).hexdigest():
        raise Fault(
            Reason.SIGNATURE_INVALID, "The query was signed for another request.", field="body.request_sha256"
        )
