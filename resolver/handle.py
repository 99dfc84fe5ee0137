"""Identifiers: `prefix/suffix`, their rules, and the canonical key under which they are kept.

Syntax: RFC 3651 section 2, with the bounds of `resolver.bounds`. An identifier is split at its first slash; the
prefix is segments with dots between, and segments are text: 88.101.0042 is not 88.101.42. Case is folded for ASCII
letters only and nothing is normalised: two canonically equal Unicode spellings are two identifiers, as everywhere
in the Handle System.

The functions take and give bytes because the read path never decodes; `Handle` is the same for everybody else.
"""

import re
from collections.abc import Iterator
from enum import IntEnum
from typing import Self

from msgspec import Struct

from resolver.bounds import IDENTIFIER_BYTES
from resolver.errors import Fault, Reason

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class CaseRule(IntEnum):
    """Whether the suffixes below a prefix differ by ASCII case. Fixed when the prefix is created, and inherited."""

    INSENSITIVE = 0
    SENSITIVE = 1


def fold(octets: bytes) -> bytes:
    """Fold ASCII case, upwards as Handle servers do; other bytes stay."""
    return octets.upper()


def canonical(identifier: bytes, *, prefix_length: int, case_sensitive: bool) -> bytes:
    """Give the key of a checked identifier. Folding it again changes nothing."""
    if not case_sensitive:
        return identifier.upper()
    return identifier[:prefix_length].upper() + identifier[prefix_length:]


def check_text(identifier: bytes) -> None:
    """Refuse what is empty, too long, not UTF-8 or holds control characters.

    Raises:
        Fault: IDENTIFIER_EMPTY, _TOO_LONG, _NOT_UTF8 or _CONTROL_CHARACTER.
    """
    if not identifier:
        raise Fault(Reason.IDENTIFIER_EMPTY, field="identifier")
    if len(identifier) > IDENTIFIER_BYTES:
        raise Fault(
            Reason.IDENTIFIER_TOO_LONG,
            f"The identifier has {len(identifier)} bytes; {IDENTIFIER_BYTES} are allowed.",
            field="identifier",
            variables={"bytes": str(len(identifier)), "allowed": str(IDENTIFIER_BYTES)},
        )
    try:
        text = identifier.decode()
    except UnicodeDecodeError as error:
        raise Fault(
            Reason.IDENTIFIER_NOT_UTF8,
            f"Byte {error.start} of the identifier is not UTF-8.",
            field="identifier",
            variables={"offset": str(error.start)},
        ) from None
    # Nearly every identifier is printable through and through; only the others are searched.
    if not text.isprintable() and (found := _CONTROL.search(text)):
        raise Fault(
            Reason.IDENTIFIER_CONTROL_CHARACTER,
            f"Character {found.start()} of the identifier is the control character U+{ord(found[0]):04X}.",
            field="identifier",
            variables={"offset": str(found.start()), "character": f"U+{ord(found[0]):04X}"},
        )


def split(identifier: bytes) -> tuple[bytes, bytes]:
    """Split at the first slash and check everything that can be checked without knowing the prefixes.

    Raises:
        Fault: IDENTIFIER_* or PREFIX_EMPTY_SEGMENT, always with the field `identifier`.
    """
    check_text(identifier)
    prefix, slash, suffix = identifier.partition(b"/")
    if not slash:
        raise Fault(Reason.IDENTIFIER_NO_SLASH, field="identifier")
    if not suffix:
        raise Fault(Reason.IDENTIFIER_EMPTY_SUFFIX, field="identifier")
    check_segments(prefix, field="identifier")
    return prefix, suffix


def check_segments(prefix: bytes, *, field: str) -> None:
    """Refuse a prefix with an empty segment.

    Raises:
        Fault: PREFIX_EMPTY_SEGMENT.
    """
    if not prefix or prefix[0] == 0x2E or prefix[-1] == 0x2E or b".." in prefix:
        raise Fault(Reason.PREFIX_EMPTY_SEGMENT, field=field)


def check_prefix(prefix: bytes, *, field: str = "prefix") -> bytes:
    """Check a bare prefix and give it folded.

    Raises:
        Fault: as `split`, and PREFIX_HAS_SLASH.
    """
    try:
        check_text(prefix)
    except Fault as fault:
        raise fault.anew(field=field) from None
    if b"/" in prefix:
        raise Fault(Reason.PREFIX_HAS_SLASH, field=field)
    check_segments(prefix, field=field)
    return prefix.upper()


def ancestors(prefix: bytes) -> Iterator[bytes]:
    """Walk from a prefix to its first segment: 88.111.1, 88.111, 88."""
    while prefix:
        yield prefix
        prefix = prefix.rpartition(b".")[0]


def encoded(text: str, *, field: str = "identifier") -> bytes:
    """Give text as UTF-8.

    Raises:
        Fault: IDENTIFIER_NOT_UTF8 for a lone surrogate: what an argument or a file name that is not UTF-8 becomes.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Fault(Reason.IDENTIFIER_NOT_UTF8, field=field) from None


def lineage(prefix: bytes, segments: int) -> Iterator[bytes]:
    """Walk from the first segment of a prefix down to itself, at most this many: 88, 88.111, 88.111.1."""
    end = -1
    for _ in range(segments):
        end = prefix.find(b".", end + 1)
        if end < 0:
            yield prefix
            return
        yield prefix[:end]


class Handle(Struct, frozen=True, order=True, gc=False):
    """An identifier in the spelling in which somebody wrote it."""

    prefix: str
    suffix: str

    def __post_init__(self) -> None:
        # Nearly every identifier is short printable ASCII, which a client that decodes thousands can see at once.
        prefix, suffix = self.prefix, self.suffix
        if (
            prefix.isascii()
            and suffix.isascii()
            and prefix.isprintable()
            and suffix.isprintable()
            and suffix
            and len(prefix) + len(suffix) < IDENTIFIER_BYTES
            and "/" not in prefix
            and "." not in {prefix[:1], prefix[-1:]}
            and ".." not in prefix
            and prefix
        ):
            return
        split(self.to_bytes())
        if "/" in self.prefix:
            raise Fault(Reason.PREFIX_HAS_SLASH, field="prefix")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read `prefix/suffix`.

        Raises:
            Fault: as `split`.
        """
        prefix, slash, suffix = text.partition("/")
        if not slash:
            split(encoded(text))  # says what is wrong with it
        return cls(prefix, suffix)

    @classmethod
    def from_bytes(cls, octets: bytes) -> Self:
        """Read UTF-8.

        Raises:
            Fault: as `split`.
        """
        prefix, suffix = split(octets)
        return cls(prefix.decode(), suffix.decode())

    def to_text(self) -> str:
        return f"{self.prefix}/{self.suffix}"

    def to_bytes(self) -> bytes:
        return encoded(f"{self.prefix}/{self.suffix}")

    def canonical(self, rule: CaseRule) -> bytes:
        """Give the key under which a store keeps this identifier, by the rule of its longest allocated prefix."""
        octets = self.to_bytes()
        return canonical(octets, prefix_length=octets.index(b"/"), case_sensitive=rule is CaseRule.SENSITIVE)

    def __str__(self) -> str:
        return self.to_text()
