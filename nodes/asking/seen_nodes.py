"""What the prober of a node has seen of the nodes below, asked of its admin endpoint."""

import http.client
from typing import Final

import msgspec

from nodes.listening import Address
from nodes.probing.seen import NodesSeen
from resolver.errors import Fault, Reason

ADMIN: Final = "127.0.0.1:3642"
"""Where a node has its admin endpoint by default (`nodes.settings`)."""

SECONDS: Final = 5.0


def fetch_seen(admin: str) -> NodesSeen:
    """Ask the admin endpoint at this host and port; 5 seconds at most for each step.

    Raises:
        Fault: SETTING_INVALID for what is no address; NODE_UNREACHABLE.
    """
    address = Address.from_text(admin, field="--admin")
    connection = http.client.HTTPConnection(address.host, address.port, timeout=SECONDS)
    try:
        connection.request("GET", "/nodes")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(admin, str(error) or type(error).__name__) from None
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise _unreachable(admin, body.decode(errors="replace").strip() or f"HTTP status {answer.status}")
    try:
        return NodesSeen.from_json(body)
    except msgspec.DecodeError as error:
        raise _unreachable(admin, f"what it says is not understood: {error}") from None


def _unreachable(admin: str, why: str) -> Fault:
    return Fault(Reason.NODE_UNREACHABLE, f"http://{admin}/nodes: {why}", field="--admin")
