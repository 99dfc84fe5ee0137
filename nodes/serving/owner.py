"""The process that owns a node's store: the one writer. It takes registrations on its Unix socket."""

import os
from contextlib import closing

from prometheus_client import CollectorRegistry

from nodes.loading.intake import IntakeService
from nodes.serving import child
from nodes.serving.exposition import process_registry
from nodes.serving.inside import inside_server
from nodes.serving.orders import Order
from nodes.settings import NodeSettings
from registry.intake import Intake
from registry.loading import Loading
from registry.prefixes import Store
from resolver.clock import Clock, SystemClock
from resolver.rpc.serving import Server
from resolver.store.embedded import EmbeddedWriter, Owner


async def serve(order: Order, life: child.Life) -> None:
    """Own the store, making it where there is none, until told to stop.

    Raises:
        Fault: STORE_OWNED by another process; else as `EmbeddedWriter.open`.
    """
    clock = SystemClock()
    registry = process_registry()
    with closing(open_store(order.settings, order.socket, clock, stop=os.getppid())) as store:
        server = inside_server(order.socket, registry, order.settings.serving.drain_grace)
        offer_intake(server, store, clock, registry)
        await server.start()
        life.serves()
        await life.is_over()
        await server.drain()


def open_store(settings: NodeSettings, socket: str, clock: Clock, *, stop: int) -> EmbeddedWriter:
    """Become the owner of the store, told to others with where to register and which process to end to stop it.

    Raises:
        Fault: as `EmbeddedWriter.open`.
    """
    what = f"node {settings.node} (topnode serve; it stops when process {stop} is ended)"
    return EmbeddedWriter.open(settings.data, owner=Owner.here(what, clock=clock, socket=socket), clock=clock)


def offer_intake(server: Server, store: Store, clock: Clock, registry: CollectorRegistry) -> None:
    """Let the operator register in bulk through this server."""
    IntakeService(Loading(store, Intake(store, clock), registry), clock, registry).add_to(server)


if __name__ == "__main__":
    child.run(serve)
