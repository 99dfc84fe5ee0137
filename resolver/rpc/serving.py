"""A gRPC server of this project: where it listens, what it bounds, TLS, health, reflection, and how it drains."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from msgspec import Struct

from resolver.bounds import REQUEST_BYTES
from resolver.errors import Fault, Reason
from resolver.rpc.health import HEALTH_SERVICE, Health
from resolver.rpc.tls import ServerTls, server_credentials
from resolver.rpc.turns import Turns
from resolver.units import Duration

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
"""What answers a method."""

_NONE: Final[Mapping[str, Handler]] = MappingProxyType({})

MESSAGE_BYTES: Final = 2 * REQUEST_BYTES
"""What gRPC itself refuses, without a reason of ours. Methods refuse what is larger than a request and tell why."""

_WAITING: Final = 10_000
"""Calls of all connections: about a second's work. From then on some are ended, from twice as many on all."""

_LONGEST: Final = 20 * 86_400
"""Seconds: gRPC counts milliseconds in 31 bits."""


class ServingSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how a server listens."""

    address: str = "127.0.0.1:3641"
    """Host and port (port 0: any free one), or `unix:` and a path. All processes of a node share one TCP port."""

    tls: ServerTls | None = None
    """Certificate files; without them connections are neither encrypted nor proven."""

    connection_age: Duration = Duration(300)
    """A connection is told to go after this time, a tenth more or less, so that clients spread over all processes."""

    connection_grace: Duration = Duration(30)
    """What such a connection still has in flight may take this long."""

    keepalive: Duration = Duration(60)
    """A silent connection is probed this often, and dropped when no answer comes within 20 seconds."""

    ping_interval: Duration = Duration(10)
    """A client that probes more often than this is sent away."""

    streams: int = 256
    """Calls in flight on one connection."""

    drain_grace: Duration = Duration(20)
    """Calls in flight may take this long when the process is stopped."""

    def __post_init__(self) -> None:
        if not 0 < self.streams <= 1_000_000:
            raise Fault(Reason.SETTING_INVALID, "Streams are 1 to 1,000,000 a connection.", field="streams")
        for name in ("connection_age", "connection_grace", "keepalive", "ping_interval", "drain_grace"):
            if not 0 < getattr(self, name) <= _LONGEST:
                raise Fault(Reason.SETTING_INVALID, "This duration is more than 0 and at most 20d.", field=name)


class Server:
    """A gRPC server and its health. Services are added before `start`, the busiest first: they are looked up so."""

    def __init__(self, settings: ServingSettings, addresses: Sequence[str]) -> None:
        self._settings = settings
        # For each address its own: of credentials that follow their files gRPC asks once what is in them.
        self._places = [(each, server_credentials(settings.tls) if settings.tls else None) for each in addresses]
        self._server = grpc.aio.server(options=_options(settings))
        self._services: list[str] = []
        self._health = Health(frozenset())
        self.turns = Turns()
        self.proves_clients = bool(settings.tls and settings.tls.client_ca)
        self.port = 0

    def add(
        self, service: str, methods: Mapping[str, Handler], *, marked: Mapping[str, Handler] = _NONE, mark: str = ""
    ) -> None:
        """Offer a service by its full name: method name to what answers it.

        What stands in `marked` answers instead where a call's metadata has the key `mark`.
        """
        self._server.add_generic_rpc_handlers((_Service(service, methods, mark, marked),))
        self._services.append(service)

    async def start(self) -> None:
        """Listen, and be healthy. `port` is that of the first address from then on (1 for a Unix socket).

        Raises:
            Fault: SETTING_INVALID when an address cannot be bound.
        """
        self._health = Health(frozenset(self._services))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._services, HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.port, *_ = [self._bind(*place) for place in self._places]
        await self._server.start()

    def set_serving(self, *, is_serving: bool) -> None:
        """Tell health whether calls are answered as they should be."""
        self._health.set_serving(is_serving=is_serving)

    async def drain(self) -> None:
        """Be unhealthy, take no new call, let those in flight finish within the grace, then end."""
        self._health.drain()
        self.turns.drain()
        await self._server.stop(self._settings.drain_grace)

    async def stop(self) -> None:
        """End at once; calls in flight are cancelled."""
        await self._server.stop(None)

    def _bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials:
                return self._server.add_secure_port(address, credentials)
            return self._server.add_insecure_port(address)
        except RuntimeError:
            # gRPC writes the system's reason to its own log only.
            raise Fault(
                Reason.SETTING_INVALID,
                f"The address {address} cannot be bound: it is in use, not this machine's, or not an address.",
                field="address",
                variables={"address": address},
            ) from None


class _Service(grpc.GenericRpcHandler):
    """Finds what answers a call: by its path, and by a mark in its metadata.

    Here, because here gRPC has made the metadata anyway: asking a call's context for them makes them once more, at a
    microsecond for each entry.
    """

    def __init__(self, name: str, methods: Mapping[str, Handler], mark: str, marked: Mapping[str, Handler]) -> None:
        self._methods = {f"/{name}/{method}": handler for method, handler in methods.items()}
        self._marked = {f"/{name}/{method}": handler for method, handler in marked.items()}
        self._mark = mark

    def service(self, details: grpc.HandlerCallDetails) -> "Handler | None":
        path, mark = details.method, self._mark
        if path in self._marked:
            for key, _ in details.invocation_metadata:
                if key == mark:
                    return self._marked[path]
        return self._methods.get(path)


def build_server(settings: ServingSettings, addresses: Sequence[str] = ()) -> Server:
    """Make a server, within the running loop. It listens at these addresses; none are given: at the settings' one.

    Raises:
        Fault: FILE_UNREADABLE naming the TLS file that is missing or does not fit.
    """
    return Server(settings, addresses or (settings.address,))


def _options(settings: ServingSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        # A larger message is refused on its length alone, before any of it is kept.
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        # Only what is not compressed: a small compressed message can be a very large one.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        ("grpc.max_concurrent_streams", settings.streams),
        # Calls that have ended and are not cleared away yet count beside those in flight. gRPC by itself has no room
        # for them, and refuses new calls of clients that keep to the number of streams: half of 2,000 at once.
        ("grpc.http2.max_deallocating_streams", 2 * settings.streams),
        # Calls that have come and were not begun yet. Beyond bounds of its own (1,000 and 3,000) gRPC ends some of
        # them with CANCELLED and no reason. What is too much, admission refuses with one.
        ("grpc.server.max_pending_requests", _WAITING),
        ("grpc.server.max_pending_requests_hard_limit", 2 * _WAITING),
        # gRPC itself adds the tenth more or less.
        ("grpc.max_connection_age_ms", _milliseconds(settings.connection_age)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(settings.connection_grace)),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive)),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(settings.ping_interval)),
    ]


def _milliseconds(duration: Duration) -> int:
    return max(1, round(duration * 1_000))
