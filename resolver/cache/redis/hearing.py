"""Hearing what is published: the index up to which changes can be read, sooner than the next look at the feed."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter
from redis.asyncio import Connection

from resolver.cache.redis.border import ERRORS, Ledger, Trouble, trouble
from resolver.cache.redis.layout import Layout
from resolver.cache.redis.servers import Servers
from resolver.cache.redis.settings import RedisSettings

_SILENCE: Final = 5.0
"""Seconds without a word after which the server is asked for one."""


class Hearing:
    """Listens on a connection of its own to the server of the first shelf, kept up by `run`.

    Failure policy: what is not heard is found at the next look at the feed.
    """

    def __init__(
        self, servers: Servers, settings: RedisSettings, ledger: Ledger, registry: CollectorRegistry
    ) -> None:
        self._servers = servers
        self._channel = Layout.of(settings).channel
        self._rest = float(settings.rest)
        self._ledger = ledger
        self._heard = Counter("topnode_redis_heard_total", "Told indexes that were heard.", registry=registry)

    async def run(self, tell: Callable[[int], None]) -> None:
        """Hand on each index that is heard, until cancelled."""
        while True:
            line = self._servers.line(0)
            if line is not None:
                try:
                    await self._listen(line.address, tell)
                except Trouble as error:
                    self._ledger.failed(line.address, error)
            await asyncio.sleep(self._rest)

    async def _listen(self, address: str, tell: Callable[[int], None]) -> None:
        connection = await self._servers.connecting.open(address)
        try:
            await connection.send_command("SUBSCRIBE", self._channel, check_health=False)
            while True:
                kind, _, said = await self._word(connection)
                if kind == b"message":
                    self._heard.inc()
                    tell(int(said))
        except ERRORS as error:
            raise trouble(error) from error
        finally:
            await connection.disconnect(nowait=True)

    async def _word(self, connection: Connection) -> Any:
        word = await connection.read_response(timeout=_SILENCE)
        if word is None:
            await connection.send_command("PING", check_health=False)
            word = await connection.read_response(timeout=_SILENCE)
        if word is None:
            raise Trouble("timeout", f"no answer within {_SILENCE:g} s")
        return word if len(word) == 3 else (b"pong", b"", b"")
