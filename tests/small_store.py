"""A store in a dict: a whole implementation of what is read, small enough to be seen through, and controllable.

It can fail (`fault`) and be slow (`hold`): a slow read has looked before it waits, as a slow disk or network has.
And `put`, the way by which tests put something into a store of any kind.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from msgspec.structs import replace

from resolver import wire
from resolver.handle import Handle
from resolver.record import Record, Tombstone, Value
from resolver.routes import Prefix
from resolver.store import Change, Changes, Commit, Entry, Fetched, Listed, StoreWriter, Write
from resolver.trust.actors import Node

AT = 1_800_000_000
"""When made-up entries are accepted, unless a test says otherwise."""


def entry(
    writes: Sequence[Write] = (), prefixes: Sequence[Prefix] = (), nodes: Sequence[Node] = (), **more: Any
) -> Entry:
    """Make an entry that changes this, with a statement and a request of its own; `more` are fields of `Entry`."""
    name = uuid4().bytes
    made_up = {"statement": b"statement " + name, "artefacts": (b"envelope " + name,), "result": b"", "request": name}
    return Entry(writes=writes, prefixes=prefixes, nodes=nodes, **{"at": AT} | made_up | more)


async def put(
    store: StoreWriter,
    writes: Sequence[Write] = (),
    prefixes: Sequence[Prefix] = (),
    nodes: Sequence[Node] = (),
    **more: Any,
) -> int:
    """Write this as one entry in a commit of its own, and give its index."""
    return await store.commit(Commit(entries=[entry(writes, prefixes, nodes, **more)]))


def body(text: str, version: int = 1, *, data: str = "", deleted: bool = False) -> bytes:
    """Encode a record with a URL (index 1) and a name (index 2), or a tombstone, as a store keeps it."""
    values = (
        Value(index=1, type="URL", data=(data or f"https://example.org/{text}").encode()),
        Value(index=2, type="NAME.SHORT", data=b"a part"),
    )
    record = Record(
        identifier=Handle.from_text(text),
        values=() if deleted else values,
        tombstone=Tombstone(reason="scrapped", deleted_at=1) if deleted else None,
    )
    return wire.record_body(record, public=True) + wire.version_field(version)


class SmallStore:
    """A StoreReader. `asked` are the batches of keys that were read, in their order."""

    def __init__(
        self,
        records: Mapping[bytes, bytes] | None = None,
        prefixes: Sequence[Prefix] = (),
        *,
        full: Mapping[bytes, bytes] | None = None,
    ) -> None:
        self.fault: Exception | None = None
        self._gate: asyncio.Event | None = None
        self.asked: list[list[bytes]] = []
        self.forgotten = 0
        self._records = dict(records or {})
        self._full = dict(full or {})
        self._prefixes: dict[bytes, Prefix] = {}
        self._nodes: dict[str, Node] = {}
        self._feed: list[Change] = []
        if prefixes:
            self.commit(prefixes=prefixes)

    @property
    def index(self) -> int:
        """The journal index of the newest commit."""
        return len(self._feed)

    def hold(self) -> None:
        """Let reads wait from now on."""
        self._gate = asyncio.Event()

    def release(self) -> None:
        """Let those that wait, and all others, go on."""
        if self._gate:
            self._gate.set()
        self._gate = None

    def commit(
        self,
        records: Mapping[bytes, bytes | None] | None = None,
        prefixes: Sequence[Prefix] = (),
        nodes: Sequence[Node] = (),
        *,
        below: Sequence[bytes] | None = None,
    ) -> int:
        """Write (None removes), and name in the feed the keys or, where it is given, what they are below."""
        index = self.index + 1
        for key, octets in (records or {}).items():
            if octets is None:
                self._records.pop(key, None)
            else:
                self._records[key] = octets
            self._full.pop(key, None)
        rows = tuple(replace(prefix, epoch=index) for prefix in prefixes)
        self._prefixes |= {row.key: row for row in rows}
        signers = tuple(replace(node, epoch=index) for node in nodes)
        self._nodes |= {node.node: node for node in signers}
        keys = tuple(records or ()) if below is None else ()
        self._feed.append(Change(index=index, keys=keys, prefixes=rows, below=tuple(below or ()), nodes=signers))
        return index

    def become(self, other: "SmallStore") -> None:
        """Hold what another store holds, and nothing else: as one does that was restored."""
        self._records, self._full, self._feed = other._records, other._full, other._feed
        self._prefixes, self._nodes = other._prefixes, other._nodes

    def rows(self) -> list[Prefix]:
        """Give all rows of prefixes."""
        return list(self._prefixes.values())

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:  # noqa: ARG002 - no replicas
        self.asked.append(list(keys))
        fetched = Fetched([self._records.get(key) for key in keys], self.index)
        await self._pass()
        return fetched

    async def full(self, keys: Sequence[bytes]) -> Fetched:
        """Give what was given as `full`, else what is public."""
        self.asked.append(list(keys))
        fetched = Fetched([self._full.get(key) or self._records.get(key) for key in keys], self.index)
        await self._pass()
        return fetched

    async def identifiers(self, prefix: bytes, *, derived: bool, after: bytes | None, limit: int) -> Listed:
        raise NotImplementedError

    async def holds_below(self, prefix: bytes) -> bool:
        await self._pass()
        return any(key.startswith((prefix + b".", prefix + b"/")) for key in self._records)

    async def nodes(self, after: str | None, limit: int) -> list[Node]:
        await self._pass()
        names = sorted(name for name in self._nodes if after is None or name > after)
        return [self._nodes[name] for name in names[:limit]]

    async def prefixes(self, after: bytes | None, limit: int) -> list[Prefix]:
        await self._pass()
        keys = sorted(key for key in self._prefixes if after is None or key > after)
        return [self._prefixes[key] for key in keys[:limit]]

    async def changes(self, after: int, limit: int) -> Changes:
        await self._pass()
        if after < self.forgotten or after > self.index:
            return Changes([], self.index, is_lost=True)
        return Changes(self._feed[after : after + limit], self.index)

    async def head(self) -> int:
        await self._pass()
        return self.index

    async def secret(self) -> bytes:
        return b"s" * 32

    async def _pass(self) -> None:
        if self._gate:
            await self._gate.wait()
        if self.fault:
            raise self.fault
