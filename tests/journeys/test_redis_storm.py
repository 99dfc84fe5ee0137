"""A seeded storm over a real Redis: writes, lost servers, late processes, and a model of what each key must answer.

The model is that of tests/unit/test_shared_model.py: whatever is read was true at some moment at or after the last
change that its reader had followed. Here marking, keeping and connecting run by themselves, as in a node.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest
from prometheus_client import CollectorRegistry

from resolver.cache.redis import RedisCache, RedisSettings
from resolver.clock import SystemClock
from resolver.marking import Marking
from resolver.routes import Prefix
from resolver.units import Duration
from tests.services.redis_servers import RedisServer
from tests.shared_caches import running, until
from tests.shared_resolver import Replicas, SharedResolver, versions
from tests.small_store import body

pytestmark = pytest.mark.needs("redis")

KEYS = [b"88.%d/%d" % (100 + number % 2, number) for number in range(20)]
STEPS = 400


class Storm:
    """A store, a writer that marks, and two resolvers, of which each may begin anew at any time."""

    def __init__(self, server: RedisServer, seed: int) -> None:
        self.random = random.Random(seed)
        self.server = server
        self.store = Replicas()
        self.store.commit(prefixes=[Prefix("88.100", "h"), Prefix("88.101", "h")])
        self.changed: dict[bytes, list[int]] = {key: [0] for key in KEYS}
        settings = RedisSettings(
            address=server.address, deadline=Duration(0.05), rest=Duration(0.05), connect_within=Duration(0.2)
        )
        self.caches = [RedisCache(settings, clock=SystemClock(), registry=CollectorRegistry()) for _ in range(2)]
        self.marking = Marking(self.store, self.caches[0], Duration(0.01), CollectorRegistry())
        self.resolvers = [SharedResolver(self.store, self.caches[1]) for _ in range(2)]
        self.keeping: list[asyncio.Task[None]] = []
        self.hits = 0

    def note(self, keys: Sequence[bytes]) -> dict[bytes, bytes | None]:
        index = self.store.index + 1
        for key in keys:
            self.changed[key].append(index)
        return {key: body(key.decode(), index) for key in keys}

    async def write(self) -> None:
        self.store.commit(self.note(self.random.sample(KEYS, self.random.randint(1, 4))))

    async def load(self) -> None:
        keys = [key for key in self.random.sample(KEYS, 6) if key.startswith(b"88.100")]
        self.store.commit(self.note(keys), below=[b"88.100"])

    async def follow(self) -> None:
        await self.random.choice(self.resolvers).following.catch_up()

    async def begin_anew(self) -> None:
        resolver = SharedResolver(self.store, self.caches[1])
        await resolver.following.start()
        self.keeping.append(asyncio.create_task(resolver.records.run()))
        self.resolvers[self.random.randrange(2)] = resolver

    async def read(self) -> None:
        resolver, keys = self.random.choice(self.resolvers), self.random.sample(KEYS, 8)
        followed = resolver.following.applied
        fetched = await resolver.records.public(keys)
        self.hits += fetched.shared
        for key, version in zip(keys, versions(fetched), strict=True):
            oldest = max(each for each in self.changed[key] if each <= max(followed, fetched.as_of))
            assert (version or 0) >= oldest, f"{key!r} is of {version}, and was changed at {oldest}"

    async def rest(self) -> None:
        await asyncio.sleep(self.random.random() / 50)

    async def freeze(self) -> None:
        self.server.pause()
        await asyncio.sleep(self.random.random() / 5)
        self.server.resume()

    async def lose_everything(self) -> None:
        with self.server.client() as admin:
            await asyncio.to_thread(admin.flushall)

    async def kill(self) -> None:
        self.server.kill()
        await asyncio.to_thread(self.server.start)

    async def go_on(self) -> None:
        """Do what comes next: mostly what happens all the time, sometimes what breaks things."""
        ordinary: list[Callable[[], Awaitable[None]]] = [self.write, self.follow, self.rest]
        rare = [self.load, self.begin_anew, self.freeze, self.lose_everything, self.kill]
        await self.read()
        await self.random.choice(rare if self.random.random() < 0.05 else ordinary)()

    async def is_shared(self) -> bool:
        """Does Redis answer for everything, rightly?"""
        for resolver in self.resolvers:
            await resolver.following.catch_up()
        before, self.hits = self.hits, 0
        await self.read()
        is_all, self.hits = self.hits == 8, before + self.hits
        return is_all


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_answer_is_older_than_what_its_reader_had_followed(redis_server: RedisServer, seed: int) -> None:
    storm = Storm(redis_server, seed)
    async with running(storm.caches[0]), running(storm.caches[1]):
        marking = asyncio.create_task(storm.marking.run())
        for _ in range(4):
            await storm.begin_anew()
        for resolver in storm.resolvers:
            await resolver.following.start()
        for _ in range(STEPS):
            await storm.go_on()
        await until(storm.is_shared, "an answer of Redis for everything")
        assert storm.hits > STEPS
        for task in (marking, *storm.keeping):
            task.cancel()
