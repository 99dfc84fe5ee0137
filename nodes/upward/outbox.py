"""The outbox is the node's own journal: what changed since an index.

The feed tells, or, where that is further back than it remembers, the journal's envelopes. Nothing is sent here.
"""

import logging
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Final

from msgspec import Struct

from registry.bodies import decode
from registry.chunks import Chunk
from registry.identifiers import Identifiers, minted_below
from registry.imports import Import
from registry.journal import Store
from registry.kinds import IMPORT
from registry.state import State
from registry.v1 import registry_pb2 as pb
from resolver.errors import Fault
from resolver.handle import Handle, canonical, lineage
from resolver.store import Change, Kept
from resolver.trust.envelopes import Envelope
from resolver.trust.heads import Payload

CHANGES_AT_ONCE: Final = 512
"""Entries of the feed that are looked at for one window."""

ENTRIES_AT_ONCE: Final = 16
"""Entries of the journal likewise: each may have a chunk of megabytes."""

KEYS_AT_ONCE: Final = 4_000
"""No further entry is added to a window that has so many keys: what one window holds is repeated after a crash."""

SEGMENTS: Final = 1_024
"""More than the segments of any prefix."""

IDENTIFIERS: Final = "identifiers.v1"

_log: Final = logging.getLogger(__name__)


class Window(Struct, frozen=True, kw_only=True):
    """What the entries behind `start` up to `end` changed. `head` is the newest entry there is.

    `keys` are records, each once; `below` are folded prefixes below which records changed that are not named;
    `prefixes` are folded prefixes whose rows changed, None where any may have. `is_foreign`: the store knows nothing
    of `start`, because it is another one, or was restored from a backup; everything may have changed.
    """

    start: int
    end: int
    head: int
    keys: tuple[bytes, ...] = ()
    below: tuple[bytes, ...] = ()
    prefixes: tuple[bytes, ...] | None = ()
    is_foreign: bool = False


class Outbox:
    """Reads what is to be pushed. `state` tells the case rules, and which prefixes there are."""

    def __init__(self, store: Store, state: State) -> None:
        self._store = store
        self._state = state

    async def after(self, index: int, until: int = 0) -> Window:
        """Give what follows on this entry, up to another one where that is said; `end` is `index` where nothing does.

        Raises:
            Fault: STORE_UNAVAILABLE, JOURNAL_DAMAGED.
        """
        found = await self._store.changes(index, CHANGES_AT_ONCE)
        if index > found.head:
            return Window(start=index, end=found.head, head=found.head, prefixes=None, is_foreign=True)
        if found.is_lost:
            return await self._from_journal(index, found.head, until)
        return _window_of(found.changes, index, found.head, until)

    def key(self, identifier: str) -> bytes:
        """Give the key under which an identifier is kept.

        Raises:
            Fault: IDENTIFIER_*, PREFIX_* where it is none.
        """
        handle = Handle.from_text(identifier)
        prefix = handle.prefix.encode()
        sensitive = self._state.scope(prefix.upper()).case_sensitive
        return canonical(handle.to_bytes(), prefix_length=len(prefix), case_sensitive=sensitive)

    def topmost(self, prefix: bytes) -> bytes:
        """Give the first allocated prefix above this folded one, or it itself where none is."""
        for each in lineage(prefix, SEGMENTS):
            if self._state.stored_prefix(each) is not None:
                return each
        return prefix

    async def _from_journal(self, index: int, head: int, until: int) -> Window:
        """Find the keys where they were signed for: the feed has forgotten them, the journal forgets nothing."""
        keys: dict[bytes, None] = {}
        end, has_prefixes = index, False
        for kept in await self._store.entries(index, ENTRIES_AT_ONCE):
            statement = pb.Statement.FromString(kept.statement)
            keys.update(dict.fromkeys(self._keys_of(kept, statement.kind)))
            has_prefixes |= statement.kind == IMPORT or statement.kind.startswith(("prefix-", "route."))
            end = kept.index
            if end == until or len(keys) >= KEYS_AT_ONCE:
                break
        return Window(start=index, end=end, head=head, keys=tuple(keys), prefixes=None if has_prefixes else ())

    def _keys_of(self, kept: Kept, kind: str) -> Iterator[bytes]:
        if kind not in {IDENTIFIERS, IMPORT}:
            return
        envelope, *chunks = kept.artefacts
        body = Payload.from_bytes(Envelope.from_bytes(envelope).payload).body
        named = _imported(body, b"".join(chunks)) if kind == IMPORT else _named(body, sha256(envelope).digest())
        for identifier in named:
            try:
                yield self.key(identifier)
            except Fault:
                # The row was refused when it came: what is no identifier is not held either.
                _log.debug("no identifier", extra={"entry": kept.index})


def _named(body: bytes, envelope_sha256: bytes) -> Iterator[str]:
    for position, row in enumerate(decode(body, Identifiers).rows):
        yield row.identifier or minted_below(row.mint, envelope_sha256, position)


def _imported(body: bytes, octets: bytes) -> Iterator[str]:
    said = decode(body, Import)
    chunk = Chunk.open(octets, digest=said.chunk_sha256, size=said.chunk_bytes, rows=said.rows)
    for block in chunk.blocks():
        for row in block.identifiers:
            yield row.identifier


def _window_of(changes: Iterable[Change], start: int, head: int, until: int) -> Window:
    keys: dict[bytes, None] = {}
    below: dict[bytes, None] = {}
    prefixes: dict[bytes, None] = {}
    end = start
    for change in changes:
        keys.update(dict.fromkeys(change.keys))
        below.update(dict.fromkeys(change.below))
        prefixes.update(dict.fromkeys(each.key for each in change.prefixes))
        end = change.index
        if end == until or len(keys) >= KEYS_AT_ONCE:
            break
    return Window(start=start, end=end, head=head, keys=tuple(keys), below=tuple(below), prefixes=tuple(prefixes))
