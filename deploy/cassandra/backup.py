"""Copies a keyspace out of a ring and into an empty one, and tries that: a copy that was never restored is a hope.

A copy is a folder: `manifest.json`, `schema.cql` (the tables as they were, with their numbers), and for each node and
table the files that the node had at one moment. It needs the driver, so the Python of `.venv`.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deploy.cassandra.ring import Ring, RingError

if TYPE_CHECKING:
    from cassandra.cluster import Session

MANIFEST: Final = "manifest.json"
SCHEMA: Final = "schema.cql"
NODETOOL_SECONDS: Final = 24 * 3600.0
"""Repairing and importing take as long as there is to read."""
STATEMENT_SECONDS: Final = 600.0
FIRST: Final = -(2**63)
"""A bound of all tokens, and none itself."""
LAST: Final = 2**63 - 1


def back_up(ring: Ring, keyspace: str, target: Path) -> None:
    """Copy a keyspace as all nodes hold it at this moment; whoever writes to it should pause while it is taken.

    Raises:
        RingError: a node is down, there is no such keyspace, the target is not empty, or nodetool failed.
    """
    if target.exists() and any(target.iterdir()):
        raise RingError(f"{target} is not empty.")
    _check_serving(ring)
    with _connected(ring) as session:
        schema = _described(session, keyspace)
    target.mkdir(parents=True, exist_ok=True)
    tag = f"backup-{time.time_ns()}"
    # All at once: what is hard-linked is of one moment, but for the milliseconds between the nodes.
    _ask_all(ring, "snapshot", "-t", tag, keyspace)
    try:
        files = dict(_copied(ring, keyspace, tag, target))
    finally:
        _ask_all(ring, "clearsnapshot", "-t", tag, "--", keyspace)
    (target / SCHEMA).write_text("".join(f"{statement}\n\n" for statement in schema), encoding="utf-8")
    manifest = {
        "keyspace": keyspace,
        "data_centre": ring.data_centre,
        "nodes": ring.nodes,
        "tokens": _tokens(ring),
        "files": files,
    }
    # Written last: a folder without it is no copy.
    (target / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def restore(ring: Ring, source: Path) -> str:
    """Put a copy into a ring that has no keyspace of this name, and bring its replicas together. Give the name.

    Raises:
        RingError: the copy is not whole, the ring has another shape or the keyspace already, a node is down, or
            nodetool failed.
    """
    manifest = _manifest(source)
    keyspace = str(manifest["keyspace"])
    if (ring.nodes, ring.data_centre) != (manifest["nodes"], manifest["data_centre"]):
        raise RingError(
            f"The copy is of {manifest['nodes']} nodes in {manifest['data_centre']}, "
            f"the ring has {ring.nodes} in {ring.data_centre}."
        )
    _check_serving(ring)
    with _connected(ring) as session:
        if session.cluster.metadata.keyspaces.get(keyspace):
            raise RingError(f"The ring has a keyspace {keyspace}: a copy goes into an empty one only.")
        for statement in (source / SCHEMA).read_text(encoding="utf-8").split(";\n"):
            if statement.strip():
                session.execute(statement, timeout=STATEMENT_SECONDS)
    for table in sorted({folder.name for folder in source.glob("node*/*")}):
        folders = {node: source.resolve() / f"node{node}" / table for node in ring.numbers}
        asked = {
            node: ["import", "--copy-data", keyspace, table, str(each)]
            for node, each in folders.items()
            if each.exists()
        }
        _ask(ring, asked)
    # A replica that had missed a write when the copy was taken misses it still, and its hints were not copied.
    for node in ring.numbers:
        _ask(ring, {node: ["repair", "-full", "-pr", keyspace]})
    return keyspace


def counted(ring: Ring, keyspace: str) -> dict[str, int]:
    """Count the rows of each table at LOCAL_QUORUM, a range of tokens at a time."""
    with _connected(ring) as session:
        tables = session.cluster.metadata.keyspaces[keyspace].tables
        bounds = [FIRST, *sorted(token.value for token in session.cluster.metadata.token_map.ring), LAST]
        counts = dict.fromkeys(sorted(tables), 0)
        for table in counts:
            key = ", ".join(column.name for column in tables[table].partition_key)
            asked = session.prepare(
                f'SELECT count(*) FROM "{keyspace}".{table} WHERE token({key}) > ? AND token({key}) <= ?'  # noqa: S608 - names of the schema
            )
            answers = [session.execute_async(asked, each, timeout=STATEMENT_SECONDS) for each in pairwise(bounds)]
            counts[table] = sum(rows for answer in answers for (rows,) in answer.result())
        return counts


ENDING: Final = frozenset({"answers", "nonces"})
"""Tables whose rows end by themselves: there may be fewer after a while."""


def drill(ring: Ring, spare: Ring, keyspace: str, copy: Path, say: Callable[[str], None]) -> bool:
    """Copy a keyspace, restore it into a spare ring, which is empty and serves, and compare: is each row there?

    Args:
        ring: from which it is copied; whoever writes to it should pause.
        spare: as large as the other, and nobody else's.
        keyspace: its name.
        copy: where the copy is laid.
        say: takes a line for each step.

    Raises:
        RingError: as `back_up` and `restore`.
    """
    with _told(say, f"counted the rows of {keyspace}"):
        before = counted(ring, keyspace)
    with _told(say, f"copied it to {copy}"):
        back_up(ring, keyspace, copy)
    with _told(say, f"restored it into the ring in {spare.folder}"):
        restore(spare, copy)
    with _told(say, "counted the rows there"):
        after = counted(spare, keyspace)
    for table, rows in before.items():
        told = f"{rows:>12,} rows" if after[table] == rows else f"{rows:>12,} rows, restored {after[table]:,}"
        say(f"  {table:<20}{told}")
    return all(after[table] == rows for table, rows in before.items() if table not in ENDING)


@contextmanager
def _told(say: Callable[[str], None], step: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(f"{step} ({time.monotonic() - began:.1f} s)")


def _manifest(source: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RingError(f"{source} holds no copy that was finished: there is no {MANIFEST}.") from None
    for name, size in manifest["files"].items():
        # What is inside of the files is checked by checksums of their own, when they are imported.
        if not (source / name).exists() or (source / name).stat().st_size != size:
            raise RingError(f"{source / name} is missing or does not have the {size} bytes that it had.")
    return manifest


def _copied(ring: Ring, keyspace: str, tag: str, target: Path) -> Iterator[tuple[str, int]]:
    """Copy the snapshot of every node; give name and size of each file."""
    for node in ring.numbers:
        for snapshot in sorted((ring.place(node) / "data" / keyspace).glob(f"*/snapshots/{tag}")):
            place = target / f"node{node}" / snapshot.parents[1].name.rpartition("-")[0]
            for file in sorted(snapshot.iterdir()):
                # The rest is the snapshot's own list, and what the schema says for all.
                if file.name.startswith("da-"):
                    place.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file, place)
                    yield str((place / file.name).relative_to(target)), file.stat().st_size


def _described(session: "Session", keyspace: str) -> list[str]:
    if keyspace not in session.cluster.metadata.keyspaces:
        raise RingError(f"The ring has no keyspace {keyspace}.")
    return [row.create_statement for row in session.execute(f'DESCRIBE KEYSPACE "{keyspace}" WITH INTERNALS')]


def _tokens(ring: Ring) -> dict[int, list[int]]:
    told = _ask_all(ring, "info", "--tokens")
    return {
        node: [int(token) for token in re.findall(r"^Token .*: (-?\d+)$", text, re.MULTILINE)]
        for node, text in told.items()
    }


def _check_serving(ring: Ring) -> None:
    down = [node for node in ring.numbers if not ring.pid(node) or not ring.serves(node)]
    if down:
        raise RingError(f"Node {', '.join(map(str, down))} does not serve; all nodes of the ring must.")


def _ask_all(ring: Ring, *arguments: str) -> dict[int, str]:
    return _ask(ring, dict.fromkeys(ring.numbers, arguments))


def _ask(ring: Ring, arguments: Mapping[int, Sequence[str]]) -> dict[int, str]:
    """Ask nodes at the same time, each its own, and give what they have said."""
    asked = {
        node: subprocess.Popen(ring.nodetool(node, each), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for node, each in arguments.items()
    }
    said = {node: each.communicate(timeout=NODETOOL_SECONDS) for node, each in asked.items()}
    for node, each in asked.items():
        if each.returncode:
            raise RingError(f"nodetool {' '.join(arguments[node])} failed on node {node}:\n{''.join(said[node])}")
    return {node: output for node, (output, _) in said.items()}


@contextmanager
def _connected(ring: Ring) -> Iterator["Session"]:
    # Here, so that starting and stopping nodes needs no driver.
    from cassandra import ConsistencyLevel  # noqa: PLC0415
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile  # noqa: PLC0415
    from cassandra.policies import DCAwareRoundRobinPolicy  # noqa: PLC0415

    profile = ExecutionProfile(
        load_balancing_policy=DCAwareRoundRobinPolicy(ring.data_centre),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
    )
    cluster = Cluster(
        ring.addresses,
        port=ring.native_port,
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=30,
        control_connection_timeout=30,
    )
    try:
        yield cluster.connect()
    finally:
        cluster.shutdown()
