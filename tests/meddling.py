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
_QUIET_SECONDS: Final = 60
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
        self._owed: set[_Owed] = set()
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
        async with asyncio.timeout(_QUIET_SECONDS):
            for owed in tuple(self._owed):
                await owed.is_nothing.wait()

    # --- connections -------------------------------------------------------------------------------------------

    async def _connected(self, client_reader: StreamReader, client: StreamWriter) -> None:
        if self._how is How.CUT and self._acts():
            client.close()
            return
        node_reader, node = await asyncio.open_connection(*self._target)
        self._open |= {client, node}
        owed = _Owed()
        self._owed.add(owed)
        from_node = asyncio.create_task(self._to_client(node_reader, client, owed))
        from_client = asyncio.create_task(self._to_node(client_reader, client, node, owed))
        # What the node was given it answers, whether anybody waits for it or not.
        answered = asyncio.create_task(self._answered(from_client, owed))
        ways = {from_node, from_client, answered}
        self._tasks |= ways
        await asyncio.wait((from_node, answered), return_when=asyncio.FIRST_COMPLETED)
        for task in ways:
            task.cancel()
        self._owed.remove(owed)
        owed.forget()
        client.close()
        node.close()

    async def _answered(self, from_client: asyncio.Task[None], owed: "_Owed") -> None:
        """Wait until nothing more comes from a client, and all that came is answered."""
        await asyncio.wait((from_client,))
        await owed.is_nothing.wait()

    async def _to_node(self, reader: StreamReader, client: StreamWriter, node: StreamWriter, owed: "_Owed") -> None:
        messages = _Messages(reader, framed_behind=(_STARTUP,))
        while not client.is_closing():
            octets, kinds = await messages.next()
            executed = sum(kind in _EXECUTED for kind in kinds)
            self.requests += executed
            if executed and self._acts() and self._how is How.CUT:
                self._end()
                return
            owed.more(sum(kind in _ANSWERED for kind in kinds))
            if executed and self._acts() and self._how in {How.HOLD, How.HOLD_ONE} and self._may_hold():
                self._held.append((node, octets))
            else:
                node.write(octets)

    async def _to_client(self, reader: StreamReader, client: StreamWriter, owed: "_Owed") -> None:
        messages = _Messages(reader, framed_behind=(_READY, _AUTHENTICATE))
        while True:
            octets, kinds = await messages.next()
            owed.more(-sum(kind in (_ERROR, _RESULT) for kind in kinds))
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

    def _end(self) -> None:
        for writer in self._open:
            writer.close()
        self._open.clear()


class _Owed:
    """The answers that a node owes over one connection; it owes nothing over one that has ended."""

    def __init__(self) -> None:
        self.is_nothing = asyncio.Event()
        self.forget()

    def more(self, answers: int) -> None:
        """So many more are owed, or less."""
        self._count += answers
        if self._count > 0:
            self.is_nothing.clear()
        else:
            self.is_nothing.set()

    def forget(self) -> None:
        """Owe nothing."""
        self._count = 0
        self.is_nothing.set()


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
