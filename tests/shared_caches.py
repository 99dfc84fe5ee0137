"""Shared caches for tests: a real one, connected for as long as a test needs it, and waiting for what it shows."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from resolver.cache.redis import RedisCache, RedisSettings
from resolver.clock import SystemClock


async def until(seen: Callable[[], Awaitable[bool]], what: str, seconds: float = 30) -> None:
    """Look again and again until it is seen."""
    try:
        async with asyncio.timeout(seconds):
            # What is looked at is in another process, which tells nobody.
            while not await seen():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not seen within {seconds} s: {what}") from None


async def is_reached(cache: RedisCache) -> bool:
    """Do all servers answer?"""
    return await cache.marked() is not None


@asynccontextmanager
async def running(cache: RedisCache) -> AsyncIterator[None]:
    """Keep a cache connected."""
    task = asyncio.create_task(cache.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def connected(settings: RedisSettings, registry: CollectorRegistry | None = None) -> AsyncIterator[RedisCache]:
    """Give a cache that has reached its servers, and is kept connected with them."""
    cache = RedisCache(settings, clock=SystemClock(), registry=registry or CollectorRegistry())
    async with running(cache):
        await until(lambda: is_reached(cache), "an answer of all servers")
        yield cache
