"""A TCP proxy before one server, and how networks are bad: slow, cut, gone half-way; and a black hole."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Self

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST and not FIN."""


class BadNetwork:
    """Forwards connections to one server, well, until told otherwise. `accepted` counts connections."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.accepted = 0
        self.seconds = 0.0
        """What the server says comes so late."""

        self._target = (host, port)
        self._is_silent = False
        self._resets = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def fall_silent(self) -> None:
        """Half-open: connections stay, new ones are accepted, and nothing comes through any more, either way."""
        self._is_silent = True

    def reset(self) -> None:
        """Reset all connections, and new ones as soon as they are made."""
        self._resets = True
        for writer in tuple(self._writers):
            _reset(writer)

    def heal(self) -> None:
        """Forward again. What was open while it was silent stays dead: its bytes are lost."""
        self._is_silent = self._resets = False
        self.seconds = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, both ways, until either side ends it, or `close` does."""
        task = asyncio.ensure_future(self._forward(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        await asyncio.wait((task,))

    async def close(self) -> None:
        """End all connections."""
        serving = tuple(self._serving)
        for task in serving:
            task.cancel()
        if serving:
            await asyncio.wait(serving)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._resets:
            _reset(writer)
            return
        opened = {writer}
        try:
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            opened.add(server_writer)
            self._writers |= opened
            there = asyncio.create_task(self._pass(reader, server_writer, is_late=False))
            back = asyncio.create_task(self._pass(server_reader, writer, is_late=True))
            try:
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
        except OSError:
            pass
        finally:
            self._writers -= opened
            for each in opened:
                each.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_late: bool) -> None:
        loop = asyncio.get_running_loop()
        is_lost = False
        with suppress(OSError):
            while octets := await reader.read(65_536):
                # A connection that lost bytes makes no sense to either end any more.
                is_lost = is_lost or self._is_silent
                if not is_lost:
                    loop.call_later(self.seconds if is_late else 0, writer.write, octets)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@asynccontextmanager
async def bad_network(host: str, port: int) -> AsyncIterator[BadNetwork]:
    """Run a proxy before this server."""
    proxy = BadNetwork(host, port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        # Sockets are closed in the turn after.
        await asyncio.sleep(0)


class NetworkApart:
    """The same for tests without an event loop: as a context, it forwards in a thread of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._runs = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        self._runs.wait()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    @property
    def address(self) -> str:
        return self._network.address

    def reset(self) -> None:
        self._do(self._network.reset)

    def heal(self) -> None:
        self._do(self._network.heal)

    async def _run(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        async with bad_network(*self._target) as self._network:
            self._runs.set()
            await self._ended.wait()

    def _do(self, act: Callable[[], None]) -> None:
        """Have it done before this returns."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(act)
        self._loop.call_soon_threadsafe(done.set)
        done.wait()


@asynccontextmanager
async def black_hole() -> AsyncIterator[int]:
    """Give a port at which connecting gets no answer at all: its queue is full, and nobody takes from it."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port: int = listening.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        await asyncio.sleep(0.05)
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()
