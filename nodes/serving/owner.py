"""The process that owns a node's store, the one writer. It takes signed requests on a port and on its Unix socket."""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import Any

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Gauge

from nodes.counting.inside import KeeperService
from nodes.counting.running import accounting, keeping
from nodes.serving import child
from nodes.serving.exposition import process_registry
from nodes.serving.inside import inside_server
from nodes.serving.orders import Order
from nodes.settings import NodeSettings
from nodes.stores import marking, open_ring, own_embedded, tending
from nodes.upward.running import upward
from registry.counts_journal import CountedStore
from registry.opening import open_registry
from registry.service import RegistryService
from resolver.clock import Clock, SystemClock
from resolver.rpc.serving import Server, build_server


async def serve(order: Order, life: child.Life) -> None:
    """Own the store, making it where there is none, and the registry over it, until told to stop.

    Raises:
        Fault (perhaps in a group): STORE_OWNED by another process; else as `own_embedded`, `own_ring`, `registering`.
    """
    if order.settings.cassandra.hosts:
        await _serve_ring(order, life)
        return
    settings, clock, registry = order.settings, SystemClock(), process_registry()
    with closing(own_embedded(settings, order.socket, clock, stop=os.getppid())) as store:
        inside = inside_server(order.socket, registry, settings.serving.drain_grace)
        async with keeping(store.counts, settings.data, clock, registry) as keeper:
            KeeperService(keeper, clock, registry).add_to(inside)
            async with registering(store, inside, settings, clock, registry):
                life.serves()
                await life.is_over()


async def _serve_ring(order: Order, life: child.Life) -> None:
    """Stand by until it is this process's turn to write, then take signed requests until told to stop."""
    settings, clock, registry = order.settings, SystemClock(), process_registry()
    is_writer = Gauge("topnode_registry_is_writer", "1: this process writes; 0: it stands by.", registry=registry)
    store = await open_ring(settings, clock, registry, stop=os.getppid())
    async with AsyncExitStack() as closing_later:
        closing_later.push_async_callback(store.close)
        # Resolvers of this machine hand on what they count, whosever turn it is to write.
        keeper = await closing_later.enter_async_context(keeping(store.counts, settings.data, clock, registry))
        counts = KeeperService(keeper, clock, registry)
        inside = inside_server(order.socket, registry, settings.serving.drain_grace)
        counts.add_to(inside)
        await inside.start()
        inside.set_serving(is_serving=False)
        life.serves()
        is_its_turn = await _comes_before(store.begin(waits=True), life.is_over())
        await inside.stop()
        if not is_its_turn:
            return
        is_writer.set(1)
        inside = inside_server(order.socket, registry, settings.serving.drain_grace)
        counts.add_to(inside)
        async with (
            tending(store),
            marking(store, settings, clock, registry),
            registering(store, inside, settings, clock, registry),
        ):
            await life.is_over()


async def _comes_before(first: Coroutine[Any, Any, None], second: Coroutine[Any, Any, None]) -> bool:
    """Wait for whichever ends first, give up the other, and tell whether it was the first; raise what that raised."""
    tasks = [asyncio.create_task(first), asyncio.create_task(second)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        is_first = tasks[0].done()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if is_first:
        tasks[0].result()
    return is_first


@asynccontextmanager
async def registering(
    store: CountedStore, inside: Server, settings: NodeSettings, clock: Clock, registry: CollectorRegistry
) -> AsyncIterator[None]:
    """Take signed requests on the registry's port and on this process's socket, and drain both at the end.

    Meanwhile what is registered is counted, and the node above, if there is one, is told what is taken.

    Raises:
        Fault: as `open_registry`, `upward`; an address cannot be bound, a TLS file does not fit.
    """
    served = replace(settings.serving, address=settings.registry.address, tls=settings.registry.tls)
    outside = build_server(served)
    async with open_registry(
        store, node=settings.node, data=settings.data, settings=settings.registry, clock=clock, registry=registry
    ) as opened:
        service = RegistryService(opened, settings.registry, clock, registry)
        servers = (inside, outside)
        for server in servers:
            service.add_to(server)
        async with accounting(
            store,
            opened,
            servers,
            node=settings.node,
            data=settings.data,
            settings=settings.upward,
            clock=clock,
            registry=registry,
        ):
            try:
                for server in servers:
                    await server.start()
                async with upward(
                    opened,
                    node=settings.node,
                    tier=settings.tier,
                    data=settings.data,
                    serving=settings.serving,
                    settings=settings.upward,
                    clock=clock,
                    registry=registry,
                ):
                    yield
                await asyncio.gather(inside.drain(), outside.drain())
            finally:
                await asyncio.gather(inside.stop(), outside.stop())


if __name__ == "__main__":
    child.run(serve)
