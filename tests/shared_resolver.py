"""A resolver's part in sharing: memory, routes, the feed, and records through a shared cache, over a small store."""

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from resolver import wire
from resolver.cache.memory import MemoryCache, MemorySettings
from resolver.clock import SetClock
from resolver.following import Following, FollowingSettings
from resolver.routes import RouteTable
from resolver.shelves import SharedCache
from resolver.store import Fetched
from resolver.store.shared import SharedRecords, SharedSettings
from resolver.trust.actors import NodeTable
from tests.small_store import SmallStore


class SharedResolver:
    """What one process has. Its feed is followed when a test says so."""

    def __init__(self, store: SmallStore, cache: SharedCache, settings: SharedSettings | None = None) -> None:
        self.clock, self.registry, self.routes = SetClock(), CollectorRegistry(), RouteTable()
        self.memory = MemoryCache(MemorySettings(), self.registry)
        self.following = Following(
            store, self.routes, self.memory, self.clock, FollowingSettings(), self.registry, nodes=NodeTable()
        )
        self.records = SharedRecords(
            store,
            cache,
            following=self.following,
            memory=self.memory,
            routes=self.routes,
            settings=settings or SharedSettings(),
            registry=self.registry,
        )

    async def read(self, *keys: bytes) -> list[int | None]:
        """Give the versions of what stands under these keys."""
        return versions(await self.records.public(keys))

    async def keep(self) -> None:
        """Let what was read be kept."""
        running = asyncio.create_task(self.records.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()
        assert not self.records._fills


class Replicas(SmallStore):
    """A store whose nearest replica may have missed writes: `missed` is what it still has.

    What it does not have is asked of others before None is given, as every store does that has replicas. `lag` is how
    far what it says of itself is behind. `confirmed` are batches that were asked to be.
    """

    def __init__(self) -> None:
        super().__init__()
        self.missed: dict[bytes, bytes] = {}
        self.confirmed: list[list[bytes]] = []
        self.lag = 0

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:
        fetched = await super().public(keys)
        as_of = max(0, fetched.as_of - self.lag)
        if confirmed:
            self.confirmed.append(self.asked.pop())
            return Fetched(fetched.bodies, as_of)
        return Fetched([self.missed.get(key, held) for key, held in zip(keys, fetched.bodies, strict=True)], as_of)


def versions(fetched: Fetched) -> list[int | None]:
    return [None if body is None else wire.body_version(body) for body in fetched.bodies]
