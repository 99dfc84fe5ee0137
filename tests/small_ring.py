"""A ring in a folder: the rows of an embedded store, given as a ring gives them: in no order, with their entries."""

import random
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TypeVar

from resolver import wire
from resolver.answer import ABSENT
from resolver.routes import Prefix
from resolver.store.embedded.border import Border
from resolver.store.embedded.layout import import_row
from resolver.store.embedded.opening import Store
from resolver.store.embedded.snapshot import Snapshot
from resolver.store.naming import prefix_of
from resolver.store.scanning import Held, HeldRow
from resolver.trust.actors import Node

_T = TypeVar("_T")


class SmallRing(Snapshot):
    """A Scanned. Of `unlisted` keys the listing says nothing, of `listed_too` prefixes it says that they have one."""

    def __init__(self, store: Store, border: Border) -> None:
        super().__init__(store, border)
        self.unlisted: set[bytes] = set()
        self.listed_too: set[bytes] = set()

    async def committed(self) -> int:
        return await self.head()

    async def records(self) -> AsyncIterator[Sequence[Held]]:
        for rows in _scattered(self.held()):
            full = (await self.full([key for key, _ in rows])).bodies
            yield [
                Held(key, body, each, wire.body_version(body)) for (key, body), each in zip(rows, full, strict=True)
            ]

    async def answers(self) -> AsyncIterator[Sequence[HeldRow]]:
        for rows in _scattered(self.rows("answered")):
            yield [HeldRow(key, row, int.from_bytes(row, "big")) for key, row in rows]

    async def nonces(self) -> AsyncIterator[Sequence[HeldRow]]:
        for rows in _scattered(self.rows("nonces")):
            yield [HeldRow(key, b"", 0) for key, _ in rows]

    async def tiles(self) -> AsyncIterator[Sequence[HeldRow]]:
        for rows in _scattered(self.rows("tiles")):
            yield [HeldRow(key, row, 0) for key, row in rows]

    async def imports(self) -> AsyncIterator[Sequence[HeldRow]]:
        first = import_row("")
        yield [HeldRow(key[len(first) :], row, 0) for key, row in self.rows("meta") if key.startswith(first)]

    async def prefix_rows(self) -> AsyncIterator[Sequence[HeldRow]]:
        for rows in _scattered(self.rows("prefixes")):
            yield [HeldRow(key, row, Prefix.from_bytes(row).epoch) for key, row in rows]

    async def node_rows(self) -> AsyncIterator[Sequence[HeldRow]]:
        for rows in _scattered(self.rows("nodes")):
            yield [HeldRow(key, row, Node.from_bytes(row).epoch) for key, row in rows]

    async def spans(self) -> AsyncIterator[Sequence[bytes]]:
        for prefixes in _scattered({prefix_of(key) for key, _ in self.held()} | self.listed_too):
            yield prefixes

    async def listing(self, prefix: bytes) -> AsyncIterator[Sequence[HeldRow]]:
        for rows in _scattered(self.held(prefix)):
            yield [
                HeldRow(key, wire.registered_spelling(body).encode(), wire.body_version(body))
                for key, body in rows
                if wire.body_outcome(body) != ABSENT and key not in self.unlisted
            ]

    async def listed(self, keys: Sequence[bytes]) -> list[bool]:
        bodies = (await self.public(keys)).bodies
        return [
            key not in self.unlisted and body is not None and wire.body_outcome(body) != ABSENT
            for key, body in zip(keys, bodies, strict=True)
        ]


def _scattered(rows: Iterable[_T]) -> list[list[_T]]:
    """Give rows in pieces, in an order that is nobody's."""
    mixed = sorted(rows, key=repr)
    random.Random(7).shuffle(mixed)
    return [mixed[at : at + 50] for at in range(0, len(mixed), 50)]
