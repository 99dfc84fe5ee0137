"""What asks a node below over one endpoint: the protocol that drivers keep, and which driver speaks what."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from msgspec import Struct

from resolver import routes
from resolver.errors import Fault, Reason
from resolver.query import Path
from resolver.trace import Step
from resolver.trust.verdicts import Trust


class Question(Struct, frozen=True, kw_only=True):
    """What a child is asked: at most 1,000 canonical keys, by a deadline on the monotonic clock.

    `path` is what is sent: this node is its last one. `authoritative`: no cache of the child may answer. `signer` is
    the node whose signature is wanted; empty: none is.
    """

    identifiers: Sequence[bytes]
    deadline: float
    path: Path
    authoritative: bool = False
    trace: bool = False
    signer: str = ""


class Reply(Struct, frozen=True):
    """What a child said: an encoded answer (a `topnode.resolver.v1.Answer`) or a Fault for each, in the order asked.

    Nothing of it is checked but its signature, where one was asked for: `trust` is what that is worth. `protocol` is
    what was spoken; `steps` are the child's trace where one was asked for.
    """

    results: Sequence[bytes | Fault]
    protocol: routes.Protocol
    steps: Sequence[Step] = ()
    trust: Trust = Trust.UNKNOWN


class Driver(Protocol):
    """Asks over one endpoint. A connection is made when it is needed, and kept."""

    async def ask(self, question: Question) -> Reply:
        """Ask once; nothing is tried again.

        Raises:
            Fault: the child refused all of it, or has not answered by the deadline (DEADLINE_SPENT).
        """

    async def probe(self, within: float) -> None:
        """See whether the child answers within these seconds, over a connection of now.

        Raises:
            Fault: it does not.
        """

    async def close(self, grace: float = 0) -> None:
        """Ask no more; what is in flight may take this many seconds."""


Open: TypeAlias = Callable[[routes.Endpoint], Driver]


class Drivers:
    """The drivers that there are, by protocol."""

    def __init__(self, by_protocol: Mapping[routes.Protocol, Open]) -> None:
        self._by_protocol = dict(by_protocol)

    def speaks(self, endpoint: routes.Endpoint) -> bool:
        """Is there a driver for what is spoken at this endpoint?"""
        return endpoint.protocol in self._by_protocol

    def open(self, endpoint: routes.Endpoint) -> Driver:
        """Make the driver of an endpoint, within the running loop.

        Raises:
            Fault: METHOD_UNKNOWN where none speaks its protocol; FILE_UNREADABLE naming a TLS file.
        """
        if not self.speaks(endpoint):
            name = endpoint.protocol.name.lower()
            raise Fault(
                Reason.METHOD_UNKNOWN, f"This node does not speak {name} with others.", variables={"protocol": name}
            )
        return self._by_protocol[endpoint.protocol](endpoint)
