"""Addresses to listen on, and taking one before the processes that will serve it are there."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from resolver.errors import Fault, Reason


class Address(Struct, frozen=True):
    """A host name or IP address, and a port; port 0 takes a free one."""

    host: str
    port: int

    @classmethod
    def from_text(cls, text: str, *, field: str) -> "Address":
        """Read `HOST:PORT`; an IPv6 address stands in brackets.

        Raises:
            Fault: SETTING_INVALID.
        """
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        if not colon or not bare or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise Fault(
                Reason.SETTING_INVALID,
                f"{text!r} is not HOST:PORT, such as 127.0.0.1:3641 or [::1]:3641.",
                field=field,
            )
        return cls(bare, int(port))

    def to_text(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@contextmanager
def reserved(address: Address, *, field: str) -> Iterator[Address]:
    """Hold an address, so that several processes can listen on it with SO_REUSEPORT; give it with its real port.

    The socket is bound and never listens: connections go to the processes only.

    Raises:
        Fault: ADDRESS_TAKEN, SETTING_INVALID (no such host here).
    """
    family, name = _resolve(address, field)
    with socket.socket(family, socket.SOCK_STREAM) as held:
        try:
            _refuse_company(family, name)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(name)
        except OSError as error:
            raise address_fault(address, error, field=field) from None
        yield Address(address.host, held.getsockname()[1])


def address_fault(address: Address, error: OSError, *, field: str) -> Fault:
    """Say why an address cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return Fault(
            Reason.ADDRESS_TAKEN,
            f"Another process listens on {address.to_text()}.",
            field=field,
            variables={"address": address.to_text()},
        )
    why = error.strerror or str(error)
    return Fault(Reason.SETTING_INVALID, f"{address.to_text()} cannot be listened on: {why}.", field=field)


def _resolve(address: Address, field: str) -> tuple[int, Any]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise address_fault(address, error, field=field) from None
    family, _, _, _, name = found[0]
    return family, name


def _refuse_company(family: int, name: Any) -> None:
    """Fail where anybody listens, also with SO_REUSEPORT: the kernel would give them a share of our callers."""
    with socket.socket(family, socket.SOCK_STREAM) as alone:
        # A port whose last connections are still in TIME_WAIT is free.
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind(name)
