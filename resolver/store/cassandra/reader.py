"""Reading: what every process of a node can do with its store, the writing one too.

Records come from the nearest replica, and what it does not have from a quorum; everything else comes from a quorum. A
reader sees the journal up to the watermark: what is above it may be committed and is not applied yet.

While a load around the servers has not ended, the ring may hold some of its records and not others. The watermark
says from which entry on records are such ones: readers hide them, so that all are there at once when it does not.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Self

from msgspec import Struct
from prometheus_client import CollectorRegistry

from resolver import wire
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.routes import Prefix
from resolver.store import CHANGES_KEPT, Change, Changes, Fetched, Kept, Listed, Nonce
from resolver.store.cassandra import listing
from resolver.store.cassandra.asking import Asking, Row
from resolver.store.cassandra.layout import (
    JOURNAL,
    PARTS,
    SECRET_ROW,
    change_decoder,
    entry_bucket,
    epoch_of,
    joined,
    nonce_row,
    part_of,
    parts_in,
)
from resolver.store.cassandra.placing import Placing
from resolver.store.cassandra.records import WIDTH_MIN, Records
from resolver.store.cassandra.session import Session
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.statements import (
    ANSWERED,
    ARTEFACT_PARTS,
    CHANGE_PART,
    ENTRIES,
    FEED,
    HEAD,
    META,
    NODES_AFTER,
    PREFIXES_AFTER,
    SPENT,
    STATEMENTS,
    TILE,
    TOLD,
    WATERMARK,
    Statement,
)
from resolver.trust.actors import Node

CHANGES_BYTES: Final = 256 << 10
"""Changes that are given at once are about so large: some 30 ms of decoding where they are rows of prefixes."""

LOOKED_MAX: Final = 3.0
"""Seconds for which a look at the watermark holds. Whoever has not looked since may not know of a load that began."""

_PARTS_AT_ONCE: Final = 8
_ARTEFACTS_AT_ONCE: Final = 16
_BEFORE_ALL: Final = -1


class Reach(Struct, frozen=True):
    """How far the journal is to be seen, the head of the tree there, and from where on each epoch wrote it.

    `starts` are pairs of start and epoch, sorted (`layout.epoch_of`).
    """

    size: int
    tree_head: bytes
    starts: Sequence[tuple[int, int]]


class Reads:
    """A StoreReader and JournalReader, for the event loop in which the session was opened.

    `applied` is the index up to which this reader knows everything to be applied: what it fetches later is at least
    as new as that. `changes_kept` are entries that the feed remembers.
    """

    def __init__(
        self,
        asking: Asking,
        settings: CassandraSettings,
        registry: CollectorRegistry,
        *,
        changes_kept: int = CHANGES_KEPT,
    ) -> None:
        self.applied = 0
        self._hidden_from = 0
        self._looked = float("-inf")
        self._asking = asking
        metadata = asking.session.cluster.metadata
        placing = Placing(metadata, keyspace=settings.keyspace, datacenter=settings.datacenter)
        self._records = Records(asking, placing, settings, registry)
        self._changes_kept = changes_kept

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:
        as_of = self.applied
        return Fetched(await self._visible(await self._records.public(keys, confirmed=confirmed)), as_of)

    async def full(self, keys: Sequence[bytes]) -> Fetched:
        as_of = self.applied
        return Fetched(await self._visible(await self._records.full(keys)), as_of)

    async def identifiers(self, prefix: bytes, *, derived: bool, after: bytes | None, limit: int) -> Listed:
        return await listing.page(self._asking, prefix, derived=derived, after=after, limit=limit)

    async def holds_below(self, prefix: bytes) -> bool:
        return await listing.holds_below(self._asking, prefix)

    async def prefixes(self, after: bytes | None, limit: int) -> list[Prefix]:
        return [Prefix.from_bytes(row) for row in await self._rows(PREFIXES_AFTER, after, limit)]

    async def nodes(self, after: str | None, limit: int) -> list[Node]:
        behind = None if after is None else after.encode()
        return [Node.from_bytes(row) for row in await self._rows(NODES_AFTER, behind, limit)]

    async def changes(self, after: int, limit: int) -> Changes:
        head, _ = await self._watermark()
        if after > head or after < head - self._changes_kept:
            return Changes([], head, is_lost=True)
        rows = await self._slice(FEED, after, min(after + limit, head))
        changes = await self._changes(after, rows)
        # Everything up to the head was applied: what is not there any more is forgotten.
        return Changes(changes, head, is_lost=not changes and after < head)

    async def head(self) -> int:
        applied, _ = await self._watermark()
        return applied

    async def secret(self) -> bytes:
        octets: bytes = await self._one(META, SECRET_ROW, b"")
        return octets

    async def entries(self, after: int, limit: int) -> list[Kept]:
        kept: list[Kept] = []
        rows = await self._journal(ENTRIES, after, limit)
        for first in range(0, len(rows), _ARTEFACTS_AT_ONCE):
            kept += await asyncio.gather(*(self._kept(row) for row in rows[first : first + _ARTEFACTS_AT_ONCE]))
        return kept

    async def told(self, after: int, limit: int) -> list[Kept]:
        rows = await self._journal(TOLD, after, limit)
        return [Kept(index, statement, (), result) for index, _, statement, result in rows]

    async def statements(self, after: int, limit: int) -> list[bytes]:
        return [statement for _, _, statement in await self._journal(STATEMENTS, after, limit)]

    async def tile(self, name: bytes) -> bytes | None:
        octets: bytes | None = await self._one(TILE, name, None)
        return octets

    async def tree_head(self) -> bytes:
        return (await self._reach()).tree_head

    async def answered(self, requests: Sequence[bytes]) -> list[int]:
        found: dict[bytes, int] = dict(await self._among(ANSWERED, requests))
        return [found.get(request, 0) for request in requests]

    async def spent(self, nonces: Sequence[Nonce]) -> list[bool]:
        rows = [nonce_row(nonce) for nonce in nonces]
        found = {row for (row,) in await self._among(SPENT, rows)}
        return [row in found for row in rows]

    # --- what a writer knows better ----------------------------------------------------------------------------

    async def _watermark(self) -> tuple[int, bytes]:
        """Read up to where everything is applied, and the head of the tree there."""
        began = self._asking.clock.monotonic()
        rows = await self._asking.ask(WATERMARK, (JOURNAL,))
        applied, tree_head, hidden_from = rows[0] if rows else (0, b"", 0)
        if began >= self._looked:
            # Of several looks the latest one: one that began before it may know less.
            self.applied, self._hidden_from, self._looked = applied, hidden_from or 0, began
        return applied, tree_head or b""

    async def _visible(self, bodies: list[bytes | None]) -> list[bytes | None]:
        """Hide what belongs to a load that has not ended: nothing was held under its keys before."""
        if self._hidden_from or self._asking.clock.monotonic() > self._looked + LOOKED_MAX:
            # What is newer than all that is known here was written behind the end of a load, or by one that began.
            known = self.applied
            if any(body is not None and wire.body_version(body) > known for body in bodies):
                await self._watermark()
        since = self._hidden_from
        if not since:
            return bodies
        return [None if body is None or wire.body_version(body) >= since else body for body in bodies]

    async def _reach(self) -> Reach:
        (applied, tree_head), heads = await asyncio.gather(self._watermark(), self._asking.ask(HEAD, (JOURNAL,)))
        starts = heads[0][3] if heads else None
        return Reach(applied, tree_head, sorted((start, epoch) for epoch, start in (starts or {}).items()))

    # --- reading many rows -------------------------------------------------------------------------------------

    async def _one(self, statement: Statement, name: object, default: Any) -> Any:
        rows = await self._asking.ask(statement, (name,))
        return rows[0][0] if rows else default

    async def _among(self, statement: Statement, names: Sequence[bytes]) -> list[Row]:
        """Ask for rows by their names, in lists."""
        lists = (names[first : first + WIDTH_MIN] for first in range(0, len(names), WIDTH_MIN))
        found = await asyncio.gather(*(self._asking.ask(statement, (list(each),)) for each in lists))
        return [row for rows in found for row in rows]

    async def _rows(self, statement: Statement, after: bytes | None, limit: int) -> list[bytes]:
        """Give rows of prefixes or nodes in the order of parts and keys, from behind this key on."""
        found: list[bytes] = []
        first = 0 if after is None else part_of(after)
        for part in range(first, PARTS):
            behind = after if after is not None and part == first else b""
            found += [row for (row,) in await self._asking.ask(statement, (part, behind, limit - len(found)))]
            if len(found) == limit:
                break
        return found

    async def _slice(self, statement: Statement, after: int, end: int) -> list[Row]:
        """Give what lies in partitions by index, behind the one and up to the other."""
        buckets = range(entry_bucket(after + 1), entry_bucket(end) + 1) if end > after else ()
        found = await asyncio.gather(*(self._asking.ask(statement, (bucket, after, end)) for bucket in buckets))
        return [row for rows in found for row in rows]

    # --- feed and journal --------------------------------------------------------------------------------------

    async def _changes(self, after: int, rows: Sequence[Row]) -> list[Change]:
        """Decode changes that follow on each other, as long as they are not too large together."""
        changes: list[Change] = []
        octets = 0
        for index, parts, change in rows:
            if index != after + 1 + len(changes) or octets >= CHANGES_BYTES:
                break
            encoded = change if not parts else await self._parts_of_change(index, parts)
            if encoded is None:
                break
            changes.append(change_decoder.decode(encoded))
            octets += len(encoded)
        return changes

    async def _parts_of_change(self, index: int, parts: int) -> bytes | None:
        """Put a large change together; None where it was forgotten meanwhile."""
        found: list[bytes] = []
        for part in range(parts):
            rows = await self._asking.ask(CHANGE_PART, (index, part))
            if not rows:
                return None
            found.append(rows[0][0])
        return b"".join(found)

    async def _journal(self, statement: Statement, after: int, limit: int) -> list[Row]:
        """Give rows of entries that were committed; one that a writer proposed in vain lies beside some of them."""
        reach = await self._reach()
        end = min(after + limit, reach.size)
        rows = await self._slice(statement, after, end)
        committed = [row for row in rows if row[1] == epoch_of(row[0], reach.starts)]
        if [row[0] for row in committed] != list(range(after + 1, end + 1)):
            raise _missing(after, end, [row[0] for row in committed])
        return committed

    async def _kept(self, row: Row) -> Kept:
        index, epoch, statement, result, sizes = row
        sizes = sizes or []
        octets: list[bytes] = []
        last = (_BEFORE_ALL, _BEFORE_ALL)
        left = sum(map(parts_in, sizes))
        while left:
            found = await self._asking.ask(ARTEFACT_PARTS, (index, epoch, *last, min(left, _PARTS_AT_ONCE)))
            if not found:
                break
            octets += [part for _, _, part in found]
            last, left = found[-1][:2], left - len(found)
        try:
            return Kept(index, statement, tuple(joined(octets, sizes)), result)
        except ValueError:
            raise _damaged(index, f"What stands beside the entry {index} is missing") from None


class CassandraReader(Reads):
    """A StoreReader for any process; one for a store in each."""

    def __init__(self, session: Session, settings: CassandraSettings, registry: CollectorRegistry) -> None:
        super().__init__(session.asking, settings, registry)
        self._session = session

    @classmethod
    async def open(cls, settings: CassandraSettings, *, clock: Clock, registry: CollectorRegistry) -> Self:
        """Open the store in this keyspace.

        Raises:
            Fault: as `Session.open`.
        """
        return cls(await Session.open(settings, clock=clock, registry=registry), settings, registry)

    def close(self) -> None:
        """Close it; nothing can be read any more."""
        self._session.close()


def _missing(after: int, end: int, found: Sequence[int]) -> Fault:
    there = set(found)
    index = next(index for index in range(after + 1, end + 1) if index not in there)
    return _damaged(index, f"The entry {index} is missing")


def _damaged(index: int, what: str) -> Fault:
    return Fault(Reason.JOURNAL_DAMAGED, f"{what}.", variables={"index": str(index), "kind": "entry"})
