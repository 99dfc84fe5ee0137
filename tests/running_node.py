"""A node as real processes, for journeys: started, asked, loaded, and gone at the end."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self

import grpc
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from nodes.loading.imports import Operator, Taken
from nodes.loading.loads import Manner, body_of
from nodes.loading.pieces import piece_of
from nodes.loading.remote import open_remote
from nodes.serving.started import Started
from registry.chunks import NO_CHUNKS
from registry.keyring import OPERATOR_FILE
from registry.parts import Part
from registry.v1 import registry_pb2 as registry_pb
from resolver.clock import SystemClock
from resolver.rpc.errors import fault_of_rpc_error
from resolver.store.embedded import current_owner
from resolver.trust.keys import PrivateKey
from resolver.v1 import resolver_pb2 as pb
from tests.fronts import addresses, agreed
from tests.signing import SUBMIT, Signing

ROOT: Final = Path(__file__).parents[1]

ANY_PORTS: Final = tuple(
    part for option in ("listen", "streaming", "registry", "admin") for part in (f"--{option}", "127.0.0.1:0")
)

START_SECONDS: Final = 60.0
"""A bound for a busy machine; an idle one takes about one."""


class RunningNode:
    """One run of `topnode serve TIER`. `data` outlives it; `log` is its standard error, in a file."""

    def __init__(
        self,
        data: Path,
        log: Path,
        arguments: Iterable[str],
        environment: Mapping[str, str],
        *,
        tier: str = "top",
    ) -> None:
        self.data = data
        self.log = log
        self._line = ""
        self._channels = 0
        command = [sys.executable, "-m", "nodes", "serve", tier, "--data", str(data), "--json"]
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [*command, *ANY_PORTS, *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env={**os.environ, **environment},
            )

    def wait_ready(self) -> Self:
        """Wait until all of it serves; a node that ends before is a failed test."""
        assert self.process.stdout
        self._line = self.process.stdout.readline()
        assert self._line, f"the node ended before it served:\n{self.log.read_text()}"
        return self

    @property
    def started(self) -> Started:
        """What it told when it served: `address`, `admin`, `workers`, `pid` and more."""
        return msgspec.json.decode(self._line, type=Started)

    @property
    def address(self) -> str:
        return self.started.address

    @property
    def fronts(self) -> tuple[str, str]:
        """Where it answers lookups: whatever a journey asks it asks at both."""
        return addresses(self.started)

    @property
    def pid(self) -> int:
        return self.process.pid

    def get(self, path: str) -> tuple[int, str]:
        """Ask the admin endpoint: status and body."""
        return get(self.started.admin, path)

    def sample(self, name: str, **labels: str) -> float:
        """Sum the samples of a metric that have these labels, over all processes; 0 where there is none yet."""
        return sum(self.samples(name, "worker", **labels).values())

    def samples(self, name: str, by: str, **labels: str) -> Mapping[str, float]:
        """Give such sums by the values of one more label, also 0 for what is not there."""
        sums: defaultdict[str, float] = defaultdict(float)
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    sums[sample.labels.get(by, "")] += sample.value
        return sums

    def conditions(self) -> dict[str, str]:
        """The name of each process and how it is."""
        return {each["name"]: each["condition"] for each in json.loads(self.get("/readyz")[1])["processes"]}

    def comes_to(self, condition: str, name: str = "owner") -> float:
        """Wait until one of its processes is so, and give how long it took."""
        return wait_until(lambda: self.conditions()[name] == condition, what=f"{name} {condition}", log=self.log)

    def pids(self) -> dict[str, int]:
        """The name of each process and its number; 0 while there is none."""
        return {each["name"]: each["pid"] for each in json.loads(self.get("/readyz")[1])["processes"]}

    def channel(self, credentials: grpc.ChannelCredentials | None = None, name: str = "") -> grpc.Channel:
        """Open a connection of its own: the kernel gives it to one of the workers.

        Where there are two fronts it goes to one and the other in turn: every journey is made through both.
        `credentials` are for a node with TLS, `name` is the one in its certificate.
        """
        front = self.fronts[self._channels % 2]
        self._channels += 1
        return _channel(front, credentials, name)

    def streaming_channel(self) -> grpc.Channel:
        """Open a connection to where streams are."""
        return _channel(self.started.streaming, None, "")

    def resolve(
        self, identifier: str, channel: grpc.Channel | None = None, *, authoritative: bool = False
    ) -> pb.Answer:
        """Resolve one identifier, over a connection that is given, or over new ones at both fronts.

        What those say is given once it is the same: a change may be known to one process before another.

        Raises:
            Fault: as the node says.
        """
        if channel is None:
            return agreed(
                lambda address: self._resolved_at(address, identifier, authoritative),
                self.fronts,
                lambda said: (said.outcome, said.version, said.record),
            )
        call = channel.unary_unary(
            "/topnode.resolver.v1.ResolverService/Resolve",
            pb.ResolveRequest.SerializeToString,
            pb.ResolveResponse.FromString,
        )
        request = pb.ResolveRequest(identifier=identifier, options=pb.Options(authoritative=authoritative))
        try:
            response: pb.ResolveResponse = call(request, timeout=10)
        except grpc.RpcError as error:
            raise fault_of_rpc_error(error) from None  # type: ignore[arg-type] # it has the same methods
        return response.answer

    def _resolved_at(self, address: str, identifier: str, authoritative: bool) -> pb.Answer:  # noqa: FBT001 - as resolve
        with _channel(address, None, "") as opened:
            return self.resolve(identifier, opened, authoritative=authoritative)

    def registry_channel(self, credentials: grpc.ChannelCredentials | None = None, name: str = "") -> grpc.Channel:
        """Open a connection to where signed requests are taken; as `channel`."""
        return _channel(self.started.registry, credentials, name)

    def submit(self, octets: bytes, channel: grpc.Channel | None = None) -> registry_pb.SubmitResponse:
        """Send one signed request, over a new connection unless one is given.

        Raises:
            Fault: as the node says.
        """
        if channel is None:
            with self.registry_channel() as opened:
                return self.submit(octets, opened)
        call: grpc.UnaryUnaryMultiCallable[bytes, registry_pb.SubmitResponse] = channel.unary_unary(
            f"/{SUBMIT}", response_deserializer=registry_pb.SubmitResponse.FromString
        )
        try:
            response = call(octets, timeout=20)
        except grpc.RpcError as error:
            raise fault_of_rpc_error(error) from None  # type: ignore[arg-type] # it has the same methods
        return response

    def operator(self) -> Signing:
        """Sign as the operator whose key was made with the store."""
        return Signing("local", PrivateKey.from_file(self.data / OPERATOR_FILE), now=time.time())

    async def load(self, *rows: Mapping[str, Any], name: str = "test") -> Taken:
        """Register rows through the owner process, as `topnode load` does."""
        return await load(self.data, *rows, name=name)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_ended(self, seconds: float = 30) -> int:
        """Wait for its end and give its exit code."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        """Let it drain, wait for its end, and give its exit code. A node that does not end is killed."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(40)
        except subprocess.TimeoutExpired:
            # Its children end when they see that it is gone.
            self.process.kill()
            self.process.wait()
            raise
        finally:
            if self.process.stdout:
                self.process.stdout.close()


def _channel(address: str, credentials: grpc.ChannelCredentials | None, name: str) -> grpc.Channel:
    options: list[tuple[str, int | str]] = [("grpc.use_local_subchannel_pool", 1)]
    if credentials is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, credentials, options=[*options, ("grpc.ssl_target_name_override", name)])


def route_row(prefix: str, address: str, *, holder: str = "", tls_name: str = "") -> dict[str, Any]:
    """Write the row by which a prefix is delegated to the node at this address, which has its name by itself."""
    host, _, port = address.rpartition(":")
    where = {"protocol": "grpc", "address": host, "port": int(port), "tls_name": tls_name}
    return {"prefix": prefix, "holder": holder or prefix, "hosting": "delegated", "endpoints": [where]}


async def load(data: Path, *rows: Mapping[str, Any], name: str = "test") -> Taken:
    """Register rows with the node that runs on this store, as `topnode load` does."""
    owner = current_owner(data)
    assert owner
    octets = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    part = Part(offset=0, end_offset=len(octets), first_line=1, rows=octets, is_last=True)
    piece = await piece_of(part)
    async with open_remote(owner.socket, Operator(), data, SystemClock()) as imports:
        body = body_of(piece, Manner(), NO_CHUNKS, name=name, number=1, restart=True)
        return await imports.take(body, piece.chunk)


def get(admin: str, path: str) -> tuple[int, str]:
    """Ask the admin endpoint of any node: status and body."""
    try:
        with urllib.request.urlopen(f"http://{admin}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def wait_until(seen: Callable[[], bool], seconds: float = 30, *, what: str = "", log: Path | None = None) -> float:
    """Poll until it is seen, for at most so many seconds, and give how long it took; `log` may say why not."""
    began = time.monotonic()
    while not seen():
        told = f"\n{log.read_text()[-8_000:]}" if log else ""
        assert time.monotonic() - began < seconds, f"not seen within {seconds} s: {what or seen}{told}"
        time.sleep(0.02)
    return time.monotonic() - began


def within_a_second(seen: Callable[[], bool], *, since: float | None = None, what: str = "") -> None:
    """Poll until it is seen; a look that begins a second after this call (or `since`, monotonic) must see it.

    How long a look takes is this machine's business and not the node's, so no look is late by its own length.
    """
    began = time.monotonic() if since is None else since
    while True:
        is_late = time.monotonic() - began >= 1
        if seen():
            return
        assert not is_late, f"not seen by a look that began after a second: {what or seen}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Is there such a process, other than one that ended and waits for its parent?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid: int, module: str = "") -> set[int]:
    """The processes that this one has started and that run; with a module, only those that have come to run it.

    Until its exec a child shares its parent's memory and command line, and the parent waits: stopping the one then
    stops the other.
    """
    path = Path(f"/proc/{pid}/task/{pid}/children")
    children = {int(child) for child in path.read_text().split() if is_running(int(child))}
    return {child for child in children if module.encode() in Path(f"/proc/{child}/cmdline").read_bytes()}
