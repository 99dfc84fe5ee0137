"""The tables of prefixes and of nodes, filled from a store page by page; between two pages, callers are served."""

import asyncio
from typing import Final

from resolver.routes import RouteTable
from resolver.store import NodeReader, RouteReader
from resolver.trust.actors import NodeTable

_ROWS: Final = 1_000
"""Rows that are read at once."""


async def read_routes(store: RouteReader) -> RouteTable:
    """Read the rows of all prefixes.

    Raises:
        Fault: as the store does.
    """
    table, after = RouteTable(), None
    while page := await store.prefixes(after, _ROWS):
        table.put(page)
        after = page[-1].key
        await asyncio.sleep(0)
    return table


async def read_nodes(store: NodeReader) -> NodeTable:
    """Read the rows of all nodes.

    Raises:
        Fault: as the store does.
    """
    table, after = NodeTable(), None
    while page := await store.nodes(after, _ROWS):
        table.put(page)
        after = page[-1].node
        await asyncio.sleep(0)
    return table
