"""A record as protobuf bytes, joined by hand: a bulk load encodes one for each row, and message objects cost thrice.

Byte for byte what protobuf's own serializer gives for a `topnode.resolver.v1.Record`; a property test holds it to
that. Fields stand in the order of their numbers. A number that is 0 and a text that is empty are not written, but a
lifetime always is (it belongs to a oneof). Everything else that is encoded goes through messages, in `resolver.wire`.
"""

from functools import lru_cache
from typing import Final

from resolver.record import Absolute, Permission, Record, Reference, Relative, Tombstone, Value

_PUBLIC_READ: Final = int(Permission.PUBLIC_READ)


def varint(number: int) -> bytes:
    """Encode an unsigned number of at most 64 bits."""
    if number < 0x80:
        return bytes((number,))
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)


class Heads(dict[int, bytes]):
    """A tag with a number behind it, for every number: the small ones are made beforehand."""

    def __init__(self, tag: bytes) -> None:
        super().__init__((number, tag + varint(number)) for number in range(1_024))
        self._tag = tag

    def __missing__(self, number: int) -> bytes:
        return self._tag + varint(number)


IDENTIFIER: Final = Heads(b"\x0a")  # Record field 1
VALUE: Final = Heads(b"\x12")  # Record field 2
INDEX: Final = Heads(b"\x08")  # Value field 1
DATA: Final = Heads(b"\x1a")  # Value field 3
DATA[0] = b""
"""What stands before each of these, by its length (the index: by itself)."""


def encode_record(record: Record, *, public: bool) -> bytes:
    """Encode a record with all values, or only with those that everybody may read."""
    identifier = record.identifier.to_bytes()
    pieces = [IDENTIFIER[len(identifier)], identifier]
    for value in record.values:
        if public and not value.permissions & _PUBLIC_READ:
            continue
        octets = _value(value)
        pieces += (VALUE[len(octets)], octets)
    pieces.append(record_origin(record.registrant, record.registered_at, record.updated_at))
    if record.tombstone:
        pieces.append(field(b"\x32", _tombstone(record.tombstone)))
    return b"".join(pieces)


def _value(value: Value) -> bytes:
    octets = b"".join(
        (
            INDEX[value.index],
            value_type(value.type),
            DATA[len(value.data)],
            value.data,
            value_terms(value.lifetime, value.timestamp, value.permissions),
        )
    )
    return octets + _references(value.references) if value.references else octets


# The values of a load have few types and terms between them, and its records few origins: each is encoded once.


@lru_cache(4_096)
def value_type(name: str) -> bytes:
    """Encode the type of a value."""
    return field(b"\x12", name.encode())


@lru_cache(4_096)
def value_terms(lifetime: Relative | Absolute, timestamp: int, permissions: int) -> bytes:
    """Encode what stands behind the data of a value that has no references."""
    return _until(lifetime) + _number(b"\x30", timestamp) + _number(b"\x38", permissions)


def _until(lifetime: Relative | Absolute) -> bytes:
    if isinstance(lifetime, Relative):
        return b"\x20" + varint(lifetime.seconds)
    return b"\x28" + varint(lifetime.expires_at)


@lru_cache(4_096)
def record_origin(registrant: str, registered_at: int, updated_at: int) -> bytes:
    """Encode what stands behind the values of a record that is no tombstone."""
    who = field(b"\x1a", registrant.encode()) if registrant else b""
    return who + _number(b"\x20", registered_at) + _number(b"\x28", updated_at)


def _references(references: tuple[Reference, ...]) -> bytes:
    return b"".join(
        field(b"\x42", field(b"\x0a", reference.handle.encode()) + _number(b"\x10", reference.index))
        for reference in references
    )


def _tombstone(tombstone: Tombstone) -> bytes:
    reason = field(b"\x0a", tombstone.reason.encode()) if tombstone.reason else b""
    return reason + _number(b"\x10", tombstone.deleted_at)


def field(tag: bytes, octets: bytes) -> bytes:
    """Encode a text, bytes or a message behind its tag, with the length between them."""
    return tag + varint(len(octets)) + octets


def _number(tag: bytes, number: int) -> bytes:
    return tag + varint(number) if number else b""
