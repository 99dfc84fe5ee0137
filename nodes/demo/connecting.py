"""Nodes that connect as real ones do: each applies with a key of its own, is reviewed, and gets its prefix."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from nodes.client import Draft, PrivateKey, RegistryClient, Signer
from nodes.demo.corpus import prefix_row
from nodes.demo.wuhan import Secondary
from resolver.clock import Clock
from resolver.routes import Prefix
from resolver.trust.actors import Tier


class Connecting:
    """The node's registry, as its operator and those who connect to it see it. Made within `opened`.

    `clients` are those of the nodes that have connected, by identifier: each signs with its node's key.
    """

    def __init__(self, address: str, operator: PrivateKey, clock: Clock, stack: AsyncExitStack) -> None:
        self.clients: dict[str, RegistryClient] = {}
        self._address = address
        self._operator_key = operator
        self._clock = clock
        self._stack = stack

    async def connect(self, node: Secondary) -> None:
        """Let a secondary node join, and the enterprises below it, to whom it delegates their prefixes.

        Raises:
            Fault: the registry's.
        """
        operator = await self._operator()
        secondary = await self.join(node.prefix, Tier.SECONDARY, node.name)
        await _allocate(operator, [node.allocation])
        for enterprise in node.enterprises:
            code = enterprise.industry.class_code
            await self.join(enterprise.prefix, Tier.ENTERPRISE, enterprise.maker, parent=node.prefix, industry=code)
        await _allocate(secondary, [enterprise.allocation for enterprise in node.enterprises])

    async def connect_alone(self, prefix: Prefix, organisation: str, parent: str) -> RegistryClient:
        """Let an enterprise join whose prefix lies below nobody's: the operator allocates it."""
        client = await self.join(prefix.holder, Tier.ENTERPRISE, organisation, parent=parent)
        await _allocate(await self._operator(), [prefix])
        return client

    async def join(
        self, name: str, tier: Tier, organisation: str, *, parent: str = "", industry: str = ""
    ) -> RegistryClient:
        """Let one node apply and be reviewed."""
        client = await self._client(Signer(name, PrivateKey.generate()))
        await client.apply(tier=tier, organisation=organisation, parent=parent, industry=industry)
        await (await self._operator()).review(name)
        self.clients[name] = client
        return client

    async def _operator(self) -> RegistryClient:
        if "local" not in self.clients:
            self.clients["local"] = await self._client(Signer("local", self._operator_key))
        return self.clients["local"]

    async def _client(self, signer: Signer) -> RegistryClient:
        return await self._stack.enter_async_context(RegistryClient(self._address, signer, clock=self._clock))


@asynccontextmanager
async def opened(address: str, operator: PrivateKey, clock: Clock) -> AsyncIterator[Connecting]:
    """Give the registry at this address, until it is left; then all connections are closed."""
    async with AsyncExitStack() as stack:
        yield Connecting(address, operator, clock, stack)


async def _allocate(client: RegistryClient, prefixes: Sequence[Prefix]) -> None:
    rows = [msgspec.Raw(prefix_row(prefix)) for prefix in prefixes]
    submitted = await client.send(Draft.of("prefix-allocate.v1", {"rows": rows}))
    submitted.insist()
