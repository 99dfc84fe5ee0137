"""Signed answers: a node proves what it said, by an envelope over the SHA-256 of a request and of its response.

It travels in the trailing metadata `topnode-answer-bin`, for calls that ask for it (`options.signed`). One signature
stands for all answers of a call: whoever asked knows both by the byte. That it is of now is shown by the nonce in the
request, and not by the time in it: clocks of nodes are not equal. What an answer says of other nodes, that node
has no more than passed on.
"""

import logging
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.trust.actors import NodeTable
from resolver.trust.envelopes import Envelope, kind_of, payload_type_of, seal
from resolver.trust.keys import PrivateKey
from resolver.trust.operators import Operators
from resolver.trust.signers import Signers, check_current, check_signature, only_signature
from resolver.trust.verdicts import Trust

ANSWER_KEY: Final = "topnode-answer-bin"
"""The name of the metadata in which the envelope travels."""

ANSWER_KIND: Final = "answer.v1"

ANSWER_BYTES: Final = 4 * 1024
"""No answer's envelope is longer."""

_log: Final = logging.getLogger(__name__)


class _Said(Struct, frozen=True, forbid_unknown_fields=True):
    """Who said what to which question, when (Unix seconds). The digests are hexadecimal digits."""

    node: str
    method: str
    request_sha256: str
    response_sha256: str
    at: Annotated[int, Meta(ge=0, lt=2**40)]


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Said)


class AnswerSigner:
    """Signs what a node answers with the key that it is registered with above.

    The key is read when the first signature is wanted, for only then must there be one.
    """

    def __init__(self, node: str, read_key: Callable[[], PrivateKey], clock: Clock) -> None:
        self._node = node
        self._read_key = read_key
        self._clock = clock
        self._key: PrivateKey | None = None
        self._is_told = False

    def sign(self, method: str, request: bytes, response: bytes) -> bytes:
        """Sign the bytes of a response to these of a request; the result is the metadata's value.

        Nothing where the key cannot be read, which is logged once: an answer is worth something without it too.
        """
        if self._key is None:
            try:
                self._key = self._read_key()
            except Fault as fault:
                if not self._is_told:
                    self._is_told = True
                    _log.warning("answers are not signed: %s", fault)
                return b""
        said = _Said(
            self._node,
            method,
            sha256(request).hexdigest(),
            sha256(response).hexdigest(),
            int(self._clock.wall()),
        )
        return seal(payload_type_of(ANSWER_KIND), _encoder.encode(said), [self._key]).to_bytes()


class AnswerVerifier:
    """Tells what a signature of an answer is worth, by the keys of registered nodes."""

    def __init__(self, nodes: NodeTable) -> None:
        self._signers = Signers(nodes, Operators())

    def verdict(self, octets: bytes, *, node: str, method: str, request: bytes, response: bytes) -> Trust:
        """Judge the envelope that came with what this node is to have said; empty: none came.

        UNKNOWN: it is not signed, or by a key that nobody here has. NOT_TRUSTED: by another node's key, by one that
        was replaced, or over something else. The request must be one of a kind, else an older answer fits too.
        """
        if not octets:
            return Trust.UNKNOWN
        try:
            envelope = _envelope(octets)
            signature = only_signature(envelope)
        except Fault:
            return Trust.NOT_TRUSTED
        try:
            signer = self._signers.known(signature.key_id)
        except Fault:
            return Trust.UNKNOWN
        if signer.node is None or signer.name != node:
            return Trust.NOT_TRUSTED
        try:
            check_current(signer.node, signature.key_id)
            check_signature(envelope, signature, signer.public)
            said = _decoder.decode(envelope.payload)
        except (Fault, msgspec.MsgspecError, UnicodeDecodeError):
            return Trust.NOT_TRUSTED
        is_about_this = (said.node, said.method) == (node, method)
        digests = sha256(request).hexdigest(), sha256(response).hexdigest()
        fits = is_about_this and digests == (said.request_sha256, said.response_sha256)
        return Trust.TRUSTED if fits else Trust.NOT_TRUSTED


def _envelope(octets: bytes) -> Envelope:
    """Read an answer's envelope.

    Raises:
        Fault: ENVELOPE_MALFORMED, PAYLOAD_TYPE_UNKNOWN.
    """
    if len(octets) > ANSWER_BYTES:
        raise Fault(Reason.ENVELOPE_MALFORMED)
    envelope = Envelope.from_bytes(octets)
    if kind_of(envelope.payload_type) != ANSWER_KIND:
        raise Fault(Reason.PAYLOAD_TYPE_UNKNOWN)
    return envelope
