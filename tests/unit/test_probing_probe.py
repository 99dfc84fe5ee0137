"""One look at one endpoint, over real sockets: what is good, and what is wrong with what is not."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from nodes.listening import Address
from nodes.probing.probe import RESOLVER_SERVICE, Cause, EndpointProbe, can_probe
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.routes import Endpoint, Protocol
from resolver.rpc.serving import Server, ServingSettings, build_server
from resolver.rpc.tls import ClientTls, ServerTls
from resolver.v1 import resolver_pb2 as pb
from tests.certificates import Authority
from tests.services.bad_networks import bad_network

NAME = "88.111"


class Far:
    """A node that only says who it is; `delay` seconds late, or not at all where `refuses`."""

    def __init__(self) -> None:
        self.name = NAME
        self.delay = 0.0
        self.refuses = False
        self.server: Server

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(Protocol.GRPC, "127.0.0.1", self.server.port)

    async def start(self, port: int = 0, tls: ServerTls | None = None) -> None:
        self.server = build_server(ServingSettings(address=Address("127.0.0.1", port).to_text(), tls=tls))
        handler = grpc.unary_unary_rpc_method_handler(
            self._card, pb.GetNodeInfoRequest.FromString, pb.GetNodeInfoResponse.SerializeToString
        )
        self.server.add(RESOLVER_SERVICE, {"GetNodeInfo": handler})
        await self.server.start()

    async def _card(
        self, _request: pb.GetNodeInfoRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> pb.GetNodeInfoResponse:
        await asyncio.sleep(self.delay)
        if self.refuses:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        return pb.GetNodeInfoResponse(node=self.name)


@asynccontextmanager
async def looking(
    far: Far, *, endpoint: Endpoint | None = None, within: float = 5.0, tls: ClientTls | None = None
) -> AsyncIterator[EndpointProbe]:
    probe = EndpointProbe(endpoint or far.endpoint, node=NAME, timeout=within, tls=tls, clock=SystemClock())
    try:
        yield probe
    finally:
        await probe.close()
        await far.server.stop()


@pytest.fixture
async def far() -> Far:
    made = Far()
    await made.start()
    return made


async def test_the_node_itself_that_serves_is_good(far: Far) -> None:
    async with looking(far) as probe:
        look = await probe.look()
        assert look.is_good
        assert 0 < look.seconds < 5


def _renamed(far: Far) -> None:
    far.name = "88.112"


def _unhealthy(far: Far) -> None:
    far.server.set_serving(is_serving=False)


def _refusing(far: Far) -> None:
    far.refuses = True


@pytest.mark.parametrize(
    ("change", "cause"),
    [(_renamed, Cause.OTHER_NODE), (_unhealthy, Cause.NOT_SERVING), (_refusing, Cause.REFUSED)],
)
async def test_what_is_wrong_is_told(far: Far, change: Callable[[Far], None], cause: Cause) -> None:
    async with looking(far) as probe:
        change(far)
        assert (await probe.look()).cause is cause


async def test_silence_ends_with_the_time_for_a_look(far: Far) -> None:
    async with looking(far, within=0.2) as probe:
        far.delay = 5.0
        began = time.monotonic()
        look = await probe.look()
        assert look.cause is Cause.SILENT
        assert time.monotonic() - began < 3


async def test_whoever_comes_back_is_seen_over_the_same_probe(far: Far) -> None:
    async with looking(far) as probe:
        assert (await probe.look()).is_good
        port = far.server.port
        await far.server.stop()
        assert (await probe.look()).cause is Cause.UNREACHABLE
        await far.start(port)
        async with asyncio.timeout(20):
            while not (await probe.look()).is_good:  # noqa: ASYNC110 - gRPC's own back-off is waited for
                await asyncio.sleep(0.05)


async def test_a_connection_that_died_without_a_word_is_given_up(far: Far) -> None:
    """What was open while the network was silent stays dead: the next look goes over another connection."""
    async with bad_network("127.0.0.1", far.server.port) as network:
        there = Endpoint(Protocol.GRPC, "127.0.0.1", network.port)
        async with looking(far, endpoint=there, within=1.0) as probe:
            assert (await probe.look()).is_good
            network.fall_silent()
            assert [(await probe.look()).cause for _ in range(3)] == [Cause.SILENT] * 3
            network.heal()
            assert (await probe.look()).is_good


async def test_an_endpoint_with_a_tls_name_is_proven(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("child", alternatives=("child.test",))
    far = Far()
    await far.start(tls=ServerTls(certificate=files.certificate, key=files.key))
    address, port = far.endpoint.address, far.endpoint.port
    named, misnamed = (Endpoint(Protocol.GRPC, address, port, 0, name) for name in ("child.test", "other.test"))
    tls = ClientTls(server_ca=str(authority.path))
    async with looking(far, endpoint=named, tls=tls) as probe:
        assert (await probe.look()).is_good
        other = EndpointProbe(misnamed, node=NAME, timeout=5.0, tls=tls, clock=SystemClock())
        assert (await other.look()).cause is Cause.UNREACHABLE
        await other.close()


async def test_a_missing_file_of_this_machine_is_a_fault() -> None:
    endpoint = Endpoint(Protocol.GRPC, "127.0.0.1", 1, 0, "child.test")
    tls = ClientTls(server_ca="/absent/ca.pem")
    with pytest.raises(Fault) as caught:
        EndpointProbe(endpoint, node=NAME, timeout=5.0, tls=tls, clock=SystemClock())
    assert caught.value.reason is Reason.FILE_UNREADABLE


def test_what_is_spoken_elsewhere_is_not_probed() -> None:
    assert [each for each in Protocol if can_probe(Endpoint(each, "h", 1))] == [Protocol.GRPC]
