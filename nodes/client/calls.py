"""Calls of one service of a node: the channel, its methods, and one call with its retries."""

from typing import Final, TypeVar

import grpc
from google.protobuf.message import Message

from nodes.client.counts import Counts
from nodes.client.retries import Patience
from resolver.clock import Clock
from resolver.rpc.channels import ChannelSettings, open_channel
from resolver.rpc.errors import fault_of_rpc_error

Metadata = tuple[tuple[str, bytes], ...]

NO_METADATA: Final[Metadata] = ()

_Response = TypeVar("_Response", bound=Message)

Method = grpc.aio.UnaryUnaryMultiCallable[bytes, _Response]
"""A method of a service. It takes requests as bytes, since bytes are what is signed."""


class Calls:
    """One node's service over one channel. Made within a running loop."""

    def __init__(self, address: str, channel: ChannelSettings, service: str, clock: Clock) -> None:
        """Reach a node at `host:port` or `unix:path`; it is connected with the first call.

        Raises:
            Fault: FILE_UNREADABLE naming the TLS file that is missing or does not fit.
        """
        self.counts = Counts()
        self.clock = clock
        self._service = service
        self._channel = open_channel(address, channel)

    async def close(self) -> None:
        """Close the connection; calls in flight end."""
        await self._channel.close()

    def name(self, method: str) -> str:
        """Give a method's whole name, without the leading slash, as heads of signed payloads have it."""
        return f"{self._service}/{method}"

    def method(self, name: str, response: type[_Response]) -> Method[_Response]:
        """Make a method that can be called."""
        return self._channel.unary_unary(f"/{self._service}/{name}", response_deserializer=response.FromString)

    async def call(
        self, method: Method[_Response], request: bytes, seconds: float, metadata: Metadata = NO_METADATA
    ) -> _Response:
        """Call, and again where the failure passes; all of it takes so many seconds at most.

        Raises:
            Fault: the node's, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        patience = Patience(self.clock, seconds, self.counts)
        while True:
            self.counts.calls += 1
            try:
                return await method(request, timeout=patience.left, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                fault = fault_of_rpc_error(error)
            await patience.wait_after(fault)
