"""One connection to one server: calls follow each other without waiting, and answers come in their order."""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio import Connection
from redis.exceptions import ResponseError

from resolver.cache.redis.border import ERRORS, Ledger, Trouble, trouble
from resolver.cache.redis.connecting import Connecting, ask
from resolver.cache.redis.settings import RedisSettings
from resolver.clock import Clock

FAILURES: Final = 3
"""So many failures in a row are no accident: the server is left alone for a while."""

_CALLS_MAX: Final = 1_000
"""Calls whose answers are yet to come, those included for which nobody waits any more."""


class Line:
    """The way to one server, kept up by `run`. Nobody who asks ever waits for a connection.

    Failure policy: after FAILURES in a row the connection is given up. One is made anew after a rest, and used once
    the server has answered as fast as callers need it; until then nothing is asked.
    """

    def __init__(
        self,
        address: str,
        connecting: Connecting,
        *,
        settings: RedisSettings,
        clock: Clock,
        ledger: Ledger,
        on_trouble: Callable[[], None],
    ) -> None:
        """Make it; `on_trouble` is called when another server may be the right one."""
        self.address = address
        self._connecting = connecting
        self._deadline = float(settings.deadline)
        self._rest = float(settings.rest)
        self._monotonic = clock.monotonic
        self._ledger = ledger
        self._on_trouble = on_trouble
        self._failures = 0
        self._calls: deque[asyncio.Future[Any]] = deque()
        self.connection: Connection | None = None
        """None where the server is left alone."""

    async def run(self) -> None:
        """Connect, and again whenever the connection is lost or given up, until cancelled."""
        while True:
            try:
                connection = await self._opened()
            except Trouble as error:
                self._ledger.failed(self.address, error)
                self._on_trouble()
                await asyncio.sleep(self._rest)
                continue
            began, self._failures = self._monotonic(), 0
            self._ledger.works(self.address, writes=False)
            try:
                self.connection = connection
                await self._receive(connection)
            finally:
                self.connection = None
                await connection.disconnect(nowait=True)
            if self._failures >= FAILURES or self._monotonic() < began + self._rest:
                await asyncio.sleep(self._rest)

    async def ask(self, command: bytes, *, within: float, writes: bool = False, by: Connection | None = None) -> Any:
        """Send a command and give its answer; `by` allows only this connection, in the state that it is in.

        Raises:
            Trouble: it was not answered within these seconds, or refused. It may have been done nevertheless.
        """
        connection = self.connection
        if connection is None or (by is not None and by is not connection):
            raise Trouble("left_alone", "the server is left alone")
        began = self._monotonic()
        try:
            answer = await self._call(connection, command, within)
        except Trouble as error:
            await self._failed(connection, error)
            raise
        self._ledger.seconds.observe(self._monotonic() - began)
        self._failures = 0
        self._ledger.works(self.address, writes=writes)
        return answer

    async def _opened(self) -> Connection:
        """Connect, and see whether the server is fast enough: the trial that callers are spared."""
        connection = await self._connecting.open(self.address)
        try:
            async with asyncio.timeout(self._deadline):
                await ask(connection, b"PING")
        except ERRORS as error:
            await connection.disconnect(nowait=True)
            raise trouble(error) from error
        except asyncio.CancelledError:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _call(self, connection: Connection, command: bytes, within: float) -> Any:
        if len(self._calls) >= _CALLS_MAX:
            raise Trouble("timeout", f"{_CALLS_MAX} calls wait for their answers")
        if not connection.is_connected:
            # It would connect of itself, in the middle of a call.
            raise Trouble("refused", "the connection was lost")
        call: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.append(call)
        try:
            async with asyncio.timeout(within):
                await connection.send_packed_command([command], check_health=False)
                answer = await call
        except TimeoutError as error:
            raise Trouble("timeout", f"no answer within {within:g} s") from error
        except ERRORS as error:
            raise trouble(error) from error
        if isinstance(answer, ResponseError):
            raise trouble(answer)
        return answer

    async def _receive(self, connection: Connection) -> None:
        """Hand out answers until the connection ends."""
        calls, lost = self._calls, Trouble("refused", "the connection is closed")
        try:
            while True:
                try:
                    answer = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
                except ResponseError as error:
                    answer = error
                call = calls.popleft()
                if not call.done():
                    call.set_result(answer)
        except ERRORS as error:
            lost = trouble(error)
        finally:
            for call in calls:
                if not call.done():
                    call.set_exception(Trouble(lost.kind, str(lost)))
            calls.clear()

    async def _failed(self, connection: Connection, error: Trouble) -> None:
        self._ledger.failed(self.address, error)
        if error.kind == "moved":
            self._on_trouble()
        if error.is_harmless:
            return
        self._failures += 1
        if self._failures >= FAILURES and connection is self.connection:
            self.connection = None
            self._ledger.leaves_alone(self.address)
            self._on_trouble()
            await connection.disconnect(nowait=True)
