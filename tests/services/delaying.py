"""A TCP proxy that can be slow: a server seen over a bad network."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Delaying:
    """Forwards connections to one server; what the server says comes `seconds` late."""

    def __init__(self, host: str, port: int) -> None:
        self.seconds = 0.0
        self.address = ""
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection, both ways, until either side ends it."""
        with suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            self._writers |= {writer, server_writer}
            there = asyncio.create_task(self._pass(reader, server_writer, is_late=False))
            back = asyncio.create_task(self._pass(server_reader, writer, is_late=True))
            _, others = await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            for other in others:
                other.cancel()
            self._writers -= {writer, server_writer}
            server_writer.close()
        writer.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_late: bool) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while octets := await reader.read(65_536):
                loop.call_later(self.seconds if is_late else 0, writer.write, octets)


@asynccontextmanager
async def delaying(host: str, port: int) -> AsyncIterator[Delaying]:
    """Run a proxy before this server."""
    proxy = Delaying(host, port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    name, own_port = server.sockets[0].getsockname()
    proxy.address = f"{name}:{own_port}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()
        await asyncio.sleep(0)
