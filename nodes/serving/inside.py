"""What the processes of a node say to each other over their Unix sockets: metrics, health, what was probed."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

import grpc
from grpc_health.v1 import health_pb2
from prometheus_client import CollectorRegistry

from nodes.serving.exposition import openmetrics
from nodes.v1 import nodes_pb2
from resolver.routes import Endpoint, Protocol
from resolver.rpc.channels import ChannelSettings, Options, open_channel
from resolver.rpc.errors import fault_of_rpc_error
from resolver.rpc.health import HEALTH_SERVICE
from resolver.rpc.serving import Server, ServingSettings, build_server
from resolver.units import Duration

WORKER_SERVICE: Final = nodes_pb2.DESCRIPTOR.services_by_name["WorkerService"].full_name
PROBER_SERVICE: Final = nodes_pb2.DESCRIPTOR.services_by_name["ProberService"].full_name

_PIECE: Final = 1 << 20

INSIDE: Final[Options] = (("grpc.max_reconnect_backoff_ms", 1_000),)
"""Options of channels within a node: what ends is started again by the supervisor, soon as a rule."""


def inside_server(socket: str, registry: CollectorRegistry, drain_grace: Duration) -> Server:
    """Make the server of one process's Unix socket, with its metrics; whoever has more to offer adds it."""
    server = build_server(ServingSettings(address=f"unix:{socket}", drain_grace=drain_grace))

    async def get_metrics(
        _request: nodes_pb2.GetMetricsRequest, _context: grpc.aio.ServicerContext[object, object]
    ) -> nodes_pb2.GetMetricsResponse:
        return nodes_pb2.GetMetricsResponse(openmetrics=openmetrics(registry))

    server.add(
        WORKER_SERVICE,
        {
            "GetMetrics": grpc.unary_unary_rpc_method_handler(
                get_metrics,
                request_deserializer=nodes_pb2.GetMetricsRequest.FromString,
                response_serializer=nodes_pb2.GetMetricsResponse.SerializeToString,
            )
        },
    )
    return server


def offer_nodes(server: Server, nodes: Callable[[], bytes], silent: Callable[[], Mapping[Endpoint, float]]) -> None:
    """Have a server that does not listen yet offer what its process has seen of the nodes below.

    That is a document, as JSON, and the endpoints at which nobody answers, each with for how many seconds.
    """

    async def get_nodes(
        _request: nodes_pb2.GetNodesRequest, _context: grpc.aio.ServicerContext[object, object]
    ) -> AsyncIterator[nodes_pb2.GetNodesResponse]:
        octets = nodes()
        for begin in range(0, len(octets), _PIECE):
            yield nodes_pb2.GetNodesResponse(json=octets[begin : begin + _PIECE])

    async def get_silent_endpoints(
        _request: nodes_pb2.GetSilentEndpointsRequest, _context: grpc.aio.ServicerContext[object, object]
    ) -> nodes_pb2.GetSilentEndpointsResponse:
        return nodes_pb2.GetSilentEndpointsResponse(endpoints=[_message(*each) for each in silent().items()])

    server.add(
        PROBER_SERVICE,
        {
            "GetSilentEndpoints": grpc.unary_unary_rpc_method_handler(
                get_silent_endpoints,
                request_deserializer=nodes_pb2.GetSilentEndpointsRequest.FromString,
                response_serializer=nodes_pb2.GetSilentEndpointsResponse.SerializeToString,
            ),
            "GetNodes": grpc.unary_stream_rpc_method_handler(
                get_nodes,
                request_deserializer=nodes_pb2.GetNodesRequest.FromString,
                response_serializer=nodes_pb2.GetNodesResponse.SerializeToString,
            ),
        },
    )


class Peer:
    """Another process of this node, or whoever takes its place, as seen through its Unix socket.

    What does not answer within the seconds given is a Fault, as `resolver.rpc.errors` maps it.
    """

    def __init__(self, socket: str) -> None:
        self._channel = open_channel(f"unix:{socket}", ChannelSettings(), INSIDE)
        self._metrics = self._channel.unary_unary(
            f"/{WORKER_SERVICE}/GetMetrics",
            request_serializer=nodes_pb2.GetMetricsRequest.SerializeToString,
            response_deserializer=nodes_pb2.GetMetricsResponse.FromString,
        )
        self._nodes = self._channel.unary_stream(
            f"/{PROBER_SERVICE}/GetNodes",
            request_serializer=nodes_pb2.GetNodesRequest.SerializeToString,
            response_deserializer=nodes_pb2.GetNodesResponse.FromString,
        )
        self._silent = self._channel.unary_unary(
            f"/{PROBER_SERVICE}/GetSilentEndpoints",
            request_serializer=nodes_pb2.GetSilentEndpointsRequest.SerializeToString,
            response_deserializer=nodes_pb2.GetSilentEndpointsResponse.FromString,
        )
        self._health = self._channel.unary_unary(
            f"/{HEALTH_SERVICE}/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )

    async def metrics(self, *, within: float) -> str:
        """Fetch its metrics as OpenMetrics text."""
        try:
            answer = await self._metrics(nodes_pb2.GetMetricsRequest(), timeout=within)
        except grpc.aio.AioRpcError as error:
            raise fault_of_rpc_error(error) from None
        return answer.openmetrics.decode()

    async def nodes(self, *, within: float) -> bytes:
        """Fetch what a prober has seen of the nodes below, as JSON."""
        try:
            return b"".join([piece.json async for piece in self._nodes(nodes_pb2.GetNodesRequest(), timeout=within)])
        except grpc.aio.AioRpcError as error:
            raise fault_of_rpc_error(error) from None

    async def silent(self, *, within: float) -> dict[Endpoint, float]:
        """Fetch the endpoints at which nobody answers a prober, each with for how many seconds."""
        try:
            answer = await self._silent(nodes_pb2.GetSilentEndpointsRequest(), timeout=within)
        except grpc.aio.AioRpcError as error:
            raise fault_of_rpc_error(error) from None
        return dict(_silent(each) for each in answer.endpoints)

    async def is_serving(self, *, within: float) -> bool:
        """Ask whether it serves and is current."""
        try:
            answer = await self._health(health_pb2.HealthCheckRequest(), timeout=within)
        except grpc.aio.AioRpcError as error:
            raise fault_of_rpc_error(error) from None
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """Let go of it; a call in flight has its own seconds still, else it would end as if its caller had gone."""
        await self._channel.close(grace=5.0)


def _message(endpoint: Endpoint, seconds: float) -> nodes_pb2.SilentEndpoint:
    return nodes_pb2.SilentEndpoint(
        protocol=endpoint.protocol.value,
        address=endpoint.address,
        port=endpoint.port,
        tls_name=endpoint.tls_name,
        silent_for_ms=round(seconds * 1_000),
    )


def _silent(message: nodes_pb2.SilentEndpoint) -> tuple[Endpoint, float]:
    protocol = Protocol(message.protocol)
    endpoint = Endpoint(protocol, message.address, message.port, tls_name=message.tls_name)
    return endpoint, message.silent_for_ms / 1_000
