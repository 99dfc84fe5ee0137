"""Addresses, and holding one for several processes."""

import socket

import pytest

from nodes.listening import Address, reserved
from resolver.errors import Fault, Reason


@pytest.mark.parametrize("text", ["127.0.0.1:0", "localhost:3641", "[::1]:65535"])
def test_addresses_round_trip(text: str) -> None:
    assert Address.from_text(text, field="x").to_text() == text


def bound(port: int) -> socket.socket:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(("127.0.0.1", port))
    held.listen()
    return held


def test_several_can_listen_on_a_held_address_and_it_takes_no_connection_itself() -> None:
    with reserved(Address("127.0.0.1", 0), field="x") as address:
        assert address.port
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", address.port))
        with bound(address.port), bound(address.port):
            socket.create_connection(("127.0.0.1", address.port)).close()


def test_an_address_where_somebody_listens_is_refused_even_if_they_would_share_it() -> None:
    with bound(0) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(Fault) as caught, reserved(Address("127.0.0.1", port), field="serving.address"):
            pass
    assert caught.value.reason is Reason.ADDRESS_TAKEN
    assert caught.value.field == "serving.address"
    assert str(port) in caught.value.detail


def test_an_address_that_is_not_this_machines_is_refused() -> None:
    with pytest.raises(Fault) as caught, reserved(Address("203.0.113.1", 0), field="x"):
        pass
    assert caught.value.reason is Reason.SETTING_INVALID


def test_a_port_is_free_again_when_it_is_let_go() -> None:
    with reserved(Address("127.0.0.1", 0), field="x") as address:
        pass
    with reserved(address, field="x") as again:
        assert again == address
