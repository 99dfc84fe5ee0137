"""Servers under measurement: processes pinned to the servers' core, ended when what measures them is done."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from loadtest.cores import on_server_core
from registry.keyring import OPERATOR_FILE
from resolver.trust.keys import PrivateKey


class Node(Struct, frozen=True):
    """A running node: the ports of its resolvers and its registry, its admin address, and processes by name.

    `operator` is the key of the operator `local`.
    """

    resolver: int
    registry: int
    admin: str
    pids: Mapping[str, int]
    operator: PrivateKey
    native: int = 0
    """The port of the native front, 0 where there is none; `resolver` is that of grpcio."""


@contextmanager
def node(data: Path, *options: str, workers: int, **settings: str) -> Iterator[Node]:
    """Run a real node on this store; further options are the command's, `settings` its environment.

    What is measured is the grpcio front, unless `TOPNODE_NATIVE__ENABLED` is set.
    """
    command = [
        sys.executable,
        "-m",
        "nodes",
        "serve",
        "top",
        "--data",
        str(data),
        "--workers",
        str(workers),
        "--json",
    ]
    for option in ("listen", "streaming", "registry", "admin"):
        command += [f"--{option}", "127.0.0.1:0"]
    command += ["--log-level", "warning", *options]
    with pinned(command, {"TOPNODE_NATIVE__ENABLED": "false", **settings}) as serving:
        started = json.loads(first_line(serving))
        pids = _serving(started["admin"])
        yield Node(
            _port(started["streaming"]),
            _port(started["registry"]),
            started["admin"],
            pids,
            PrivateKey.from_file(data / OPERATOR_FILE),
            _port(started["address"]) if started["native"] else 0,
        )


def _serving(admin: str) -> dict[str, int]:
    """Wait until all processes serve: with a ring for a store the owner may stand by first."""
    while True:
        with urllib.request.urlopen(f"http://{admin}/readyz", timeout=10) as answer:
            processes = json.load(answer)["processes"]
        if all(each["condition"] == "serving" for each in processes):
            return {each["name"]: each["pid"] for each in processes}
        time.sleep(0.05)


@contextmanager
def echo() -> Iterator[tuple[int, int]]:
    """Run a bare echo of grpc.aio; gives its port and its process."""
    with pinned([sys.executable, "-m", "loadtest.echo"]) as serving:
        yield int(first_line(serving)), serving.pid


@contextmanager
def pinned(command: Sequence[str], settings: Mapping[str, str] | None = None) -> "Iterator[subprocess.Popen[bytes]]":
    """Run a process, and what it starts, on the servers' core."""
    environment = {**os.environ, **(settings or {})}
    with on_server_core():
        serving = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        yield serving
    finally:
        serving.terminate()
        serving.wait(timeout=60)


def first_line(serving: "subprocess.Popen[bytes]") -> bytes:
    """Give the first line that a server prints: that it serves."""
    assert serving.stdout is not None
    return serving.stdout.readline()


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
