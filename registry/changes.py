"""What a row that changes an identifier makes of the record that is held. Pure functions: nothing is looked up."""

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from registry.records import renew_values, stamped
from registry.rows import ValueRow, to_values
from resolver.errors import Fault, Reason
from resolver.record import Record, Tombstone


def check_held(held: Record | None, expected_version: int | None) -> Record:
    """Check that there is a record to be changed, in the version that was expected.

    Raises:
        Fault: IDENTIFIER_UNKNOWN, IDENTIFIER_DELETED, VERSION_MISMATCH.
    """
    if held is None:
        raise Fault(Reason.IDENTIFIER_UNKNOWN, field="identifier")
    if held.tombstone:
        raise Fault(Reason.IDENTIFIER_DELETED, field="identifier")
    if expected_version is not None and expected_version != held.version:
        raise Fault(
            Reason.VERSION_MISMATCH,
            f"The record has version {held.version}, not {expected_version}.",
            field="expected_version",
            variables={"version": str(held.version), "expected": str(expected_version)},
        )
    return held


def updated(held: Record, values: Sequence[ValueRow], registrant: str, now: int) -> Record:
    """Put other content in the place of all that there is. Without a registrant that stays; so does the spelling.

    Raises:
        Fault: VALUE_INVALID, ROW_MALFORMED, RECORD_TOO_LARGE.
    """
    content = renew_values(held.values, to_values(values, now), stamped(values))
    return replace(held, values=content, registrant=registrant or held.registrant)


def with_values(held: Record, values: Sequence[ValueRow], now: int) -> Record:
    """Add values, in the place of those with the same indexes; all others stay.

    Raises:
        Fault: as `updated`.
    """
    said = renew_values(held.values, to_values(values, now), stamped(values))
    indexes = {value.index for value in said}
    kept = [value for value in held.values if value.index not in indexes]
    return replace(held, values=tuple(sorted((*kept, *said), key=lambda value: value.index)))


def without_values(held: Record, indexes: Collection[int]) -> Record:
    """Take the values with these indexes away; those that are not there change nothing."""
    return replace(held, values=tuple(value for value in held.values if value.index not in indexes))


def deleted(held: Record, reason: str, now: int) -> Record:
    """Leave a tombstone.

    Raises:
        Fault: VALUE_INVALID for a reason that is no printable text.
    """
    try:
        tombstone = Tombstone(reason=reason, deleted_at=now)
    except Fault as fault:
        raise fault.anew(field="reason") from None
    return replace(held, values=(), tombstone=tombstone)
