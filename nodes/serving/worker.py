"""One resolver process of a node: reads the store, serves callers on the port that all of them share."""

from nodes.counting.inside import owner_keeper
from nodes.counting.running import handing_on
from nodes.serving import child
from nodes.serving.exposition import process_registry
from nodes.serving.inside import inside_server
from nodes.serving.orders import Order
from nodes.stores import reading
from nodes.top import build_resolver
from resolver.clock import SystemClock
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
        async with handing_on(counting, keeper, order.settings.data, clock, registry), resolver.serving(inside):
            await inside.start()
            life.serves()
            await life.is_over()
        await inside.drain()


if __name__ == "__main__":
    child.run(serve)
