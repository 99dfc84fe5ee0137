"""Whether a store holds what its journal comes to: compared with a rebuilt one, database by database.

Not compared is what is each store's own (its secret), and of the feed what only one of both still remembers: how
much that is depends on the groups in which entries were written. Of artefacts only the keys are compared: a
statement names its envelope by hash, and the envelope an import's chunk.
"""

from collections.abc import Callable, Iterator, Mapping
from heapq import merge
from itertools import chain, groupby, islice
from operator import itemgetter
from types import MappingProxyType
from typing import Final, Protocol

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct

from registry.rebuild import Finding, Note, Tell
from resolver import wire
from resolver.errors import Fault
from resolver.routes import Prefix
from resolver.trust.actors import Node
from resolver.trust.merkle import HASH_BYTES, TILE_WIDTH

Row = tuple[bytes, bytes]

OWN_ROWS: Final[Mapping[str, frozenset[bytes]]] = MappingProxyType({"meta": frozenset((b"secret",))})
"""Rows, by database, that are each store's own."""

_AT_ONCE: Final = 512
_TOLD_EVERY: Final = 1_000


class Databases(Protocol):
    """A store as rows, in one state of it."""

    @property
    def databases(self) -> tuple[str, ...]:
        """The names of its databases."""

    def rows(self, database: str) -> Iterator[Row]:
        """Go through the rows of a database, in the order of their keys."""

    def count(self, database: str) -> int:
        """Give how many those are."""


class Difference(Struct, frozen=True):
    """A row that is held, or should be (None: it is not)."""

    key: bytes
    held: bytes | None
    planned: bytes | None

    @property
    def row(self) -> bytes:
        """The row as it should be, or where none should be, as it is."""
        return (self.held or b"") if self.planned is None else self.planned


def compare(held: Databases, rebuilt: Databases, *, note: Note, tell: Tell) -> dict[str, int]:
    """Compare a store with the one that was made of its journal; give how many rows each database holds.

    Raises:
        Fault: whatever `note` raises; STORE_UNAVAILABLE.
    """
    counts = {name: held.count(name) for name in held.databases}
    total, done = sum(counts.values()), 0
    for name in held.databases:
        ours = _counted(held.rows(name), done, total, tell)
        for difference in differences(*_comparable(name, ours, rebuilt.rows(name))):
            note(finding_of(name, difference))
        done += counts[name]
    tell(total, total)
    return counts


def differences(held: Iterator[Row], planned: Iterator[Row]) -> Iterator[Difference]:
    """Give the rows in which two sorted runs of rows differ."""
    while True:
        ours, theirs = list(islice(held, _AT_ONCE)), list(islice(planned, _AT_ONCE))
        if ours != theirs:
            yield from _merged(chain(ours, held), chain(theirs, planned))
            return
        if not ours:
            return


def _merged(held: Iterator[Row], planned: Iterator[Row]) -> Iterator[Difference]:
    both = merge(((key, 0, row) for key, row in held), ((key, 1, row) for key, row in planned))
    for key, sides in groupby(both, itemgetter(0)):
        rows = {side: row for _, side, row in sides}
        if rows.get(0) != rows.get(1):
            yield Difference(key, rows.get(0), rows.get(1))


def _comparable(name: str, held: Iterator[Row], planned: Iterator[Row]) -> tuple[Iterator[Row], Iterator[Row]]:
    if name == "artefacts":
        return ((key, b"") for key, _ in held), ((key, b"") for key, _ in planned)
    if name == "feed":
        return _both_remember(held, planned)
    own = OWN_ROWS.get(name, frozenset())
    return (row for row in held if row[0] not in own), (row for row in planned if row[0] not in own)


def _both_remember(held: Iterator[Row], planned: Iterator[Row]) -> tuple[Iterator[Row], Iterator[Row]]:
    """Begin with the oldest row of whichever begins later."""
    first, second = next(held, None), next(planned, None)
    if first is None or second is None:
        return chain([first] if first else (), held), chain([second] if second else (), planned)
    oldest = max(first[0], second[0])
    return (
        (row for row in chain([first], held) if row[0] >= oldest),
        (row for row in chain([second], planned) if row[0] >= oldest),
    )


def _counted(rows: Iterator[Row], before: int, total: int, tell: Tell) -> Iterator[Row]:
    for number, row in enumerate(rows, start=before):
        if number % _TOLD_EVERY == 0:
            tell(number, total)
        yield row


# --- whose entry a row is ----------------------------------------------------------------------------------------


def finding_of(database: str, difference: Difference) -> Finding:
    """Tell a difference, with the entry that wrote the row, or should have, where that is known."""
    what = "There is a row that no entry wrote"
    if difference.planned is not None:
        what = "A row is missing" if difference.held is None else "A row is not what the journal comes to"
    index = _index(database, difference)
    return Finding(index=index, kind=database, detail=f"{what}: {_name(database, difference.key)}.")


def _index(database: str, difference: Difference) -> int:
    """Give the index of the entry that wrote a row, or should have; 0 where the row does not tell."""
    try:
        return _INDEX.get(database, _untold)(difference)
    except (Fault, msgspec.MsgspecError, DecodeError, ValueError):
        return 0


def _of_key(difference: Difference) -> int:
    return int.from_bytes(difference.key[:8], "big")


def _of_value(difference: Difference) -> int:
    return int.from_bytes(difference.row, "big")


def _of_record(difference: Difference) -> int:
    return wire.decode_record(difference.row).version


def _of_prefix(difference: Difference) -> int:
    return Prefix.from_bytes(difference.row).epoch


def _of_node(difference: Difference) -> int:
    return Node.from_bytes(difference.row).epoch


def _of_tile(difference: Difference) -> int:
    """Of the lowest level, where leaves stand: that of the first leaf in which the tiles differ."""
    _, level, *number = difference.key.split(b"/")
    if int(level) or difference.held is None or difference.planned is None:
        return 0
    tile = int(b"".join(group.lstrip(b"x") for group in number))
    hashes = range(0, TILE_WIDTH * HASH_BYTES, HASH_BYTES)
    held, planned = difference.held, difference.planned
    places = (at // HASH_BYTES for at in hashes if held[at : at + HASH_BYTES] != planned[at : at + HASH_BYTES])
    return tile * TILE_WIDTH + next(places) + 1


def _untold(_difference: Difference) -> int:
    return 0


_INDEX: Final[Mapping[str, Callable[[Difference], int]]] = MappingProxyType(
    {
        "records": _of_record,
        "full": _of_record,
        "prefixes": _of_prefix,
        "nodes": _of_node,
        "feed": _of_key,
        "entries": _of_key,
        "artefacts": _of_key,
        "answers": _of_key,
        "answered": _of_value,
        "tiles": _of_tile,
    }
)

_NUMBERED: Final = frozenset(("feed", "entries", "artefacts", "answers", "nonces"))
"""Databases whose keys begin with a number."""


def _name(database: str, key: bytes) -> str:
    """Spell a key for people."""
    number, rest = [], key
    if database in _NUMBERED:
        number, rest = [str(int.from_bytes(key[:8], "big"))], key[8:]
    text = rest.decode(errors="replace")
    spelled = repr(text) if text.isprintable() and text.encode() == rest else rest.hex()
    return " ".join([*number, spelled] if rest else number)
