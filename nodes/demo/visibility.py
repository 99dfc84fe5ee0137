"""When every resolver of the node knows what was just written: asked over each connection until it is answered."""

import asyncio
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from nodes.demo.asking import Connection, read
from nodes.demo.expectations import Expected
from resolver.clock import Clock
from resolver.query import Mode

PROMISED_SECONDS: Final = 1.0
"""Whoever asks later than this must be told of it, whichever process answers."""

LOST_SECONDS: Final = 10.0
"""After this time it is not waited for any more."""

_PAUSE: Final = 0.02


class Known(Struct, frozen=True, kw_only=True):
    """When a thing was known everywhere: seconds from its becoming durable to the asking of a question.

    `after` is that of the first question that was answered rightly, `unaware` that of the last one before that was
    not; of several connections, the latest. `differences` says what is wrong to the end.
    """

    after: float
    unaware: float
    differences: list[str]

    @property
    def breach(self) -> str:
        """Say in what the promise was broken; empty where it was kept."""
        if self.differences:
            return self.differences[0]
        return f"still unknown after {self.unaware:.3f} s" if self.unaware > PROMISED_SECONDS else ""


async def until_known(
    expected: Expected,
    connections: Sequence[Connection],
    clock: Clock,
    *,
    mode: Mode = Mode.LOCAL,
    lost: float = LOST_SECONDS,
) -> Known:
    """Ask over all connections at once, each until it is answered rightly, for `lost` seconds from now."""
    began = clock.monotonic()
    seen = await asyncio.gather(
        *(_until_known(expected, connection, clock, began, mode, lost) for connection in connections)
    )
    return Known(
        after=max(each.after for each in seen),
        unaware=max(each.unaware for each in seen),
        differences=[difference for each in seen for difference in each.differences],
    )


async def _until_known(
    expected: Expected, connection: Connection, clock: Clock, began: float, mode: Mode, lost: float
) -> Known:
    unaware = 0.0
    while True:
        asked = clock.monotonic() - began
        (answer,) = read(await connection.send([expected.asked], mode), 1)
        difference = expected.difference(answer)
        if not difference or asked > lost:
            return Known(after=asked, unaware=unaware, differences=[difference] if difference else [])
        unaware = asked
        await asyncio.sleep(_PAUSE)
