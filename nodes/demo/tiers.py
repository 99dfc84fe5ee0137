"""The tiers below the node, brought to life: secondary nodes, the enterprise nodes below them, and what they hold.

Each enterprise that runs a node of its own registers there; the node above it has the route, and perhaps a copy.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Final

from msgspec import Struct

from nodes.demo.asking import Verdicts
from nodes.demo.connecting import OPERATOR, Connecting
from nodes.demo.corpus import Corpus
from nodes.demo.expectations import Expected, absent, fetched
from nodes.demo.registering import lines, register
from nodes.demo.stage import Stage
from nodes.demo.together import together
from nodes.demo.topology import own_nodes
from nodes.demo.visibility import until_known
from nodes.demo.wuhan import Enterprise, Secondary
from nodes.listening import Address
from resolver.clock import Clock
from resolver.query import Mode
from resolver.routes import Endpoint, Hosting, Prefix, Protocol
from resolver.trust.actors import Tier

RECORDS: Final = 200
"""Things that an enterprise has at its own node, at most: enough to be asked for, and quick to register."""

FOUND_SECONDS: Final = 60.0
"""A node below that is not reached through the one above by then is lost."""


class Running(Struct, frozen=True, kw_only=True):
    """The nodes below that run: how many of each tier, in how many processes, and what the enterprise nodes hold."""

    secondary_nodes: int
    enterprise_nodes: int
    processes: int
    registrations: int
    seconds: float


class Tiers:
    """Brings nodes below to life, on a stage; `tell` is told how many more of them serve."""

    def __init__(self, on: Stage, clock: Clock, verdicts: Verdicts) -> None:
        self._on = on
        self._clock = clock
        self._verdicts = verdicts

    async def bring_up(self, corpus: Corpus, tell: Callable[[int], None]) -> Running:
        """Run the nodes of all that are connected already, and have the routes above lead to them.

        What they registered above stays there as copies, also of those that were hosted there until now; their own
        nodes hold the first `RECORDS` of it.

        Raises:
            Fault: a node does not start, or refuses something.
        """
        began = self._clock.monotonic()
        names = [node.prefix for node in corpus.nodes]
        for node in corpus.nodes:
            # Their enterprises have registered above in their own names, and set their routes there themselves.
            self._on.below.prepare(node.prefix, "secondary", node.name, registry=self._on.node.registry, push=[])
        await self._on.below.start(names, tell)
        await together(self.found(node) for node in corpus.nodes)
        owners = [enterprise for node in corpus.nodes for enterprise in own_nodes(node)]
        await self._on.below.start_sharing([each.prefix for each in owners], tell)
        chunks = {enterprise.prefix: rows for enterprise, rows in corpus.shares()}
        held = await together(self.fill(each, islice(lines(chunks[each.prefix]), RECORDS)) for each in owners)
        await self._lead_here([*names, *(each.prefix for each in owners)])
        await self._until_reached(corpus, owners)
        return Running(
            secondary_nodes=len(names),
            enterprise_nodes=len(owners),
            processes=len(self._on.below.processes),
            registrations=sum(held),
            seconds=self._clock.monotonic() - began,
        )

    async def found(self, node: Secondary) -> None:
        """Give a secondary node that runs its prefix; enterprises with nodes connect to it, and theirs are prepared.

        Raises:
            Fault: its registry's.
        """
        registry = await self._on.below.registry(node.prefix)
        await registry.allocate(OPERATOR, [Prefix(node.prefix, node.prefix)])
        for enterprise in own_nodes(node):
            await self._connect(registry, node, enterprise)

    async def fill(self, enterprise: Enterprise, rows: Iterator[bytes]) -> int:
        """Give an enterprise node that runs its prefix, and register what it holds; gives how much that is.

        Raises:
            Fault: its registry's.
        """
        registry = await self._on.below.registry(enterprise.prefix)
        await registry.allocate(OPERATOR, [Prefix(enterprise.prefix, enterprise.prefix, case=enterprise.case)])
        made = await register(await registry.client(OPERATOR), rows, self._clock, lambda _count: None)
        return made.rows

    async def _connect(self, registry: Connecting, node: Secondary, enterprise: Enterprise) -> None:
        code = enterprise.industry.class_code
        await registry.join(enterprise.prefix, Tier.ENTERPRISE, enterprise.maker, parent=node.prefix, industry=code)
        row = Prefix(enterprise.prefix, enterprise.prefix, case=enterprise.case, hosting=Hosting.DELEGATED)
        await registry.allocate(OPERATOR, [row])
        self._on.below.prepare(
            enterprise.prefix,
            "enterprise",
            enterprise.maker,
            registry=self._on.below.nodes[node.prefix].registry,
            push=["routes", "copies"],
        )

    async def _lead_here(self, names: Sequence[str]) -> None:
        """Have the holders of prefixes say at the node above where they really are."""
        await together(self._lead_to(name) for name in names)

    async def _lead_to(self, name: str) -> None:
        client = await self._on.registry.client(name)
        endpoint = endpoint_at(self._on.below.nodes[name].address)
        await client.set_route(name, hosting=Hosting.DELEGATED, endpoints=[endpoint])

    async def _until_reached(self, corpus: Corpus, owners: Sequence[Enterprise]) -> None:
        """Wait until the node above reaches each: secondary nodes say absent, the others what they hold."""
        expected = [absent(f"{node.prefix}.99999/1", Prefix(node.prefix, node.prefix)) for node in corpus.nodes]
        expected += [fetched(corpus.registration(corpus.numbers(each)[0])) for each in owners]
        known = await together(
            until_known(each, self._on.connections, self._clock, mode=Mode.RECURSIVE, lost=FOUND_SECONDS)
            for each in expected
        )
        for each, seen in zip(expected, known, strict=True):
            self._verdicts.insist(each.asked, seen.differences[0] if seen.differences else "")


def endpoint_at(address: str) -> Endpoint:
    """Give the endpoint of a node that serves there."""
    read = Address.from_text(address, field="address")
    return Endpoint(Protocol.GRPC, read.host, read.port)


def held_below(corpus: Corpus) -> Iterator[Expected]:
    """Ask for everything that enterprise nodes hold, from all of them in turn, and now and then for nothing."""
    owners = [each for node in corpus.nodes for each in own_nodes(node)]
    for place in range(RECORDS):
        for enterprise in owners:
            numbers = corpus.numbers(enterprise)[:RECORDS]
            if place < len(numbers):
                yield fetched(corpus.registration(numbers[place]))
            elif place == len(numbers):
                yield absent(corpus.unregistered(numbers[-1]), enterprise.allocation)
