"""A channel whose HTTP/2 is native, for unary calls: a call costs the event loop a third of what grpcio's does.

The event loop has the socket and TLS; `topnode_front.Client` makes bytes of calls, and ends of calls of bytes.
"""

import asyncio
import math
import socket
import ssl
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, cast

from resolver.bounds import REQUEST_BYTES
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.rpc.errors import fault_of_call
from resolver.rpc.tls import ClientTls, read_client

MODULE: Final = "topnode_front"

ATTEMPTS: Final = 2
"""The first one, and one more where the server has certainly not seen it: it went away, or refused the stream."""

CONNECTING: Final = 5.0
"""Seconds for making a connection, TLS included."""

_REST_MIN: Final = 0.2
_REST_MAX: Final = 1.0
"""Seconds after a connection could not be made during which calls fail at once: the breaker says who tries when."""

SILENT: Final = 15.0
"""After so many seconds in which nothing came for calls in flight, the server is asked for a sign of life. Seldom
enough for servers of this project, which send a client away that asks more than every ten seconds."""

SIGN: Final = 20.0
"""Seconds that the server has for it."""

_TCP_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A connection without calls is looked after by the kernel: half a minute after the other side went it is gone."""

Beside = list[tuple[str, bytes]]
"""Metadata behind a response."""

Ended = tuple[int, bytes, str, Beside, bool]
"""How a call ended: gRPC code, response, text, metadata behind it, and whether it may be made again."""

_UNSEEN: Final[Ended] = (14, b"", "The connection was lost.", [], True)
"""UNAVAILABLE, of a connection that is gone already."""


class NativeChannel:
    """Makes calls to one server, over one connection at a time: made when a call needs it, anew when it was lost."""

    def __init__(
        self, host: str, port: int, clock: Clock, *, tls: ClientTls | None = None, tls_name: str = ""
    ) -> None:
        """Make it within the running loop. With a `tls_name` the server must prove that this is its name.

        Raises:
            Fault: FILE_UNREADABLE naming a TLS file.
        """
        self._host = host
        self._port = port
        self._tls = _context(tls or ClientTls()) if tls_name else None
        self._tls_name = tls_name
        bare = f"[{host}]" if ":" in host else host
        self._authority = tls_name or f"{bare}:{port}"
        self._loop = asyncio.get_running_loop()
        self._monotonic = clock.monotonic
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None
        self._open: set[_Connection] = set()
        self._rest = _REST_MIN
        self._rests_until = float("-inf")
        self._why = ""
        self._is_closed = False

    async def call(self, path: str, message: bytes, within: float) -> tuple[bytes, Beside]:
        """Make a unary call, and give the response and the metadata behind it.

        Raises:
            Fault: what the server says of it; DEADLINE_SPENT after so many seconds; NODE_UNREACHABLE.
        """
        until = self._monotonic() + within
        for _ in range(ATTEMPTS):
            connection = self._connection or await self._connected(until)
            code, response, text, beside, is_unseen = await connection.call(path, message, until)
            if not is_unseen:
                break
            self._leave(connection)
        if code:
            raise fault_of_call(code, text, beside)
        return response, beside

    async def close(self, grace: float = 0) -> None:
        """Call no more; what is in flight may take this many seconds."""
        self._is_closed = True
        if self._connecting:
            self._connecting.cancel()
        waiting = [each for connection in self._open for each in connection.waiting]
        if waiting and grace:
            await asyncio.wait(waiting, timeout=grace)
        for connection in tuple(self._open):
            connection.give_up()
        self._connection = None

    async def _connected(self, until: float) -> "_Connection":
        """Wait for the connection that is being made, or make one."""
        if self._is_closed:
            raise _given_up()
        if self._connecting is None:
            if self._monotonic() < self._rests_until:
                raise Fault(Reason.NODE_UNREACHABLE, self._why)
            self._connecting = self._loop.create_task(self._connect())
            self._connecting.add_done_callback(_seen)
        try:
            async with asyncio.timeout(until - self._monotonic()):
                # It goes on without this caller: others wait for it, and the next one will.
                return await asyncio.shield(self._connecting)
        except TimeoutError:
            raise Fault(Reason.DEADLINE_SPENT) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not this task was cancelled: the channel was closed meanwhile.
            raise _given_up() from None

    async def _connect(self) -> "_Connection":
        connection = _Connection(
            self._authority, self._loop, self._monotonic, is_tls=self._tls is not None, lost=self._lost
        )
        try:
            async with asyncio.timeout(CONNECTING):
                await self._loop.create_connection(
                    lambda: connection,
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._tls_name or None,
                )
        except (OSError, TimeoutError) as error:
            self._why = f"Failed to connect to {self._host}:{self._port}: {error or 'it took too long'}."
            self._rests_until = self._monotonic() + self._rest
            self._rest = min(2 * self._rest, _REST_MAX)
            raise Fault(Reason.NODE_UNREACHABLE, self._why) from None
        finally:
            self._connecting = None
            if connection.is_new:
                connection.give_up()
        self._rest = _REST_MIN
        # One that is lost already tells its first caller so.
        if not connection.is_lost:
            self._open.add(connection)
            self._connection = connection
        return connection

    def _leave(self, connection: "_Connection") -> None:
        """Begin no further call over a connection; those that are in flight go on."""
        if self._connection is connection:
            self._connection = None
        connection.leave()

    def _lost(self, connection: "_Connection") -> None:
        self._open.discard(connection)
        if self._connection is connection:
            self._connection = None


class _Connection(asyncio.Protocol):
    """One connection. What is to be sent is bounded by what the server's windows take, and by calls in flight."""

    def __init__(
        self,
        authority: str,
        loop: asyncio.AbstractEventLoop,
        monotonic: Callable[[], float],
        *,
        is_tls: bool,
        lost: Callable[["_Connection"], None],
    ) -> None:
        module: Any = import_module(MODULE)
        # Answers stay half a mebibyte below this.
        self._client: Any = module.Client(authority, is_tls=is_tls, message_bytes=REQUEST_BYTES)
        self._loop = loop
        self._monotonic = monotonic
        self._tell_lost = lost
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[Ended]] = {}
        self._is_left = self.is_lost = False
        self._due: dict[int, float] = {}
        self._expires_at = math.inf
        self._expiring: asyncio.TimerHandle | None = None
        self._has_come = self._is_asked = False
        self._looking: asyncio.TimerHandle | None = None

    @property
    def is_new(self) -> bool:
        """Has it never been made?"""
        return self._transport is None

    @property
    def waiting(self) -> list[asyncio.Future[Ended]]:
        """What is waited for."""
        return list(self._waiting.values())

    async def call(self, path: str, message: bytes, until: float) -> Ended:
        """Make a call, by a moment on the monotonic clock.

        Raises:
            Fault: DEADLINE_SPENT; NODE_UNREACHABLE where the connection was given up.
        """
        within = until - self._monotonic()
        if within <= 0:
            raise Fault(Reason.DEADLINE_SPENT)
        if self._client is None:
            return _UNSEEN
        token = self._client.call(path, message, within)
        waiting: asyncio.Future[Ended] = self._loop.create_future()
        self._waiting[token] = waiting
        self._due[token] = until
        if until < self._expires_at:
            self._expire_at(until)
        self._go_on()
        try:
            return await waiting
        finally:
            del self._due[token]
            if self._waiting.pop(token, None) and self._client is not None:
                # It has not ended by itself.
                self._client.cancel(token)
                self._go_on()

    def leave(self) -> None:
        """End it as soon as nobody waits for anything."""
        self._is_left = True
        self._go_on()

    def give_up(self) -> None:
        """End it at once."""
        if self._transport:
            self._transport.abort()
        self._fail()
        self._end()

    # --- what the event loop tells ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        connected = transport.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _TCP_KEEPALIVE:
                connected.setsockopt(socket.IPPROTO_TCP, option, value)
        self._looking = self._loop.call_later(SILENT, self._look)
        self._go_on()

    def data_received(self, data: bytes) -> None:
        if self._client is not None:
            self._has_come = True
            self._client.receive(data)
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the session says it of each call
        if self._client is not None:
            self._client.end()
            self._go_on()
        self._fail()
        self._end()
        self._tell_lost(self)

    # ---------------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Send what is to be sent, and tell those who wait how their calls ended."""
        if self._client is None:
            return
        unsent, ended = self._client.go_on()
        transport = self._transport
        if unsent and transport is not None and not transport.is_closing():
            transport.write(unsent)
        for token, *end in ended:
            waiting = self._waiting.pop(token, None)
            # Whoever was cancelled waits no more.
            if waiting is not None and not waiting.done():
                waiting.set_result(tuple(end))
        if (
            transport is not None
            and self._client is not None
            and (self._client.is_over or (self._is_left and not self._waiting))
        ):
            transport.close()

    def _look(self) -> None:
        """See whether the server is there, while calls wait for it."""
        wait = SILENT
        if self._has_come or not self._waiting:
            self._has_come = self._is_asked = False
        elif not self._is_asked:
            self._is_asked, wait = True, SIGN
            self._client.ping()
            self._go_on()
        else:
            self.give_up()
            return
        self._looking = self._loop.call_later(wait, self._look)

    def _expire_at(self, moment: float) -> None:
        # One timer for all: one for each call would be made and taken back nearly always.
        if self._expiring:
            self._expiring.cancel()
        self._expires_at = moment
        self._expiring = self._loop.call_later(max(0.0, moment - self._monotonic()), self._expire)

    def _expire(self) -> None:
        """End the calls whose time is over."""
        now = self._monotonic()
        for token, until in self._due.items():
            waiting = self._waiting.get(token)
            if until <= now and waiting is not None and not waiting.done():
                waiting.set_exception(Fault(Reason.DEADLINE_SPENT))
        self._expiring, self._expires_at = None, math.inf
        later = [until for until in self._due.values() if until > now]
        if later:
            self._expire_at(min(later))

    def _end(self) -> None:
        """Let the session go, here: it is of this thread, and a collector of garbage may run in any other."""
        self.is_lost, self._client = True, None
        for timer in (self._looking, self._expiring):
            if timer:
                timer.cancel()

    def _fail(self) -> None:
        for each in self._waiting.values():
            if not each.done():
                each.set_exception(_given_up())


def _seen(connecting: "asyncio.Task[_Connection]") -> None:
    """Look at what came of connecting: perhaps nobody waits for it any more."""
    if not connecting.cancelled():
        connecting.exception()


def _given_up() -> Fault:
    return Fault(Reason.NODE_UNREACHABLE, "The connection was given up.")


def _context(tls: ClientTls) -> ssl.SSLContext:
    """Make what the event loop's TLS needs.

    Raises:
        Fault: FILE_UNREADABLE.
    """
    files = read_client(tls)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if files.server_ca is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=files.server_ca.decode())
    if files.pair:
        context.load_cert_chain(tls.certificate, tls.key)
    context.set_alpn_protocols(["h2"])
    return context
