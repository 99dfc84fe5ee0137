"""Secondary nodes that join while the node runs: they start, get their prefixes, and push what is registered below.

Of the enterprises below them some run nodes of their own, a third tier; the others are hosted by the secondary node.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from nodes.demo.asking import Verdicts, read
from nodes.demo.connecting import OPERATOR
from nodes.demo.corpus import Corpus
from nodes.demo.expectations import fetched, nowhere, pushed
from nodes.demo.registering import lines, register
from nodes.demo.stage import Stage
from nodes.demo.tiers import FOUND_SECONDS, Tiers
from nodes.demo.together import together
from nodes.demo.topology import has_own_node, own_nodes
from nodes.demo.visibility import until_known
from nodes.demo.wuhan import Enterprise, Secondary
from resolver.clock import Clock
from resolver.query import Mode
from resolver.routes import Hosting, Prefix
from resolver.trust.actors import Tier


class Joined(Struct, frozen=True, kw_only=True):
    """A node that joined: what came with it, and after how many seconds it was known everywhere above.

    Counted from when the last of its enterprises had registered at the node that it registers at.
    """

    prefix: str
    name: str
    enterprises: int
    own_nodes: int
    registrations: int
    known_after: float


class Joining:
    """Lets nodes join, seen over several connections: so that each resolver has some of them."""

    def __init__(self, on: Stage, clock: Clock, verdicts: Verdicts) -> None:
        self._on = on
        self._clock = clock
        self._verdicts = verdicts
        self._tiers = Tiers(on, clock, verdicts)

    async def join(self, nodes: Sequence[Secondary], registrations: int, tell: Callable[[int], None]) -> list[Joined]:
        """Let nodes join with their enterprises and so many registrations each.

        They are unknown before, and known everywhere after. `tell` is told how many more nodes serve.

        Raises:
            Fault: a node does not start, or refuses something.
        """
        corpora = [Corpus(registrations, [node]) for node in nodes]
        for corpus in corpora:
            await self._see_unknown(corpus)
        await together(self._apply(node) for node in nodes)
        await self._on.below.start([node.prefix for node in nodes], tell)
        await together(self._tiers.found(node) for node in nodes)
        await self._on.below.start_sharing([each.prefix for node in nodes for each in own_nodes(node)], tell)
        return await together(self._fill(corpus) for corpus in corpora)

    async def _see_unknown(self, corpus: Corpus) -> None:
        asked = corpus.identifier(len(corpus) - 1)
        for connection in self._on.connections:
            before = await connection.send([asked], Mode.LOCAL)
            self._verdicts.compare([nowhere(asked)], read(before, 1))

    async def _apply(self, node: Secondary) -> None:
        """Let a node apply, be reviewed, and get its prefix; where it answers it says itself when it runs."""
        await self._on.registry.join(node.prefix, Tier.SECONDARY, node.name, agreement=True)
        row = Prefix(node.prefix, node.prefix, hosting=Hosting.DELEGATED)
        await self._on.registry.allocate(OPERATOR, [row])
        self._on.below.prepare(
            node.prefix, "secondary", node.name, registry=self._on.node.registry, push=["routes", "copies"]
        )

    async def _fill(self, corpus: Corpus) -> Joined:
        """Let the enterprises of a node register, and see when all of it is known above."""
        (node,) = corpus.nodes
        for enterprise, chunks in corpus.shares():
            if has_own_node(enterprise):
                await self._tiers.fill(enterprise, lines(chunks))
            else:
                await self._host(node, enterprise)
                client = await (await self._on.below.registry(node.prefix)).client(enterprise.prefix)
                await register(client, lines(chunks), self._clock, lambda _count: None)
        lasts = [corpus.registration(corpus.numbers(each)[-1]) for each in node.enterprises]
        known = await together(
            until_known(pushed(last), self._on.connections, self._clock, lost=FOUND_SECONDS) for last in lasts
        )
        for last, seen in zip(lasts, known, strict=True):
            self._verdicts.insist(last.identifier, seen.differences[0] if seen.differences else "")
        # Copies go up by one way and routes by another: so for a moment a copy is known and not yet who holds it.
        reached = await together(
            until_known(fetched(last), self._on.connections, self._clock, mode=Mode.RECURSIVE, lost=FOUND_SECONDS)
            for last in lasts
        )
        for last, seen in zip(lasts, reached, strict=True):
            self._verdicts.insist(last.identifier, seen.differences[0] if seen.differences else "")
        return Joined(
            prefix=node.prefix,
            name=node.name,
            enterprises=len(node.enterprises),
            own_nodes=len(own_nodes(node)),
            registrations=len(corpus),
            known_after=max(each.after for each in known),
        )

    async def _host(self, node: Secondary, enterprise: Enterprise) -> None:
        """Let an enterprise without a node of its own register at its secondary node."""
        registry = await self._on.below.registry(node.prefix)
        code = enterprise.industry.class_code
        await registry.join(enterprise.prefix, Tier.ENTERPRISE, enterprise.maker, parent=node.prefix, industry=code)
        await registry.allocate(OPERATOR, [Prefix(enterprise.prefix, enterprise.prefix, case=enterprise.case)])
