"""A store whose records come into it around its servers: what a load writes instead is kept in run files meanwhile.

Journal, rows of prefixes and everything else is written as ever, entry by entry. The records are in the run files
until the load ends: then they are put into the ring, and the last entry tells readers below which prefixes that was.

Nothing is looked up for a row. That is right where nothing can be held: keys come sorted, each once, and below
prefixes that hold nothing. So whoever plans the same entries over a store that has everything comes to the same.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from resolver.errors import Fault, Reason
from resolver.routes import Prefix
from resolver.store import (
    Changes,
    Checkpoint,
    Commit,
    Entry,
    Fetched,
    Kept,
    Listed,
    Nonce,
    StoreReader,
    StoreWriter,
    Write,
)
from resolver.store.cassandra.runs import RunWriter
from resolver.store.naming import prefix_of
from resolver.trust.actors import Node

_SHOWN: Final = 200
"""Characters of a key in a sentence."""


class Ring(StoreReader, StoreWriter, Protocol):
    """The store that is written to."""

    async def holds_directly(self, prefix: bytes) -> bool:
        """Tell whether anything, a tombstone too, is held below exactly this folded prefix."""


PutIn = Callable[[RunWriter], Awaitable[None]]
"""Puts the rows of the run files into the store, and returns when everybody can read them."""


class OfflineWriter:
    """A StoreReader and StoreWriter for the process that does one load, the import `name`, and nothing else.

    `behind` is the last key in the run files, where an interrupted load goes on. Readers are told by this that
    nothing is held anywhere, so it is for planning the load and for nothing else.

    Failure policy: after a commit that failed nothing more is written; whoever opens the load again finds out.
    """

    def __init__(self, store: Ring, name: str, runs: RunWriter, put_in: PutIn, *, behind: bytes = b"") -> None:
        self._store = store
        self._name = name
        self._runs = runs
        self._put_in = put_in
        self._last = behind
        self._failed: Fault | None = None

    # --- planning ------------------------------------------------------------------------------------------------

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:  # noqa: ARG002 - not asked
        """Say that nothing is held under these keys, having seen that nothing can be.

        Raises:
            Fault: LOAD_UNSORTED, LOAD_PREFIX_IN_USE.
        """
        for key in keys:
            if key <= self._last:
                raise _unsorted(key, self._last)
            prefix = prefix_of(key)
            if prefix != prefix_of(self._last):
                await self._check_free(prefix)
            self._last = key
        return Fetched([None] * len(keys), 0)

    async def holds_below(self, prefix: bytes) -> bool:
        own = (each for each in self._runs.below if each == prefix or each.startswith(prefix + b"."))
        return next(own, None) is not None or await self._store.holds_below(prefix)

    async def _check_free(self, prefix: bytes) -> None:
        if prefix not in self._runs.below and await self._store.holds_directly(prefix):
            text = prefix.decode()
            detail = f"Something is registered below {text} already."
            raise Fault(Reason.LOAD_PREFIX_IN_USE, detail, field="identifier", variables={"prefix": text})

    # --- writing -------------------------------------------------------------------------------------------------

    async def commit(self, commit: Commit) -> int:
        if self._failed is not None:
            raise self._failed.anew()
        try:
            first = await self._store.head() + 1
            entries = [await self._entry(each, index) for index, each in enumerate(commit.entries, start=first)]
            return await self._store.commit(replace(commit, entries=entries))
        except Fault as fault:
            self._failed = fault
            raise

    async def _entry(self, entry: Entry, index: int) -> Entry:
        """Give what is written of an entry now; its records are in the run files then, or in the ring at the end."""
        if (self._name, None) in entry.checkpoints:
            if self._runs.rows:
                await self._put_in(self._runs)
            return replace(entry, below=tuple(sorted(self._runs.below)))
        # Not in the event loop: the disk is waited for.
        await asyncio.to_thread(self._keep, index, entry.writes)
        reached = [(name, each and replace(each, offline=self._runs.rows)) for name, each in entry.checkpoints]
        return replace(entry, writes=(), checkpoints=tuple(reached))

    def _keep(self, index: int, writes: Sequence[Write]) -> None:
        try:
            self._runs.add(index, writes)
            self._runs.sync()
        except OSError as error:
            reason = Reason.STORE_FULL if error.errno == errno.ENOSPC else Reason.STORE_UNAVAILABLE
            raise Fault(reason, f"The run files cannot be written: {error.strerror}.") from error

    # --- as it is in the store -----------------------------------------------------------------------------------

    async def full(self, keys: Sequence[bytes]) -> Fetched:
        return await self._store.full(keys)

    async def identifiers(self, prefix: bytes, *, derived: bool, after: bytes | None, limit: int) -> Listed:
        return await self._store.identifiers(prefix, derived=derived, after=after, limit=limit)

    async def prefixes(self, after: bytes | None, limit: int) -> list[Prefix]:
        return await self._store.prefixes(after, limit)

    async def nodes(self, after: str | None, limit: int) -> list[Node]:
        return await self._store.nodes(after, limit)

    async def changes(self, after: int, limit: int) -> Changes:
        return await self._store.changes(after, limit)

    async def head(self) -> int:
        return await self._store.head()

    async def secret(self) -> bytes:
        return await self._store.secret()

    async def entries(self, after: int, limit: int) -> list[Kept]:
        return await self._store.entries(after, limit)

    async def told(self, after: int, limit: int) -> list[Kept]:
        return await self._store.told(after, limit)

    async def statements(self, after: int, limit: int) -> list[bytes]:
        return await self._store.statements(after, limit)

    async def tile(self, name: bytes) -> bytes | None:
        return await self._store.tile(name)

    async def tree_head(self) -> bytes:
        return await self._store.tree_head()

    async def answered(self, requests: Sequence[bytes]) -> list[int]:
        return await self._store.answered(requests)

    async def spent(self, nonces: Sequence[Nonce]) -> list[bool]:
        return await self._store.spent(nonces)

    async def checkpoint(self, name: str) -> Checkpoint:
        return await self._store.checkpoint(name)


def _unsorted(key: bytes, last: bytes) -> Fault:
    later, earlier = (each.decode()[:_SHOWN] for each in (key, last))
    what = "comes twice" if key == last else f"comes behind {earlier}"
    return Fault(Reason.LOAD_UNSORTED, f"The key {later} {what}.", field="identifier", variables={"key": later})
