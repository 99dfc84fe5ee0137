"""Real Redis servers for tests, each on a free port and thrown away after its test."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.certificates import Authority
from tests.running_node import wait_until
from tests.services import programs
from tests.services.ports import free_ports

HOST: Final = "127.0.0.1"
SLOTS: Final = 16_384


class RedisServer:
    """One server process, started by `start`. What it keeps, it keeps in memory: after a `kill` it begins empty."""

    def __init__(self, folder: Path, *lines: str, port: int = 0, client: dict[str, Any] | None = None) -> None:
        """Write its configuration.

        Args:
            folder: of its own.
            lines: of its configuration, beside what every server of a test has.
            port: where it listens; one that is free.
            client: how `client` connects, where that is not plainly.
        """
        self.folder = folder
        self.port = port or free_ports(1)[0]
        self._client = client or {}
        self._arguments: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        ours = ("" if self._client.get("ssl") else f"port {self.port}", f"bind {HOST}", "save ''", f"dir {folder}")
        (folder / "redis.conf").write_text("".join(f"{line}\n" for line in (*ours, *lines) if line))

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def client(self, **options: Any) -> "redis.Redis":
        """Connect, as a user who may do everything; to be closed by the caller. Nothing is tried again."""
        ours = {"host": HOST, "port": self.port, "socket_timeout": 5, "retry": Retry(NoBackoff(), 0), **self._client}
        return redis.Redis(**{**ours, **options})

    def start(self, *arguments: str) -> None:
        """Start it and wait until it answers.

        Args:
            arguments: after the configuration, this time and whenever it is started again.
        """
        found = programs.redis()
        assert found, "there is no redis-server"
        self._arguments = arguments or self._arguments
        log = self.folder / "output.log"
        with log.open("ab") as output:
            command = [found, str(self.folder / "redis.conf"), *self._arguments]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        wait_until(lambda: self._answers(log), 20, what=f"an answer of {self.address}")

    def _answers(self, log: Path) -> bool:
        assert self._process
        assert self._process.poll() is None, f"redis-server ended:\n{log.read_text()}"
        with self.client(socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                return False

    def kill(self) -> None:
        """End it at once."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it: connections stay open, and nothing is answered."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Let it end, frozen or not."""
        if self._process is not None:
            self.resume()
            self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)
            self._process = None


@contextmanager
def redis_server(folder: Path, *lines: str) -> Iterator[RedisServer]:
    """One server; `lines` go into its configuration: `maxmemory 2mb`."""
    server = RedisServer(folder, *lines)
    with running(server):
        yield server


class SecuredRedis(NamedTuple):
    """A server that speaks TLS only, and knows one user beside an administrator of the tests."""

    server: RedisServer
    name: str
    """The host name to connect to: the one in the certificate."""
    authority: str
    """Path of the certificate that the server's one is to be checked with."""
    user: str
    password: Path
    """The file that holds it, with a line's end."""

    def forget_password(self) -> None:
        """Give the user another one: connections of theirs are ended, and the file is wrong."""
        with self.server.client() as admin:
            admin.execute_command("ACL", "SETUSER", self.user, "resetpass", ">another")
            admin.execute_command("CLIENT", "KILL", "USER", self.user)


@contextmanager
def secured_redis(folder: Path) -> Iterator[SecuredRedis]:
    """A server with TLS and an ACL: the user may do everything but what administers the server."""
    folder.mkdir(parents=True, exist_ok=True)
    authority = Authority(folder)
    files = authority.issue("localhost", alternatives=("localhost",))
    password = folder / "password"
    password.write_text("correct horse\n")
    (port,) = free_ports(1)
    server = RedisServer(
        folder,
        "port 0",
        f"tls-port {port}",
        f"tls-cert-file {files.certificate}",
        f"tls-key-file {files.key}",
        "tls-auth-clients no",
        "user default off",
        "user admin on >admin ~* &* +@all",
        'user topnode on ">correct horse" ~* &* +@all -@admin',
        port=port,
        client={
            "host": "localhost",
            "ssl": True,
            "ssl_ca_certs": authority.path,
            "username": "admin",
            "password": "admin",
        },
    )
    with running(server):
        yield SecuredRedis(server, "localhost", authority.path, "topnode", password)


class RedisTrio(NamedTuple):
    """A primary, its replica, and a sentinel that makes the replica the primary when the primary is gone."""

    primary: RedisServer
    replica: RedisServer
    sentinel: RedisServer
    master: str
    """The name under which the sentinel watches the primary."""

    def current(self) -> int:
        """The port of who is primary, as the sentinel says."""
        with self.sentinel.client() as client:
            _, port = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.master)
            return int(port)


@contextmanager
def redis_trio(folder: Path) -> Iterator[RedisTrio]:
    """Primary, replica and sentinel; the sentinel misses the primary after a second."""
    primary = RedisServer(folder / "primary", "repl-diskless-sync-delay 0")
    replica = RedisServer(folder / "replica", f"replicaof {HOST} {primary.port}", "repl-diskless-sync-delay 0")
    sentinel = RedisServer(
        folder / "sentinel",
        f"sentinel monitor topnode {HOST} {primary.port} 1",
        "sentinel down-after-milliseconds topnode 1000",
        "sentinel failover-timeout topnode 3000",
    )
    with running(primary), running(replica), running(sentinel, "--sentinel"):
        wait_until(lambda: _is_linked(replica), what="the replica's link")
        wait_until(lambda: _replicas(sentinel) == 1, what="the replica, seen by the sentinel")
        yield RedisTrio(primary, replica, sentinel, "topnode")


def _is_linked(replica: RedisServer) -> bool:
    with replica.client() as client:
        return bool(client.info("replication").get("master_link_status") == "up")


def _replicas(sentinel: RedisServer) -> int:
    with sentinel.client() as client:
        return int(client.info("sentinel")["master0"]["slaves"])


@contextmanager
def redis_cluster(folder: Path) -> Iterator[tuple[RedisServer, ...]]:
    """Three masters that share the slots; while one is gone the others serve theirs."""
    servers = []
    for number in range(3):
        port, bus = free_ports(2)
        lines = ("cluster-enabled yes", f"cluster-port {bus}", "cluster-node-timeout 1000")
        servers.append(RedisServer(folder / f"{number}", *lines, "cluster-require-full-coverage no", port=port))
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(running(server))
        _join(servers)
        wait_until(lambda: all(_is_complete(server) for server in servers), what="the cluster")
        yield tuple(servers)


def _join(servers: list[RedisServer]) -> None:
    for number, server in enumerate(servers):
        first, last = SLOTS * number // len(servers), SLOTS * (number + 1) // len(servers) - 1
        with server.client() as client:
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            (bus,) = client.config_get("cluster-port").values()
        with servers[0].client() as client:
            if number:
                client.execute_command("CLUSTER", "MEET", HOST, server.port, bus)


def _is_complete(server: RedisServer) -> bool:
    with server.client() as client:
        told: bytes = client.execute_command("CLUSTER", "INFO")
    return {b"cluster_state:ok", f"cluster_slots_ok:{SLOTS}".encode()} <= set(told.split())


@contextmanager
def running(server: RedisServer, *arguments: str) -> Iterator[None]:
    """Start a server and stop it at the end, whatever was done to it meanwhile."""
    server.start(*arguments)
    try:
        yield
    finally:
        server.stop()
