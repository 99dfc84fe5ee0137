"""The native channel, and servers that do what servers may: go away, refuse, fall silent, or say what is no gRPC.

What drivers promise over it stands in test_federation_drivers. Here the server is written frame by frame.
"""

import asyncio
import gc
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from resolver.bounds import REQUEST_BYTES
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.rpc import native_channel
from resolver.rpc.native_channel import NativeChannel
from resolver.rpc.tls import ClientTls
from tests.certificates import Authority
from tests.services import hpack
from tests.services.http2 import ACK, END_HEADERS, END_STREAM, Frame, Kind, frame, message, settings
from tests.services.ports import free_ports

pytestmark = pytest.mark.needs("native-front")

PATH = "/topnode.test.Echo/Say"
PREFACE = 24
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM = 0, 1, 7


class Served:
    """One connection, as its server sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._reader = reader
        self._writer = writer
        self.number = number
        """How many there were before it."""
        self.pings = 0

    async def begin(self) -> None:
        await self._reader.readexactly(PREFACE)
        self.send(settings({}))

    async def read(self) -> Frame:
        length, flags, stream = struct.unpack(">IBI", await self._reader.readexactly(9))
        came = Frame(length & 0xFF, flags, stream, await self._reader.readexactly(length >> 8))
        if came.kind == Kind.SETTINGS and not came.flags & ACK:
            self.send(frame(Kind.SETTINGS, flags=ACK))
        self.pings += came.kind == Kind.PING and not came.flags & ACK
        return came

    async def call(self) -> int:
        """Read the next call to its end, and give its stream."""
        while True:
            came = await self.read()
            if came.kind == Kind.DATA and came.flags & END_STREAM:
                return came.stream

    def send(self, *frames: bytes) -> None:
        self._writer.write(b"".join(frames))

    def headers(self, stream: int, *headers: tuple[bytes, bytes], is_last: bool = False) -> None:
        flags = END_HEADERS | (END_STREAM if is_last else 0)
        self.send(frame(Kind.HEADERS, hpack.write(headers), flags=flags, stream=stream))

    def answer(self, stream: int, octets: bytes, *trailers: tuple[bytes, bytes]) -> None:
        self.headers(stream, (b":status", b"200"), (b"content-type", b"application/grpc"))
        self.send(frame(Kind.DATA, octets, stream=stream))
        self.headers(stream, *(trailers or ((b"grpc-status", b"0"),)), is_last=True)

    def go_away(self, last: int, code: int = NO_ERROR) -> None:
        self.send(frame(Kind.GOAWAY, struct.pack(">II", last, code)))

    def reset(self, stream: int, code: int) -> None:
        self.send(frame(Kind.RST_STREAM, struct.pack(">I", code), stream=stream))

    async def closed(self) -> None:
        """Wait until the client has closed it."""
        while await self._reader.read(1 << 16):
            pass

    async def close(self) -> None:
        self._writer.close()


Serving = Callable[[Served], Awaitable[None]]


@asynccontextmanager
async def served(serving: Serving) -> AsyncIterator[NativeChannel]:
    """Serve each connection so, and give a channel."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        connection = Served(reader, writer, count)
        count += 1
        try:
            await connection.begin()
            await serving(connection)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    channel = NativeChannel("127.0.0.1", server.sockets[0].getsockname()[1], SystemClock())
    try:
        async with asyncio.timeout(20):
            yield channel
    finally:
        await channel.close()
        server.close()


async def refused(channel: NativeChannel, *, within: float = 5) -> Fault:
    with pytest.raises(Fault) as caught:
        await channel.call(PATH, b"?", within)
    return caught.value


async def test_a_call_that_a_server_has_not_seen_is_made_once_more_over_another_connection() -> None:
    """And one that it has seen is answered over the one that it leaves."""

    async def serving(connection: Served) -> None:
        first = await connection.call()
        if connection.number:
            connection.answer(first, message(b"second"))
            await connection.closed()
            return
        await connection.call()
        connection.go_away(first)
        await asyncio.sleep(0.05)
        connection.answer(first, message(b"first"))
        await connection.closed()

    async with served(serving) as channel:
        answers = await asyncio.gather(*(channel.call(PATH, b"?", 5) for _ in range(2)))
    assert answers == [(b"first", []), (b"second", [])]


async def test_what_is_refused_twice_is_not_tried_again() -> None:
    connections = []

    async def serving(connection: Served) -> None:
        connections.append(connection.number)
        connection.reset(await connection.call(), REFUSED_STREAM)
        await connection.closed()

    async with served(serving) as channel:
        assert (await refused(channel)).reason is Reason.NODE_UNREACHABLE
    assert connections == [0, 1]


async def test_a_call_that_the_server_may_have_seen_is_not_made_again() -> None:
    calls = []

    async def serving(connection: Served) -> None:
        calls.append(await connection.call())
        if connection.number == 0:
            await connection.close()
        elif connection.number == 1:
            connection.go_away(calls[-1], PROTOCOL_ERROR)
        else:
            connection.answer(calls[-1], message(b"well"))
            await connection.closed()

    async with served(serving) as channel:
        assert (await refused(channel)).reason is Reason.NODE_UNREACHABLE
        assert (await refused(channel)).reason is Reason.NODE_UNREACHABLE
        assert await channel.call(PATH, b"?", 5) == (b"well", [])
    assert len(calls) == 3


async def test_a_server_that_ends_each_connection_at_once_is_not_waited_for() -> None:
    async def serving(connection: Served) -> None:
        await connection.close()

    async with served(serving) as channel:
        for _ in range(3):
            assert (await refused(channel)).reason is Reason.NODE_UNREACHABLE


async def test_what_stands_behind_a_response_comes_along() -> None:
    async def serving(connection: Served) -> None:
        connection.answer(
            await connection.call(),
            message(b"well"),
            (b"grpc-status", b"0"),
            (b"one-bin", b"AAH_"),
            (b"one-bin", b"YQ,Yg=="),
            (b"two", b"text"),
        )
        await connection.closed()

    async with served(serving) as channel:
        _, beside = await channel.call(PATH, b"?", 5)
    assert beside == [("one-bin", b"\x00\x01\xff"), ("one-bin", b"a"), ("one-bin", b"b"), ("two", b"text")]


async def test_what_is_no_answer_is_told_by_its_closest_reason() -> None:
    answers: list[tuple[Callable[[Served, int], None], Reason]] = [
        (lambda served, stream: served.headers(stream, (b":status", b"503"), is_last=True), Reason.NODE_UNREACHABLE),
        (lambda served, stream: served.headers(stream, (b":status", b"404"), is_last=True), Reason.METHOD_UNKNOWN),
        (lambda served, stream: served.headers(stream, (b":status", b"200"), is_last=True), Reason.INTERNAL),
        (lambda served, stream: served.answer(stream, message(b"x", length=9)), Reason.INTERNAL),
        (lambda served, stream: served.answer(stream, message(b"x") * 2), Reason.INTERNAL),
        (lambda served, stream: served.answer(stream, message(b"x", flag=1)), Reason.INTERNAL),
        (lambda served, stream: served.answer(stream, b"", (b"grpc-status", b"8")), Reason.TOO_MANY_IN_FLIGHT),
        (lambda served, stream: served.answer(stream, b"", (b"other", b"8")), Reason.INTERNAL),
        (lambda served, stream: served.reset(stream, PROTOCOL_ERROR), Reason.INTERNAL),
    ]

    async def serving(connection: Served) -> None:
        for answer, _ in answers:
            answer(connection, await connection.call())
        await connection.closed()

    async with served(serving) as channel:
        assert [(await refused(channel)).reason for _ in answers] == [reason for _, reason in answers]


async def test_a_response_that_is_too_large_is_refused_on_its_declared_length() -> None:
    async def serving(connection: Served) -> None:
        stream = await connection.call()
        connection.headers(stream, (b":status", b"200"), (b"content-type", b"application/grpc"))
        connection.send(frame(Kind.DATA, message(b"x", length=REQUEST_BYTES + 1), stream=stream))
        await connection.closed()

    async with served(serving) as channel:
        fault = await refused(channel)
    assert (fault.reason, str(REQUEST_BYTES) in fault.detail) == (Reason.REQUEST_TOO_LARGE, True)


async def test_whoever_waits_no_longer_tells_the_server() -> None:
    """After the deadline, and when the caller is cancelled."""
    resets = []

    async def serving(connection: Served) -> None:
        while True:
            came = await connection.read()
            if came.kind == Kind.RST_STREAM:
                resets.append(came.stream)

    async with served(serving) as channel:
        assert (await refused(channel, within=0.05)).reason is Reason.DEADLINE_SPENT
        call = asyncio.ensure_future(channel.call(PATH, b"?", 5))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait((call,))
        assert call.cancelled()
        await asyncio.sleep(0.05)
    assert resets == [1, 3]


async def test_a_server_that_gives_no_sign_of_life_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only while calls wait for it, and not if it answers."""
    monkeypatch.setattr(native_channel, "SILENT", 0.1)
    monkeypatch.setattr(native_channel, "SIGN", 0.1)
    pings = []

    async def serving(connection: Served) -> None:
        stream = await connection.call()
        if connection.number == 0:
            # It reads no more, so its answer to a ping does not come.
            await asyncio.sleep(5)
        for _ in range(2):
            while (came := await connection.read()).kind != Kind.PING:
                pass
            connection.send(frame(Kind.PING, came.body, flags=ACK))
        connection.answer(stream, message(b"well"))
        pings.append(connection.pings)
        await asyncio.wait((asyncio.ensure_future(connection.read()),), timeout=0.5)
        pings.append(connection.pings)

    async with served(serving) as channel:
        fault = await refused(channel)
        assert (fault.reason, fault.detail) == (Reason.NODE_UNREACHABLE, "The connection was given up.")
        assert await channel.call(PATH, b"?", 5) == (b"well", [])
        await asyncio.sleep(0.6)
    assert pings == [2, 2]


async def test_nothing_is_begun_on_a_channel_that_was_closed() -> None:
    async def serving(connection: Served) -> None:
        connection.answer(await connection.call(), message(b"well"))
        await connection.closed()

    async with served(serving) as channel:
        await channel.call(PATH, b"?", 5)
        await channel.close()
        assert (await refused(channel)).reason is Reason.NODE_UNREACHABLE
        await channel.close()


async def test_a_server_that_is_not_there_is_tried_again_after_a_rest() -> None:
    (port,) = free_ports(1)
    gone = NativeChannel("127.0.0.1", port, SystemClock())
    told = [await refused(gone) for _ in range(3)]
    assert {fault.reason for fault in told} == {Reason.NODE_UNREACHABLE}
    assert f"127.0.0.1:{port}" in told[0].detail
    assert told[1].detail == told[0].detail
    await gone.close()


async def test_what_is_over_may_be_collected_by_any_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As what TLS was not agreed upon for is."""

    async def serving(_connection: Served) -> None:
        """Never come to: there is no preface."""

    raised: list[object] = []
    tls = ClientTls(server_ca=Authority(tmp_path).path)
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    gc.disable()
    try:
        async with served(serving) as plain:
            port = plain._port
            secured = NativeChannel("127.0.0.1", port, SystemClock(), tls=tls, tls_name="child.example.org")
            assert (await refused(secured, within=1)).reason in {Reason.NODE_UNREACHABLE, Reason.DEADLINE_SPENT}
            await secured.close()
            del secured
        await asyncio.sleep(0.05)
        await asyncio.to_thread(gc.collect)
    finally:
        gc.enable()
    assert not raised
