"""Which children there are, and at which endpoints, out of a store: enabled nodes with prefixes delegated to them.

All rows are read at the start, and where the feed is lost; from then on the feed tells all that changes. Of a prefix,
of which there may be a million, only the number of its route is remembered (`holdings`).
"""

import asyncio
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Final, Protocol

from msgspec import Struct

from nodes.probing.holdings import STRANGER, Holdings, Route
from resolver.clock import Clock
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState
from resolver.store import FeedReader, NodeReader, RouteReader
from resolver.tables import read_nodes
from resolver.trust.actors import Node, NodeState, NodeTable

_ROWS: Final = 1_000
_CHANGES: Final = 100
_PAUSE_SHARE: Final = 20
"""Between two readings of all rows pass this many times the seconds that the last one took."""

_RESOLVING: Final = frozenset((PrefixState.ENABLED, PrefixState.TO_DELETE))


class Store(RouteReader, NodeReader, FeedReader, Protocol):
    """What children are read from."""

    async def head(self) -> int:
        """Give the index of the newest entry."""


class Child(Struct, frozen=True):
    """A node below, as its row is now, and the endpoints at which it is probed, in the order of priorities."""

    row: Node
    endpoints: tuple[Endpoint, ...]


class Children:
    """The children of this node (`own`), at most `most` of them. `left_out` counts those beyond."""

    def __init__(self, store: Store, clock: Clock, *, own: str, most: int, pause: float) -> None:
        self.left_out = 0
        self._store = store
        self._clock = clock
        self._own = own
        self._most = most
        self._pause = pause
        self._applied: int | None = None
        self._read_again_at = float("-inf")
        self._is_stale = True
        self._nodes = NodeTable()
        self._holdings = Holdings()
        self._current: Mapping[str, Child] | None = None

    @property
    def prefixes_left_out(self) -> int:
        """Prefixes that are passed over, because they lead by too many different routes."""
        return self._holdings.left_out

    async def refresh(self) -> None:
        """Follow the store.

        Raises:
            Fault: as the store does; what was known stays known.
        """
        if self._applied is None:
            await self._read_all()
        await self._follow(self._applied or 0)
        is_wanted = self._is_stale or (self._holdings.left_out and self._holdings.has_room)
        if is_wanted and self._clock.monotonic() >= self._read_again_at:
            await self._read_all()

    def current(self) -> Mapping[str, Child]:
        """Give the children that are to be probed, by node."""
        if self._current is None:
            self._current = self._chosen()
        return self._current

    def _chosen(self) -> dict[str, Child]:
        rows = map(self._nodes.node, self._holdings.holders)
        enabled = [row for row in rows if row is not None and row.state is NodeState.ENABLED]
        enabled.sort(key=attrgetter("tier", "node"))
        self.left_out = max(0, len(enabled) - self._most)
        return {row.node: Child(row, self._holdings.endpoints(row.node)) for row in enabled[: self._most]}

    async def _follow(self, applied: int) -> None:
        while True:
            read = await self._store.changes(applied, _CHANGES)
            if read.is_lost:
                self._applied = read.head
                self._is_stale = True
                return
            for change in read.changes:
                self._take_nodes(change.nodes)
                self._take_prefixes(change.prefixes)
                self._applied = applied = change.index
                if change.prefixes:
                    # One entry may name a thousand.
                    await asyncio.sleep(0)
            if not read.changes or applied >= read.head:
                return
            await asyncio.sleep(0)

    def _take_nodes(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if self._holdings.strangers and node.node not in self._nodes:
                # It may be one of those to whom prefixes lead already.
                self._is_stale = True
            self._nodes.put((node,))
            self._current = None

    def _take_prefixes(self, prefixes: Iterable[Prefix]) -> None:
        for prefix in prefixes:
            if self._holdings.put(prefix.key, self._route(prefix, self._nodes)):
                self._current = None

    async def _read_all(self) -> None:
        """Read all rows. What changes meanwhile is in the feed behind the head of before."""
        began = self._clock.monotonic()
        head = await self._store.head()
        nodes = await read_nodes(self._store)
        self._holdings = await self._read_prefixes(nodes)
        self._nodes = nodes
        self._current = None
        self._applied, self._is_stale = head, False
        now = self._clock.monotonic()
        self._read_again_at = now + max(self._pause, _PAUSE_SHARE * (now - began))

    async def _read_prefixes(self, nodes: NodeTable) -> Holdings:
        holdings, after = Holdings(), None
        while page := await self._store.prefixes(after, _ROWS):
            for prefix in page:
                holdings.put(prefix.key, self._route(prefix, nodes))
            after = page[-1].key
            await asyncio.sleep(0)
        return holdings

    def _route(self, prefix: Prefix, nodes: NodeTable) -> Route | None:
        """Tell where a prefix leads, beside this node itself."""
        is_delegated = prefix.hosting is Hosting.DELEGATED and prefix.state in _RESOLVING
        if not (is_delegated and prefix.endpoints) or prefix.holder == self._own:
            return None
        return Route(prefix.holder, prefix.endpoints) if prefix.holder in nodes else STRANGER
