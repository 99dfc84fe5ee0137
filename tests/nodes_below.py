"""Real nodes above and below one another: registering, allocating and reviewing there, and what was told upward."""

import asyncio
import json
from typing import Any

from nodes.client import Outcome, PrivateKey, RegistryClient, Row, Signer
from nodes.upward.watermark import FILE as WATERMARK
from registry.keyring import OPERATOR_FILE
from registry.rows import PrefixRow
from resolver.errors import Fault
from resolver.routes import Prefix
from resolver.trust.actors import NodeState
from tests.running_node import RunningNode, wait_until


def signer(node: RunningNode) -> Signer:
    return Signer("local", PrivateKey.from_file(node.data / OPERATOR_FILE))


def registered(node: RunningNode, *rows: Row) -> list[Outcome]:
    """Register at a node as its operator."""

    async def register() -> list[Outcome]:
        async with RegistryClient(node.started.registry, signer(node)) as client:
            return [each async for some in client.register_all(rows) for each in some.outcomes]

    return asyncio.run(register())


def allocated(node: RunningNode, *rows: PrefixRow) -> None:
    async def allocate() -> None:
        async with RegistryClient(node.started.registry, signer(node)) as client:
            await client.allocate(rows)

    asyncio.run(allocate())


def prefix_of(node: RunningNode, prefix: str) -> Prefix | None:
    """Give the row of a prefix at a node."""

    async def ask() -> Prefix | None:
        async with RegistryClient(node.started.registry) as client:
            try:
                return await client.prefix(prefix)
            except Fault:
                return None

    return asyncio.run(ask())


def reviewed(top: RunningNode, node: str) -> None:
    """Wait until the node has applied, and enable it."""

    async def state() -> NodeState | None:
        async with RegistryClient(top.started.registry) as client:
            try:
                return (await client.node(node)).state
            except Fault:
                return None

    async def enable() -> None:
        async with RegistryClient(top.started.registry, signer(top)) as client:
            await client.review(node)

    wait_until(lambda: asyncio.run(state()) is NodeState.APPLIED, what=f"{node} has applied")
    asyncio.run(enable())


def is_told(child: RunningNode) -> bool:
    """Has the child told everything, as far as it knows?"""
    mark = watermark(child)
    return mark.get("index") == head_of(child) and not mark.get("owed")


def watermark(child: RunningNode) -> dict[str, Any]:
    path = child.data / WATERMARK
    return json.loads(path.read_bytes()) if path.exists() else {}


def head_of(node: RunningNode) -> int:
    async def ask() -> int:
        async with RegistryClient(node.started.registry) as client:
            note = (await client.checkpoint()).note
            return int(note.splitlines()[1])

    return asyncio.run(ask())
