"""Secondary nodes that join while the node runs, and when each of its resolvers knows what they registered."""

from collections.abc import Sequence

from msgspec import Struct

from nodes.demo.asking import Connection, Verdicts, read
from nodes.demo.connecting import Connecting
from nodes.demo.corpus import Corpus
from nodes.demo.expectations import nowhere, registered
from nodes.demo.registering import lines, register
from nodes.demo.visibility import until_known
from nodes.demo.wuhan import Secondary
from resolver.clock import Clock
from resolver.query import Mode


class Joined(Struct, frozen=True, kw_only=True):
    """A node that joined: what came with it, and after how many seconds it was known everywhere."""

    prefix: str
    name: str
    enterprises: int
    registrations: int
    known_after: float


class Joining:
    """Lets nodes join, seen over several connections: so that each resolver has some of them."""

    def __init__(
        self, registry: Connecting, connections: Sequence[Connection], clock: Clock, verdicts: Verdicts
    ) -> None:
        self._registry = registry
        self._connections = connections
        self._clock = clock
        self._verdicts = verdicts

    async def join(self, node: Secondary, registrations: int) -> Joined:
        """Let a node join with its enterprises and so many registrations: unknown before, known everywhere after."""
        corpus = Corpus(registrations, [node])
        last = registered(corpus.registration(registrations - 1))
        for connection in self._connections:
            before = await connection.send([last.asked], Mode.LOCAL)
            self._verdicts.compare([nowhere(last.asked)], read(before, 1))
        await self._registry.connect(node)
        for enterprise, chunks in corpus.shares():
            client = self._registry.clients[enterprise.prefix]
            await register(client, lines(chunks), self._clock, lambda _count: None)
        known = await until_known(last, self._connections, self._clock)
        self._verdicts.insist(node.prefix, known.breach)
        return Joined(
            prefix=node.prefix,
            name=node.name,
            enterprises=len(node.enterprises),
            registrations=registrations,
            known_after=known.after,
        )
