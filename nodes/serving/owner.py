"""The process that owns a node's store, the one writer. It takes signed requests on a port and on its Unix socket."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from nodes.serving import child
from nodes.serving.exposition import process_registry
from nodes.serving.inside import inside_server
from nodes.serving.orders import Order
from nodes.settings import NodeSettings
from registry.journal import Store
from registry.opening import open_registry
from registry.service import RegistryService
from resolver.clock import Clock, SystemClock
from resolver.rpc.serving import Server, build_server
from resolver.store.embedded import EmbeddedWriter, Owner


async def serve(order: Order, life: child.Life) -> None:
    """Own the store, making it where there is none, and the registry over it, until told to stop.

    Raises:
        Fault (perhaps in a group): STORE_OWNED by another process; else as `EmbeddedWriter.open` and `registering`.
    """
    settings, clock, registry = order.settings, SystemClock(), process_registry()
    with closing(open_store(settings, order.socket, clock, stop=os.getppid())) as store:
        inside = inside_server(order.socket, registry, settings.serving.drain_grace)
        async with registering(store, inside, settings, clock, registry):
            life.serves()
            await life.is_over()


def open_store(settings: NodeSettings, socket: str, clock: Clock, *, stop: int) -> EmbeddedWriter:
    """Become the owner of the store, told to others with where to register and which process to end to stop it.

    Raises:
        Fault: as `EmbeddedWriter.open`.
    """
    what = f"node {settings.node} (topnode serve; it stops when process {stop} is ended)"
    return EmbeddedWriter.open(settings.data, owner=Owner.here(what, clock=clock, socket=socket))


@asynccontextmanager
async def registering(
    store: Store, inside: Server, settings: NodeSettings, clock: Clock, registry: CollectorRegistry
) -> AsyncIterator[None]:
    """Take signed requests on the registry's port and on this process's socket, and drain both at the end.

    Raises:
        Fault: as `open_registry`; an address cannot be bound, a TLS file does not fit.
    """
    served = replace(settings.serving, address=settings.registry.address, tls=settings.registry.tls)
    outside = build_server(served)
    async with open_registry(
        store, node=settings.node, data=settings.data, settings=settings.registry, clock=clock, registry=registry
    ) as opened:
        service = RegistryService(opened, settings.registry, clock, registry)
        for server in (inside, outside):
            service.add_to(server)
            await server.start()
        try:
            yield
            await asyncio.gather(inside.drain(), outside.drain())
        finally:
            await asyncio.gather(inside.stop(), outside.stop())


if __name__ == "__main__":
    child.run(serve)
