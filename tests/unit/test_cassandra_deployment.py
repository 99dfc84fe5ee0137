"""What deploy/cassandra writes for a node, which Java it takes, and what it says when something is missing."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from deploy.cassandra import jars, jdk
from deploy.cassandra.ring import Ring, RingError
from tests.habits.tree import ROOT


def java(folder: Path, version: str, *, release: bool = True) -> Path:
    """Make what looks like an installed Java of this version."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n")
    program.chmod(0o755)
    if release:
        (folder / "release").write_text(f'IMPLEMENTOR="Debian"\nJAVA_VERSION="{version}"\n')
    return folder


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cassandra", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


# --- Java ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", [True, False])
@pytest.mark.parametrize(
    ("version", "major"), [("17.0.15", 17), ("17", 17), ("25.0.1", 25), ("11.0.2", 11), ("1.8.0_402", 8)]
)
def test_a_java_is_asked_for_its_version(tmp_path: Path, version: str, major: int, *, release: bool) -> None:
    assert jdk.version_of(java(tmp_path / "jdk", version, release=release)) == major


def test_java_home_comes_first_then_what_is_installed_then_the_path(tmp_path: Path) -> None:
    home = java(tmp_path / "home", "17.0.1")
    installed = java(tmp_path / "jvm" / "java-17", "17.0.2").parent
    on_path = java(tmp_path / "elsewhere", "17.0.3")
    path = {"PATH": str(on_path / "bin")}
    assert jdk.home({"JAVA_HOME": str(home), **path}, installed) == home
    assert jdk.home(path, installed) == installed / "java-17"
    assert jdk.home(path, tmp_path / "none") == on_path


def test_another_version_is_passed_over(tmp_path: Path) -> None:
    newer = java(tmp_path / "home", "25.0.1")
    installed = java(tmp_path / "jvm" / "java-11", "11.0.2").parent
    java(installed / "java-17", "17.0.2")
    assert jdk.home({"JAVA_HOME": str(newer), "PATH": ""}, installed) == installed / "java-17"


def test_without_java_17_it_says_what_there_is_and_what_to_install(tmp_path: Path) -> None:
    newer = java(tmp_path / "home", "25.0.1")
    with pytest.raises(jdk.NoJdkError) as refused:
        jdk.home({"JAVA_HOME": str(newer), "PATH": ""}, tmp_path / "none")
    said = str(refused.value)
    assert "needs Java 17, neither older nor newer" in said
    assert f"{newer}: Java 25" in said
    assert "sudo apt-get install openjdk-17-jdk-headless" in said


def test_where_there_is_no_java_at_all_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(jdk.NoJdkError, match="found none"):
        jdk.home({"PATH": str(tmp_path)}, tmp_path)


# --- jars ----------------------------------------------------------------------------------------------------------


@pytest.mark.needs("cassandra")
def test_without_jars_and_maven_it_says_what_to_install(tmp_path: Path) -> None:
    java_home = jdk.home()
    ran = command("jars", TOPNODE_CASSANDRA_JARS=str(tmp_path), PATH=str(tmp_path), JAVA_HOME=str(java_home))
    assert ran.returncode == 1
    assert str(tmp_path) in ran.stderr
    assert "sudo apt-get install maven" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_version_that_is_looked_for_is_the_one_that_maven_brings() -> None:
    assert jars.SERVER.removeprefix("cassandra-all-").removesuffix(".jar") in (
        ROOT / "deploy" / "cassandra" / "pom.xml"
    ).read_text(encoding="utf-8")


# --- configuration -------------------------------------------------------------------------------------------------


def lines(ring: Ring, node: int) -> list[str]:
    return ring.yaml(node).splitlines()


def test_in_production_a_write_is_on_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    written = lines(Ring(folder=tmp_path), 1)
    assert "commitlog_sync: group" in written
    assert sum(line.startswith("commitlog_sync_group_window: ") for line in written) == 1
    assert not [line for line in written if "periodic" in line and not line.startswith("#")]
    assert not [line for line in written if line.startswith(("auto_bootstrap", "initial_token"))]


def test_a_fast_ring_is_not_durable_and_nothing_is_said_twice(tmp_path: Path) -> None:
    written = lines(Ring(folder=tmp_path, nodes=3, fast=True, settings=("write_request_timeout: 9s",)), 2)
    assert "commitlog_sync: periodic" in written
    assert "write_request_timeout: 9s" in written
    keys = [line.partition(":")[0] for line in written if line and not line.startswith((" ", "#"))]
    assert sorted(keys) == sorted(set(keys))
    assert "commitlog_sync_group_window" not in keys


def test_a_setting_that_is_given_replaces_all_of_the_one_that_was_there(tmp_path: Path) -> None:
    written = lines(Ring(folder=tmp_path, settings=("memtable: {configurations: {}}",)), 1)
    assert "memtable: {configurations: {}}" in written
    assert not [line for line in written if "TrieMemtable" in line]
    assert "memtable_allocation_type: offheap_objects" in written


def test_each_node_has_its_address_its_folder_and_its_rack(tmp_path: Path) -> None:
    ring = Ring(folder=tmp_path, nodes=4, native_port=9142, storage_port=7100, data_centre="north")
    written = lines(ring, 4)
    assert "listen_address: 127.0.0.4" in written
    assert "native_transport_port: 9142" in written
    assert "storage_port: 7100" in written
    assert f"commitlog_directory: {tmp_path}/node4/commitlog" in written
    assert '    parameters: [{seeds: "127.0.0.1,127.0.0.2,127.0.0.3"}]' in written
    assert [ring.rack(node) for node in ring.numbers] == [f"dc=north\nrack=rack{rack}\n" for rack in (1, 2, 3, 1)]


def test_the_tokens_of_a_fast_ring_are_all_different_and_evenly_spread(tmp_path: Path) -> None:
    ring = Ring(folder=tmp_path, nodes=3, fast=True)
    owned: dict[int, int] = {}
    for node in ring.numbers:
        (line,) = [each for each in lines(ring, node) if each.startswith("initial_token: ")]
        owned |= {int(token): node for token in line.partition(": ")[2].split(",")}
    tokens = sorted(owned)
    assert len(tokens) == 3 * 16
    gaps = {following - token for token, following in pairwise(tokens)}
    assert max(gaps) - min(gaps) <= 1
    assert [owned[token] for token in tokens] == [1, 2, 3] * 16


# --- what the folder remembers ---------------------------------------------------------------------------------


def test_a_ring_is_remembered_by_its_folder(tmp_path: Path) -> None:
    made = Ring.made(tmp_path, nodes=3, native_port=9142, settings=("concurrent_reads: 8",))
    assert Ring.remembered(tmp_path) == made
    assert Ring.made(tmp_path) == made


def test_a_ring_is_not_made_again_with_other_options(tmp_path: Path) -> None:
    Ring.made(tmp_path, nodes=3)
    with pytest.raises(RingError, match="was made with nodes 3, not 1"):
        Ring.made(tmp_path, nodes=1)


@pytest.mark.parametrize("arguments", [("status",), ("stop",), ("nodetool", "status")])
def test_where_no_ring_is_it_says_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ran = command("--folder", str(tmp_path), *arguments)
    assert ran.returncode == 1
    assert ran.stderr == f"There is no ring in {tmp_path}. `start` makes one.\n"


def test_a_node_that_the_ring_does_not_have_is_refused(tmp_path: Path) -> None:
    Ring.made(tmp_path, nodes=2)
    ran = command("--folder", str(tmp_path), "start", "--node", "3")
    assert ran.returncode == 1
    assert "has nodes 1 to 2, and no node 3" in ran.stderr


def test_a_ring_that_was_made_and_not_started_is_stopped(tmp_path: Path) -> None:
    Ring.made(tmp_path, nodes=2)
    ran = command("--folder", str(tmp_path), "status")
    assert ran.returncode == 1
    assert ran.stdout.count("stopped") == 2
