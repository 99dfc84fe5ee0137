"""What connections cost on which nothing happens: memory of the resolver's process, for each of them.

Each has said its settings and heard the server's, or has also asked once and had its answer, and is left open. The
client writes HTTP/2 by itself, because a thousand connections of a library would be more work for this machine than
for the server.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from resolver.front.core import SERVICE

CONNECTIONS: Final = 1_000
WARMING: Final = 50
"""Connections before those that count; they stay open too."""

_SECONDS: Final = 20.0
_SETTLING: Final = 0.5
"""Seconds until whatever a connection leaves behind is done."""

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS: Final = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_SETTINGS_TAKEN: Final = bytes((0, 0, 0, 4, 1, 0, 0, 0, 0))
_DATA, _HEADERS = 0, 1
_END_STREAM, _END_HEADERS = 1, 4


class Client:
    """A connection that asks once at most. Frames and flags are those of RFC 9113, headers those of RFC 7541."""

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)
        if tls:
            self._socket = tls.wrap_socket(self._socket, server_hostname="127.0.0.1")
        self._scheme = b"\x87" if tls else b"\x86"
        self._received = b""
        self._socket.sendall(_PREFACE + _SETTINGS)
        # The server's settings come before anything else.
        next(self._frames())
        self._socket.sendall(_SETTINGS_TAKEN)

    def ask(self, path: str, message: bytes) -> bytes:
        """Make the one call, and give the block of the headers that end it.

        Raises:
            ConnectionError: the server has ended the connection, or refused the call.
        """
        # POST and the scheme by their numbers in the static table; path, authority and content type by those of
        # their names; nothing is put into the dynamic one.
        block = b"\x83" + self._scheme + _field(b"\x04", path) + _field(b"\x01", "localhost")
        block += _field(b"\x0f\x10", "application/grpc") + _field(b"\x00\x02te", "trailers")
        framed = b"\0" + len(message).to_bytes(4, "big") + message
        call = _frame(_HEADERS, _END_HEADERS, block) + _frame(_DATA, _END_STREAM, framed)
        self._socket.sendall(call)
        has_answer = False
        for kind, flags, body in self._frames():
            has_answer = has_answer or kind == _DATA
            if kind == _HEADERS and flags & _END_STREAM:
                if not has_answer:
                    raise ConnectionError("the server has refused the call")
                return body
        raise ConnectionError("the server has ended the connection")

    def close(self) -> None:
        self._socket.close()

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        """Give type, flags and body of each frame that comes."""
        while True:
            head = self._exactly(9)
            if head is None:
                return
            body = self._exactly(int.from_bytes(head[:3], "big"))
            if body is None:
                return
            yield head[3], head[4], body

    def _exactly(self, count: int) -> bytes | None:
        while len(self._received) < count:
            more = self._socket.recv(65_536)
            if not more:
                return None
            self._received += more
        taken, self._received = self._received[:count], self._received[count:]
        return taken


def measure(pid: int, port: int, message: bytes | None = None, authorities: Path | None = None) -> float:
    """Give the bytes of memory that the process takes for a connection; over TLS where authorities are named.

    With a message each asks once. This process needs as many open files as there are connections.
    """
    tls = _tls(authorities) if authorities else None
    with ExitStack() as clients:
        _open(clients, WARMING, port, message, tls)
        before = resident_bytes(pid)
        _open(clients, CONNECTIONS, port, message, tls)
        return (resident_bytes(pid) - before) / CONNECTIONS


def resident_bytes(pid: int) -> int:
    """Give what a process holds for itself in memory: nothing of files and nothing that is shared."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith("RssAnon:"))
    return int(size) * 1_024


def _open(clients: ExitStack, count: int, port: int, message: bytes | None, tls: ssl.SSLContext | None) -> None:
    for _ in range(count):
        client = Client(port, tls)
        clients.callback(client.close)
        if message is not None:
            client.ask(f"/{SERVICE}/Resolve", message)
    time.sleep(_SETTLING)


def _tls(authorities: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authorities)
    context.set_alpn_protocols(["h2"])
    return context


def _frame(kind: int, flags: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags, 0, 0, 0, 1)) + body


def _field(name: bytes, value: str) -> bytes:
    """Write a header that is in no table; values shorter than 127 bytes."""
    return name + bytes((len(value),)) + value.encode()
