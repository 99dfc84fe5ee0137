"""Which children there are, and at which endpoints, out of a store: enabled nodes with prefixes delegated to them.

Only holders and their endpoints are remembered, not their prefixes, of which there may be a million. So what the feed
tells is added at once; what is gone is found by reading all rows again, which is done when anything of them has
changed, and for a twentieth of the time at most.
"""

import asyncio
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Final, Protocol

from msgspec import Struct

from resolver.clock import Clock
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState
from resolver.store import FeedReader, NodeReader, RouteReader
from resolver.trust.actors import Node, NodeState

ENDPOINTS: Final = 16
"""Endpoints of one child that are probed, those with the lowest priorities; it may have others for other prefixes."""

_ROWS: Final = 1_000
_CHANGES: Final = 100
_PAUSE_SHARE: Final = 20
"""Between two readings of all rows pass this many times the seconds that the last one took."""

_RESOLVING: Final = frozenset((PrefixState.ENABLED, PrefixState.TO_DELETE))
_order: Final = attrgetter("priority", "protocol", "address", "port", "tls_name")


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
        self._rows: dict[str, Node] = {}
        self._endpoints: dict[str, tuple[Endpoint, ...]] = {}

    async def refresh(self) -> None:
        """Follow the store.

        Raises:
            Fault: as the store does; what was known stays known.
        """
        if self._applied is None:
            await self._read_all()
        await self._follow(self._applied or 0)
        if self._is_stale and self._clock.monotonic() >= self._read_again_at:
            await self._read_all()

    def current(self) -> Mapping[str, Child]:
        """Give the children that are to be probed, by node."""
        enabled = [
            row for name, row in self._rows.items() if row.state is NodeState.ENABLED and self._endpoints[name]
        ]
        enabled.sort(key=attrgetter("tier", "node"))
        self.left_out = max(0, len(enabled) - self._most)
        return {row.node: Child(row, self._endpoints[row.node]) for row in enabled[: self._most]}

    async def _follow(self, applied: int) -> None:
        while True:
            read = await self._store.changes(applied, _CHANGES)
            if read.is_lost:
                self._applied = read.head
                self._is_stale = True
                return
            for change in read.changes:
                self._take_prefixes(change.prefixes)
                self._take_nodes(change.nodes)
                self._applied = applied = change.index
            if not read.changes or applied >= read.head:
                return
            await asyncio.sleep(0)

    def _take_prefixes(self, prefixes: Iterable[Prefix]) -> None:
        for prefix in prefixes:
            # Whose it was before, and at which endpoints, is not known here.
            self._is_stale = True
            if prefix.holder in self._rows and _leads_away(prefix):
                self._endpoints[prefix.holder] = _merged(self._endpoints[prefix.holder], prefix.endpoints)

    def _take_nodes(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if node.node in self._rows:
                self._rows[node.node] = node

    async def _read_all(self) -> None:
        """Read all rows. What changes meanwhile is in the feed behind the head of before."""
        began = self._clock.monotonic()
        head = await self._store.head()
        endpoints = await self._read_prefixes()
        rows = await self._read_nodes(endpoints)
        self._endpoints = {name: endpoints[name] for name in rows}
        self._rows = rows
        self._applied, self._is_stale = head, False
        now = self._clock.monotonic()
        self._read_again_at = now + max(self._pause, _PAUSE_SHARE * (now - began))

    async def _read_prefixes(self) -> dict[str, tuple[Endpoint, ...]]:
        found: dict[str, tuple[Endpoint, ...]] = {}
        after = None
        while page := await self._store.prefixes(after, _ROWS):
            for prefix in page:
                if _leads_away(prefix) and prefix.holder != self._own:
                    held = found.get(prefix.holder, ())
                    # Nearly always the same ones again.
                    if not set(prefix.endpoints) <= set(held):
                        found[prefix.holder] = _merged(held, prefix.endpoints)
            after = page[-1].key
            await asyncio.sleep(0)
        return found

    async def _read_nodes(self, holders: Mapping[str, object]) -> dict[str, Node]:
        found: dict[str, Node] = {}
        after = None
        while page := await self._store.nodes(after, _ROWS):
            found.update((node.node, node) for node in page if node.node in holders)
            after = page[-1].node
            await asyncio.sleep(0)
        return found


def _leads_away(prefix: Prefix) -> bool:
    return prefix.hosting is Hosting.DELEGATED and prefix.state in _RESOLVING and bool(prefix.endpoints)


def _merged(held: tuple[Endpoint, ...], more: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    return tuple(sorted({*held, *more}, key=_order)[:ENDPOINTS])
