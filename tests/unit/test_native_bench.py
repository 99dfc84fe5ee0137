"""What the benchmark of the native front measures with: its client, its turns, its tables. No figure is held here."""

import os
import ssl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import grpc
import pytest
from rich.console import Console

from deploy import certificates
from loadtest.abuse import Noticed, bars_of
from loadtest.figures import Compared, Figures
from loadtest.idle import Client
from loadtest.misses import ROUNDS, WARMING, Counts, Resolver, Turns, reading
from loadtest.programs import Asked, framed

METHOD = "/topnode.test.Idle/Ask"


class Answering(grpc.GenericRpcHandler):
    """Notes what it is asked, and answers with the same; no method but one is known."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        if details.method != METHOD:
            return None

        def answer(message: bytes, _context: grpc.ServicerContext) -> bytes:
            self.asked.append((details.method, message))
            return message

        return grpc.unary_unary_rpc_method_handler(answer)


@contextmanager
def serving(folder: Path, *, tls: bool) -> Iterator[tuple[int, Answering]]:
    answering, server = Answering(), grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((answering,))
    if tls:
        certificates.init(folder, "authority")
        certificates.issue(folder, "node", ips=["127.0.0.1"])
        pair = (folder / "node.key").read_bytes(), (folder / "node.pem").read_bytes()
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port, answering
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("tls", [False, True])
def test_the_client_of_idle_connections_asks_as_grpc_does(tmp_path: Path, *, tls: bool) -> None:
    with serving(tmp_path / "ca", tls=tls) as (port, answering):
        context = None
        if tls:
            context = ssl.create_default_context(cafile=tmp_path / "ca" / "authority.pem")
            context.set_alpn_protocols(["h2"])
        clients = [Client(port, context) for _ in range(3)]
        ended = [client.ask(METHOD, b"88.1/A") for client in clients]
        assert answering.asked == [(METHOD, b"88.1/A")] * 3
        assert all(b"grpc-status\x010" in block for block in ended)
        for client in clients:
            client.close()


def test_a_call_that_is_refused_is_told(tmp_path: Path) -> None:
    with serving(tmp_path, tls=False) as (port, _):
        client = Client(port, None)
        with pytest.raises(ConnectionError, match="refused"):
            client.ask(f"{METHOD}Not", b"88.1/A")
        client.close()


def test_a_connection_that_is_not_answered_is_told(tmp_path: Path) -> None:
    with serving(tmp_path, tls=False) as (port, _):
        client = Client(port, None)
    with pytest.raises(OSError):
        client.ask(METHOD, b"88.1/A")
    client.close()


class Store:
    """Gives nothing, and notes in what batches it was asked."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    async def public(self, keys: Sequence[bytes]) -> None:
        self.batches.append(len(keys))


async def test_what_was_asked_is_read_in_batches_of_the_same_size() -> None:
    store = Store()
    assert await reading(store.public, [b"88.1/A"] * 7, batch=3) > 0
    assert store.batches == [3, 3, 1]


class Site:
    """A resolver that counts what it is asked for; `missed` of ten it had to ask for, in batches of five."""

    def __init__(self, folder: Path, *, missed: int = 10) -> None:
        self.store = Store()
        self.folder, self.calls, self.missed = folder, 0, missed
        self.files: list[bytes] = []

    def turns(self) -> Turns:
        return Turns(Resolver(os.getpid(), 0, self.counts), self.ask, self.store.public, self.folder)

    def ask(self, messages: Path) -> Asked:
        self.files.append(messages.read_bytes())
        self.calls += 10
        return Asked(calls=10, failed=0, octets=0, seconds=1.0, p50_us=1.0, p99_us=2.0)

    def counts(self) -> Counts:
        return Counts(flights=self.calls // 5, missed=self.calls * self.missed // 10, shared=0)


NAMES = [b"88.1/%03d" % number for number in range((WARMING + ROUNDS) * 10)]


async def test_each_identifier_is_asked_for_once_and_read_once(tmp_path: Path) -> None:
    site = Site(tmp_path)
    missed = await site.turns().measure(NAMES, calls=10, is_shared=False)
    assert site.store.batches == [5, 5] * (WARMING + ROUNDS)
    assert b"".join(site.files) == framed([b"\x0a\x08" + name for name in NAMES])
    assert (missed.batch, missed.p99_us) == (5, 2.0)
    assert missed.store > 0


async def test_what_something_else_answered_is_no_miss(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="missed=9"):
        await Site(tmp_path, missed=9).turns().measure(NAMES, calls=10, is_shared=False)


def test_servers_stand_beside_each_other_and_what_is_left_out_is_told() -> None:
    told = StringIO()
    figures = Figures(
        compared=[
            Compared("ours", {"8x16": 3.25, "10x1": 9.5}, {"8x16": 1.0, "10x1": 1.0}),
            Compared("theirs", {"8x16": 113.75, "10x1": 114.0}, {"8x16": 35.0, "10x1": 12.0}),
        ],
        left_out=["there is no cargo: the rest."],
    )
    figures.show(Console(file=told, width=120))
    lines = [line.split() for line in told.getvalue().splitlines()]
    assert ["│", "ours", "│", "3.25", "│", "1.00", "│", "9.50", "│", "1.00", "│"] in lines
    assert ["│", "theirs", "│", "113.75", "│", "35.00", "│", "114.00", "│", "12.00", "│"] in lines
    assert "Left out: there is no cargo: the rest." in told.getvalue()


@pytest.mark.parametrize(
    ("beside", "mebibytes", "held"),
    [(0.002, 64, [True, True]), (0.0021, 64, [False, True]), (0.001, 65, [True, False])],
)
def test_abuse_may_double_what_others_wait_and_take_64_mebibytes(
    beside: float, mebibytes: int, held: list[bool]
) -> None:
    """It is the p99 that may: one call of a hundred is not looked at."""
    alone = [0.0005] * 50 + [0.001] * 50
    noticed = Noticed(alone=alone, beside=[*alone[:-2], beside, 1.0], peak=mebibytes << 20)
    assert [bar.holds for bar in bars_of(("a_probe", "hits"), noticed)] == held
