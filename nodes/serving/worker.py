"""One resolver process of a node: reads the store, serves callers on the port that all of them share."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry

from nodes.counting.inside import owner_keeper
from nodes.counting.running import handing_on
from nodes.probing.telling import WITHIN, telling
from nodes.serving import child
from nodes.serving.admin import PROBER
from nodes.serving.exposition import process_registry
from nodes.serving.inside import Peer, inside_server
from nodes.serving.orders import Order
from nodes.stores import reading
from nodes.top import Resolver, build_resolver
from resolver.clock import Clock, SystemClock
from resolver.counting import Counting


async def serve(order: Order, life: child.Life) -> None:
    """Resolve until told to stop, then drain.

    Raises:
        Fault (perhaps in a group): the store cannot be read, the address cannot be bound, a TLS file does not fit.
    """
    settings, clock, registry = order.settings, SystemClock(), process_registry()
    counting = Counting(clock)
    async with reading(settings, clock, registry) as store, owner_keeper(order.socket) as keeper:
        resolver = await build_resolver(store, settings, clock, registry, counting)
        inside = inside_server(order.socket, registry, settings.serving.drain_grace)
        async with (
            handing_on(counting, keeper, settings.data, clock, registry),
            resolver.serving(inside),
            _hearing(resolver, order, clock, registry),
        ):
            await inside.start()
            life.serves()
            await life.is_over()
        await inside.drain()


@asynccontextmanager
async def _hearing(
    resolver: Resolver, order: Order, clock: Clock, registry: CollectorRegistry
) -> AsyncIterator[None]:
    """Have the resolver hear from the node's prober, if there is one, whose socket lies beside this one's."""
    if not order.settings.has_prober:
        yield
        return
    prober = Peer(str(Path(order.socket).with_name(f"{PROBER}.sock")))
    try:
        async with telling(
            lambda: prober.silent(within=WITHIN), resolver.hear, order.settings.probing, clock, registry
        ):
            yield
    finally:
        await prober.close()


if __name__ == "__main__":
    child.run(serve)
