"""HTTP/2 over a plain socket: frames go out as a test wants them, wrong ones too, and come in with a deadline.

What gRPC adds stands here as well: its headers, its messages, how a call ended.
"""

import select
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple, Self

from tests.services import hpack

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES: Final = 16_384
"""The longest frame that anybody must take."""

WINDOW: Final = 65_535
"""What may be sent on a connection, and on each stream of it, before the other side says more."""

WINDOW_MAX: Final = 2**31 - 1
SECONDS: Final = 10.0
"""How long one reading or sending may take where a test says nothing else."""


class Kind(IntEnum):
    """The type of a frame (RFC 9113 section 6)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """What a side can say of itself (section 6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


ACK: Final = 1
END_STREAM: Final = 1
END_HEADERS: Final = 4
PADDED: Final = 8
PRIORITY: Final = 32
CANCEL: Final = struct.pack(">I", 8)
"""The body of a RST_STREAM of somebody who no longer wants an answer."""


class Frame(NamedTuple):
    """A frame as it came. Types and flags may be ones that nobody knows."""

    kind: int
    flags: int
    stream: int
    body: bytes


class Ended(NamedTuple):
    """How a call ended: the gRPC status (None where the stream was reset or the connection went), what came.

    `reset` is the error code of a RST_STREAM, `headers` are all that came, trailing ones included.
    """

    status: int | None
    text: str = ""
    messages: tuple[bytes, ...] = ()
    reset: int | None = None
    headers: hpack.Headers = ()


class ClosedError(Exception):
    """The server has ended the connection. `goaway` is the error code with which it said so, if it did."""

    def __init__(self, goaway: int | None) -> None:
        super().__init__(f"closed, GOAWAY {goaway}")
        self.goaway = goaway


def frame(kind: int, body: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """Encode one frame."""
    return struct.pack(">IBI", len(body) << 8 | kind, flags, stream) + body


def settings(said: Mapping[int, int]) -> bytes:
    """Encode SETTINGS."""
    return frame(Kind.SETTINGS, b"".join(struct.pack(">HI", *each) for each in said.items()))


def message(octets: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """Encode a gRPC message; with a length of its own it says that and not the true one."""
    return struct.pack(">BI", flag, len(octets) if length is None else length) + octets


def call_headers(path: str, *others: tuple[bytes, bytes]) -> hpack.Headers:
    """Give the headers of a gRPC call."""
    return (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *others,
    )


class Connection:
    """A client's connection. Every reading and sending has a deadline; nothing is read that a test does not ask.

    Raises (all methods):
        ClosedError: the server has ended it.
        TimeoutError: nothing happens in time.
    """

    def __init__(self, address: str, *, said: Mapping[int, int] | None = None, preface: bytes | None = None) -> None:
        """Connect, and send the preface and SETTINGS with `said`; another `preface` is sent instead of both."""
        host, _, port = address.rpartition(":")
        self.goaway: int | None = None
        self.is_closed = False
        """Is it known that the server has ended it?"""

        self.resets: dict[int, int] = {}
        """Error codes, by stream."""

        self._windows: defaultdict[int, int] = defaultdict(int)
        self._first_window = WINDOW
        self._next = 1
        self._unread = bytearray()
        self._at = 0
        self._socket = socket.create_connection((host, int(port)), SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        said = {Setting.HEADER_TABLE_SIZE: 0, Setting.ENABLE_PUSH: 0, **(said or {})}
        self.send(PREFACE + settings(said) if preface is None else preface)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def stream(self) -> int:
        """Give the number of the next stream."""
        number, self._next = self._next, self._next + 2
        return number

    def send(self, octets: bytes, seconds: float = SECONDS) -> None:
        """Send all of it."""
        self._socket.settimeout(seconds)
        try:
            self._socket.sendall(octets)
        except (BrokenPipeError, ConnectionResetError):
            self._last_words()
            self.is_closed = True
            raise ClosedError(self.goaway) from None

    def read(self, seconds: float = SECONDS) -> Frame:
        """Give the next frame."""
        deadline = time.monotonic() + seconds
        while True:
            if (came := self._frame()) is not None:
                return came
            self._receive(deadline - time.monotonic())

    def frames(self, seconds: float = SECONDS) -> Iterator[Frame]:
        """Give frames as they come, all within these seconds; then it is over without an error."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                yield self.read(deadline - time.monotonic())
            except TimeoutError:
                return

    def waiting(self) -> list[Frame]:
        """Give the frames that have come, without waiting for any."""
        while self._is_readable(0):
            self._receive(SECONDS)
        return list(iter(self._frame, None))

    def acknowledge(self, came: Frame) -> None:
        """Answer a SETTINGS or a PING as a polite client does, nothing for all others."""
        if came.kind in (Kind.SETTINGS, Kind.PING) and not came.flags & ACK:
            self.send(frame(came.kind, came.body if came.kind == Kind.PING else b"", flags=ACK))

    def open_call(self, path: str, body: bytes = b"", *others: tuple[bytes, bytes], is_whole: bool = True) -> int:
        """Send the headers of a call and what its body is to be, in one go, whatever the windows; give its stream."""
        number = self.stream()
        block = hpack.write(call_headers(path, *others))
        octets = frame(Kind.HEADERS, block, flags=END_HEADERS, stream=number)
        pieces = [body[at : at + FRAME_BYTES] for at in range(0, len(body), FRAME_BYTES)] or [b""]
        for piece in pieces[:-1]:
            octets += frame(Kind.DATA, piece, stream=number)
        if is_whole or body:
            octets += frame(Kind.DATA, pieces[-1], flags=END_STREAM if is_whole else 0, stream=number)
        self.send(octets)
        return number

    def call(self, path: str, body: bytes, *others: tuple[bytes, bytes], seconds: float = SECONDS) -> Ended | None:
        """Make a call whose body is sent as the windows open; None where it does not end in time, or not at all."""
        try:
            number = self.open_call(path, b"", *others, is_whole=False)
            rest = self._send_within_windows(number, body)
        except ClosedError:
            return None
        return self.ended((number,), seconds, unsent={number: rest}).get(number)

    def ended(
        self, streams: Iterable[int], seconds: float = SECONDS, *, unsent: Mapping[int, bytes] = MappingProxyType({})
    ) -> dict[int, Ended]:
        """Read until all these calls have ended, or the time is up, or the connection: how those that did ended.

        What is `unsent` of their bodies is sent meanwhile.
        """
        reading = {number: _Reading() for number in streams}
        rest = dict(unsent)
        ended: dict[int, Ended] = {}
        try:
            for came in self.frames(seconds):
                for number in rest.keys() - ended.keys() if came.kind in (Kind.WINDOW_UPDATE, Kind.SETTINGS) else ():
                    rest[number] = self._send_within_windows(number, rest[number])
                self.acknowledge(came)
                if came.stream in reading and reading[came.stream].took(came):
                    ended[came.stream] = reading[came.stream].ended()
                if came.kind == Kind.DATA and came.body:
                    more = struct.pack(">I", len(came.body))
                    self.send(frame(Kind.WINDOW_UPDATE, more) + frame(Kind.WINDOW_UPDATE, more, stream=came.stream))
                if len(ended) == len(reading):
                    break
        except ClosedError:
            pass
        return ended

    def _send_within_windows(self, number: int, body: bytes) -> bytes:
        """Send what the windows take of a body, and give the rest; its end is sent with its last octet."""
        while body:
            allowed = min(self._windows[0] + WINDOW, self._windows[number] + self._first_window, FRAME_BYTES)
            if allowed <= 0:
                break
            piece, body = body[:allowed], body[allowed:]
            self._windows[0] -= len(piece)
            self._windows[number] -= len(piece)
            self.send(frame(Kind.DATA, piece, flags=0 if body else END_STREAM, stream=number))
        return body

    def _frame(self) -> Frame | None:
        body = self._at + 9
        if len(self._unread) < body:
            return None
        length, flags, stream = struct.unpack_from(">IBI", self._unread, self._at)
        end = body + (length >> 8)
        if len(self._unread) < end:
            return None
        came = Frame(length & 0xFF, flags, stream & WINDOW_MAX, bytes(self._unread[body:end]))
        self._at = end
        if came.kind == Kind.WINDOW_UPDATE:
            self._windows[came.stream] += struct.unpack(">I", came.body)[0]
        if came.kind == Kind.SETTINGS:
            said = dict(struct.iter_unpack(">HI", came.body))
            self._first_window = said.get(Setting.INITIAL_WINDOW_SIZE, self._first_window)
        if came.kind == Kind.GOAWAY:
            (self.goaway,) = struct.unpack(">I", came.body[4:8])
        if came.kind == Kind.RST_STREAM:
            (self.resets[came.stream],) = struct.unpack(">I", came.body)
        return came

    def _is_readable(self, seconds: float) -> bool:
        # Not select: a process with many sockets has numbers that it does not take.
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(max(0, seconds) * 1_000))

    def _receive(self, seconds: float) -> None:
        if not self._is_readable(seconds):
            raise TimeoutError
        try:
            octets = self._socket.recv(1 << 18)
        except ConnectionResetError:
            octets = b""
        if not octets:
            self.is_closed = True
            raise ClosedError(self.goaway)
        del self._unread[: self._at]
        self._at = 0
        self._unread += octets

    def _last_words(self) -> None:
        """Read what came before the end."""
        try:
            while self._is_readable(0):
                self._receive(0)
                for _ in iter(self._frame, None):
                    pass
        except (ClosedError, TimeoutError):
            pass


class _Reading:
    """What has come on one stream."""

    def __init__(self) -> None:
        self._block = b""
        self._headers: hpack.Headers = ()
        self._body = b""
        self._reset: int | None = None

    def took(self, came: Frame) -> bool:
        """Take a frame of this stream; True where it was the last one."""
        if came.kind == Kind.RST_STREAM:
            (self._reset,) = struct.unpack(">I", came.body)
            return True
        if came.kind == Kind.DATA:
            self._body += came.body
        if came.kind in (Kind.HEADERS, Kind.CONTINUATION):
            self._block += came.body
            if came.flags & END_HEADERS:
                self._headers += hpack.read(self._block)
                self._block = b""
        return bool(came.flags & END_STREAM) and came.kind in (Kind.DATA, Kind.HEADERS)

    def ended(self) -> Ended:
        named = dict(self._headers)
        status = named.get(b"grpc-status")
        return Ended(
            status=int(status) if status else None,
            text=named.get(b"grpc-message", b"").decode(),
            messages=tuple(_messages(self._body)),
            reset=self._reset,
            headers=self._headers,
        )


def _messages(body: bytes) -> Iterator[bytes]:
    while len(body) >= 5:
        (length,) = struct.unpack(">I", body[1:5])
        yield body[5 : 5 + length]
        body = body[5 + length :]
