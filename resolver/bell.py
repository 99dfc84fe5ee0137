"""A rest that can be ended early, for tasks that look regularly and may be told to look at once."""

import asyncio
from contextlib import suppress


class Bell:
    """Rung by anybody in the event loop, however often; one task rests by it."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def rest(self, seconds: float) -> None:
        """Wait that long, or until it is rung; not at all where it was rung since the last rest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        self._rung.clear()
