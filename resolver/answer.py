"""What is answered: the noun for people (`Answer`) and the ready bytes that the read path passes on (`Ready`)."""

from enum import IntEnum
from typing import Final

from msgspec import Struct

from resolver.errors import Fault
from resolver.record import Record
from resolver.routes import Protocol, Referral
from resolver.trust.verdicts import Trust


class Outcome(IntEnum):
    """What kind of answer this is; numbers as on the wire, and 0 for none at all."""

    FAULT = 0
    FOUND = 1
    ABSENT = 2
    NOT_HERE = 3
    REFERRAL = 4


class Standing(IntEnum):
    """With what right a node gives a record; numbers as on the wire."""

    UNSPECIFIED = 0
    AUTHORITATIVE = 1
    REGISTERED_COPY = 2
    CACHED = 3


class Hop(Struct, frozen=True, gc=False):
    """A node that was asked for an answer, by what, and when it answered (Unix time in milliseconds)."""

    node: str
    protocol: Protocol
    obtained_at: int


class Answer(Struct, frozen=True, kw_only=True, gc=False):
    """An answer, decoded. `authority` and `prefix` say whose word it is.

    `takeover`: it is the registered copy, because the authority is down. `hops` are the nodes by which it came, the
    farthest first; `expires_at` (Unix seconds, 0: not said) is until when it may be kept.
    """

    outcome: Outcome
    record: Record | None = None
    referral: Referral | None = None
    standing: Standing = Standing.UNSPECIFIED
    authority: str = ""
    prefix: str = ""
    stale: bool = False
    takeover: bool = False
    hops: tuple[Hop, ...] = ()
    expires_at: int = 0
    trust: Trust = Trust.UNSPECIFIED


# Plain ints: comparing with an IntEnum member costs more than all else that the hot path does with an outcome.
FAULT: Final = int(Outcome.FAULT)
FOUND: Final = int(Outcome.FOUND)
ABSENT: Final = int(Outcome.ABSENT)
NOT_HERE: Final = int(Outcome.NOT_HERE)
REFERRAL: Final = int(Outcome.REFERRAL)


class Ready(Struct, eq=False, gc=False):
    """One identifier's public answer, encoded, with what a cache must know to keep it.

    `frame` is the answer as one result of a batch: tag and length, then exactly the bytes of a unary response (see
    `resolver.wire.unary`). `expires` is on the monotonic clock; an answer that may not be kept has 0. `epoch` is that
    of the prefix chain at the time of reading; `generation` is the route table's when the epoch was last compared.
    `as_of` is the journal index of the state that was read. `tag` is for counting and means nothing to whoever passes
    it on (`resolver.counting`); empty: it is not counted. `key` is the canonical key under which a front may keep it;
    empty: under none. `is_own`: it is this node's own word, the same however far a question goes (its mode and path).
    `visits` and `place` belong to the memory cache, so an answer is kept by one cache only.

    One is made for each identifier that a cache did not hold, and a cache keeps hundreds of thousands: out of sight
    of the garbage collector, whose passes over them would cost more than making them. Nothing here can form a cycle.
    """

    frame: bytes = b""
    outcome: int = FAULT
    expires: float = 0.0
    epoch: int = 0
    generation: int = 0
    as_of: int = 0
    tag: bytes = b""
    key: bytes = b""
    is_own: bool = False
    visits: int = 0
    place: int = 0


class Failed(Ready, kw_only=True, eq=False, gc=True):
    """In the place of an answer: what went wrong for this identifier. Encoded by the front, kept by nobody."""

    fault: Fault
