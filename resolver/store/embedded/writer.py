"""Writing, in the one process that owns the store. What a transaction writes is in `writing`.

Transactions run in a thread of their own: a commit waits for the disk, and reads go on meanwhile. Everything else,
growing the map too, happens in the event loop, where no read is under way while something else runs.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

import lmdb

from resolver.errors import Fault, Reason
from resolver.private_files import FOLDER_MODE
from resolver.store import Checkpoint, Commit
from resolver.store.embedded.border import Border
from resolver.store.embedded.counts import EmbeddedCounts
from resolver.store.embedded.layout import checkpoint_decoder, import_row
from resolver.store.embedded.opening import MAP_START, Store, open_to_write
from resolver.store.embedded.owner import Owner, OwnerLock
from resolver.store.embedded.reader import Reads
from resolver.store.embedded.writing import Retention, write_commit

_T = TypeVar("_T")

_KEEP_ALL: Final = Retention()


class EmbeddedWriter(Reads):
    """A StoreWriter and StoreReader for the process that owns the store; for one event loop."""

    def __init__(self, store: Store, border: Border, lock: OwnerLock, retention: Retention) -> None:
        super().__init__(store, border)
        self._lock = lock
        self._retention = retention
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "store-writer")
        self._is_closed = False
        self.counts = EmbeddedCounts(store.environment, border, self._in_turn)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        owner: Owner,
        map_size: int = MAP_START,
        retention: Retention = _KEEP_ALL,
    ) -> Self:
        """Become the owner of the store in this folder; the store is made where there is none.

        Raises:
            Fault: STORE_OWNED, STORE_FORMAT_UNKNOWN, STORE_FULL, FILE_UNREADABLE, STORE_UNAVAILABLE.
        """
        border = Border(path)
        with border:
            path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            lock = OwnerLock.take(path, owner)
            try:
                store = open_to_write(path, map_size=map_size)
            except BaseException:
                lock.release()
                raise
        return cls(store, border, lock, retention)

    def close(self) -> None:
        """Finish the transaction under way, close the store, and let another process become its owner."""
        if self._is_closed:
            return
        self._is_closed = True
        self._thread.shutdown()
        self._store.environment.close()
        self._lock.release()

    async def commit(self, commit: Commit) -> int:
        return await self._in_turn(partial(self._commit, commit))

    async def checkpoint(self, name: str) -> Checkpoint:
        with self._border, self._begin() as transaction:
            row = transaction.get(import_row(name), None, self._store.meta)
        return Checkpoint() if row is None else checkpoint_decoder.decode(row)

    async def _in_turn(self, transact: Callable[[], _T]) -> _T:
        """Run one transaction in the writing thread, and again in a larger map when it did not fit."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            if self._is_closed:
                raise Fault(Reason.STORE_UNAVAILABLE, "The store is closed.")
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

    def _commit(self, commit: Commit) -> int:
        with self._store.environment.begin(self._store.records, write=True) as transaction:
            return write_commit(transaction, self._store, self._retention, commit)
