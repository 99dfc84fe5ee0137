"""Rows of a bulk load, typed, and the nouns that are built of them.

How they are read is in `registry.ndjson_rows` and `registry.csv_rows`; what may be registered, in `registry.intake`.
"""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from operator import attrgetter
from typing import Annotated, Final, Generic, Literal, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from resolver.bounds import SECONDS_MAX
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule
from resolver.record import DEFAULT_LIFETIME, DEFAULT_PERMISSIONS, Absolute, Reference, Relative, Value
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState, Protocol

ROW_BYTES: Final = 1024 * 1024
"""A row as it stands in the input; four times what a record may have, since JSON escapes and base64 lengthen it."""

PERMISSIONS_UNSAID: Final = f"{DEFAULT_PERMISSIONS:04b}"
"""Permissions of a value whose row says none: this very text, so that no text need be compared."""

_PERMISSIONS: Final = {f"{bits:04b}": bits for bits in range(16)}
_INDEX: Final = attrgetter("index")
_Row_co = TypeVar("_Row_co", covariant=True)


BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
"""What some programs write before the first row; passed over."""


class RowFormat(IntEnum):
    """How rows are written; numbers as on the wire."""

    NDJSON = 1
    CSV = 2


class ReferenceRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A pointer to a value of another record."""

    handle: str
    index: int


class ValueRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One value: its data as text or as base64, and a time to live that is relative (`ttl`) or absolute."""

    index: int
    type: str
    data: str | UnsetType = UNSET
    data_base64: bytes | UnsetType = UNSET
    ttl: int | UnsetType = UNSET
    expires_at: int | UnsetType = UNSET
    timestamp: int | UnsetType = UNSET
    permissions: str = PERMISSIONS_UNSAID
    references: list[ReferenceRow] = []

    def to_value(self, now: int) -> Value:
        """Build the value; one without a time stamp was changed now (Unix time in seconds).

        Raises:
            Fault: VALUE_INVALID, ROW_MALFORMED; the field is named as in the row.
        """
        octets = self._octets() if self.data is UNSET or self.data_base64 is not UNSET else self.data.encode()
        timestamp = now if self.timestamp is UNSET else self.timestamp
        if self.permissions != PERMISSIONS_UNSAID or self.references or self.expires_at is not UNSET:
            return self._special_value(octets, timestamp)
        lifetime = DEFAULT_LIFETIME if self.ttl is UNSET else Relative(self.ttl)
        return Value(index=self.index, type=self.type, data=octets, lifetime=lifetime, timestamp=timestamp)

    def _special_value(self, octets: bytes, timestamp: int) -> Value:
        """Build one that has what hardly any value has; all others are spared looking for it."""
        permissions = _PERMISSIONS.get(self.permissions)
        if permissions is None:
            raise Fault(Reason.VALUE_INVALID, "Permissions are four digits 0 or 1.", field="permissions")
        return Value(
            index=self.index,
            type=self.type,
            data=octets,
            lifetime=self._lifetime(),
            timestamp=timestamp,
            permissions=permissions,
            references=tuple(Reference(each.handle, each.index) for each in self.references),
        )

    def _octets(self) -> bytes:
        if self.data_base64 is UNSET:
            raise Fault(Reason.ROW_MALFORMED, "A value has `data` or `data_base64`; here is neither.", field="data")
        if self.data is not UNSET:
            raise Fault(Reason.ROW_MALFORMED, "A value has `data` or `data_base64`; here are both.", field="data")
        return self.data_base64

    def _lifetime(self) -> Relative | Absolute:
        if self.expires_at is UNSET:
            return DEFAULT_LIFETIME if self.ttl is UNSET else Relative(self.ttl)
        if self.ttl is not UNSET:
            raise Fault(Reason.ROW_MALFORMED, "A value has `ttl` or `expires_at`; here are both.", field="ttl")
        return Absolute(self.expires_at)


def to_values(rows: Sequence[ValueRow], now: int) -> tuple[Value, ...]:
    """Build values, in the order of their indexes; those without a time stamp were changed now.

    Raises:
        Fault: VALUE_INVALID, ROW_MALFORMED; the field is a path: `values[2].index`.
    """
    values: list[Value] = []
    for row in rows:
        try:
            values.append(row.to_value(now))
        except Fault as fault:
            raise _inside(f"values[{len(values)}]", fault) from None
    values.sort(key=_INDEX)
    return tuple(values)


class IdentifierRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One identifier to be registered. Without a registrant it is the load's, or the prefix's holder."""

    identifier: str
    values: list[ValueRow]
    registrant: str = ""

    def to_values(self, now: int) -> tuple[Value, ...]:
        """Build the values; as `to_values`."""
        return to_values(self.values, now)


class EndpointRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where the holder of a prefix answers."""

    protocol: Literal["grpc", "handle_tcp", "handle_udp", "http"]
    address: str
    port: int
    priority: int = 0
    tls_name: str = ""

    @classmethod
    def of(cls, endpoint: Endpoint) -> "EndpointRow":
        return cls(
            protocol=endpoint.protocol.name.lower(),  # type: ignore[arg-type] # the words are the members' names
            address=endpoint.address,
            port=endpoint.port,
            priority=endpoint.priority,
            tls_name=endpoint.tls_name,
        )

    def to_endpoint(self) -> Endpoint:
        return Endpoint(Protocol[self.protocol.upper()], self.address, self.port, self.priority, self.tls_name)


class PrefixRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One prefix to be allocated. Without a case rule it has its parent's."""

    prefix: str
    holder: str
    state: Literal["disabled", "enabled", "to_delete", "rejected", "pending", "in_review"] = "enabled"
    case: Literal["insensitive", "sensitive"] | UnsetType = UNSET
    hosting: Literal["here", "delegated"] = "here"
    expires_at: Annotated[int, Meta(ge=0, le=SECONDS_MAX)] = 0
    endpoints: list[EndpointRow] = []

    def to_prefix(self, inherited: CaseRule) -> Prefix:
        """Build the prefix; its epoch is the store's business.

        Raises:
            Fault: PREFIX_*, IDENTIFIER_* with the field `prefix`; FIELD_OUT_OF_RANGE.
        """
        return Prefix(
            text=self.prefix,
            holder=self.holder,
            state=PrefixState[self.state.upper()],
            case=inherited if self.case is UNSET else CaseRule[self.case.upper()],
            hosting=Hosting[self.hosting.upper()],
            expires_at=self.expires_at,
            endpoints=tuple(self._endpoints()),
        )

    def _endpoints(self) -> Iterator[Endpoint]:
        for number, row in enumerate(self.endpoints):
            try:
                yield row.to_endpoint()
            except Fault as fault:
                raise _inside(f"endpoints[{number}]", fault) from None


class Line(Struct, Generic[_Row_co], frozen=True, gc=False):
    """One row with the number of its first line and its bytes, or the Fault that stands in its place."""

    number: int
    octets: bytes
    row: _Row_co | Fault


def too_long() -> Fault:
    """Make the Fault of a row beyond `ROW_BYTES`."""
    return Fault(
        Reason.ROW_MALFORMED,
        f"The row is longer than {ROW_BYTES} bytes.",
        variables={"allowed": str(ROW_BYTES)},
    )


def _inside(path: str, fault: Fault) -> Fault:
    return fault.anew(field=f"{path}.{fault.field}")
