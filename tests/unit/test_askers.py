"""Who calls, out of what gRPC says of a peer."""

import pytest

from resolver.front.askers import address_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:53592", "127.0.0.1"),
        ("ipv6:%5B::1%5D:32872", "::1"),
        ("ipv6:[2001:db8::7]:1", "2001:db8::7"),
        ("ipv6:%5Bfe80::1%25eth0%5D:443", "fe80::1%eth0"),
        ("unix:", "unix"),
        ("unix:/run/node.sock", "unix"),
        ("unix-abstract:node", "unix-abstract"),
        ("unknown", "unknown"),
    ],
)
def test_an_address_has_neither_port_nor_family(peer: str, address: str) -> None:
    assert address_of(peer) == address
