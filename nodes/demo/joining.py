"""Secondary nodes that join while the node runs, and when each of its resolvers knows."""

import asyncio
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from nodes.corpus import Corpus
from nodes.demo.asking import Connection, Verdicts, read
from nodes.demo.expectations import Expected, nowhere, registered
from nodes.demo.feeding import feed
from nodes.wuhan import Secondary
from registry.loading import TakesLoads
from resolver.answer import Answer
from resolver.clock import Clock
from resolver.errors import Fault
from resolver.query import Mode

VISIBLE_SECONDS: Final = 1.0
"""Within this time every process of the node must know what was written."""

LOST_SECONDS: Final = 10.0
"""After this time it is not waited for any more."""

_PAUSE: Final = 0.005


class Joined(Struct, frozen=True, kw_only=True):
    """A node that joined: what came with it, and after how many seconds everybody was told so."""

    prefix: str
    name: str
    enterprises: int
    registrations: int
    visible: float


class Joining:
    """Lets nodes join, seen over several connections: so that each resolver has some of them."""

    def __init__(
        self, loads: TakesLoads, connections: Sequence[Connection], clock: Clock, verdicts: Verdicts
    ) -> None:
        self._loads = loads
        self._connections = connections
        self._clock = clock
        self._verdicts = verdicts

    async def join(self, node: Secondary, registrations: int) -> Joined:
        """Let a node join with its enterprises and so many registrations: unknown before, known everywhere after."""
        corpus = Corpus(registrations, [node])
        last = registered(corpus.registration(registrations - 1))
        for connection in self._connections:
            await self._compare(connection, nowhere(last.asked))
        rows = [corpus.prefix_rows(), *corpus.chunks()]
        await feed(self._loads, f"demo: {node.prefix}", rows, self._clock, lambda _count: None)
        visible = await self._until_known(last)
        if visible > VISIBLE_SECONDS:
            self._verdicts.note(f"{node.prefix}: known everywhere after {visible:.3f} s")
        return Joined(
            prefix=node.prefix,
            name=node.name,
            enterprises=len(node.enterprises),
            registrations=registrations,
            visible=visible,
        )

    async def _until_known(self, expected: Expected) -> float:
        """Ask over one connection after the other, each until it is answered rightly; the last one's time counts."""
        began = self._clock.monotonic()
        for connection in self._connections:
            while not await self._is_right(connection, expected):
                if self._clock.monotonic() - began > LOST_SECONDS:
                    break
                await asyncio.sleep(_PAUSE)
            await self._compare(connection, expected)
        return self._clock.monotonic() - began

    async def _is_right(self, connection: Connection, expected: Expected) -> bool:
        return not expected.difference(await _answer(connection, expected))

    async def _compare(self, connection: Connection, expected: Expected) -> None:
        self._verdicts.compare([expected], [await _answer(connection, expected)])


async def _answer(connection: Connection, expected: Expected) -> Answer | Fault:
    (answer,) = read(await connection.send([expected.asked], Mode.LOCAL), 1)
    return answer
