"""Ports that no server has, for the servers of tests."""

import random
import socket
from typing import Final

_RANGE: Final = range(20_000, 32_000)
"""Below the ports that the system gives to outgoing connections: nobody takes one between this look and its use."""


def free_ports(count: int, *hosts: str) -> list[int]:
    """Find that many ports, one after another, which are free at each of these addresses (127.0.0.1)."""
    while True:
        first = random.choice(_RANGE[:-count])
        ports = list(range(first, first + count))
        if all(_is_free(host, port) for port in ports for host in hosts or ("127.0.0.1",)):
            return ports


def _is_free(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return False
    return True
