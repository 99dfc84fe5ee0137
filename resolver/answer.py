"""What is answered: the noun for people (`Answer`) and the ready bytes that the read path passes on (`Ready`)."""

from enum import IntEnum
from typing import Final

from msgspec import Struct

from resolver.errors import Fault
from resolver.record import Record
from resolver.routes import Referral


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


class Answer(Struct, frozen=True, kw_only=True):
    """An answer, decoded. `authority` and `prefix` say whose word it is."""

    outcome: Outcome
    record: Record | None = None
    referral: Referral | None = None
    standing: Standing = Standing.UNSPECIFIED
    authority: str = ""
    prefix: str = ""
    stale: bool = False


class Ready:
    """One identifier's public answer, encoded, with what a cache must know to keep it.

    `frame` is the answer as one result of a batch: tag and length, then exactly the bytes of a unary response (see
    `resolver.wire.unary`). `expires` is on the monotonic clock. `epoch` is that of the prefix chain at the time of
    reading; `generation` is the route table's when the epoch was last compared; `visits` belongs to the cache.
    An answer that may not be kept has `expires` 0.

    A plain class with slots and no validation: one is made for each identifier that a cache did not hold.
    """

    __slots__ = ("epoch", "expires", "frame", "generation", "outcome", "visits")

    def __init__(self, frame: bytes, outcome: int, expires: float = 0.0, epoch: int = 0, generation: int = 0) -> None:
        self.frame = frame
        self.outcome = outcome
        self.expires = expires
        self.epoch = epoch
        self.generation = generation
        self.visits = 0


class Failed(Ready):
    """In the place of an answer: what went wrong for this identifier. Encoded by the front, kept by nobody."""

    __slots__ = ("fault",)

    def __init__(self, fault: Fault) -> None:
        super().__init__(b"", FAULT)
        self.fault = fault


# Plain ints: comparing with an IntEnum member costs more than all else that the hot path does with an outcome.
FAULT: Final = int(Outcome.FAULT)
FOUND: Final = int(Outcome.FOUND)
ABSENT: Final = int(Outcome.ABSENT)
NOT_HERE: Final = int(Outcome.NOT_HERE)
REFERRAL: Final = int(Outcome.REFERRAL)
