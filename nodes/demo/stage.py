"""What the acts of the demo play on: a running node, the ways to reach it, and the nodes below it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from nodes.demo.asking import Connection
from nodes.demo.below import Below, below
from nodes.demo.connecting import Connecting, opened
from nodes.demo.node import running
from nodes.demo.shelf import KEYS
from nodes.serving.started import Started
from registry.keyring import OPERATOR_FILE
from resolver.clock import Clock
from resolver.trust.keys import PrivateKey

CONNECTIONS: Final = 16
"""Enough that each resolver has some: the kernel shares them out."""

WORKERS: Final = 2
"""Resolver processes: more than one, so that there is something to be seen between them."""

PROBING: Final = {
    "TOPNODE_PROBING__EVERY": "400ms",
    "TOPNODE_PROBING__TIMEOUT": "400ms",
    "TOPNODE_PROBING__WINDOW": "8s",
}
"""How the node watches those below: by the rules that always hold, in seconds instead of minutes."""


class Stage(Struct, frozen=True, kw_only=True):
    """A running node: where its store is, its registry, connections to its resolvers, and the nodes below it."""

    node: Started
    data: Path
    registry: Connecting
    connections: list[Connection]
    below: Below


@asynccontextmanager
async def stage(folder: Path, clock: Clock) -> AsyncIterator[Stage]:
    """Run a node on the store in FOLDER/data, with its log beside it; those below it have folders in FOLDER/nodes.

    All of it has ended when this is left.

    Raises:
        Fault: INTERNAL when it does not start.
    """
    data = folder / "data"
    async with running(data, workers=WORKERS, log=folder / "node.log", environment=PROBING) as node:
        operator = PrivateKey.from_file(data / OPERATOR_FILE)
        connections = [Connection(node.address) for _ in range(CONNECTIONS)]
        try:
            async with (
                opened(node.registry, operator, data / KEYS, clock) as registry,
                below(folder / "nodes", data / KEYS, clock) as nodes,
            ):
                yield Stage(node=node, data=data, registry=registry, connections=connections, below=nodes)
        finally:
            await asyncio.gather(*(connection.close() for connection in connections))
