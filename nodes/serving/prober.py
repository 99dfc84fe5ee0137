"""The process of a node that probes the nodes below, and asks the owner for what is due. No caller depends on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from nodes.probing.acting import Acting
from nodes.probing.probe import EndpointProbe
from nodes.probing.prober import Prober
from nodes.serving import child
from nodes.serving.admin import OWNER
from nodes.serving.exposition import process_registry
from nodes.serving.inside import inside_server, offer_nodes
from nodes.serving.orders import Order
from nodes.settings import NodeSettings
from nodes.stores import reading
from resolver.clock import Clock, SystemClock
from resolver.routes import Endpoint
from resolver.store import StoreReader


async def serve(order: Order, life: child.Life) -> None:
    """Probe until told to stop.

    Raises:
        Fault (perhaps in a group): the store cannot be opened.
    """
    settings, clock, registry = order.settings, SystemClock(), process_registry()
    async with reading(settings, clock, registry) as store:
        inside = inside_server(order.socket, registry, settings.serving.drain_grace)
        socket = Path(order.socket).with_name(f"{OWNER}.sock")
        async with probing(store, str(socket), settings, clock, registry) as prober:
            offer_nodes(inside, lambda: prober.seen().to_json(), prober.silent)
            await inside.start()
            life.serves()
            await life.is_over()
        await inside.drain()


@asynccontextmanager
async def probing(
    store: StoreReader, socket: str, settings: NodeSettings, clock: Clock, registry: CollectorRegistry
) -> AsyncIterator[Prober]:
    """Probe as long as the context lasts; `socket` is where the owner takes signed requests."""
    wanted, tls = settings.probing, settings.federation.tls

    def make_probe(endpoint: Endpoint, node: str) -> EndpointProbe:
        return EndpointProbe(endpoint, node=node, timeout=float(wanted.timeout), tls=tls, clock=clock)

    prober = Prober(
        store,
        Acting(socket, settings.data, settings.node, clock),
        wanted,
        clock,
        registry,
        own=settings.node,
        make_probe=make_probe,
    )
    # In a group, so that a mistake there is not a prober that only seems to be there.
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(prober.run())
        try:
            yield prober
        finally:
            running.cancel()


if __name__ == "__main__":
    child.run(serve)
