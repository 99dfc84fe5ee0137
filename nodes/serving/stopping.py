"""How a node hears that it is to stop: signals, and what is waited for meanwhile."""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_log: Final = logging.getLogger(__name__)


class Stopping:
    """Whether a node is to stop. SIGTERM and SIGINT say so; a second SIGINT says at once."""

    def __init__(self) -> None:
        self._told = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """Has it been told to stop?"""
        return self._told.is_set()

    async def is_told(self) -> None:
        """Wait until it is told to stop."""
        await self._told.wait()

    async def comes_before(self, event: asyncio.Event) -> bool:
        """Wait for the event or for being told to stop, and say whether it was that."""
        waits = [asyncio.ensure_future(self._told.wait()), asyncio.ensure_future(event.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self._told.is_set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Hear signals. A second SIGINT cancels the task that is in the context."""
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()

        def interrupted() -> None:
            if self._told.is_set() and task:
                _log.warning("interrupted again; ending at once")
                task.cancel()
            self._told.set()

        loop.add_signal_handler(signal.SIGTERM, self._told.set)
        loop.add_signal_handler(signal.SIGINT, interrupted)
        loop.add_signal_handler(signal.SIGHUP, _tell_about_reload)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)


def _tell_about_reload() -> None:
    # Each resolver looks at the files before each handshake; there is nothing left to do but to say so.
    _log.info("SIGHUP: TLS files that were replaced are in use from the next connection on")
