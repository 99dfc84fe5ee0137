"""A proxy between a driver and one node of Cassandra, which meddles: it counts what is executed, and then acts.

It understands of the native protocol (no compression, no TLS) what it needs for that: where a message begins, and of
what kind it is.
"""

import asyncio
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from typing import Final

_HEADER: Final = struct.Struct(">BBhBi")  # version, flags, stream, kind, length of the body
_FRAMED_FROM: Final = 5
_SEGMENT_HEADER: Final = 6  # 17 bits of length, flags, CRC-24; little-endian
_SEGMENT_CRC: Final = 4
_ERROR, _STARTUP, _READY, _AUTHENTICATE, _QUERY, _RESULT, _PREPARE, _EXECUTE, _BATCH = 0, 1, 2, 3, 7, 8, 9, 10, 13
_EXECUTED: Final = frozenset((_EXECUTE, _BATCH))
_ANSWERED: Final = frozenset((_QUERY, _PREPARE, _EXECUTE, _BATCH))


class How(Enum):
    """What is done from a certain request on."""

    PASS = auto()
    CUT = auto()
    """Neither it nor anything after it reaches the node; connections end, and new ones too."""
    SWALLOW = auto()
    """Requests reach the node; no answer comes back."""
    HOLD = auto()
    """Requests rest here until they are let go, however late that is; nothing else is noticed."""
    HOLD_ONE = auto()
    """Only the first of them rests; what is sent after it overtakes it."""


class Meddler:
    """The proxy. `requests` counts what was executed, reads and writes, since `act` was called last."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.requests = 0
        self._target = (host, port)
        self._how = How.PASS
        self._after = 0
        self._held: list[tuple[StreamWriter, bytes]] = []
        self._awaited = 0
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()
        self._has_swallowed = asyncio.Event()
        self._open: set[StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def before(cls, host: str, port: int) -> AsyncIterator["Meddler"]:
        """Stand before this node, on a free port of this machine."""
        meddler = cls(host, port)
        server = await asyncio.start_server(meddler._connected, "127.0.0.1", 0)
        meddler.port = server.sockets[0].getsockname()[1]
        try:
            yield meddler
        finally:
            server.close()
            meddler._end()
            for task in meddler._tasks:
                task.cancel()
            await asyncio.gather(*meddler._tasks, return_exceptions=True)

    def act(self, how: How, after: int) -> None:
        """Let so many more requests be executed, then act."""
        self.requests, self._how, self._after = 0, how, after
        self._has_swallowed.clear()

    def pass_by(self) -> None:
        """Let everything pass from now on, but for what rests here."""
        self._how = How.PASS

    def relent(self) -> None:
        """Let everything pass from now on, and what rests here go."""
        self._how = How.PASS
        held, self._held = self._held, []
        for writer, octets in held:
            with suppress(ConnectionError):
                writer.write(octets)

    async def swallowed(self) -> None:
        """Wait until an answer has been swallowed."""
        await self._has_swallowed.wait()

    async def quiet(self) -> None:
        """Wait until the node has answered all that has reached it."""
        await self._is_quiet.wait()

    # --- connections -------------------------------------------------------------------------------------------

    async def _connected(self, client_reader: StreamReader, client: StreamWriter) -> None:
        if self._how is How.CUT and self._acts():
            client.close()
            return
        node_reader, node = await asyncio.open_connection(*self._target)
        self._open |= {client, node}
        ways = [
            asyncio.create_task(self._to_node(client_reader, client, node)),
            asyncio.create_task(self._to_client(node_reader, client)),
        ]
        self._tasks.update(ways)
        _, others = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        client.close()
        # What a node was given it works through, whether anybody waits for it or not.
        node.close()

    async def _to_node(self, reader: StreamReader, client: StreamWriter, node: StreamWriter) -> None:
        messages = _Messages(reader, framed_behind=(_STARTUP,))
        while not client.is_closing():
            octets, kinds = await messages.next()
            executed = sum(kind in _EXECUTED for kind in kinds)
            self.requests += executed
            if executed and self._acts() and self._how is How.CUT:
                self._end()
                return
            self._expect(sum(kind in _ANSWERED for kind in kinds))
            if executed and self._acts() and self._how in {How.HOLD, How.HOLD_ONE} and self._may_hold():
                self._held.append((node, octets))
            else:
                node.write(octets)

    async def _to_client(self, reader: StreamReader, client: StreamWriter) -> None:
        messages = _Messages(reader, framed_behind=(_READY, _AUTHENTICATE))
        while True:
            octets, kinds = await messages.next()
            self._expect(-sum(kind in (_ERROR, _RESULT) for kind in kinds))
            if self._how is How.SWALLOW and self._acts():
                self._has_swallowed.set()
                continue
            with suppress(ConnectionError):
                client.write(octets)

    @property
    def holds_any(self) -> bool:
        """Does anything rest here?"""
        return bool(self._held)

    def _may_hold(self) -> bool:
        return self._how is How.HOLD or not self._held

    def _acts(self) -> bool:
        return self._how is not How.PASS and self.requests > self._after

    def _expect(self, answers: int) -> None:
        self._awaited += answers
        if self._awaited > 0:
            self._is_quiet.clear()
        else:
            self._is_quiet.set()

    def _end(self) -> None:
        for writer in self._open:
            writer.close()
        self._open.clear()


class _Messages:
    """What comes over one connection in one direction: bare messages until one of a certain kind, then segments."""

    def __init__(self, reader: StreamReader, *, framed_behind: tuple[int, ...]) -> None:
        self._reader = reader
        self._framed_behind = framed_behind
        self._is_framed = False
        self._left = 0

    async def next(self) -> tuple[bytes, list[int]]:
        """Read a message or a segment, and give its bytes and the kinds of the messages that begin in it."""
        if self._is_framed:
            return await self._segment()
        header = await self._reader.readexactly(_HEADER.size)
        version, _, _, kind, length = _HEADER.unpack(header)
        self._is_framed = kind in self._framed_behind and version & 0x7F >= _FRAMED_FROM
        return header + await self._reader.readexactly(length), [kind]

    async def _segment(self) -> tuple[bytes, list[int]]:
        header = await self._reader.readexactly(_SEGMENT_HEADER)
        length = int.from_bytes(header[:3], "little") & 0x1FFFF
        payload = await self._reader.readexactly(length)
        return header + payload + await self._reader.readexactly(_SEGMENT_CRC), self._kinds(payload)

    def _kinds(self, payload: bytes) -> list[int]:
        """Find where messages begin; one that is larger than a segment goes on in the next ones."""
        kinds, at = [], self._left
        while at < len(payload):
            *_, kind, length = _HEADER.unpack_from(payload, at)
            kinds.append(kind)
            at += _HEADER.size + length
        self._left = at - len(payload)
        return kinds
