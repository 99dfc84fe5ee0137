"""Who signs, what is signed, and by which time: requests before they are sent. Sending stands elsewhere."""

import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import msgspec
from msgspec import Struct

from nodes.client.calls import Metadata
from nodes.client.counts import Counts
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.trust.envelopes import payload_type_of, seal
from resolver.trust.heads import Payload, new_head
from resolver.trust.keys import PrivateKey
from resolver.trust.queries import QUERY_KEY, sign_query

CORRECTION_MAX: Final = 86_400.0
"""Seconds by which a clock is corrected at most. What a node says of its time is not signed: whoever answers in its
place could have requests signed for any time, which would be fresh when that has come."""

SERVER_TIME: Final = "server_time"
"""The variable of a Fault about times that says what time it is at the node, in Unix seconds."""

_TIME: Final = re.compile(r"[0-9]{1,12}")
_ABOUT_TIMES: Final = frozenset({Reason.ENVELOPE_EXPIRED, Reason.ENVELOPE_NOT_YET_VALID})
_encoder: Final = msgspec.json.Encoder()


class Signer(Struct, frozen=True):
    """An actor and its key: a node by its identifier, or an operator by its name."""

    actor: str
    key: PrivateKey

    @classmethod
    def from_file(cls, actor: str, path: str | os.PathLike[str]) -> Self:
        """Take the key from a PEM file, such as `topnode key new` makes.

        Raises:
            Fault: FILE_UNREADABLE (also where others may read it), KEY_INVALID.
        """
        return cls(actor, PrivateKey.from_file(Path(path)))

    def query(self, method: str, request: bytes, *, node: str, now: float) -> Metadata:
        """Sign a question: the metadata that goes with these bytes to this method of this node."""
        signed = sign_query(request, method=method, node=node, actor=self.actor, key=self.key, now=now)
        return ((QUERY_KEY, signed),)


class Draft(Struct, frozen=True):
    """A request before it is signed: the same whenever it is sent, and however often it is signed.

    `kind` is its kind with its version (docs/registry.md), `body` its JSON. Whoever keeps a draft, in a file or an
    outbox, can send it again at any time within 90 days and gets the first answer: nothing is done twice.
    """

    kind: str
    body: bytes
    request_id: str

    @staticmethod
    def of(kind: str, body: object, request_id: str = "") -> "Draft":
        """Encode a body: anything that msgspec encodes. Without a request id it gets one of its own."""
        return Draft(kind, _encoder.encode(body), request_id or secrets.token_hex(16))


class Sealed(Struct, frozen=True):
    """A draft as it was signed once: the bytes to be sent, and until when they may be (the node's Unix time)."""

    octets: bytes
    expires_at: int


def sealed(draft: Draft, signer: Signer, keys: Sequence[PrivateKey], *, node: str, method: str, now: float) -> Sealed:
    """Sign a draft with these keys, for this method of this node."""
    head = new_head(node=node, method=method, actor=signer.actor, request_id=draft.request_id, now=now)
    envelope = seal(payload_type_of(draft.kind), Payload(head, draft.body).to_bytes(), keys)
    return Sealed(envelope.to_bytes(), head.expires_at)


class NodeTime:
    """The node's time, as far as it is known: this machine's, corrected by what the node said of its own.

    `offset` is how many seconds the node is ahead; at most CORRECTION_MAX, either way.
    """

    def __init__(self, clock: Clock, counts: Counts) -> None:
        self.offset = 0.0
        self._clock = clock
        self._counts = counts

    def now(self) -> float:
        return self._clock.wall() + self.offset

    def correct(self, fault: Fault) -> bool:
        """Take the time out of a Fault about times; False where it is about something else, or is not believed.

        It is believed up to CORRECTION_MAX from this machine's own.
        """
        told = fault.variables.get(SERVER_TIME, "")
        if fault.reason not in _ABOUT_TIMES or not _TIME.fullmatch(told):
            return False
        offset = int(told) - self._clock.wall()
        if abs(offset) > CORRECTION_MAX:
            return False
        self.offset = offset
        self._counts.clock_corrections += 1
        return True
