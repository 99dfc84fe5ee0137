"""Answers as they come from a node: what kind of answer it is, is known; its record is read when it is looked at.

A record costs more to read than everything else that a lookup does, and many callers only want to know whether
there is one, or do not look at all of what they asked for.
"""

from typing import Final

from msgspec.structs import force_setattr

from resolver.answer import Answer
from resolver.record import Record
from resolver.v1 import resolver_pb2 as pb
from resolver.wire import (
    answer_from_message,
    decode_record,
    hops_from_wire,
    outcome_from_wire,
    standing_from_wire,
    trust_from_wire,
)

_FIELDS: Final = Answer.__struct_fields__


class Received(Answer, frozen=True, kw_only=True, gc=False, eq=False):
    """An Answer, and equal to one that says the same.

    `record` raises the Fault of a record that this version cannot read: VALUE_INVALID and others. `octets` are the
    answer as it came until then (not the message, which would hold its whole batch), `read` is its record afterwards.
    """

    octets: bytes = b""
    read: Record | None = None

    @property  # type: ignore[misc] # the field of a frozen struct is only read, as a property is
    def record(self) -> Record | None:
        if self.octets:
            force_setattr(self, "read", decode_record(self.octets))
            force_setattr(self, "octets", b"")
        return self.read

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    def __hash__(self) -> int:
        return hash(self._whole())

    def __repr__(self) -> str:
        return repr(self._whole())

    def _whole(self) -> Answer:
        return Answer(**{name: getattr(self, name) for name in _FIELDS})


def received(message: pb.Answer) -> Answer:
    """Take an answer as it came.

    Raises:
        Fault: ENUM_UNKNOWN where a newer node uses a number that this version does not know.
    """
    if not message.HasField("record") or message.HasField("referral"):
        return answer_from_message(message)
    provenance = message.provenance
    return Received(
        outcome=outcome_from_wire(message.outcome),
        standing=standing_from_wire(message.standing),
        authority=provenance.authority,
        prefix=provenance.prefix,
        stale=message.stale,
        takeover=message.takeover,
        hops=hops_from_wire(provenance),
        expires_at=provenance.expires_at,
        trust=trust_from_wire(provenance.trust),
        octets=message.SerializeToString(),
    )
