"""What a store is: the types that the read path reads by, and those that the write path writes by.

They are different types so that the type checker keeps the read path from writing. Every call takes a batch. Keys
are canonical (`resolver.handle.canonical`), prefixes folded. A body is an encoded answer without its tail
(`resolver.wire`), ending in its version. `index` is the journal index: it goes up by one with each commit.

The suite in tests/contracts/ says what each implementation must do.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, Protocol

from msgspec import Struct

from resolver.routes import Prefix

FORMAT: Final = 1
"""The number of the format in which stores are written. Another one is refused."""

CHANGES_KEPT: Final = 100_000
"""Commits that the feed remembers. A reader further behind starts afresh."""


class Fetched(Struct, frozen=True):
    """What a store holds for a batch of keys, in their order, None where it holds nothing.

    `as_of` is the journal index of the state that was read.
    """

    bodies: list[bytes | None]
    as_of: int


class Listed(Struct, frozen=True):
    """One page of a listing, in the registered spelling, and where the next page begins (None: nowhere)."""

    identifiers: list[str]
    next_after: bytes | None


class Change(Struct, frozen=True):
    """What one commit changed: these keys, these rows of prefixes, and unnamed records below these prefixes."""

    index: int
    keys: tuple[bytes, ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    below: tuple[bytes, ...] = ()


class Changes(Struct, frozen=True):
    """Contiguous changes after an index, and the newest index there is.

    `is_lost`: the reader starts afresh, because it is behind what the feed remembers, or ahead of it: then the store
    is another one, restored from a backup.
    """

    changes: list[Change]
    head: int
    is_lost: bool = False


class RecordReader(Protocol):
    """Reads records. Which encoding is wanted is said by the method's name."""

    async def public(self, keys: Sequence[bytes]) -> Fetched:
        """Fetch the bodies with the values that everybody may read. Tombstones are bodies with outcome ABSENT."""

    async def full(self, keys: Sequence[bytes]) -> Fetched:
        """Fetch the bodies with all values: for the write path and for holders, never for a shared cache."""

    async def identifiers(self, prefix: bytes, *, derived: bool, after: bytes | None, limit: int) -> Listed:
        """List what is registered (not deleted) below exactly this prefix, or also below its derived ones.

        At most `limit` (1 or more) are given; fewer, or none, does not say that it is the last page. `after` is the
        previous page's `next_after`, bytes that mean something to this store only. An identifier that is there
        throughout appears exactly once.
        """


class RouteReader(Protocol):
    """Reads the rows of prefixes."""

    async def prefixes(self, after: bytes | None, limit: int) -> list[Prefix]:
        """Give at most `limit` rows, beginning behind the row whose key is `after`; fewer only at the end."""


class FeedReader(Protocol):
    """Follows what is committed."""

    async def changes(self, after: int, limit: int) -> Changes:
        """Give at most `limit` changes that follow on this index."""


class StoreReader(RecordReader, RouteReader, FeedReader, Protocol):
    """Everything that can be read."""

    async def head(self) -> int:
        """Give the journal index of the newest commit."""

    async def secret(self) -> bytes:
        """Give the 32 random bytes made with the store, the same for all processes of the node."""


class Write(Struct, frozen=True, gc=False):
    """A record to be written under a canonical key.

    `public` and `full` are bodies without a version (`resolver.wire.record_body`); `full` is empty where everybody
    may read everything. `overwrite` says what happens to what is there already: replaced, or kept and told.
    """

    key: bytes
    public: bytes
    full: bytes = b""
    overwrite: bool = False


class Written(IntEnum):
    """What became of one write."""

    REGISTERED = 0
    REPLACED = 1
    EXISTS = 2
    DELETED = 3


class Checkpoint(Struct, frozen=True, array_like=True):
    """How far a load has come: bytes and lines of its input whose rows are durable, and what became of them."""

    offset: int = 0
    lines: int = 0
    registered: int = 0
    replaced: int = 0
    unchanged: int = 0
    rejected: int = 0


class Committed(Struct, frozen=True):
    """What became of each write, in order, and the journal index of the (last) commit: durable when this is given."""

    written: list[Written]
    index: int


class StoreWriter(Protocol):
    """Writes. There is one writer for a store at a time.

    Raises, all methods: Fault STORE_FULL (nothing of the failed commit is written), STORE_UNAVAILABLE.
    """

    async def commit(self, writes: Sequence[Write] = (), prefixes: Sequence[Prefix] = ()) -> Committed:
        """Write records and rows of prefixes in one commit: all of it or nothing.

        The rows' epochs are set to the commit's index. The feed names every key, or, where they are very many, the
        prefixes below which they lie. A key that stands twice is written twice, one after the other. What changes
        nothing makes no commit: `index` is then the newest one's.

        Raises:
            Fault: PREFIX_RULE_FIXED when a row has another case rule than before, or when a new row would bring
                registered identifiers under another rule than their own; `prefix` is in its variables.
        """

    async def load(
        self, writes: Sequence[Write], prefixes: Sequence[Prefix], *, name: str, checkpoint: Checkpoint
    ) -> Committed:
        """Write a part of a load, in any number of commits; the checkpoint becomes durable with the last of them.

        After a crash in between, the same part written again gives the same store. The feed names prefixes below
        which something changed, not keys.
        """

    async def checkpoint(self, name: str) -> Checkpoint:
        """Give how far the load of this name has come."""

    async def forget(self, name: str) -> None:
        """Forget how far the load of this name has come."""
