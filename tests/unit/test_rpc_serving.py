"""Servers and channels over real sockets: bounds, TLS from files, health, reflection, draining."""

import asyncio
import os
import shutil
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from cryptography import x509
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry

from resolver.bounds import REQUEST_BYTES
from resolver.clock import SystemClock
from resolver.errors import DOMAIN, Fault, Reason
from resolver.rpc.calls import Calls, Context
from resolver.rpc.channels import ChannelSettings, open_channel
from resolver.rpc.errors import DETAILS_KEY, fault_of_rpc_error
from resolver.rpc.health import HEALTH_SERVICE
from resolver.rpc.serving import MESSAGE_BYTES, Server, ServingSettings, build_server
from resolver.rpc.tls import ClientTls, ServerTls
from resolver.units import Duration
from tests.certificates import Authority, Files
from tests.services.ports import free_ports

SERVICE = "topnode.test.Echo"
ECHO = f"/{SERVICE}/Echo"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

Body = Callable[[bytes, Context], Awaitable[bytes]]


async def echo(request: bytes, _context: Context) -> bytes:
    return request


@asynccontextmanager
async def running(settings: ServingSettings, body: Body = echo) -> AsyncIterator[Server]:
    """Run a server with one method; stopped at once in the end."""
    server = build_server(settings)
    server.add(SERVICE, {"Echo": Calls("echo", SystemClock(), CollectorRegistry()).serve("Echo", body)})
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def echo_over(channel: grpc.aio.Channel) -> "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]":
    return channel.unary_unary(ECHO)


async def call(address: str, request: bytes = b"hello", tls: ClientTls | None = None) -> Any:
    """Call once, over a connection of its own."""
    async with open_channel(address, ChannelSettings(tls=tls, tls_name="node.test" if tls else "")) as channel:
        return await echo_over(channel)(request, timeout=10)


async def refusal(awaitable: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await awaitable
    return raised.value


def loopback(**settings: Any) -> ServingSettings:
    return ServingSettings(address="127.0.0.1:0", **settings)


# --- where it listens --------------------------------------------------------------------------------------------


async def test_a_free_port_is_taken_and_told() -> None:
    async with running(loopback()) as server:
        assert server.port > 0
        assert await call(f"127.0.0.1:{server.port}") == b"hello"


async def test_a_marked_call_is_answered_by_what_is_for_marked_ones() -> None:
    """By the key of its metadata, wherever that stands; a method without such a one answers marked calls too."""

    async def shout(request: bytes, _context: Context) -> bytes:
        return request.upper()

    calls = Calls("echo", SystemClock(), CollectorRegistry())
    server = build_server(loopback())
    methods = {name: calls.serve(name, echo) for name in ("Echo", "Other")}
    server.add(SERVICE, methods, marked={"Echo": calls.serve("Shout", shout)}, mark="loud-bin")
    await server.start()
    try:
        async with open_channel(f"127.0.0.1:{server.port}", ChannelSettings()) as channel:
            other: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Other")
            marks: tuple[tuple[str, str | bytes], ...] = (("a", "1"), ("loud-bin", b""), ("z", "1"))
            for metadata, expected in ((marks, b"HELLO"), (marks[:1], b"hello"), ((("loud", "1"),), b"hello")):
                assert await echo_over(channel)(b"hello", metadata=metadata) == expected
                assert await other(b"hello", metadata=metadata) == b"hello"
            unknown: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Invented")
            refused = await refusal(unknown(b"hello", metadata=marks))
            assert refused.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        await server.stop()


async def test_processes_share_a_port() -> None:
    async with running(loopback()) as first, running(ServingSettings(address=f"127.0.0.1:{first.port}")) as second:
        assert second.port == first.port


async def test_a_unix_socket_serves_too(tmp_path: Path) -> None:
    address = f"unix:{tmp_path / 'node.sock'}"
    async with running(ServingSettings(address=address)):
        assert await call(address) == b"hello"


@pytest.mark.parametrize("address", ["192.0.2.1:0", "not an address", "unix:/nowhere/at/all.sock"])
async def test_an_address_that_cannot_be_bound_is_a_setting_that_cannot_be(address: str) -> None:
    server = build_server(ServingSettings(address=address))
    with pytest.raises(Fault) as raised:
        await server.start()
    assert (raised.value.reason, raised.value.field) == (Reason.SETTING_INVALID, "address")
    assert address in raised.value.detail


# --- what it bounds ----------------------------------------------------------------------------------------------


def error_info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Read the ErrorInfo that came over the wire as any client would; nothing of ours helps."""
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def assert_too_large(error: grpc.aio.AioRpcError) -> None:
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    info = error_info(error)
    assert (info.domain, info.reason) == (DOMAIN, "REQUEST_TOO_LARGE")
    assert dict(info.metadata) == {"allowed": str(REQUEST_BYTES)}


@pytest.mark.parametrize("octets", [REQUEST_BYTES + 1, 5 << 20, MESSAGE_BYTES])
async def test_a_message_above_four_mebibytes_is_refused_with_its_reason_before_any_method_sees_it(
    octets: int,
) -> None:
    seen = []

    async def note(request: bytes, _context: Context) -> bytes:
        seen.append(len(request))
        return b""

    async with (
        running(loopback(), note) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        assert_too_large(await refusal(echo_over(channel)(bytes(octets))))
        await echo_over(channel)(bytes(REQUEST_BYTES))
    assert seen == [REQUEST_BYTES]


async def test_each_message_of_a_stream_is_bounded_as_a_request_is() -> None:
    taken: list[list[int]] = []

    async def take(requests: AsyncIterator[bytes], _context: Context) -> bytes:
        taken.append([len(request) async for request in requests])
        return b"taken"

    server = build_server(loopback())
    server.add(SERVICE, {"Take": Calls("echo", SystemClock(), CollectorRegistry()).serve_stream("Take", take)})
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stream: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(f"/{SERVICE}/Take")
            assert await stream(iter([bytes(REQUEST_BYTES)] * 3)) == b"taken"
            # Nothing after the one that is refused: grpcio may say of a send that it failed before it says why.
            refused = asyncio.Event()

            async def requests() -> AsyncIterator[bytes]:
                yield b"first"
                yield bytes(REQUEST_BYTES + 1)
                await refused.wait()

            error = await refusal(stream(requests()))
            refused.set()
        assert_too_large(error)
        assert taken == [[REQUEST_BYTES] * 3]
    finally:
        await server.stop()


async def test_what_grpc_itself_refuses_carries_no_reason_and_clients_here_give_the_closest() -> None:
    """Said in docs/reasons.md: beyond 8 MiB, compressed, unknown."""
    async with running(loopback()) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        unknown: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Invented")
        errors = [
            await refusal(echo_over(channel)(bytes(MESSAGE_BYTES + 1))),
            await refusal(echo_over(channel)(b"hello" * 1_000, compression=grpc.Compression.Gzip)),
            await refusal(unknown(b"hello")),
        ]
    exhausted, unimplemented = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED
    assert [error.code() for error in errors] == [exhausted, unimplemented, unimplemented]
    assert not any(DETAILS_KEY in dict(error.trailing_metadata() or ()) for error in errors)
    reasons = [fault_of_rpc_error(error).reason for error in errors]
    assert reasons == [Reason.REQUEST_TOO_LARGE, Reason.METHOD_UNKNOWN, Reason.METHOD_UNKNOWN]


async def test_a_client_takes_an_answer_of_four_mebibytes() -> None:
    async with running(loopback()) as server:
        assert len(await call(f"127.0.0.1:{server.port}", bytes(REQUEST_BYTES))) == REQUEST_BYTES


async def test_a_compressed_message_is_refused_before_it_is_unpacked() -> None:
    """A mebibyte of gzip can be a gibibyte of request."""
    async with running(loopback()) as server, open_channel(f"127.0.0.1:{server.port}", ChannelSettings()) as channel:
        error = await refusal(echo_over(channel)(bytes(1 << 20), compression=grpc.Compression.Gzip))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_no_more_calls_than_allowed_are_in_flight_on_a_connection() -> None:
    """The third call of a connection that may have two has not begun when a later one of another connection has."""
    release = asyncio.Event()
    begun: defaultdict[bytes, asyncio.Event] = defaultdict(asyncio.Event)

    async def hold(request: bytes, _context: Context) -> bytes:
        begun[request].set()
        await release.wait()
        return request

    async with running(loopback(streams=2), hold) as server, AsyncExitStack() as channels:
        address, alone = f"127.0.0.1:{server.port}", [("grpc.use_local_subchannel_pool", 1)]
        one = echo_over(await channels.enter_async_context(grpc.aio.insecure_channel(address, options=alone)))
        two = echo_over(await channels.enter_async_context(grpc.aio.insecure_channel(address, options=alone)))
        calls = []
        for call, request in ((one, b"1"), (one, b"2"), (one, b"3"), (two, b"other")):
            calls.append(asyncio.ensure_future(call(request, timeout=10)))
            if request != b"3":
                await asyncio.wait_for(begun[request].wait(), 10)
        assert not begun[b"3"].is_set()
        release.set()
        assert [await each for each in calls] == [b"1", b"2", b"3", b"other"]


@pytest.mark.parametrize("streams", [0, -1, 1_000_001])
def test_a_bound_on_streams_that_is_none_is_refused(streams: int) -> None:
    with pytest.raises(Fault, match="SETTING_INVALID") as raised:
        ServingSettings(streams=streams)
    assert raised.value.field == "streams"


@pytest.mark.parametrize("name", ["connection_age", "connection_grace", "keepalive", "ping_interval", "drain_grace"])
@pytest.mark.parametrize("seconds", [0, -1, 30 * 86_400])
def test_a_duration_that_grpc_cannot_keep_is_refused(name: str, seconds: float) -> None:
    with pytest.raises(Fault, match="SETTING_INVALID") as raised:
        ServingSettings(**{name: Duration(seconds)})  # type: ignore[arg-type] # one field, named by the test
    assert raised.value.field == name


PING: Final = bytes((0, 0, 8, 6, 0, 0, 0, 0, 0)) + bytes(8)
SETTINGS: Final = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
GOAWAY: Final = 7
ENHANCE_YOUR_CALM: Final = 11


async def _farewell(port: int, frames: bytes) -> int:
    """Speak bare HTTP/2, and give the error code with which the server tells the connection to go (RFC 9113 6.8)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS + frames)
    try:
        while True:
            head = await asyncio.wait_for(reader.readexactly(9), 20)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == GOAWAY:
                return int.from_bytes(payload[4:8], "big")
    finally:
        writer.close()


async def test_a_client_that_probes_too_often_is_sent_away() -> None:
    async with running(loopback()) as server:
        assert await _farewell(server.port, PING * 10) == ENHANCE_YOUR_CALM


async def test_a_connection_is_told_to_go_when_it_is_old() -> None:
    async with running(loopback(connection_age=Duration(0.05))) as server:
        assert await _farewell(server.port, b"") == 0


# --- TLS ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def node_files(authority: Authority) -> Files:
    return authority.issue("node.test", alternatives=("node.test",))


async def test_a_client_that_knows_the_authority_is_served(authority: Authority, node_files: Files) -> None:
    tls = ServerTls(certificate=node_files.certificate, key=node_files.key)
    async with running(loopback(tls=tls)) as server:
        assert await call(f"127.0.0.1:{server.port}", tls=ClientTls(server_ca=authority.path)) == b"hello"
        assert not server.proves_clients


async def test_each_of_several_addresses_is_served_over_tls(authority: Authority, node_files: Files) -> None:
    tls = ServerTls(certificate=node_files.certificate, key=node_files.key)
    first, second = (f"127.0.0.1:{port}" for port in free_ports(2))
    server = build_server(ServingSettings(address=first, tls=tls), (first, second))
    server.add(SERVICE, {"Echo": Calls("echo", SystemClock(), CollectorRegistry()).serve("Echo", echo)})
    await server.start()
    try:
        for address in (first, second):
            assert await call(address, tls=ClientTls(server_ca=authority.path)) == b"hello"
    finally:
        await server.stop()


async def test_a_client_that_knows_another_authority_is_not_connected(node_files: Files, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    tls = ServerTls(certificate=node_files.certificate, key=node_files.key)
    async with running(loopback(tls=tls)) as server:
        error = await refusal(call(f"127.0.0.1:{server.port}", tls=ClientTls(server_ca=stranger.path)))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_without_a_certificate_of_the_authority_is_refused(
    authority: Authority, node_files: Files, tmp_path: Path
) -> None:
    client = authority.issue("client")
    forged = Authority(tmp_path, "forger").issue("client", to="forged")
    tls = ServerTls(certificate=node_files.certificate, key=node_files.key, client_ca=authority.path)
    async with running(loopback(tls=tls)) as server:
        address = f"127.0.0.1:{server.port}"
        assert server.proves_clients
        proven = ClientTls(server_ca=authority.path, certificate=client.certificate, key=client.key)
        assert await call(address, tls=proven) == b"hello"
        bare = await refusal(call(address, tls=ClientTls(server_ca=authority.path)))
        lying = ClientTls(server_ca=authority.path, certificate=forged.certificate, key=forged.key)
        assert {bare.code(), (await refusal(call(address, tls=lying))).code()} == {grpc.StatusCode.UNAVAILABLE}


async def _serial_seen_by(port: int, authority: Authority) -> int:
    """Connect, and give the serial number of the certificate that the server shows."""
    context = ssl.create_default_context(cafile=authority.path)
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="node.test")
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


async def test_replaced_files_are_used_for_new_connections_and_old_ones_go_on(
    authority: Authority, node_files: Files
) -> None:
    tls = ServerTls(certificate=node_files.certificate, key=node_files.key)
    async with running(loopback(tls=tls)) as server:
        settings = ChannelSettings(tls=ClientTls(server_ca=authority.path), tls_name="node.test")
        async with open_channel(f"127.0.0.1:{server.port}", settings) as channel:
            assert await echo_over(channel)(b"before") == b"before"
            first = await _serial_seen_by(server.port, authority)
            assert await _serial_seen_by(server.port, authority) == first
            authority.issue("node.test", alternatives=("node.test",))
            assert await _serial_seen_by(server.port, authority) != first
            assert await echo_over(channel)(b"after") == b"after"


async def test_files_replaced_by_half_leave_those_in_use(
    authority: Authority, node_files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """Between the new certificate and the new key, and after a broken one, the old pair is shown."""
    tls = ServerTls(certificate=node_files.certificate, key=node_files.key)
    async with running(loopback(tls=tls)) as server:
        first = await _serial_seen_by(server.port, authority)
        new = authority.issue("node.test", alternatives=("node.test",), to="new")
        shutil.copy(new.certificate, node_files.certificate)
        assert await _serial_seen_by(server.port, authority) == first
        shutil.copy(new.key, node_files.key)
        assert await _serial_seen_by(server.port, authority) != first
        shutil.copy(os.devnull, node_files.certificate)
        assert await _serial_seen_by(server.port, authority) != first
        shutil.move(node_files.certificate, node_files.certificate + ".away")
        assert await _serial_seen_by(server.port, authority) != first
    assert "cannot be used" in caplog.text


def _broken(files: Files, authority: Authority, tmp_path: Path) -> list[tuple[str, ServerTls]]:
    """Settings, each with one file that will not do: the attribute that names it, and all of them."""
    other = authority.issue("other")
    missing, text, folder = (str(tmp_path / name) for name in ("missing.pem", "text.pem", "folder.pem"))
    Path(text).write_text("no certificate")
    Path(folder).mkdir()
    return [
        *(("certificate", ServerTls(certificate=path, key=files.key)) for path in (missing, text, folder)),
        *(
            ("key", ServerTls(certificate=files.certificate, key=path))
            for path in (missing, text, folder, other.key, files.certificate, "")
        ),
        *(
            ("client_ca", ServerTls(certificate=files.certificate, key=files.key, client_ca=path))
            for path in (missing, text, folder)
        ),
    ]


async def test_files_that_cannot_be_read_or_do_not_fit_are_named_at_the_start(
    authority: Authority, node_files: Files, tmp_path: Path
) -> None:
    for name, tls in _broken(node_files, authority, tmp_path):
        path = getattr(tls, name)
        with pytest.raises(Fault) as raised:
            build_server(loopback(tls=tls))
        assert (raised.value.reason, raised.value.field) == (Reason.FILE_UNREADABLE, f"tls.{name}")
        assert raised.value.variables == {"path": path}
        assert path in raised.value.detail


@pytest.mark.parametrize("field", ["server_ca", "certificate", "key"])
def test_a_clients_files_are_named_too(authority: Authority, tmp_path: Path, field: str) -> None:
    client = authority.issue("client")
    paths = {"server_ca": authority.path, "certificate": client.certificate, "key": client.key}
    paths[field] = str(tmp_path / "missing")
    with pytest.raises(Fault) as raised:
        open_channel("127.0.0.1:1", ChannelSettings(tls=ClientTls(**paths)))
    assert (raised.value.reason, raised.value.field) == (Reason.FILE_UNREADABLE, f"tls.{field}")


# --- health and reflection ---------------------------------------------------------------------------------------


async def test_health_answers_for_the_process_and_each_service() -> None:
    async with running(loopback()) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == SERVING
        server.set_serving(is_serving=False)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING
        server.set_serving(is_serving=True)
        assert (await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))).status == SERVING
        error = await refusal(health.Check(health_pb2.HealthCheckRequest(service="nobody")))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_is_told_each_change() -> None:
    async with running(loopback()) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        server.set_serving(is_serving=False)
        assert (await watch.read()).status == NOT_SERVING
        server.set_serving(is_serving=True)
        assert (await watch.read()).status == SERVING
        watch.cancel()


async def test_a_watcher_of_an_unknown_service_is_told_so() -> None:
    async with running(loopback()) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="nobody"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


async def test_reflection_lists_what_is_served() -> None:
    async with running(loopback()) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
        (answer,) = [each async for each in reflection.ServerReflectionInfo(iter(asked))]
        names = {service.name for service in answer.list_services_response.service}
    assert names == {SERVICE, HEALTH_SERVICE, "grpc.reflection.v1alpha.ServerReflection"}


# --- draining ----------------------------------------------------------------------------------------------------


async def test_a_drain_turns_health_first_then_lets_calls_finish() -> None:
    release, begun = asyncio.Event(), asyncio.Event()

    async def hold(request: bytes, _context: Context) -> bytes:
        begun.set()
        await release.wait()
        return request

    async with running(loopback(), hold) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        in_flight = asyncio.ensure_future(echo_over(channel)(b"late", timeout=10))
        await begun.wait()
        draining = asyncio.ensure_future(server.drain())
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() is grpc.aio.EOF
        error = await refusal(call(f"127.0.0.1:{server.port}"))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert not draining.done()
        release.set()
        assert await in_flight == b"late"
        await asyncio.wait_for(draining, 10)


async def test_a_drain_does_not_wait_for_those_who_watch() -> None:
    settings = loopback(drain_grace=Duration(100))
    async with running(settings) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        await asyncio.wait_for(server.drain(), 10)


async def test_what_outlasts_the_grace_is_ended() -> None:
    begun = asyncio.Event()

    async def hold(_request: bytes, _context: Context) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    settings = loopback(drain_grace=Duration(0.05))
    async with running(settings, hold) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        in_flight = asyncio.ensure_future(echo_over(channel)(b"", timeout=30))
        await begun.wait()
        await asyncio.wait_for(server.drain(), 10)
        assert (await refusal(in_flight)).code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
