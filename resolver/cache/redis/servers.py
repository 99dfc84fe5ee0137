"""Which server holds which shelf: found, and found again when servers change their parts."""

import asyncio
from typing import Final

from resolver.cache.redis.border import Ledger, Trouble
from resolver.cache.redis.connecting import Connecting
from resolver.cache.redis.line import Line
from resolver.cache.redis.settings import RedisSettings
from resolver.clock import Clock

_PLACES: Final = "who holds what"


class Servers:
    """Lines to the servers of all shelves, kept up by `run`."""

    def __init__(self, settings: RedisSettings, *, clock: Clock, ledger: Ledger) -> None:
        self.connecting = Connecting(settings)
        self._settings = settings
        self._clock = clock
        self._ledger = ledger
        self._is_troubled = asyncio.Event()
        self._by_shelf: list[Line] = []
        self._running: dict[Line, asyncio.Task[None]] = {}
        ledger.left_alone.set_function(self._count_left_alone)

    def line(self, shelf: int) -> Line | None:
        """Give the way to a shelf's server; None before the servers were found."""
        return self._by_shelf[shelf] if self._by_shelf else None

    async def run(self) -> None:
        """Find the servers and keep up the lines to them, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._is_troubled.clear()
                try:
                    self._use(await self.connecting.locate(), tasks)
                except Trouble as error:
                    self._ledger.failed(_PLACES, error)
                    self._is_troubled.set()
                else:
                    self._ledger.works(_PLACES, writes=True)
                # One look in each rest, however many lines are in trouble.
                await asyncio.sleep(self._settings.rest)
                await self._is_troubled.wait()

    def _use(self, addresses: list[str], tasks: asyncio.TaskGroup) -> None:
        known = {line.address: line for line in self._by_shelf}
        lines = {address: known.get(address) or self._opened(address, tasks) for address in dict.fromkeys(addresses)}
        self._by_shelf = [lines[address] for address in addresses]
        for address in known.keys() - lines.keys():
            self._running.pop(known[address]).cancel()

    def _opened(self, address: str, tasks: asyncio.TaskGroup) -> Line:
        line = Line(
            address,
            self.connecting,
            settings=self._settings,
            clock=self._clock,
            ledger=self._ledger,
            on_trouble=self._is_troubled.set,
        )
        self._running[line] = tasks.create_task(line.run())
        return line

    def _count_left_alone(self) -> int:
        return sum(line.connection is None for line in set(self._by_shelf))
