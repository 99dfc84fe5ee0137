"""Resolvers of whole nodes in this process, on real sockets, over small stores: what asks each other in journeys."""

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

from prometheus_client import CollectorRegistry

from nodes.client import Client, Options
from nodes.serving.inside import inside_server
from nodes.settings import NodeSettings
from nodes.top import Resolver
from resolver.answer import Answer
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.federation.settings import FederationSettings
from resolver.front.core import FrontSettings
from resolver.query import Mode
from resolver.routes import Endpoint, Hosting, Prefix, Protocol
from resolver.rpc.serving import ServingSettings
from resolver.trust.operators import Operators
from resolver.units import Duration
from tests.services.ports import free_ports
from tests.small_store import SmallStore

RECURSIVE = Options(mode=Mode.RECURSIVE)


def endpoint(port: int, *, priority: int = 0) -> Endpoint:
    """Where a node of this machine answers."""
    return Endpoint(Protocol.GRPC, "127.0.0.1", port, priority)


def delegated(prefix: str, holder: str, *endpoints: Endpoint) -> Prefix:
    return Prefix(prefix, holder, hosting=Hosting.DELEGATED, endpoints=endpoints)


class ServedNode:
    """One node, and a client of each of its fronts."""

    def __init__(self, port: int, streaming: str, store: SmallStore, registry: CollectorRegistry) -> None:
        self.port = port
        self.store = store
        self.client = Client(f"127.0.0.1:{port}")
        self._clients = [self.client, Client(streaming)]
        self._in_turn = cycle(self._clients)
        self._registry = registry

    async def close(self) -> None:
        for client in self._clients:
            await client.close()

    async def ask(self, *identifiers: str, options: Options = RECURSIVE) -> list[Answer | Reason]:
        """Ask the two fronts in turn for recursion, and give answers, and reasons where there is none."""
        answers = await next(self._in_turn).resolve_batch(identifiers, options)
        return [answer.reason if isinstance(answer, Fault) else answer for answer in answers]

    async def answer(self, identifier: str, options: Options = RECURSIVE) -> Answer:
        """Ask for one, which must be answered."""
        (answer,) = await self.ask(identifier, options=options)
        assert isinstance(answer, Answer), answer
        return answer

    def sample(self, name: str, **labels: str) -> float:
        """Read a metric, 0 where it is not there yet."""
        return self._registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def served(
    name: str,
    port: int,
    records: Mapping[bytes, bytes] | None = None,
    prefixes: Sequence[Prefix] = (),
    *,
    federation: FederationSettings | None = None,
) -> AsyncIterator[ServedNode]:
    """Serve a node at this port of the loopback; what is in flight at the end is not waited for long."""
    registry, store = CollectorRegistry(), SmallStore(records, prefixes)
    streaming = f"127.0.0.1:{free_ports(1)[0]}"
    settings = NodeSettings(
        node=name,
        serving=ServingSettings(address=f"127.0.0.1:{port}", drain_grace=Duration(0.2)),
        front=FrontSettings(streaming=streaming),
        federation=federation or FederationSettings(),
    )
    with tempfile.TemporaryDirectory() as folder:
        inside = inside_server(str(Path(folder) / "socket"), registry, Duration(0.2))
        resolver = Resolver(store, b"s" * 32, settings, Operators(), SystemClock(), registry)
        async with resolver.serving(inside):
            node = ServedNode(port, streaming, store, registry)
            try:
                yield node
            finally:
                await node.close()
        await inside.stop()
