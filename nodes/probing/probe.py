"""One look at one endpoint of a child: is somebody there, does it serve, and is it the child?"""

import asyncio
from enum import StrEnum
from typing import Any, Final, Protocol

import grpc
from grpc_health.v1 import health_pb2
from msgspec import Struct

from nodes.listening import Address
from resolver import routes
from resolver.clock import Clock
from resolver.errors import Fault
from resolver.routes import Endpoint
from resolver.rpc.channels import ChannelSettings, Options, open_channel
from resolver.rpc.health import HEALTH_SERVICE
from resolver.rpc.tls import ClientTls
from resolver.v1 import resolver_pb2

RESOLVER_SERVICE: Final = resolver_pb2.DESCRIPTOR.services_by_name["ResolverService"].full_name

_OPTIONS: Final[Options] = (
    # A connection of its own: it shows what happens to connections, and shares nothing with those of callers.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
)


class Cause(StrEnum):
    """What was wrong with a probe."""

    UNREACHABLE = "unreachable"
    SILENT = "no answer in time"
    NOT_SERVING = "not serving"
    OTHER_NODE = "another node answers"
    REFUSED = "refused"


class Look(Struct, frozen=True):
    """What a look came to, and how many seconds it took; without a cause it was good."""

    seconds: float
    cause: Cause | None = None

    @property
    def is_good(self) -> bool:
        return self.cause is None


class Looking(Protocol):
    """Looks at one endpoint."""

    async def look(self) -> Look:
        """Look once; nothing is raised but what ends this task."""

    async def close(self) -> None:
        """Look no more."""


def can_probe(endpoint: Endpoint) -> bool:
    """Tell whether what is spoken there is known here."""
    return endpoint.protocol is routes.Protocol.GRPC


class EndpointProbe:
    """Looks at one endpoint of a node, over one connection, and over another after one at which nobody answered.

    Made within the running loop; closed at the end.
    """

    def __init__(self, endpoint: Endpoint, *, node: str, timeout: float, tls: ClientTls | None, clock: Clock) -> None:
        """Make it; it connects with the first look.

        Raises:
            Fault: FILE_UNREADABLE naming a TLS file.
        """
        self._settings = ChannelSettings()
        if endpoint.tls_name:
            self._settings = ChannelSettings(tls=tls or ClientTls(), tls_name=endpoint.tls_name)
        self._target = Address(endpoint.address, endpoint.port).to_text()
        self._node = node
        self._timeout = timeout
        self._clock = clock
        # For gRPC that is how long connecting may take, once: as long as the look.
        self._options = (*_OPTIONS, ("grpc.min_reconnect_backoff_ms", round(timeout * 1_000)))
        self._take(open_channel(self._target, self._settings, self._options))

    def _take(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._health: Any = channel.unary_unary(
            f"/{HEALTH_SERVICE}/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        self._card: Any = channel.unary_unary(
            f"/{RESOLVER_SERVICE}/GetNodeInfo",
            request_serializer=resolver_pb2.GetNodeInfoRequest.SerializeToString,
            response_deserializer=resolver_pb2.GetNodeInfoResponse.FromString,
        )

    async def look(self) -> Look:
        """Look once, within the time that it was given; nothing is raised but what ends this task."""
        began = self._clock.monotonic()
        cause = await self._cause()
        seconds = self._clock.monotonic() - began
        if cause is Cause.SILENT:
            await self._connect_anew()
        return Look(seconds, cause)

    async def close(self) -> None:
        await self._channel.close()

    async def _connect_anew(self) -> None:
        """Give up a connection that may be dead on one side: it would stay so when the way is open again."""
        try:
            channel = open_channel(self._target, self._settings, self._options)
        except Fault:
            # Its files are being replaced, perhaps: what there is goes on.
            return
        given_up = self._channel
        self._take(channel)
        await given_up.close()

    async def _cause(self) -> Cause | None:
        try:
            # A connection that hangs while it is being made may hold a call beyond its own deadline.
            async with asyncio.timeout(self._timeout):
                health, card = await asyncio.gather(
                    self._health(health_pb2.HealthCheckRequest(service=RESOLVER_SERVICE), timeout=self._timeout),
                    self._card(resolver_pb2.GetNodeInfoRequest(), timeout=self._timeout),
                )
        except TimeoutError:
            return Cause.SILENT
        except grpc.aio.AioRpcError as error:
            return _CAUSES.get(error.code(), Cause.REFUSED)
        if card.node != self._node:
            return Cause.OTHER_NODE
        return None if health.status == health_pb2.HealthCheckResponse.SERVING else Cause.NOT_SERVING


_CAUSES: Final = {
    grpc.StatusCode.UNAVAILABLE: Cause.UNREACHABLE,
    grpc.StatusCode.CANCELLED: Cause.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Cause.SILENT,
}
"""What gRPC says, by whose fault it is: all else was said by the other side."""
