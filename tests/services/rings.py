"""Real Cassandra for tests: one node, or a ring of three, that all workers of a test run share.

They are started by the first test that needs them and stop by themselves when the run has ended, however it ended.
Tests are kept apart by keyspaces of their own.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.policies import ConstantReconnectionPolicy, DCAwareRoundRobinPolicy

from deploy.cassandra.ring import Ring, RingError
from tests.running_node import wait_until
from tests.services.ports import free_ports

ROOT: Final = Path(__file__).parents[2]

RECKONED: Final = 8
"""Seconds after which a node surely knows of a table that it has read when to ask another replica.

It reckons that every `read_request_timeout`, 3 s in such a ring and more when it is busy, from the reads that it has
coordinated. Without any it waits for half of that: what it asks of a node that was just lost is answered late.
"""

_STARTED: Final[list["subprocess.Popen[str]"]] = []
"""What was started here and still runs: it ends with the run, not with the worker that came first."""


class RunningRing:
    """A ring that serves. Its nodes have numbers from 1; under the command `inside` one is where they are."""

    def __init__(self, ring: Ring, inside: Sequence[str] = ()) -> None:
        self.ring = ring
        self.hosts = tuple(ring.addresses)
        self.port = ring.native_port
        self.data_centre = ring.data_centre
        self._inside = inside
        self._is_disturbed = False
        self._connected: tuple[Cluster, Session] | None = None

    def kill(self, node: int) -> None:
        """End it as a crash would."""
        self._is_disturbed = True
        self.ring.stop([node], kill=True)

    def pause(self, node: int) -> None:
        """Freeze it: its connections stay open, and nothing is answered."""
        self._is_disturbed = True
        os.kill(self.ring.pid(node), signal.SIGSTOP)

    def resume(self, node: int) -> None:
        os.kill(self.ring.pid(node), signal.SIGCONT)

    def start(self, node: int) -> None:
        """Start it again and wait until it serves and all have seen it."""
        self._command("start", "--node", str(node))

    def shell(self, script: str) -> "subprocess.CompletedProcess[bytes]":
        """Run a line of the shell where the nodes are, with the mounts that they see."""
        return subprocess.run([*self._inside, "sh", "-c", script], capture_output=True, check=False, timeout=60)

    def nodetool(self, node: int, *arguments: str) -> str:
        """Ask a node; what it says must be an answer and no error."""
        asked = subprocess.run(
            self.ring.nodetool(node, arguments), capture_output=True, text=True, check=False, timeout=120
        )
        assert asked.returncode == 0, asked.stdout + asked.stderr
        return asked.stdout

    def wait_seen(self, *, by: int, state: dict[int, str], seconds: float = 120) -> None:
        """Wait until a node sees others as told: `{2: "DN"}`."""
        expected = {self.hosts[node - 1]: each for node, each in state.items()}
        wait_until(lambda: expected.items() <= self.ring.seen(by).items(), seconds, what=f"{expected} by node {by}")

    def mend(self) -> None:
        """Let every node run and serve again that was killed or frozen."""
        if not self._is_disturbed:
            return
        for node in self.ring.numbers:
            if self.ring.pid(node):
                self.resume(node)
        self._command("start")
        # One that lived through all that may know of too few nodes for long: the next statement makes it anew.
        self.close()
        self._is_disturbed = False

    def _command(self, *arguments: str) -> None:
        script = [sys.executable, "-m", "deploy.cassandra", "--folder", str(self.ring.folder)]
        command = [*self._inside, *script, *arguments]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    @contextmanager
    def keyspace(self) -> Iterator[str]:
        """Give the name of a keyspace that nobody else has; at the end it is dropped, if it was created."""
        name = f"t{uuid.uuid4().hex[:16]}"
        try:
            yield name
        finally:
            self._drop(name)

    def _drop(self, keyspace: str) -> None:
        """Drop it if it is there. What a node was told that is lost now, others may know half of for a moment."""
        for _ in range(3):
            with suppress(NoHostAvailable):
                self.cql(f"DROP KEYSPACE IF EXISTS {keyspace}")
                return
            self.close()
            time.sleep(2)
        self.cql(f"DROP KEYSPACE IF EXISTS {keyspace}")

    def cql(self, statement: str) -> list[Any]:
        """Execute a statement at LOCAL_QUORUM and give the rows."""
        if self._connected is None:
            profile = ExecutionProfile(
                load_balancing_policy=DCAwareRoundRobinPolicy(self.data_centre),
                consistency_level=ConsistencyLevel.LOCAL_QUORUM,
                request_timeout=30,
            )
            cluster = Cluster(
                self.hosts,
                port=self.port,
                protocol_version=5,
                execution_profiles={EXEC_PROFILE_DEFAULT: profile},
                connect_timeout=30,
                control_connection_timeout=30,
                reconnection_policy=ConstantReconnectionPolicy(1, max_attempts=None),
            )
            self._connected = cluster, cluster.connect()
        _, session = self._connected
        return list(session.execute(statement))

    def close(self) -> None:
        """Let go of the connections that `cql` has opened."""
        if self._connected is not None:
            self._connected[0].shutdown()
            self._connected = None


@contextmanager
def shared_ring(of_run: Path, *, nodes: int) -> Iterator[RunningRing]:
    """Give the ring of this test run that has so many nodes; the first who asks starts it.

    Args:
        of_run: a folder that all workers of the run see.
        nodes: how many there are, each in a rack of its own.
    """
    folder = of_run / f"cassandra-{nodes}"
    with _locked(folder):
        # Nobody has a node of it down at this moment.
        running = RunningRing(_found(folder) or _run(folder, nodes))
    try:
        yield running
    finally:
        running.close()


@contextmanager
def own_ring(
    folder: Path, *, nodes: int = 1, settings: Sequence[str] = (), namespace: Sequence[str] = (), mount: str = ""
) -> Iterator[RunningRing]:
    """Have a ring for one test.

    Args:
        folder: of its own.
        nodes: how many there are.
        settings: further lines of cassandra.yaml.
        namespace: the command that gives its nodes mounts of their own.
        mount: what the shell makes there before they start.
    """
    before = (*namespace, "sh", "-c", f'{mount} && exec "$@"', "sh") if namespace else ()
    ring = _run(folder, nodes, settings, before)
    started = _STARTED.pop()
    user = ("--user", "--preserve-credentials") if "-Urm" in namespace else ()
    running = RunningRing(
        ring, ("nsenter", f"--target={started.pid}", "--mount", f"--wd={ROOT}", *user) if namespace else ()
    )
    try:
        yield running
    finally:
        running.close()
        with started:
            started.terminate()
            started.wait(90)


@contextmanager
def alone(running: RunningRing) -> Iterator[RunningRing]:
    """Have a ring to oneself, to kill and freeze its nodes; others wait. At the end all of it serves again."""
    with _locked(running.ring.folder):
        try:
            yield running
        finally:
            running.mend()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _found(folder: Path) -> Ring | None:
    try:
        ring = Ring.remembered(folder)
    except RingError:
        return None
    return ring if all(ring.pid(node) for node in ring.numbers) else None


def _run(folder: Path, nodes: int, settings: Sequence[str] = (), before: Sequence[str] = ()) -> Ring:
    native, storage, *jmx = free_ports(2 + nodes, *(f"127.0.0.{node}" for node in range(1, nodes + 1)))
    ports = {"--native-port": native, "--storage-port": storage, "--jmx-port": jmx[0]}
    command = [*before, sys.executable, "-m", "deploy.cassandra", "--folder", str(folder), "run", "--fast", "--fresh"]
    command += ["--nodes", str(nodes), "--heap", "512m" if nodes == 1 else "384m"]
    command += [part for option, port in ports.items() for part in (option, str(port))]
    command += [part for line in settings for part in ("--setting", line)]
    # The run is the worker's parent where there are several workers, else this process.
    run = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    errors = folder.with_suffix(".log")
    with errors.open("a") as log:
        started = subprocess.Popen(
            [*command, "--while-running", str(run)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
    _STARTED.append(started)
    assert started.stdout
    assert started.stdout.readline(), f"Cassandra did not start:\n{errors.read_text()}"
    return Ring.remembered(folder)
