"""`make cluster`: Redis, Cassandra and a node on one machine, by the command that README names."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nodes.serving.started import Started
from tests.fronts import addresses
from tests.running_node import ANY_PORTS, ROOT, get, wait_until
from tests.services.ports import free_ports
from tests.topnode import asked, told, topnode

pytestmark = [pytest.mark.needs("cassandra"), pytest.mark.needs("redis"), pytest.mark.timeout(600)]

NODE = "88.111"
ROW = '{"identifier": "88.111/SN-1", "values": [{"index": 1, "type": "URL", "data": "https://parts.example.cn/1"}]}\n'


@contextmanager
def cluster(folder: Path, ports: list[int]) -> Iterator[Started]:
    """Run it until the end of the context, where it is told to stop and must end well."""
    native, storage, jmx, redis = map(str, ports)
    command = [sys.executable, "-m", "deploy.cluster", "--folder", str(folder), "--heap", "512m"]
    command += ["--native-port", native, "--storage-port", storage, "--jmx-port", jmx, "--redis-port", redis, "--"]
    command += ANY_PORTS
    log = folder.parent / "cluster.log"
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            [*command, "--workers", "1", "--json"], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors
        ) as started,
    ):
        assert started.stdout
        try:
            line = started.stdout.readline()
            assert line, log.read_text()
            yield msgspec.json.decode(line, type=Started)
        finally:
            started.send_signal(signal.SIGTERM)
            code = started.wait(120)
    assert code == 0, log.read_text()


def test_a_cluster_of_one_machine_registers_resolves_and_is_there_again(tmp_path: Path) -> None:
    """What was registered is resolved from Redis the second time, and is there when all of it was stopped."""
    folder, ports = tmp_path / "cluster", free_ports(4)
    with cluster(folder, ports) as node:
        registry = ("--registry", node.registry)
        operator = ("--actor", "operator", "--key", folder / "operator.pem", *registry)
        own = ("--actor", NODE, "--key", tmp_path / "node.pem", *registry)
        assert topnode("key", "new", tmp_path / "node.pem").returncode == 0
        wait_until(lambda: _applies(own), 30, what="a writer", log=tmp_path / "cluster.log")
        assert topnode("node", "review", NODE, "--enable", *operator).returncode == 0
        assert topnode("prefix", "allocate", NODE, "--holder", NODE, *operator).returncode == 0
        (tmp_path / "rows.ndjson").write_text(ROW)
        assert told(topnode("register", tmp_path / "rows.ndjson", *own, "--json"))["registered"] == 1
        native, grpcio = addresses(node)
        assert _traced(native)["store"] == "1 held, 0 not held"
        _forget(node)
        # The successor may serve a moment before it has connected to Redis.
        wait_until(lambda: _traced(grpcio).get("redis") == "1 hit, 0 miss", what="Redis answers")
        assert _traced(native)["memory"] == "1 hit, 0 miss", "what the other front was told"
    with cluster(folder, ports) as node:
        assert b"https://parts.example.cn/1" in asked(addresses(node), "resolve", f"{NODE}/SN-1").stdout


def _applies(own: tuple[object, ...]) -> bool:
    """Until it is this machine's turn to write there is no registry."""
    return topnode("node", "apply", "--tier", "secondary", "--organisation", "A works", *own).returncode == 0


def _traced(front: str) -> dict[str, str]:
    """Ask for it, and tell what each tier said."""
    document = told(topnode("resolve", f"{NODE}/SN-1", "--node", front, "--trace", "--json"))
    return {step["tier"]: step["verdict"] for step in document["trace"]}


def _forget(node: Started) -> None:
    """End the resolver, and with it what it has in memory; its successor has nothing yet."""
    killed = _resolver(node)["pid"]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: (now := _resolver(node))["condition"] == "serving" and now["pid"] != killed)


def _resolver(node: Started) -> dict[str, Any]:
    _, worker, _ = json.loads(get(node.admin, "/readyz")[1])["processes"]
    return dict(worker)
