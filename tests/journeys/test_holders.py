"""Holders of prefixes at a real node: they see and list what is theirs, by signature or certificate, nobody else."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import pytest

from nodes.client import (
    Client,
    ClientSettings,
    Draft,
    Fault,
    PrivateKey,
    Reason,
    RegistryClient,
    RegistryClientSettings,
    Row,
    Signer,
    Value,
)
from resolver.answer import Answer
from resolver.rpc.channels import ChannelSettings
from resolver.rpc.tls import ClientTls
from resolver.trust.actors import Tier
from resolver.units import Duration
from tests.certificates import Authority
from tests.fronts import clients
from tests.journeys.conftest import TopNode
from tests.running_node import RunningNode

SECRET: Final = "what only its holder may read"
GUARDED: Final = "88.111/guarded"
RESTRICTED: Final = "1100"

HOLDER: Final = "88.111"
OTHER: Final = "88.112"


class Members:
    """Two nodes that are enabled, a prefix and a guarded record of each, and the operator who let them in."""

    def __init__(self, node: RunningNode) -> None:
        self.node = node
        self.operator = Signer.from_file("local", node.data / "operator.pem")
        self.holder = Signer(HOLDER, PrivateKey.generate())
        self.other = Signer(OTHER, PrivateKey.generate())

    def registry(self, signer: Signer) -> RegistryClient:
        return RegistryClient(self.node.started.registry, signer, RegistryClientSettings(node="top"))

    async def join(self) -> "Members":
        """Have them apply, be reviewed, get their prefixes, and register."""
        async with self.registry(self.operator) as operator:
            for signer in (self.holder, self.other):
                async with self.registry(signer) as member:
                    (await member.apply(tier=Tier.SECONDARY, organisation="Example Works")).insist()
                    (await operator.review(signer.actor)).insist()
                    allocation = {"rows": [{"prefix": signer.actor, "holder": signer.actor}]}
                    (await operator.send(Draft.of("prefix-allocate.v1", allocation))).insist()
                    (await member.register([self._row(f"{signer.actor}/guarded")])).insist()
        return self

    async def rule(self, ruling: str) -> None:
        """Suspend, resume or revoke the holder."""
        async with self.registry(self.operator) as operator:
            submitted = await getattr(operator, ruling)(HOLDER, "a test")
            submitted.insist()

    @staticmethod
    def _row(identifier: str) -> Row:
        values = [
            Value(index=1, type="NAME", data="a part"),
            Value(index=2, type="SECRET", data=SECRET, permissions=RESTRICTED),
        ]
        return Row(identifier=identifier, values=values)


async def sees(client: Client, identifier: str = GUARDED) -> bool:
    """Resolve, and tell whether what is restricted was in the answer; what is public must be."""
    record = (await client.resolve(identifier)).record
    assert record is not None
    assert record.values[0].data == b"a part"
    return SECRET.encode() in [value.data for value in record.values]


async def is_shown(fronts: Iterable[Client], identifier: str = GUARDED) -> bool:
    """The same of answers that may not be there yet: was it in all of them?"""
    answers = [answer for client in fronts for answer in await client.resolve_batch([identifier])]
    shown = [each.record.values if isinstance(each, Answer) and each.record else () for each in answers]
    return all(SECRET.encode() in [value.data for value in values] for values in shown)


async def within_a_second(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds, which must be within one second."""
    began = time.monotonic()
    while not await holds():
        assert time.monotonic() - began < 1.0
        await asyncio.sleep(0.02)


async def refusal(awaitable: Awaitable[object]) -> Reason:
    with pytest.raises(Fault) as raised:
        await awaitable
    return raised.value.reason


async def listed(client: Client, prefix: str, *, derived: bool = False) -> list[str]:
    return [identifier async for identifier in client.list_handles(prefix, derived=derived)]


@pytest.mark.parametrize("workers", [0, 2])
async def test_a_signature_shows_and_lists_what_is_the_signers(top_node: TopNode, workers: int) -> None:
    """And a suspension ends it within a second, whichever process is asked; metrics and logs tell nothing of it."""
    node = top_node(workers=workers)
    members = await Members(node).join()
    async with (
        clients(node.fronts, signer=members.holder) as holder,
        clients(node.fronts, signer=members.other) as other,
        clients(node.fronts, signer=members.operator) as operator,
        clients(node.fronts) as public,
    ):
        await within_a_second(lambda: is_shown(holder))
        await within_a_second(lambda: is_shown(other, "88.112/guarded"))
        for client in holder:
            assert not await sees(client, "88.112/guarded")
        for client in (*other, *operator, *public):
            assert not await sees(client)
        for client in (*holder, *operator):
            assert await listed(client, HOLDER) == [GUARDED]
        for client in (*other, *public):
            assert await refusal(listed(client, HOLDER)) is Reason.LISTING_NOT_ALLOWED

        await members.rule("suspend")
        await within_a_second(lambda: _is_refused_everywhere(node, members.holder))
        for client in public:
            assert not await sees(client), "what it registered goes on resolving"
        for client in holder:
            assert await refusal(listed(client, HOLDER)) is Reason.NODE_NOT_ENABLED
        await members.rule("resume")
        await within_a_second(lambda: is_shown(holder))
    assert SECRET not in node.get("/metrics")[1]
    assert SECRET not in node.log.read_text()


async def _is_refused_everywhere(node: RunningNode, signer: Signer) -> bool:
    """Ask over four connections to each front: one setting of a channel differs, so that they are not one."""
    asked = []
    for number in range(4):
        settings = ClientSettings(channel=ChannelSettings(keepalive=Duration(60 + number)))
        async with clients(node.fronts, settings, signer=signer) as fronts:
            for client in fronts:
                asked += await client.resolve_batch([GUARDED])
    return all(isinstance(answer, Fault) and answer.reason is Reason.NODE_NOT_ENABLED for answer in asked)


@pytest.mark.parametrize("ruling", ["suspend", "revoke"])
async def test_a_certificate_shows_and_lists_what_is_its_nodes(
    top_node: TopNode, tmp_path: Path, ruling: str
) -> None:
    """Until its node is suspended or revoked: then its answers are the public's, within a second."""
    authority = Authority(tmp_path)
    served = authority.issue("node", alternatives=("node.test",))
    tls = {
        "TOPNODE_SERVING__TLS__CERTIFICATE": served.certificate,
        "TOPNODE_SERVING__TLS__KEY": served.key,
        "TOPNODE_SERVING__TLS__CLIENT_CA": authority.path,
    }
    node = top_node(workers=1, **tls)
    members = await Members(node).join()

    def proven_as(name: str) -> AbstractAsyncContextManager[list[Client]]:
        issued = authority.issue(name, to=f"client-{name}")
        proven = ClientTls(server_ca=authority.path, certificate=issued.certificate, key=issued.key)
        return clients(node.fronts, ClientSettings(channel=ChannelSettings(tls=proven, tls_name="node.test")))

    async with (
        proven_as(HOLDER) as holder,
        proven_as(OTHER) as other,
        proven_as("top") as own_name,
        proven_as("local") as local,
    ):
        await within_a_second(lambda: is_shown(holder))
        for stranger in (*other, *own_name, *local):
            assert not await sees(stranger)
            assert await refusal(listed(stranger, HOLDER)) is Reason.LISTING_NOT_ALLOWED
        for client in holder:
            assert await listed(client, HOLDER) == [GUARDED]

        async def is_public() -> bool:
            return not any([await sees(client) for client in holder])

        await members.rule(ruling)
        await within_a_second(is_public)
        for client in holder:
            assert await refusal(listed(client, HOLDER)) is Reason.LISTING_NOT_ALLOWED
