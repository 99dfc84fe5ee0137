"""Connections to Redis servers by the settings: TLS, user, and where the servers are."""

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot

from resolver.cache.redis.border import ERRORS, Trouble, trouble
from resolver.cache.redis.layout import Layout
from resolver.cache.redis.settings import RedisSettings, RedisTls, host_and_port, read_password
from resolver.errors import Fault

_PROTOCOL: Final = 2
"""RESP2 says all that is asked here."""


class Connecting:
    """Makes connections as the settings say, and finds the servers. Each attempt has the time that they allow.

    Raises:
        Trouble: whatever goes wrong.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._layout = Layout.of(settings)
        self._nodes = [settings.address]

    async def open(self, address: str) -> Connection:
        """Connect, log in, and have the server answer once. From then on it is waited for without end."""
        return await self._open(address, has_login=True)

    async def locate(self) -> list[str]:
        """Give the address of the server of each shelf."""
        if self._settings.sentinels:
            return [await self._ask_sentinels()]
        if self._settings.cluster:
            return await self._ask_nodes()
        return [self._settings.address]

    async def _open(self, address: str, *, has_login: bool) -> Connection:
        connection = self._made(address, has_login=has_login)
        try:
            async with asyncio.timeout(self._settings.connect_within):
                await connection.connect()  # type: ignore[no-untyped-call] # redis-py leaves its types out here
                await ask(connection, "PING")
        except ERRORS as error:
            await connection.disconnect(nowait=True)
            raise trouble(error) from error
        except asyncio.CancelledError:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def _made(self, address: str, *, has_login: bool) -> Connection:
        host, port = host_and_port(address, "address")
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "protocol": _PROTOCOL,
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
        }
        try:
            password = read_password(self._settings) if has_login else ""
        except Fault as fault:
            raise Trouble("auth", fault.detail) from fault
        if password:
            options |= {"username": self._settings.user or None, "password": password}
        if self._settings.tls is None:
            return Connection(**options)
        connection = SSLConnection(**options)
        # Made here, because redis-py trusts the system's authorities beside the one that is named.
        connection.ssl_context.context = _context(self._settings.tls)
        return connection

    async def _ask_sentinels(self) -> str:
        last = Trouble("refused", f"no sentinel knows {self._settings.master}")
        for address in self._settings.sentinels:
            try:
                async with self._asked(address, has_login=False) as sentinel:
                    found = await ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._settings.master)
            except Trouble as error:
                last = error
                continue
            if found:
                return _address(*found)
        raise last

    async def _ask_nodes(self) -> list[str]:
        last = Trouble("refused", "no node of the cluster knows its slots")
        for address in self._nodes:
            try:
                async with self._asked(address, has_login=True) as node:
                    ranges = await ask(node, "CLUSTER", "SLOTS")
            except Trouble as error:
                last = error
                continue
            masters = [(first, final, _address(*master[:2])) for first, final, master, *_ in ranges]
            placed = [_holder(masters, key_slot(tag)) for tag in self._layout.tags]
            if all(placed):
                # The one that the settings name comes first: the others may be gone by then.
                self._nodes = list(dict.fromkeys([self._settings.address, *(found for *_, found in masters)]))
                return placed
        raise last

    @asynccontextmanager
    async def _asked(self, address: str, *, has_login: bool) -> AsyncIterator[Connection]:
        connection = await self._open(address, has_login=has_login)
        try:
            async with asyncio.timeout(self._settings.connect_within):
                yield connection
        except ERRORS as error:
            raise trouble(error) from error
        finally:
            await connection.disconnect(nowait=True)


async def ask(connection: Connection, *command: str | bytes | int) -> Any:
    """Ask one thing on a connection that nobody else uses.

    Raises:
        RedisError, OSError, EOFError.
    """
    await connection.send_command(*command, check_health=False)
    return await connection.read_response(timeout=math.inf)


def _context(tls: RedisTls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.server_ca or None)
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key or None)
    except OSError as error:
        raise Trouble("auth", f"the TLS files cannot be used: {error}") from error
    return context


def _address(host: bytes, port: bytes | int) -> str:
    name = host.decode()
    return f"[{name}]:{int(port)}" if ":" in name else f"{name}:{int(port)}"


def _holder(masters: Sequence[tuple[int, int, str]], slot: int) -> str:
    return next((address for first, last, address in masters if first <= slot <= last), "")
