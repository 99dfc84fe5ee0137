"""A part of a load on its way into the store, transaction by transaction. When one begins is the writer's matter."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import lmdb
from msgspec import Struct

from resolver import wire
from resolver.store import Change, Write, Written
from resolver.store.embedded.layout import LEAD, lmdb_key, prefix_of
from resolver.store.embedded.opening import Store
from resolver.store.embedded.writing import CHANGED, NAMED_MAX, Retention, next_index, put_record, remember

if TYPE_CHECKING:
    from lmdb import Cursor, Transaction

# Records between two looks at the clock: 100 us of appending, and a few ms of inserting with a read for each.
_APPENDED_AT_ONCE: Final = 256
_INSERTED_AT_ONCE: Final = 32

_TARGET: Final = 0.06
_SHORTEST: Final = 0.005
_LONGEST: Final = 0.06
FIRST_SPELL: Final = 0.02


class OutOfOrder(Exception):
    """The records were appended as if they were sorted, and are not; nothing of the transaction may be kept."""


class Passage(Struct, frozen=True):
    """What one transaction did: the position up to which all is written, and the journal index of its state."""

    end: int
    index: int


class Part:
    """Writes that go into the store in the order of their keys, and what became of each.

    First it is hoped that they are sorted already: then LMDB appends them, which it does without searching and with
    full pages, and checks the order itself. `at` is how many are in the store; the caller moves it after a commit.
    """

    def __init__(self, writes: Sequence[Write]) -> None:
        self.at = 0
        self.written = [Written.REGISTERED] * len(writes)
        self._writes = writes
        self._places: Sequence[int] = range(len(writes))
        self._is_sorted = False
        self._may_append = True

    def __len__(self) -> int:
        return len(self._writes)

    def reorder(self) -> None:
        """Give up a hope after OutOfOrder: that the writes are sorted, then that no key stands twice or is long."""
        if self._is_sorted:
            self._may_append = False
        else:
            self._sort()

    def put(
        self, transaction: "Transaction[bytes]", store: Store, retention: Retention, is_over: Callable[[], bool]
    ) -> Passage:
        """Write on from `at` until the time is over, and tell the feed below which prefixes something changed.

        Raises:
            OutOfOrder: reorder, and do it again in another transaction.
        """
        index = next_index(transaction, store)
        version = wire.version_field(index)
        below: set[bytes] = set()
        at = self.at
        with transaction.cursor(store.records) as cursor:
            is_appending = self._is_above(cursor)
            step = _APPENDED_AT_ONCE if is_appending else _INSERTED_AT_ONCE
            while at < len(self):
                here = slice(at, at + step)
                if is_appending:
                    below |= _append(transaction, cursor, store, self._writes[here], version)
                else:
                    below |= self._insert(transaction, store, here, version)
                at = min(here.stop, len(self))
                if len(below) >= NAMED_MAX or is_over():
                    break
        if not below:
            return Passage(at, index - 1)
        remember(transaction, store, retention, Change(index, below=tuple(sorted(below))))
        return Passage(at, index)

    def _is_above(self, cursor: "Cursor[bytes]") -> bool:
        """May all that is left be appended: does it lie above everything in the store?"""
        if self._may_append and (self.at == len(self) or not cursor.last() or self._key(self.at) > cursor.key()):
            return True
        if not self._is_sorted:
            self._sort()
        return False

    def _insert(self, transaction: "Transaction[bytes]", store: Store, here: slice, version: bytes) -> set[bytes]:
        changed = []
        for write, place in zip(self._writes[here], self._places[here], strict=True):
            became = self.written[place] = put_record(transaction, store, write, version)
            if became in CHANGED:
                changed.append(write)
        return _prefixes(changed)

    def _sort(self) -> None:
        rest = sorted(range(self.at, len(self)), key=self._key)
        self._places = (*range(self.at), *rest)
        self._writes = [self._writes[place] for place in self._places]
        self._is_sorted = True

    def _key(self, position: int) -> bytes:
        return lmdb_key(self._writes[position].key)


def _append(
    transaction: "Transaction[bytes]", cursor: "Cursor[bytes]", store: Store, writes: Sequence[Write], version: bytes
) -> set[bytes]:
    items = [(write.key, write.public + version) for write in writes]
    try:
        _, added = cursor.putmulti(items, append=True)
    except lmdb.BadValsizeError:
        raise OutOfOrder from None
    # A key that is not above the last one is passed over without an error.
    if added != len(items):
        raise OutOfOrder
    for write in [write for write in writes if write.full]:
        transaction.put(write.key, write.full + version, db=store.full)
    return _prefixes(writes)


def next_spell(spell: float, took: float) -> float:
    """Say how long the next transaction may write, in seconds, when with this spell one took so long altogether.

    Together with its commit it should take 60 ms, so that with a disk that hesitates it still takes less than 100.
    """
    return min(max(spell * _TARGET / max(took, spell), _SHORTEST), 2 * spell, _LONGEST)


def _prefixes(writes: Sequence[Write]) -> set[bytes]:
    """Give the folded prefixes of writes that are sorted by their keys."""
    if not writes:
        return set()
    first, last = prefix_of(writes[0].key), prefix_of(writes[-1].key)
    # What is sorted between two keys with one prefix has the same; but not where keys are shortened within it.
    if first == last and len(first) < LEAD:
        return {first}
    return {prefix_of(write.key) for write in writes}
