"""A resolver with Redis in front of an embedded store: `python -m loadtest.shared_resolver STORE REDIS`.

No node is set up so, because a store on the same disk needs no shared cache; what a lookup costs that Redis answers
is the same here as in front of a ring. It prints the port of its native front. For each line on its standard input it
prints what it has counted, and it ends with that.
"""

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import msgspec
import uvloop
from prometheus_client import CollectorRegistry

from loadtest.misses import Counts
from nodes.serving.child import spare_collector
from nodes.settings import NodeSettings
from nodes.top import build_resolver
from resolver.cache.redis import RedisSettings
from resolver.clock import SystemClock
from resolver.front.core import FrontSettings
from resolver.rpc.serving import ServingSettings, build_server
from resolver.store.embedded import EmbeddedReader
from resolver.units import Duration


async def serve(store: Path, redis: str) -> None:
    """Serve until standard input ends."""
    registry, port = CollectorRegistry(), _free_port()
    settings = NodeSettings(
        data=store,
        serving=ServingSettings(address=f"127.0.0.1:{port}"),
        front=FrontSettings(streaming="127.0.0.1:0"),
        # On a busy machine too it is Redis that answers.
        redis=RedisSettings(address=redis, deadline=Duration(1)),
    )
    reader = EmbeddedReader.open(store)
    resolver = await build_resolver(reader, settings, SystemClock(), registry)
    async with resolver.serving(build_server(settings.serving)):
        spare_collector()
        print(port, flush=True)
        await _telling(registry)
    reader.close()


async def _telling(registry: CollectorRegistry) -> None:
    """Print what has been counted whenever somebody asks, until nobody can any more."""
    has_ended = asyncio.Event()

    def told() -> None:
        if os.read(sys.stdin.fileno(), 1_024):
            print(json.dumps(msgspec.to_builtins(_counts(registry))), flush=True)
        else:
            has_ended.set()

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), told)
    await has_ended.wait()


def _counts(registry: CollectorRegistry) -> Counts:
    def value(name: str, **labels: str) -> int:
        return int(registry.get_sample_value(name, labels) or 0)

    return Counts(
        flights=value("topnode_gathering_flights_total"),
        missed=value("topnode_cache_lookups_total", tier="memory", verdict="miss"),
        shared=value("topnode_cache_lookups_total", tier="redis", verdict="hit"),
    )


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), sys.argv[2]))
