"""The clients of a node: `Client` resolves, `RegistryClient` registers. What they are made of stands in the modules.

    import asyncio
    from nodes.client import Client, RegistryClient, Row, Signer, Value

    async def main() -> None:
        signer = Signer.from_file("88.111.1", "factory.pem")          # made by `topnode key new factory.pem`
        row = Row(identifier="88.111.1/SN-0042", values=[Value(index=1, type="URL", data="https://parts.example.cn/42")])
        async with RegistryClient("registry.example.cn:3643", signer) as registry:
            submitted = await registry.register([row])                # signed; durable when it returns
            print(submitted.outcomes, submitted.receipt.index)        # the receipt was checked
        async with Client("resolver.example.cn:3641") as client:
            print(await client.resolve("88.111.1/SN-0042"))

    asyncio.run(main())

Programs without an event loop use `PlainClient` and `PlainRegistryClient`: the same methods, blocking.
Whatever goes wrong is a `Fault`: its `reason` stands in docs/reasons.md, with what to do about it.
"""

from nodes.client.bulk import identifiers
from nodes.client.counts import Counts
from nodes.client.plain import PlainClient, PlainRegistryClient
from nodes.client.receipts import Checkpoint
from nodes.client.registering import RegistryClient, RegistryClientSettings
from nodes.client.resolving import Client, ClientSettings, NodeInfo, Options, Traced
from nodes.client.signing import Draft, Signer
from nodes.client.submitted import Submitted
from registry.identifiers import Row
from registry.plans import Outcome
from registry.rows import ValueRow as Value
from resolver.errors import Fault, Reason
from resolver.trust.keys import PrivateKey, PublicKey
from resolver.trust.receipts import Receipt

__all__ = [
    "Checkpoint",
    "Client",
    "ClientSettings",
    "Counts",
    "Draft",
    "Fault",
    "NodeInfo",
    "Options",
    "Outcome",
    "PlainClient",
    "PlainRegistryClient",
    "PrivateKey",
    "PublicKey",
    "Reason",
    "Receipt",
    "RegistryClient",
    "RegistryClientSettings",
    "Row",
    "Signer",
    "Submitted",
    "Traced",
    "Value",
    "identifiers",
]
