"""A shared cache in a dict: a whole implementation, small enough to be seen through, that can lose what it holds.

It can be out of reach (`is_away`), forget everything (`lose`), and go back to an earlier state (`snapshot`,
`go_back`), as a server does when its replica takes over.
"""

import os
from collections.abc import Sequence

from resolver.shelves import (
    AS_OF_AT,
    BODY_AT,
    ERA_BYTES,
    MARKER,
    NOWHERE,
    VERSION_AT,
    Fill,
    Shelf,
    State,
    number,
)


class SmallShelves:
    """A SharedCache and a MarkedCache with one shelf. `published` are the indexes that were told."""

    def __init__(self) -> None:
        self.is_away = False
        self.published: list[int] = []
        self.values: dict[bytes, bytes] = {}
        self.state: State | None = None

    def lose(self) -> None:
        """Forget everything."""
        self.values, self.state = {}, None

    def snapshot(self) -> tuple[dict[bytes, bytes], State | None]:
        return dict(self.values), self.state

    def go_back(self, snapshot: tuple[dict[bytes, bytes], State | None]) -> None:
        self.values, self.state = dict(snapshot[0]), snapshot[1]

    async def get(self, keys: Sequence[bytes]) -> list[Shelf]:
        state = None if self.is_away else self.state
        return [Shelf(range(len(keys)), [self.values.get(key) for key in keys] if state else (), state)]

    async def fill(self, fills: Sequence[Fill]) -> None:
        for fill in fills:
            if not self.is_away and self.state and fill.era == self.state.era and fill.as_of >= self.state.since:
                self._put(fill.key, fill.to_bytes())

    async def marked(self) -> int | None:
        return None if self.is_away else self.state.marked if self.state else NOWHERE

    async def mark(self, changed: Sequence[tuple[bytes, int]], *, below: int, after: int, upto: int) -> int | None:
        state = self.state
        if not self.is_away and state and state.marked >= after:
            for key, index in changed:
                self._put(key, MARKER + state.era + number(index) * 2)
            self.state = State(state.era, state.since, max(below, state.below), max(upto, state.marked))
        return await self.marked()

    async def begin(self, index: int, *, anew: bool) -> bool:
        if not self.is_away and (anew or self.state is None):
            self.state = State(os.urandom(ERA_BYTES), index, 0, index)
        return not self.is_away

    async def publish(self, index: int) -> bool:
        if not self.is_away:
            self.published.append(index)
        return not self.is_away

    def _put(self, key: bytes, new: bytes) -> None:
        held = self.values.get(key)
        if held is None or held[1:VERSION_AT] != new[1:VERSION_AT] or _gives_way(held, new):
            self.values[key] = new


def _gives_way(held: bytes, new: bytes) -> bool:
    if held[:1] == MARKER and new[:1] != MARKER:
        return held[VERSION_AT:AS_OF_AT] <= new[VERSION_AT:AS_OF_AT]
    return held[VERSION_AT:BODY_AT] < new[VERSION_AT:BODY_AT]
