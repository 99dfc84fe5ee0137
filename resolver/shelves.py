"""What resolvers keep in a cache that they share, as bytes: entries, markers, and the state of the shelf they lie on.

    entry = kind, era (4), version (8), as_of (8), body          integers are big-endian, so they compare as bytes
    state = era (4), since (8), below (8), marked (8)

An entry holds a record's public body, or says that the authority has none (ABSENT, version 0). A marker (MARKER)
stands where a record was changed: its version is the change's index, so whatever is older is not to be believed. A
shelf is what is kept, lost and written together: one for a server, or some for each server of a cluster.
"""

import struct
from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

FOUND: Final = b"\x01"
ABSENT: Final = b"\x02"
MARKER: Final = b"\x03"

ERA_BYTES: Final = 4
VERSION_AT: Final = 1 + ERA_BYTES
AS_OF_AT: Final = VERSION_AT + 8
BODY_AT: Final = AS_OF_AT + 8

NOWHERE: Final = -1
"""The index up to which a shelf without a state is marked."""

_NUMBERS: Final = struct.Struct(">QQ")
_STATE: Final = struct.Struct(f">{ERA_BYTES}sQQQ")


class State(Struct, frozen=True, gc=False):
    """What holds for all of a shelf.

    `era` is drawn when it begins; what is of another one counts as not there. `since` is the index as of which, at
    the least, entries of this era are read. All named changes up to `marked` have left their markers. `below` is the
    newest change that named no keys but what they are below, 0 where there was none in this era.
    """

    era: bytes
    since: int
    below: int
    marked: int

    def to_bytes(self) -> bytes:
        return _STATE.pack(self.era, self.since, self.below, self.marked)

    @staticmethod
    def from_bytes(octets: bytes) -> "State | None":
        """Read it; None where there is none."""
        return State(*_STATE.unpack(octets)) if len(octets) == _STATE.size else None


class Shelf(Struct, frozen=True, gc=False):
    """What was found on one shelf, at one moment: for places in a batch of keys what lies there, if anything.

    `state` is None where the shelf could not be asked, or has lost its state: then there are no values.
    """

    places: Sequence[int]
    values: Sequence[bytes | None]
    state: State | None


class Fill(Struct, frozen=True, gc=False):
    """What a store said of one key, to be kept: a body, None for absent, with its version, as of an index."""

    key: bytes
    body: bytes | None
    version: int
    as_of: int
    era: bytes

    def to_bytes(self) -> bytes:
        numbers = _NUMBERS.pack(self.version, self.as_of)
        return ABSENT + self.era + numbers if self.body is None else FOUND + self.era + numbers + self.body


class SharedCache(Protocol):
    """What resolvers share. Nothing that it does or fails to do is an error to whoever asks.

    Of each key it holds nothing, a marker, or an entry. What is of another era counts as nothing. What is newer (by
    version, then by as_of) takes the place of what is older; and a body takes that of a marker of its own version. An
    absence, whose version is 0, takes no marker's place.
    """

    async def get(self, keys: Sequence[bytes]) -> list[Shelf]:
        """Give what is held: each place of the batch stands on one shelf, with the values as of one moment."""

    async def fill(self, fills: Sequence[Fill]) -> None:
        """Keep these as far as there is room, each key once; not those of another era or older than this one's."""


class MarkedCache(Protocol):
    """The same cache, for the one who tells it of changes. None, or False, says that it could not be reached."""

    async def marked(self) -> int | None:
        """Give the index up to which all shelves are marked."""

    async def mark(self, changed: Sequence[tuple[bytes, int]], *, below: int, after: int, upto: int) -> int | None:
        """Leave markers for changed keys, and note that all changes in (`after`, `upto`] are marked.

        `below` is the newest of them that named no keys, else 0. A shelf that is not marked up to `after` is left as
        it is: it has forgotten something. Gives what `marked` gives after that.
        """

    async def begin(self, index: int, *, anew: bool) -> bool:
        """Begin an era, with everything up to this index known, on shelves without a state; `anew`: on all."""

    async def publish(self, index: int) -> bool:
        """Tell whoever listens that changes up to this index can be read."""


def number(index: int) -> bytes:
    """Give an index as it stands in entries."""
    return index.to_bytes(8, "big")


def version_of(value: bytes) -> int:
    """Read the version of an entry or a marker."""
    return int.from_bytes(value[VERSION_AT:AS_OF_AT], "big")
