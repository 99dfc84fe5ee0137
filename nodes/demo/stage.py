"""What the acts of the demo play on: a running node and the ways to reach it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from nodes.demo.asking import Connection
from nodes.demo.connecting import Connecting, opened
from nodes.demo.node import running
from nodes.serving.started import Started
from registry.keyring import OPERATOR_FILE
from resolver.clock import Clock
from resolver.trust.keys import PrivateKey

CONNECTIONS: Final = 16
"""Enough that each resolver has some: the kernel shares them out."""

WORKERS: Final = 2
"""Resolver processes: more than one, so that there is something to be seen between them."""


class Stage(Struct, frozen=True, kw_only=True):
    """A running node: where its store is, its registry, and connections to its resolvers."""

    node: Started
    data: Path
    registry: Connecting
    connections: list[Connection]


@asynccontextmanager
async def stage(folder: Path, clock: Clock) -> AsyncIterator[Stage]:
    """Run a node on the store in FOLDER/data, with its log beside it; all of it has ended when this is left.

    Raises:
        Fault: INTERNAL when it does not start.
    """
    data = folder / "data"
    async with running(data, workers=WORKERS, log=folder / "node.log") as node:
        operator = PrivateKey.from_file(data / OPERATOR_FILE)
        connections = [Connection(node.address) for _ in range(CONNECTIONS)]
        try:
            async with opened(node.registry, operator, clock) as registry:
                yield Stage(node=node, data=data, registry=registry, connections=connections)
        finally:
            await asyncio.gather(*(connection.close() for connection in connections))
