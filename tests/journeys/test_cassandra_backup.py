"""A keyspace is copied out of a ring of three and restored into an empty one, with all that a store has in it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from deploy.cassandra.ring import Ring
from resolver.clock import SystemClock
from resolver.store.cassandra.migrating import migrate
from resolver.store.cassandra.settings import CassandraSettings
from tests.habits.tree import ROOT
from tests.services.ports import free_ports
from tests.services.rings import RunningRing

pytestmark = [pytest.mark.needs("cassandra"), pytest.mark.timeout(600)]

ROWS = 200


def command(ring: Ring, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cassandra", "--folder", str(ring.folder), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


@pytest.fixture
async def store(ring: RunningRing) -> str:
    """A migrated keyspace with some rows, one of them deleted, and a journal of as many entries."""
    name = f"backup_{ring.port}"
    settings = CassandraSettings(hosts=ring.hosts, port=ring.port, keyspace=name, datacenter=ring.data_centre)
    await migrate(settings, clock=SystemClock(), registry=CollectorRegistry())
    for number in range(ROWS):
        ring.cql(
            f"INSERT INTO {name}.records (key, public_body) VALUES (textAsBlob('{number}'), 0xff) "
            f"USING TIMESTAMP {number}"
        )
    ring.cql(f"DELETE FROM {name}.records USING TIMESTAMP {ROWS} WHERE key = textAsBlob('7')")
    ring.cql(f"UPDATE {name}.head SET size = {ROWS} WHERE name = 'journal' IF epoch = 0 AND size = 0")
    return name


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "drill"
    if (tmp_path / "drill" / "ring").exists():
        command(Ring.remembered(tmp_path / "drill" / "ring"), "stop", "--kill")


def test_what_was_copied_is_restored_into_an_empty_ring(ring: RunningRing, store: str, place: Path) -> None:
    hosts = ring.hosts
    native, storage, jmx, *_ = free_ports(5, *hosts)
    ports = ["--native-port", f"{native}", "--storage-port", f"{storage}", "--jmx-port", f"{jmx}"]
    tried = command(ring.ring, "drill", "--keyspace", store, *ports, "--keep", str(place))
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert f"  {'records':<20}{ROWS - 1:>12,} rows\n" in tried.stdout
    assert "What was restored is what was there." in tried.stdout

    spare = RunningRing(Ring.remembered(place / "ring"))
    try:
        rows = spare.cql(f"SELECT key FROM {store}.records")
        assert {row.key for row in rows} == {f"{number}".encode() for number in range(ROWS) if number != 7}
        # It is the head that was copied, and the next transaction goes on from there.
        update = f"UPDATE {store}.head SET size = {ROWS + 1} WHERE name = 'journal' IF epoch = 0 AND size = {ROWS}"
        ((applied,),) = spare.cql(update)
        assert applied
        (secret,) = ring.cql(f"SELECT octets FROM {store}.meta WHERE name = 'secret'")
        assert spare.cql(f"SELECT octets FROM {store}.meta WHERE name = 'secret'") == [secret]
    finally:
        spare.close()

    again = command(spare.ring, "restore", str(place / "copy"))
    assert again.returncode == 1
    assert f"The ring has a keyspace {store}" in again.stderr

    spare = RunningRing(spare.ring)
    spare.cql(f"DROP KEYSPACE {store}")
    spare.close()
    (damaged,) = (place / "copy" / "node2" / "records").glob("*-Data.db")
    octets = bytearray(damaged.read_bytes())
    octets[len(octets) // 2] ^= 1
    damaged.write_bytes(octets)
    refused = command(spare.ring, "restore", str(place / "copy"))
    assert refused.returncode == 1
    assert f"import --copy-data {store} records {damaged.parent} failed on node 2" in refused.stderr


def test_a_copy_that_lacks_a_file_or_was_not_finished_is_refused(ring: RunningRing, tmp_path: Path) -> None:
    unfinished = command(ring.ring, "restore", str(tmp_path))
    assert unfinished.returncode == 1
    assert "holds no copy that was finished" in unfinished.stderr
    manifest = {
        "keyspace": "k",
        "data_centre": ring.data_centre,
        "nodes": 3,
        "files": {"node1/t/da-1-bti-Data.db": 9},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    damaged = command(ring.ring, "restore", str(tmp_path))
    assert damaged.returncode == 1
    assert "da-1-bti-Data.db is missing or does not have the 9 bytes" in damaged.stderr


def test_a_keyspace_that_is_not_there_and_a_folder_that_is_not_empty_are_refused(
    ring: RunningRing, tmp_path: Path
) -> None:
    unknown = command(ring.ring, "backup", "--keyspace", "no_such", str(tmp_path / "copy"))
    assert unknown.returncode == 1
    assert unknown.stderr == "The ring has no keyspace no_such.\n"
    (tmp_path / "file").touch()
    taken = command(ring.ring, "backup", "--keyspace", "no_such", str(tmp_path))
    assert taken.returncode == 1
    assert taken.stderr == f"{tmp_path} is not empty.\n"
