"""Programs for benchmarks only, in Rust (`loadtest/rust`) and in Go (`loadtest/go`): built where cargo and go are.

`ask` sends a different message with each call, which h2load cannot; the echoes answer everything with one message.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from loadtest.cores import on_generator_cores
from loadtest.servers import first_line, pinned
from resolver.front.core import SERVICE

FOLDER: Final = Path(__file__).parent
BUILT: Final = FOLDER.parent / "build" / "loadtest"
RESOLVE: Final = f"/{SERVICE}/Resolve"

BARE: Final = "release/echo_h2"
OF_RUST: Final = {BARE: "bare echo, crate h2", "release/echo_tonic": "echo, tonic"}
OF_GO: Final = {"echo_go": "echo, grpc-go"}
"""Programs that answer from memory, on one thread or on the one core that they have; and what they are."""

NO_CARGO: Final = "there is no cargo (https://rustup.rs): misses, and the echoes on the crate h2 and on tonic."
NO_GO: Final = "there is no go that is new enough (loadtest/go/go.mod): the echo on grpc-go."

_SECONDS: Final = 120


class Asked(Struct, frozen=True):
    """What came of asking: `octets` are those of all answers, with the five before each."""

    calls: int
    failed: int
    octets: int
    seconds: float
    p50_us: float
    p99_us: float


class Server(Struct, frozen=True):
    """A server under measurement: its process, and the port at which it answers."""

    pid: int
    port: int


class Programs(Struct, frozen=True):
    """What could be built."""

    has_rust: bool
    has_go: bool

    @property
    def echoes(self) -> dict[str, str]:
        """Echoes by where they lie, and what they are."""
        return (OF_RUST if self.has_rust else {}) | (OF_GO if self.has_go else {})

    @property
    def left_out(self) -> list[str]:
        """Say what is not measured because something could not be built."""
        return ([] if self.has_rust else [NO_CARGO]) + ([] if self.has_go else [NO_GO])

    def ask(self, port: int, messages: Path, *, connections: int, streams: int) -> Asked:
        """Send each of the framed messages once, with so many calls under way.

        Raises:
            RuntimeError: calls failed.
        """
        command = [str(BUILT / "release" / "ask"), f"127.0.0.1:{port}", RESOLVE, str(connections), str(streams)]
        with on_generator_cores():
            ran = subprocess.run([*command, str(messages)], capture_output=True, check=True, timeout=_SECONDS)
        asked = msgspec.json.decode(ran.stdout, type=Asked)
        if asked.failed:
            raise RuntimeError(json.dumps(msgspec.to_builtins(asked)))
        return asked

    @contextmanager
    def echo(self, name: str, answer: Path) -> Iterator[Server]:
        """Run one of the echoes, which answers everything with the framed message in this file."""
        with pinned([str(BUILT / name), str(answer)]) as serving:
            yield Server(serving.pid, int(first_line(serving)))


def built() -> Programs:
    """Build what can be built here.

    Raises:
        CalledProcessError: cargo has said why they cannot be built.
    """
    BUILT.mkdir(parents=True, exist_ok=True)
    return Programs(has_rust=_with_cargo(), has_go=_with_go())


def _with_cargo() -> bool:
    cargo = shutil.which("cargo")
    if cargo is None:
        return False
    command = [
        cargo,
        "build",
        "--release",
        "--locked",
        "--quiet",
        f"--manifest-path={FOLDER / 'rust' / 'Cargo.toml'}",
    ]
    subprocess.run([*command, f"--target-dir={BUILT}"], check=True)
    return True


def _with_go() -> bool:
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        return False
    # One that is too old says so, instead of fetching another one.
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    command = [go, "build", "-o", str(BUILT / "echo_go"), "."]
    return subprocess.run(command, cwd=FOLDER / "go", env=environment, check=False).returncode == 0


def framed(messages: Sequence[bytes]) -> bytes:
    """Put messages one behind the other, each as gRPC frames it: not compressed, and its length."""
    return b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)
