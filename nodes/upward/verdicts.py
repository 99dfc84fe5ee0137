"""What an answer of the node above means for what was pushed: pure functions of a Fault."""

from enum import Enum
from typing import Final

from resolver.errors import Fault, Kind, Reason


class Verdict(Enum):
    """What is to be done about a refusal."""

    AGAIN = "again"
    """It passes, or concerns this node and not what was sent: the same is sent again until it is taken."""

    OWED = "owed"
    """Nothing below the prefix is taken at present: all of it is pushed when that has changed."""

    DONE = "done"
    """It is above already as it should be."""

    FINAL = "final"
    """It will never be taken as it is: it is noted, and what follows goes on."""


_OF_PREFIXES: Final = frozenset(
    {Reason.PREFIX_NOT_ALLOCATED, Reason.PREFIX_NOT_HELD, Reason.PREFIX_DISABLED, Reason.PREFIX_EXPIRED}
)
_DELETED_ALREADY: Final = frozenset({Reason.IDENTIFIER_UNKNOWN, Reason.IDENTIFIER_DELETED})
_OF_CONTENT: Final = frozenset(
    {
        Reason.PAYLOAD_MALFORMED,
        Reason.REQUEST_TOO_LARGE,
        Reason.BATCH_TOO_LARGE,
        Reason.RECORD_TOO_LARGE,
        Reason.VALUE_INVALID,
        Reason.ROW_MALFORMED,
    }
)
_OF_NODES: Final = frozenset(
    {
        Reason.KEY_INVALID,
        Reason.KEY_UNKNOWN,
        Reason.KEY_NOT_ALLOWED,
        Reason.NODE_UNKNOWN,
        Reason.NODE_NOT_ENABLED,
        Reason.SIGNATURE_INVALID,
        Reason.ACTOR_MISMATCH,
        Reason.AUDIENCE_WRONG,
        Reason.ENVELOPE_EXPIRED,
        Reason.ENVELOPE_NOT_YET_VALID,
        Reason.ENVELOPE_LIFETIME,
        Reason.NONCE_SPENT,
        Reason.RECEIPT_INVALID,
    }
)
_PASSING: Final = frozenset(
    {Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED, Kind.RESOURCE_EXHAUSTED, Kind.INTERNAL, Kind.UNIMPLEMENTED}
)


def of_row(fault: Fault, *, deletes: bool) -> Verdict:
    """Judge the refusal of one identifier; what passes is pushed with the rest of its prefix, as another request."""
    if fault.reason in _OF_PREFIXES or fault.kind in _PASSING:
        return Verdict.OWED
    return Verdict.DONE if deletes and fault.reason in _DELETED_ALREADY else Verdict.FINAL


def of_rows(fault: Fault) -> Verdict:
    """Judge the refusal of a whole request about identifiers: FINAL where it is about what stands in it, else AGAIN.

    Whatever is about this node (suspended, its key unknown), its clock or the way to the node above is mended by
    people or by time; what was to be pushed waits for that.
    """
    return Verdict.FINAL if fault.reason in _OF_CONTENT else Verdict.AGAIN


def of_route(fault: Fault) -> Verdict:
    """Judge the refusal of a request about one prefix: AGAIN where it is about this node or passes, else FINAL."""
    return Verdict.AGAIN if fault.reason in _OF_NODES or fault.kind in _PASSING else Verdict.FINAL
