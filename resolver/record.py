"""Records and their values (RFC 3651 section 3). How they look on the wire is in `resolver.wire`."""

from enum import IntFlag
from typing import Final

from msgspec import Struct

from resolver.bounds import (
    INDEX_MAX,
    RECORD_VALUES,
    SECONDS_MAX,
    VALUE_DATA_BYTES,
    VALUE_REFERENCES,
    VALUE_TYPE_BYTES,
)
from resolver.errors import Fault, Reason
from resolver.handle import Handle

DEFAULT_TTL: Final = 86_400
"""Seconds that a value may be kept when nobody said otherwise (RFC 3651 section 3.1)."""


class Permission(IntFlag):
    """Who may do what with a value; the bits are those of the Handle wire."""

    PUBLIC_WRITE = 1
    PUBLIC_READ = 2
    ADMIN_WRITE = 4
    ADMIN_READ = 8


DEFAULT_PERMISSIONS: Final = 0b1110

_VERSION_MAX: Final = 2**63 - 1

# A plain int: an operation on an IntFlag costs as much as building the value.
_PUBLIC_READ: Final = int(Permission.PUBLIC_READ)


class Relative(Struct, frozen=True, gc=False):
    """A time to live: an answer may be kept for this many seconds."""

    seconds: int


class Absolute(Struct, frozen=True):
    """A time to live: an answer may be kept until then (Unix time in seconds)."""

    expires_at: int


class Reference(Struct, frozen=True):
    """A pointer to a value of another record."""

    handle: str
    index: int


DEFAULT_LIFETIME: Final = Relative(DEFAULT_TTL)
"""That of nearly all values: this very object, so that none of them need be looked at."""


class Value(Struct, frozen=True, kw_only=True, gc=False):
    """One typed value of a record, addressed by its index.

    `timestamp` is the last change in Unix seconds. Validated when built; a broken rule is a Fault VALUE_INVALID
    whose field is the attribute's name.
    """

    index: int
    type: str
    data: bytes
    lifetime: Relative | Absolute = DEFAULT_LIFETIME
    timestamp: int = 0
    permissions: int = DEFAULT_PERMISSIONS
    references: tuple[Reference, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.index <= INDEX_MAX:
            raise _invalid("index", f"An index is 1 to {INDEX_MAX}, not {self.index}.")
        if not self.type:
            raise _invalid("type", "The type is empty.")
        if not self.type.isprintable() or self.type.endswith("."):
            raise _invalid("type", "A type is printable text and does not end with a dot.")
        if len(self.type) * 4 > VALUE_TYPE_BYTES and len(self.type.encode()) > VALUE_TYPE_BYTES:
            raise _invalid("type", f"A type has at most {VALUE_TYPE_BYTES} bytes of UTF-8.")
        if len(self.data) > VALUE_DATA_BYTES:
            raise _invalid("data", f"The data has {len(self.data)} bytes; {VALUE_DATA_BYTES} are allowed.")
        if self.lifetime is not DEFAULT_LIFETIME:
            self._check_lifetime()
        if not 0 <= self.timestamp <= SECONDS_MAX:
            raise _invalid("timestamp", f"A time stamp is 0 to {SECONDS_MAX} seconds.")
        if not 0 <= self.permissions <= 0b1111:
            raise _invalid("permissions", "Permissions are four bits, 0 to 15.")
        if self.references:
            self._check_references()

    def _check_lifetime(self) -> None:
        seconds = self.lifetime.seconds if isinstance(self.lifetime, Relative) else self.lifetime.expires_at
        if not 0 <= seconds <= SECONDS_MAX:
            raise _invalid("lifetime", f"A time to live is 0 to {SECONDS_MAX} seconds.")

    def _check_references(self) -> None:
        if len(self.references) > VALUE_REFERENCES:
            raise _invalid("references", f"A value has at most {VALUE_REFERENCES} references.")
        for reference in self.references:
            try:
                Handle.from_text(reference.handle)
            except Fault as fault:
                raise _invalid("references", f"A reference names no identifier. {fault.detail}") from None
            if not 0 <= reference.index <= INDEX_MAX:
                raise _invalid("references", f"The index of a reference is 0 to {INDEX_MAX}.")

    @property
    def is_public(self) -> bool:
        """May everybody read it?"""
        return bool(self.permissions & _PUBLIC_READ)


class Tombstone(Struct, frozen=True, kw_only=True):
    """What is left of a deleted identifier, so that it is not given out again silently."""

    reason: str
    deleted_at: int

    def __post_init__(self) -> None:
        if not self.reason.isprintable():
            raise _invalid("tombstone.reason", "A reason is printable text.")
        if not 0 <= self.deleted_at <= SECONDS_MAX:
            raise _invalid("tombstone.deleted_at", f"A time is 0 to {SECONDS_MAX} seconds.")


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """What is registered for one identifier.

    `identifier` holds the registered spelling; `version` is the journal index of the last change, 0 before there is
    one; times are Unix seconds. Values stand in the order of their indexes, each index once. Validated when built.
    """

    identifier: Handle
    values: tuple[Value, ...] = ()
    version: int = 0
    registrant: str = ""
    registered_at: int = 0
    updated_at: int = 0
    tombstone: Tombstone | None = None

    def __post_init__(self) -> None:
        if len(self.values) > RECORD_VALUES:
            raise Fault(
                Reason.RECORD_TOO_LARGE,
                f"The record has {len(self.values)} values; {RECORD_VALUES} are allowed.",
                field="values",
            )
        if not self.registrant.isprintable():
            raise _invalid("registrant", "A registrant is a node identifier: printable text.")
        if not 0 <= self.registered_at <= SECONDS_MAX:
            raise _invalid("registered_at", f"A time is 0 to {SECONDS_MAX} seconds.")
        if not 0 <= self.updated_at <= SECONDS_MAX:
            raise _invalid("updated_at", f"A time is 0 to {SECONDS_MAX} seconds.")
        if not 0 <= self.version <= _VERSION_MAX:
            raise _invalid("version", f"A version is 0 to {_VERSION_MAX}.")
        last = 0
        for value in self.values:
            if value.index <= last:
                raise _invalid("values", f"Index {value.index} stands twice or out of order.")
            last = value.index
        if self.tombstone and self.values:
            raise _invalid("tombstone", "A deleted identifier has no values.")

    @property
    def is_public(self) -> bool:
        """May everybody read all of it?"""
        for value in self.values:  # noqa: SIM110 - a third of the time that all() takes, for each row of a load
            if not value.permissions & _PUBLIC_READ:
                return False
        return True


def _invalid(field: str, detail: str) -> Fault:
    return Fault(Reason.VALUE_INVALID, detail, field=field)
