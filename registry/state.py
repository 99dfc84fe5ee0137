"""What requests are planned against: what the store holds, and above it what the requests before them change.

One task at a time: `begin`, then for each request of a group a plan and `add`, then the commit and `committed`, or
`forget` where it failed.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from registry.plans import Plan
from resolver import wire
from resolver.handle import ancestors
from resolver.routes import Prefix, RouteTable, Scope
from resolver.store import Checkpoint, StoreReader
from resolver.trust.actors import Node, NodeTable

_PAGE: Final = 2_000


class Store(StoreReader, Protocol):
    """What a state is read from: what resolvers read, and how far imports have come."""

    async def checkpoint(self, name: str) -> Checkpoint:
        """Give how far the import of this name has come."""


class State:
    """The store and what is planned above it. `now` is the time by which terms end, in Unix seconds.

    `own_name` is this node's identifier: the holder of prefixes that its operators keep for themselves.

    `routes` and `nodes` hold what is planned too; both are for reading only. `generation` changes whenever a prefix
    may have, so that what was derived from prefixes can be kept as long as it does not.
    """

    def __init__(self, store: Store, *, own_name: str) -> None:
        self.own_name = own_name
        self.routes = RouteTable()
        self.nodes = NodeTable()
        self.now = 0
        self._store = store
        self._index = -1
        self._bodies: dict[bytes, bytes] = {}
        self._checkpoints: dict[str, Checkpoint] = {}

    @property
    def index(self) -> int:
        """The journal index of the newest entry, with those that are planned."""
        return self._index

    @property
    def generation(self) -> int:
        return self.routes.generation

    async def begin(self, wall: float) -> None:
        """Be up to date: read the rows of prefixes and nodes where anybody else has written, and let terms end."""
        if await self._store.head() != self._index:
            await self._read_all()
        self.tell_time(wall)

    def tell_time(self, wall: float) -> None:
        """Let terms end: an entry is planned by the time at which it is, or was, accepted."""
        self.now = int(wall)
        self.routes.tell_time(wall)

    def add(self, plan: Plan) -> None:
        """Take what a request changes as given for those after it; it will be the next entry."""
        self._index += 1
        version = wire.version_field(self._index)
        self._bodies.update((write.key, (write.full or write.public) + version) for write in plan.writes)
        if plan.prefixes:
            self.routes.put(replace(prefix, epoch=self._index) for prefix in plan.prefixes)
        self.nodes.put(replace(node, epoch=self._index) for node in plan.nodes)
        self._checkpoints.update((name, reached or Checkpoint()) for name, reached in plan.checkpoints)

    def committed(self) -> None:
        """Note that everything planned is in the store."""
        self._bodies.clear()
        self._checkpoints.clear()

    def forget(self) -> None:
        """Note that what was planned may not be in the store: the next time everything is read again."""
        self._bodies.clear()
        self._checkpoints.clear()
        self._index = -1

    async def held(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Fetch the full bodies of what stands under these keys (tombstones too); usually nothing does."""
        fetched = await self._store.public(keys)
        held = [key for key, body in zip(keys, fetched.bodies, strict=True) if body is not None]
        bodies = (await self._store.full(held)).bodies if held else ()
        found = {key: body for key, body in zip(held, bodies, strict=True) if body is not None}
        planned = self._bodies
        if planned:
            found.update((key, planned[key]) for key in keys if key in planned)
        return found

    async def holds_below(self, prefix: bytes) -> bool:
        """Tell whether anything, a tombstone too, stands below this folded prefix or its derived ones."""
        beginnings = (prefix + b".", prefix + b"/")
        return any(key.startswith(beginnings) for key in self._bodies) or await self._store.holds_below(prefix)

    async def checkpoint(self, name: str) -> Checkpoint:
        """Give how far the import of this name has come."""
        return self._checkpoints.get(name) or await self._store.checkpoint(name)

    def scope(self, prefix: bytes) -> Scope:
        """Give what holds directly below a folded prefix."""
        return self.routes.scope(prefix)

    def allocations(self, prefix: bytes) -> list[Prefix]:
        """Give the rows at and above this folded prefix, the longest first, whatever their states."""
        rows = (self.routes.allocation(each) for each in ancestors(prefix))
        return [row for row in rows if row is not None]

    def node(self, name: str) -> Node | None:
        return self.nodes.node(name)

    async def _read_all(self) -> None:
        index = await self._store.head()
        table, after = RouteTable(), None
        while page := await self._store.prefixes(after, _PAGE):
            table.put(page)
            after = page[-1].key
            await asyncio.sleep(0)
        nodes: list[Node] = []
        while rows := await self._store.nodes(nodes[-1].node if nodes else None, _PAGE):
            nodes += rows
            await asyncio.sleep(0)
        self.routes.adopt(table)
        self.nodes.replace(nodes)
        self._bodies.clear()
        self._checkpoints.clear()
        self._index = index
