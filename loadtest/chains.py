"""A whole chain over a store, without a front: what the benchmarks of the read path measure."""

from prometheus_client import CollectorRegistry

from resolver import chain
from resolver.cache.memory import MemoryCache, MemorySettings
from resolver.chain import Chain, ChainSettings
from resolver.clock import SystemClock
from resolver.following import Following, FollowingSettings
from resolver.holders import Holders
from resolver.routes import RouteTable
from resolver.store import StoreReader
from resolver.trust.actors import NodeTable


async def chain_over(reader: StoreReader) -> Chain:
    """Make a chain with the settings that nodes have by default, up to date with this store."""
    clock, registry, routes, nodes = SystemClock(), CollectorRegistry(), RouteTable(), NodeTable()
    cache = MemoryCache(MemorySettings(), registry)
    following = Following(reader, routes, cache, clock, FollowingSettings(), registry, nodes=nodes)
    await following.start()
    return chain.build(
        node="top",
        clock=clock,
        records=reader,
        routes=routes,
        cache=cache,
        following=following,
        holders=Holders("top", nodes=nodes, routes=routes, is_current=lambda: following.is_current),
        settings=ChainSettings(),
        registry=registry,
    )
