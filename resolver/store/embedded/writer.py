"""Writing, in the one process that owns the store. What a transaction writes is in `writing` and `bulk`.

Transactions run in a thread of their own: a commit waits for the disk, and reads go on meanwhile. Everything else,
growing the map too, happens in the event loop, where no read is under way while something else runs.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

import lmdb

from resolver.clock import Clock, SystemClock
from resolver.errors import Fault, Reason
from resolver.routes import Prefix
from resolver.store import Checkpoint, Committed, Write
from resolver.store.embedded.border import Border
from resolver.store.embedded.bulk import FIRST_SPELL, OutOfOrder, Part, Passage, next_spell
from resolver.store.embedded.layout import checkpoint_decoder, checkpoint_encoder, load_row
from resolver.store.embedded.opening import MAP_START, Store, open_to_write
from resolver.store.embedded.owner import Owner, OwnerLock
from resolver.store.embedded.reader import Reads
from resolver.store.embedded.writing import Retention, write_commit

_T = TypeVar("_T")

_ROWS_AT_ONCE: Final = 2_000  # Rows of prefixes in one transaction of a load: some 30 ms.
_KEEP_ALL: Final = Retention()


class EmbeddedWriter(Reads):
    """A StoreWriter and StoreReader for the process that owns the store; for one event loop."""

    def __init__(self, store: Store, border: Border, lock: OwnerLock, clock: Clock, retention: Retention) -> None:
        super().__init__(store, border)
        self._lock = lock
        self._clock = clock
        self._retention = retention
        self._spell = FIRST_SPELL
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "store-writer")
        self._is_closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        owner: Owner,
        clock: Clock | None = None,
        map_size: int = MAP_START,
        retention: Retention = _KEEP_ALL,
    ) -> Self:
        """Become the owner of the store in this folder; the store is made where there is none.

        Raises:
            Fault: STORE_OWNED, STORE_FORMAT_UNKNOWN, STORE_FULL, FILE_UNREADABLE, STORE_UNAVAILABLE.
        """
        border = Border(path)
        with border:
            path.mkdir(parents=True, exist_ok=True)
            lock = OwnerLock.take(path, owner)
            try:
                store = open_to_write(path, map_size=map_size)
            except BaseException:
                lock.release()
                raise
        return cls(store, border, lock, clock or SystemClock(), retention)

    def close(self) -> None:
        """Finish the transaction under way, close the store, and let another process become its owner."""
        if self._is_closed:
            return
        self._is_closed = True
        self._thread.shutdown()
        self._store.environment.close()
        self._lock.release()

    @property
    def next_index(self) -> int:
        """The journal index that the next commit will have."""
        with self._border, self._begin() as transaction:
            return self._head(transaction) + 1

    async def commit(self, writes: Sequence[Write] = (), prefixes: Sequence[Prefix] = ()) -> Committed:
        return await self._in_turn(partial(self._commit, writes, prefixes))

    async def load(
        self, writes: Sequence[Write], prefixes: Sequence[Prefix], *, name: str, checkpoint: Checkpoint
    ) -> Committed:
        for first in range(0, len(prefixes), _ROWS_AT_ONCE):
            await self.commit(prefixes=prefixes[first : first + _ROWS_AT_ONCE])
        part = Part(writes)
        while True:
            try:
                passage = await self._in_turn(partial(self._pass, part, name, checkpoint))
            except OutOfOrder:
                part.reorder()
                continue
            part.at = passage.end
            if part.at == len(part):
                return Committed(part.written, passage.index)

    async def checkpoint(self, name: str) -> Checkpoint:
        with self._border, self._begin() as transaction:
            row = transaction.get(load_row(name), None, self._store.meta)
        return Checkpoint() if row is None else checkpoint_decoder.decode(row)

    async def forget(self, name: str) -> None:
        await self._in_turn(partial(self._forget, name))

    async def _in_turn(self, transact: Callable[[], _T]) -> _T:
        """Run one transaction in the writing thread, and again in a larger map when it did not fit."""
        if self._is_closed:
            raise Fault(Reason.STORE_UNAVAILABLE, "The store is closed.")
        loop = asyncio.get_running_loop()
        async with self._turn:
            with self._border:
                while True:
                    try:
                        return await loop.run_in_executor(self._thread, transact)
                    except lmdb.MapFullError:
                        self._grow()

    def _grow(self) -> None:
        environment = self._store.environment
        environment.set_mapsize(2 * environment.info()["map_size"])

    # --- in the writing thread ---------------------------------------------------------------------------------

    def _commit(self, writes: Sequence[Write], prefixes: Sequence[Prefix]) -> Committed:
        with self._transaction() as transaction:
            return write_commit(transaction, self._store, self._retention, writes, prefixes)

    def _pass(self, part: Part, name: str, checkpoint: Checkpoint) -> Passage:
        began = self._clock.monotonic()
        until = began + self._spell
        with self._transaction() as transaction:
            passage = part.put(transaction, self._store, self._retention, lambda: self._clock.monotonic() >= until)
            if passage.end == len(part):
                transaction.put(load_row(name), checkpoint_encoder.encode(checkpoint), db=self._store.meta)
        if passage.end < len(part):
            self._spell = next_spell(self._spell, self._clock.monotonic() - began)
        return passage

    def _forget(self, name: str) -> None:
        with self._transaction() as transaction:
            transaction.delete(load_row(name), db=self._store.meta)

    def _transaction(self) -> "lmdb.Transaction[bytes]":
        """Begin one: it is committed where its block ends, and given up where that raises."""
        return self._store.environment.begin(self._store.records, write=True)
