"""What a store is: the types that the read path reads by, and those that the write path writes by.

They are different types so that the type checker keeps the read path from writing. Every call takes a batch. Keys
are canonical (`resolver.handle.canonical`), prefixes folded. A body is an encoded answer without its tail
(`resolver.wire`), ending in its version. `index` is the journal index: it goes up by one with each entry.

The suite in tests/contracts/ says what each implementation must do.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec import Struct

from resolver.routes import Prefix
from resolver.trust.actors import Node

FORMAT: Final = 3
"""The number of the format in which stores are written. Another one is refused."""

CHANGES_KEPT: Final = 100_000
"""Entries that the feed remembers. A reader further behind starts afresh."""


class Fetched(Struct, frozen=True):
    """What a store holds for a batch of keys, in their order, None where it holds nothing.

    `as_of` is the journal index of the state that was read. `shared` is for how many of the keys a cache in front of
    the store answered.
    """

    bodies: list[bytes | None]
    as_of: int
    shared: int = 0


class Listed(Struct, frozen=True):
    """One page of a listing, in the registered spelling, and where the next page begins (None: nowhere)."""

    identifiers: list[str]
    next_after: bytes | None


class Change(Struct, frozen=True):
    """What one entry changed: keys, rows of prefixes, unnamed records below prefixes, and rows of nodes."""

    index: int
    keys: tuple[bytes, ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    below: tuple[bytes, ...] = ()
    nodes: tuple[Node, ...] = ()


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

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:
        """Fetch the bodies with the values that everybody may read. Tombstones are bodies with outcome ABSENT.

        `confirmed`: what this process's nearest replica says is not enough. A store without replicas ignores it.
        """

    async def full(self, keys: Sequence[bytes]) -> Fetched:
        """Fetch the bodies with all values: for the write path and for holders, never for a shared cache."""

    async def identifiers(self, prefix: bytes, *, derived: bool, after: bytes | None, limit: int) -> Listed:
        """List what is registered (not deleted) below exactly this prefix, or also below its derived ones.

        At most `limit` (1 or more) are given; fewer, or none, does not say that it is the last page. `after` is the
        previous page's `next_after`, bytes that mean something to this store only. An identifier that is there
        throughout appears exactly once.
        """

    async def holds_below(self, prefix: bytes) -> bool:
        """Tell whether anything, a tombstone too, is held below this folded prefix or its derived ones."""


class RouteReader(Protocol):
    """Reads the rows of prefixes."""

    async def prefixes(self, after: bytes | None, limit: int) -> list[Prefix]:
        """Give at most `limit` rows, beginning behind the row whose key is `after`; fewer only at the end.

        The order is the store's own. A row that is there throughout is given once.
        """


class FeedReader(Protocol):
    """Follows what is committed."""

    async def changes(self, after: int, limit: int) -> Changes:
        """Give at most `limit` changes that follow on this index; fewer where they are large, but one at least."""


class NodeReader(Protocol):
    """Reads the rows of nodes: who may sign, with which keys."""

    async def nodes(self, after: str | None, limit: int) -> list[Node]:
        """Give at most `limit` rows, beginning behind the node with this identifier; fewer only at the end.

        The order is the store's own. A row that is there throughout is given once.
        """


class StoreReader(RecordReader, RouteReader, NodeReader, FeedReader, Protocol):
    """Everything that the read path reads."""

    async def head(self) -> int:
        """Give the journal index of the newest entry."""

    async def secret(self) -> bytes:
        """Give the 32 random bytes made with the store, the same for all processes of the node."""


class Kept(Struct, frozen=True, gc=False):
    """An entry as the journal keeps it.

    `statement` is public, the leaf of the tree. `artefacts` stand beside it and may hold what is not public: the
    envelope exactly as it came, and for an import the chunk. `result` is what the caller was told, without its
    receipt.
    """

    index: int
    statement: bytes
    artefacts: tuple[bytes, ...]
    result: bytes


class JournalReader(Protocol):
    """Reads the journal. Entries are never changed and never taken away."""

    async def entries(self, after: int, limit: int) -> list[Kept]:
        """Give at most `limit` entries that follow on this index, fewer only at the end. An entry may be large.

        Raises:
            Fault: JOURNAL_DAMAGED where an artefact is missing; STORE_UNAVAILABLE.
        """

    async def told(self, after: int, limit: int) -> list[Kept]:
        """Give at most `limit` entries that follow on this index, without what stands beside their statements."""

    async def statements(self, after: int, limit: int) -> list[bytes]:
        """Give the statements of at most `limit` entries that follow on this index, without what stands beside."""

    async def tile(self, name: bytes) -> bytes | None:
        """Give a piece of the tree that was committed under this name."""

    async def tree_head(self) -> bytes:
        """Give what was committed last as the head of the tree; empty before there was a commit."""

    async def answered(self, requests: Sequence[bytes]) -> list[int]:
        """Give, for each of these requests, the index of the entry that first answered it, 0 where none did.

        None did where it was longer ago than answers are kept, too.
        """

    async def spent(self, nonces: Sequence["Nonce"]) -> list[bool]:
        """Tell for each of these nonces whether it was spent."""


class Write(Struct, frozen=True, gc=False):
    """A record to be written under a canonical key, whatever stands there.

    `public` and `full` are bodies without a version (`resolver.wire.record_body`); `full` is empty where everybody
    may read everything. `is_new`: nothing stands there yet, as far as whoever plans the write has read; the store
    saves itself a look by that, and comes to the same where it is wrong. `revives`: a tombstone stands there. That is
    for counting, and no store looks at it.
    """

    key: bytes
    public: bytes
    full: bytes = b""
    is_new: bool = False
    revives: bool = False


class Nonce(Struct, frozen=True, gc=False):
    """A number used once: whose and which (`name`, 1 to 500 bytes), and until when it must be remembered.

    `until` is in Unix seconds and belongs to the number: the same name with another one is another number.
    """

    name: bytes
    until: int


class Checkpoint(Struct, frozen=True, array_like=True):
    """How far an import has come: bytes and lines of its input whose rows are durable, and what became of them.

    `manifest` is a hash (32 bytes) over the chunks so far. `offline` is for an import whose records come into the
    store around its servers, all of them at its end: how many there are so far, None for every other import.
    """

    offset: int = 0
    lines: int = 0
    registered: int = 0
    replaced: int = 0
    unchanged: int = 0
    rejected: int = 0
    chunks: int = 0
    manifest: bytes = bytes(32)
    offline: int | None = None


class Entry(Struct, frozen=True, gc=False, kw_only=True):
    """One accepted request and everything that it changes. A key stands once in `writes`; so do rows.

    `request` (1 to 500 bytes) names the request for its retries, until its answer is forgotten; `at` is when it was
    accepted (Unix seconds). `artefacts` are at most 255. `checkpoints` are how far imports have come, by name; None
    forgets one. `below` are folded prefixes below which more changes than is written here: records of earlier
    entries that were brought into the store around its servers.
    """

    statement: bytes
    artefacts: tuple[bytes, ...]
    result: bytes
    request: bytes
    at: int
    nonces: tuple[Nonce, ...] = ()
    writes: Sequence[Write] = ()
    prefixes: Sequence[Prefix] = ()
    nodes: Sequence[Node] = ()
    checkpoints: tuple[tuple[str, Checkpoint | None], ...] = ()
    below: tuple[bytes, ...] = ()


class Commit(Struct, frozen=True, kw_only=True):
    """Entries that become durable together, and the tree over all entries up to the last of them.

    `tiles` are pieces of the tree that are complete now, by name.
    """

    entries: Sequence[Entry]
    tiles: Sequence[tuple[bytes, bytes]] = ()
    tree_head: bytes = b""


class StoreWriter(JournalReader, Protocol):
    """Writes. There is one writer for a store at a time."""

    async def commit(self, commit: Commit) -> int:
        """Write entries and all that they change: all of it or nothing, durable when it returns.

        The first entry gets the index behind the head, the others follow; the last index is given, which is the head
        where there are no entries: then nothing is written. Records are written with their entry's index as version,
        rows of prefixes and nodes with it as epoch. Each entry is one change of the feed: it names every key, or,
        where they are very many, the prefixes below which they lie. A key that several entries write is written by
        one after the other.

        Nonces and first answers that are older than they must be remembered are forgotten by the way.

        Raises:
            Fault: STORE_FULL, or JOURNAL_DAMAGED where there are entries above the head already: nothing is written.
                STORE_UNAVAILABLE: all of it or nothing is; the head tells.
        """

    async def checkpoint(self, name: str) -> Checkpoint:
        """Give how far the import of this name has come."""
