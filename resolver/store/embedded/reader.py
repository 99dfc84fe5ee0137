"""Reading: what every process of a node can do with its store, the writing one too.

Reads happen in the event loop: one takes about a microsecond for each key, and no other thread would be done sooner.
A read transaction lives for one batch, because the pages that it sees cannot be used again as long as it does.

What py-lmdb 3.0 took for batches of 1,000 random keys out of 300,000 (22-byte keys, 150-byte values; CPU for each
key, medians of interleaved rounds on one machine): `txn.get` in a comprehension 0.94 us, `map(txn.get, ...)` 0.96,
the database named in each call 0.98, `cursor.get` 1.06, `cursor.getmulti` 1.08, `getmulti` of sorted keys 1.18 (what
sorting saves in LMDB it costs in Python), buffers instead of bytes 1.80. So it is `txn.get`, with keys as they come
and the database as the transaction's default; `public` adds 0.03 us a key and 2 us a batch to that.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, overload

import lmdb

from resolver.routes import Prefix
from resolver.store import Changes, Fetched, Kept, Listed, Nonce
from resolver.store.embedded import listing
from resolver.store.embedded.border import Border
from resolver.store.embedded.layout import (
    HEAD_ROW,
    KEY_MAX,
    SECRET_ROW,
    TREE_HEAD_ROW,
    artefact_row,
    change_decoder,
    entry_decoder,
    lmdb_key,
    nonce_row,
    number,
)
from resolver.store.embedded.opening import Store, damaged, open_to_read, torn
from resolver.trust.actors import Node

if TYPE_CHECKING:
    from lmdb import _Database


CHANGES_BYTES: Final = 256 << 10
"""Changes that are given at once are about so large: some 30 ms of decoding where they are rows of prefixes."""


class Reads:
    """A StoreReader and JournalReader over an open store, for one thread."""

    def __init__(self, store: Store, border: Border) -> None:
        self._store = store
        self._border = border

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:  # noqa: ARG002 - no replicas
        try:
            with self._begin() as transaction:
                get, get_long = transaction.get, partial(self._get_long, transaction)
                bodies = [get(key) or get_long(key) for key in keys]
                return Fetched(bodies, self._head(transaction))
        except lmdb.Error as error:
            raise self._border.fault(error) from error

    async def full(self, keys: Sequence[bytes]) -> Fetched:
        full = self._store.full
        with self._border, self._begin() as transaction:
            get, get_long = transaction.get, partial(self._get_long, transaction)
            bodies = [get(key, None, full) or get(key) or get_long(key, full) or get_long(key) for key in keys]
            return Fetched(bodies, self._head(transaction))

    async def identifiers(self, prefix: bytes, *, derived: bool, after: bytes | None, limit: int) -> Listed:
        with self._border, self._begin(buffers=True) as transaction:
            return listing.page(transaction, self._store, prefix, derived=derived, after=after, limit=limit)

    async def holds_below(self, prefix: bytes) -> bool:
        with self._border, self._begin(buffers=True) as transaction:
            return listing.holds_below(transaction, self._store, prefix)

    async def nodes(self, after: str | None, limit: int) -> list[Node]:
        with self._border, self._begin() as transaction, transaction.cursor(self._store.nodes) as cursor:
            behind = b"" if after is None else after.encode()
            if not cursor.set_range(behind):
                return []
            found = (row for key, row in cursor.iternext() if key != behind)
            return [Node.from_bytes(row) for row in islice(found, limit)]

    async def prefixes(self, after: bytes | None, limit: int) -> list[Prefix]:
        with self._border, self._begin() as transaction, transaction.cursor(self._store.prefixes) as cursor:
            behind = b"" if after is None else lmdb_key(after)
            if not cursor.set_range(behind):
                return []
            rows = cursor.iternext()
            found = (row for key, row in rows if key != behind)
            return [Prefix.from_bytes(row) for row in islice(found, limit)]

    async def changes(self, after: int, limit: int) -> Changes:
        with self._border, self._begin() as transaction, transaction.cursor(self._store.feed) as cursor:
            head = self._head(transaction)
            if _is_lost(cursor, after, head):
                return Changes([], head, is_lost=True)
            if not cursor.set_range(number(after + 1)):
                return Changes([], head)
            rows = cursor.iternext(keys=False, values=True)
            return Changes([change_decoder.decode(row) for row in _some(islice(rows, limit))], head)

    async def head(self) -> int:
        with self._border, self._begin() as transaction:
            return self._head(transaction)

    async def entries(self, after: int, limit: int) -> list[Kept]:
        with self._border, self._begin() as transaction, transaction.cursor(self._store.entries) as cursor:
            if not cursor.set_range(number(after + 1)):
                return []
            return [self._kept(transaction, *item) for item in islice(cursor.iternext(), limit)]

    async def told(self, after: int, limit: int) -> list[Kept]:
        with self._border, self._begin() as transaction, transaction.cursor(self._store.entries) as cursor:
            if not cursor.set_range(number(after + 1)):
                return []
            found = ((int.from_bytes(row, "big"), entry_decoder.decode(entry)) for row, entry in cursor.iternext())
            return [Kept(index, entry.statement, (), entry.result) for index, entry in islice(found, limit)]

    async def statements(self, after: int, limit: int) -> list[bytes]:
        with self._border, self._begin() as transaction, transaction.cursor(self._store.entries) as cursor:
            if not cursor.set_range(number(after + 1)):
                return []
            rows = cursor.iternext(keys=False, values=True)
            return [entry_decoder.decode(row).statement for row in islice(rows, limit)]

    async def tile(self, name: bytes) -> bytes | None:
        with self._border, self._begin() as transaction:
            return transaction.get(name, None, self._store.tiles)

    async def tree_head(self) -> bytes:
        with self._border, self._begin() as transaction:
            return self._meta(transaction, TREE_HEAD_ROW)

    async def answered(self, requests: Sequence[bytes]) -> list[int]:
        answered = self._store.answered
        with self._border, self._begin() as transaction:
            return [int.from_bytes(transaction.get(request, b"", answered), "big") for request in requests]

    async def spent(self, nonces: Sequence[Nonce]) -> list[bool]:
        spent = self._store.nonces
        with self._border, self._begin() as transaction:
            return [transaction.get(nonce_row(nonce), None, spent) is not None for nonce in nonces]

    async def secret(self) -> bytes:
        with self._border, self._begin() as transaction:
            return self._meta(transaction, SECRET_ROW)

    @overload
    def _begin(self) -> "lmdb.Transaction[bytes]": ...
    @overload
    def _begin(self, *, buffers: Literal[True]) -> "lmdb.Transaction[memoryview]": ...
    def _begin(self, *, buffers: bool = False) -> Any:
        environment, records = self._store.environment, self._store.records
        begin: Callable[..., Any] = environment.begin  # declared for True and for False, not for bool
        while True:
            try:
                transaction = begin(records, buffers=buffers)
            except lmdb.MapResizedError:
                # The writer has outgrown the map that this process has.
                environment.set_mapsize(0)
                continue
            # LMDB takes the number of the newest state and then the state, which lies in one of two places in turn. A
            # process that is held up between the two may find the next but one there, which need not be durable yet.
            if environment.info()["last_txnid"] <= transaction.id() + 1:
                return transaction
            transaction.abort()

    def _get_long(
        self, transaction: "lmdb.Transaction[bytes]", key: bytes, database: "_Database | None" = None
    ) -> bytes | None:
        """Give what is kept under a shortened key, if that is really this key's."""
        if len(key) <= KEY_MAX:
            return None
        short = lmdb_key(key)
        if transaction.get(short, None, self._store.long_keys) != key:
            return None
        return transaction.get(short, None, database or self._store.records)

    def _kept(self, transaction: "lmdb.Transaction[bytes]", row: bytes, entry: bytes) -> Kept:
        index, kept = int.from_bytes(row, "big"), entry_decoder.decode(entry)
        rows = (artefact_row(index, place) for place in range(kept.artefacts))
        found = (transaction.get(each, None, self._store.artefacts) for each in rows)
        artefacts = tuple(artefact for artefact in found if artefact is not None)
        if len(artefacts) < kept.artefacts:
            raise torn(f"What stands beside the entry {index} is missing")
        return Kept(index, kept.statement, artefacts, kept.result)

    def _head(self, transaction: "lmdb.Transaction[bytes]") -> int:
        return int.from_bytes(self._meta(transaction, HEAD_ROW), "big")

    def _meta(self, transaction: "lmdb.Transaction[bytes]", row: bytes) -> bytes:
        found = transaction.get(row, None, self._store.meta)
        if found is None:
            raise damaged(f"it has no {row.decode()}")
        return found


class EmbeddedReader(Reads):
    """A StoreReader for any process; one for a store in each."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the store in this folder.

        Raises:
            Fault: STORE_MISSING, STORE_FORMAT_UNKNOWN, FILE_UNREADABLE, STORE_UNAVAILABLE.
        """
        border = Border(path)
        with border:
            return cls(open_to_read(path), border)

    def close(self) -> None:
        """Close it; nothing can be read any more."""
        self._store.environment.close()


def _some(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Give the first of these rows, and more as long as they are not too large together."""
    octets = 0
    for row in rows:
        yield row
        octets += len(row)
        if octets >= CHANGES_BYTES:
            return


def _is_lost(cursor: "lmdb.Cursor[bytes]", after: int, head: int) -> bool:
    """Is what follows on this index forgotten, or from another life of the store (one restored since)?"""
    return after > head or (cursor.first() and after + 1 < int.from_bytes(cursor.key(), "big"))
