"""Nodes that connect as real ones do: each applies with a key of its own, is reviewed, and gets its prefix."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from nodes.client import Draft, PrivateKey, RegistryClient, Signer
from nodes.demo.corpus import prefix_row
from nodes.demo.wuhan import Secondary
from registry.keyring import kept_key
from resolver.clock import Clock
from resolver.routes import Prefix
from resolver.trust.actors import Tier

OPERATOR: Final = "local"
"""The operator of a node whose key lies in its data folder."""


def key_file(keys: Path, name: str) -> Path:
    """Give the file of a node's key in the folder of keys, whether it is there or not."""
    return keys / f"{name}.pem"


class Connecting:
    """A node's registry, as its operator and those who connect to it see it. Made within `opened`.

    The keys of those who connect lie in the folder `keys`, by their identifiers.
    """

    def __init__(self, address: str, operator: PrivateKey, keys: Path, clock: Clock, stack: AsyncExitStack) -> None:
        self._address = address
        self._operator_key = operator
        self._keys = keys
        self._clock = clock
        self._stack = stack
        self._clients: dict[str, RegistryClient] = {}

    async def client(self, name: str) -> RegistryClient:
        """Give the client that signs with a node's key, made where there is none; `local` is the operator."""
        if name not in self._clients:
            key = self._operator_key if name == OPERATOR else kept_key(key_file(self._keys, name))
            client = RegistryClient(self._address, Signer(name, key), clock=self._clock)
            self._clients[name] = await self._stack.enter_async_context(client)
        return self._clients[name]

    async def connect(self, node: Secondary) -> None:
        """Let a secondary node join, and the enterprises below it, to whom it delegates their prefixes.

        Raises:
            Fault: the registry's.
        """
        await self.join(node.prefix, Tier.SECONDARY, node.name)
        await self.allocate(OPERATOR, [node.allocation])
        for enterprise in node.enterprises:
            code = enterprise.industry.class_code
            await self.join(enterprise.prefix, Tier.ENTERPRISE, enterprise.maker, parent=node.prefix, industry=code)
        await self.allocate(node.prefix, [enterprise.allocation for enterprise in node.enterprises])

    async def connect_alone(self, prefix: Prefix, organisation: str, parent: str) -> RegistryClient:
        """Let an enterprise join whose prefix lies below nobody's: the operator allocates it."""
        await self.join(prefix.holder, Tier.ENTERPRISE, organisation, parent=parent)
        await self.allocate(OPERATOR, [prefix])
        return await self.client(prefix.holder)

    async def join(
        self,
        name: str,
        tier: Tier,
        organisation: str,
        *,
        parent: str = "",
        industry: str = "",
        agreement: bool = False,
    ) -> None:
        """Let one node apply and be reviewed; `agreement`: it may be taken over by itself when it is down."""
        client = await self.client(name)
        await client.apply(
            tier=tier, organisation=organisation, parent=parent, industry=industry, agreement=agreement
        )
        await (await self.client(OPERATOR)).review(name)

    async def allocate(self, actor: str, prefixes: Sequence[Prefix]) -> None:
        """Allocate prefixes as one who may, all or none.

        Raises:
            Fault: the registry's.
        """
        rows = [msgspec.Raw(prefix_row(prefix)) for prefix in prefixes]
        submitted = await (await self.client(actor)).send(Draft.of("prefix-allocate.v1", {"rows": rows}))
        submitted.insist()


@asynccontextmanager
async def opened(address: str, operator: PrivateKey, keys: Path, clock: Clock) -> AsyncIterator[Connecting]:
    """Give the registry at this address, until it is left; then all connections are closed.

    `keys` is the folder for the keys of those who connect.
    """
    async with AsyncExitStack() as stack:
        yield Connecting(address, operator, keys, clock, stack)
