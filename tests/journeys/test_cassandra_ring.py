"""Real nodes, started by deploy/cassandra: one, a ring of three racks, and one with the settings of production."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cassandra.ring import Ring
from tests.habits.tree import ROOT
from tests.running_node import is_running
from tests.services.ports import free_ports
from tests.services.rings import RunningRing

pytestmark = [pytest.mark.needs("cassandra"), pytest.mark.timeout(300)]


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cassandra", "--folder", str(folder), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def test_one_node_serves_and_tells_how_it_is(cassandra: RunningRing) -> None:
    told = command(cassandra.ring.folder, "status")
    assert told.returncode == 0
    assert f"node 1  127.0.0.1:{cassandra.port}  dc=datacenter1 rack=rack1  serves, pid" in told.stdout
    assert command(cassandra.ring.folder, "nodetool", "version").stdout == "ReleaseVersion: 5.0.9\n"
    with cassandra.keyspace() as name:
        cassandra.cql(
            f"CREATE KEYSPACE {name} WITH replication = {{'class': 'NetworkTopologyStrategy', 'datacenter1': 1}}"
        )
        cassandra.cql(f"CREATE TABLE {name}.t (k int PRIMARY KEY, v text)")
        cassandra.cql(f"INSERT INTO {name}.t (k, v) VALUES (1, 'a')")
        assert [row.v for row in cassandra.cql(f"SELECT v FROM {name}.t WHERE k = 1")] == ["a"]
    assert cassandra.cql(f"SELECT * FROM system_schema.keyspaces WHERE keyspace_name = '{name}'") == []


def test_a_ring_has_a_replica_in_each_rack_and_goes_on_without_one_of_them(ring: RunningRing) -> None:
    with ring.keyspace() as name:
        ring.cql(
            f"CREATE KEYSPACE {name} WITH replication = {{'class': 'NetworkTopologyStrategy', 'datacenter1': 3}}"
        )
        ring.cql(f"CREATE TABLE {name}.t (k int PRIMARY KEY, v text)")
        described = ring.nodetool(1, "describering", name)
        ranges = [line for line in described.splitlines() if "TokenRange(" in line]
        assert len(ranges) == 3 * 16
        assert all(f"rack:rack{number}" in each for each in ranges for number in (1, 2, 3))
        ring.kill(2)
        ring.cql(f"INSERT INTO {name}.t (k, v) VALUES (1, 'a')")
        assert [row.v for row in ring.cql(f"SELECT v FROM {name}.t WHERE k = 1")] == ["a"]
        ring.wait_seen(by=1, state={2: "DN", 3: "UN"})
        assert command(ring.ring.folder, "status").returncode == 1
        ring.start(2)
        ring.wait_seen(by=3, state={1: "UN", 2: "UN"}, seconds=5)
        assert command(ring.ring.folder, "status").returncode == 0


def test_a_frozen_node_is_missed_and_comes_back(ring: RunningRing) -> None:
    ring.pause(3)
    ring.wait_seen(by=1, state={3: "DN"})
    ring.resume(3)
    ring.wait_seen(by=1, state={3: "UN"})


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a test has a ring of its own, which is stopped at the end."""
    yield tmp_path / "own"
    command(tmp_path / "own", "stop", "--kill")


def ports() -> list[str]:
    native, storage, jmx = free_ports(3)
    return ["--native-port", f"{native}", "--storage-port", f"{storage}", "--jmx-port", f"{jmx}"]


def test_a_node_takes_the_settings_of_production_and_keeps_its_rows_over_a_crash(folder: Path) -> None:
    started = command(folder, "start", "--heap", "512m", "--data-centre", "north", *ports())
    assert started.returncode == 0, started.stderr
    running = RunningRing(Ring.remembered(folder))
    settings = {row.name: row.value for row in running.cql("SELECT name, value FROM system_views.settings")}
    assert settings["commitlog_sync"] == "group"
    assert settings["commitlog_sync_group_window"].endswith("ms")
    assert settings["paxos_variant"] == "v2"
    assert settings["max_hint_window"] == "3h"
    assert settings["sstable.selected_format"] == "bti"
    running.cql("CREATE KEYSPACE k WITH replication = {'class': 'NetworkTopologyStrategy', 'north': 1}")
    running.cql("CREATE TABLE k.t (k int PRIMARY KEY)")
    running.cql("INSERT INTO k.t (k) VALUES (1)")
    running.close()
    running.kill(1)
    assert command(folder, "start").returncode == 0
    running = RunningRing(Ring.remembered(folder))
    assert [row.k for row in running.cql("SELECT k FROM k.t")] == [1]
    running.close()


def test_a_port_that_is_taken_is_named(folder: Path, cassandra: RunningRing) -> None:
    started = command(folder, "start", "--fast", "--native-port", str(cassandra.port))
    assert started.returncode == 1
    assert started.stderr == f"127.0.0.1:{cassandra.port} is taken: give --native-port another one.\n"


def test_a_node_that_cannot_start_says_why(folder: Path) -> None:
    started = command(folder, "start", "--fast", *ports(), "--setting", "no_such_setting: 1")
    assert started.returncode == 1
    assert "Node 1 ended" in started.stderr
    assert "no_such_setting" in started.stderr


def test_a_ring_that_runs_for_a_process_ends_with_it(folder: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as owner:
        arguments = ["--folder", str(folder), "run", "--fast", *ports(), "--while-running", str(owner.pid)]
        ran = [sys.executable, "-m", "deploy.cassandra", *arguments]
        with subprocess.Popen(ran, cwd=ROOT, stdout=subprocess.PIPE, text=True) as ring:
            assert ring.stdout
            assert "serves" in ring.stdout.readline()
            pid = Ring.remembered(folder).pid(1)
            assert is_running(pid)
            owner.kill()
            assert ring.wait(60) == 0
    assert not is_running(pid)
