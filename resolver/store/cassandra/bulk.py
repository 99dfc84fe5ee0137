"""From run files to SSTables in the ring, around its servers' write path. Programs of Cassandra's do the work.

    runs            what is to be written, by `runs.RunWriter`
    build_sstables  sorts that into SSTables of both tables (deploy/cassandra/bulk)
    import_sstables one node takes them: a ring of one, or of as many copies as nodes, on each node
    stream_sstables sends each row to the nodes that keep it, whatever ring it is
    unseen          what is not there afterwards, and should be

All of this may take hours and is called in a thread. None of it touches the journal: who calls holds the lease.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from resolver.errors import Fault, Reason
from resolver.store import RecordReader
from resolver.store.cassandra.migrating import migrations
from resolver.store.cassandra.runs import run_files
from resolver.units import Duration, Size

TABLES: Final = ("records", "listing")

_DATA: Final = "*-Data.db"

_LAST_WORDS: Final = 2_000
"""Characters of what a program said that stand in a Fault."""


class BulkSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a bulk load may take."""

    memory: Size = Size(2 << 30)
    """Memory for sorting; the program takes a quarter more, and 1 GiB."""

    sstable: Size = Size(1 << 30)
    """About the size of an SSTable: compacting one takes as much room again."""

    deadline: Duration = Duration(24 * 3_600.0)
    """The longest that one program may take."""


class Took(Struct, frozen=True):
    """Seconds of CPU in the threads that did it, and on the wall; collecting garbage and compiling not counted."""

    cpu: float
    wall: float


class Made(Struct, frozen=True, kw_only=True):
    """What became of one table: rows, of which `written` are left when each key stands once."""

    rows: int
    written: int
    partitions: int
    sstables: int
    octets: int
    """Bytes of the SSTables with all that belongs to them."""
    spills: int
    """Sorted files that were merged."""
    sorting: Took
    spilling: Took
    merging: Took
    writing: Took


class Report(Struct, frozen=True, kw_only=True):
    """What was made of run files. `encoding` is reading, checking and laying out, `process_cpu` all CPU together.

    `samples` are keys, one of each SSTable of records: to be looked for when it is imported.
    """

    rows: int
    first_index: int
    last_index: int
    encoding: Took
    records: Made
    listing: Made
    process_cpu: float
    samples: tuple[bytes, ...]


class _Job(Struct, kw_only=True):
    runs: list[str]
    target: str
    scratch: str
    keyspace: str
    records: str
    listing: str
    buckets: dict[str, int]
    memory: int
    sstable_bytes: int


def build_sstables(
    runs: Path,
    target: Path,
    *,
    program: Sequence[str],
    keyspace: str,
    buckets: Mapping[bytes, int],
    settings: BulkSettings,
) -> Report:
    """Sort the rows of run files into SSTables below `target`/`keyspace`, which must be new; the runs stay.

    `program` is the beginning of a command, `python -m deploy.cassandra.bulk`. `buckets` says for each folded prefix
    in how many its listing lies (`layout.buckets_for` where it has none yet). The disk of `target` holds what is
    sorted meanwhile: about the size of the runs.

    Raises:
        Fault: TOOL_FAILED: a run file is damaged, a prefix has no number of buckets, the disk is full, and others.
            STORE_EXISTS: there is something in `target` already.
    """
    made = target / keyspace
    made.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.mkdir()
    except FileExistsError:
        raise Fault(
            Reason.STORE_EXISTS, f"There is something in {made} already.", variables={"path": str(made)}
        ) from None
    with tempfile.TemporaryDirectory(prefix="sorting-", dir=target) as scratch:
        folder = Path(scratch)
        job = _Job(
            runs=[str(path) for path in run_files(runs)],
            target=str(target),
            scratch=scratch,
            keyspace=keyspace,
            records=_definition("records"),
            listing=_definition("listing"),
            buckets={prefix.decode(): count for prefix, count in buckets.items()},
            memory=int(settings.memory),
            sstable_bytes=int(settings.sstable),
        )
        order, report = folder / "job.json", folder / "report.json"
        order.write_bytes(msgspec.json.encode(job))
        _call([*program, str(order), str(report)], settings)
        return msgspec.json.decode(report.read_bytes(), type=Report)


def import_sstables(target: Path, *, nodetool: Sequence[str], keyspace: str, settings: BulkSettings) -> None:
    """Have a node of this machine take the SSTables of both tables; they are moved, and their folders removed.

    `nodetool` is the beginning of a command, for a node that keeps every row. Where it failed between the tables, the
    next time goes on with the second; a folder that the node has emptied is not given to it again.

    Raises:
        Fault: TOOL_FAILED: the node does not answer or did not take all; FILE_UNREADABLE: there is nothing to take.
    """
    left = [table for table in TABLES if (target / keyspace / table).exists()]
    for table in left or TABLES:
        folder = target / keyspace / table
        if not left:
            _filled(folder)
        if any(folder.glob(_DATA)):
            _call([*nodetool, "import", keyspace, table, str(folder.resolve())], settings)
        if stayed := sorted(folder.glob(_DATA)):
            raise Fault(Reason.TOOL_FAILED, f"The node did not take {stayed[0]} (and {len(stayed) - 1} more).")
        shutil.rmtree(folder)


def stream_sstables(target: Path, *, sstableloader: Sequence[str], keyspace: str, settings: BulkSettings) -> None:
    """Send the SSTables of both tables to the nodes that keep their rows. They stay here.

    `sstableloader` is the beginning of a command, `sstableloader -d 10.0.0.1,10.0.0.2`.

    Raises:
        Fault: TOOL_FAILED: a node does not answer or did not take all; FILE_UNREADABLE: there is nothing to send.
    """
    for table in TABLES:
        _call([*sstableloader, str(_filled(target / keyspace / table).resolve())], settings)


async def unseen(records: RecordReader, report: Report) -> list[bytes]:
    """Look for the samples of a load that was imported, and give those that nobody finds: there should be none."""
    fetched = await records.public(report.samples, confirmed=True)
    return [key for key, body in zip(report.samples, fetched.bodies, strict=True) if body is None]


def _definition(table: str) -> str:
    """Give the CQL that makes this table."""
    begins = f"CREATE TABLE IF NOT EXISTS {table} "
    return next(cql for each in migrations() for cql in each.statements if cql.startswith(begins))


def _filled(folder: Path) -> Path:
    # A node that is given an empty folder says nothing.
    if not any(folder.glob(_DATA)):
        raise Fault(Reason.FILE_UNREADABLE, f"There are no SSTables in {folder}.", variables={"path": str(folder)})
    return folder


def _call(command: Sequence[str], settings: BulkSettings) -> None:
    try:
        ended = subprocess.run(  # noqa: S603 - a command of the operator's own
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=settings.deadline
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(command, str(error)) from error
    if ended.returncode:
        raise _failed(
            command, f"exit code {ended.returncode}. It said: {(ended.stderr or ended.stdout)[-_LAST_WORDS:]}"
        )


def _failed(command: Sequence[str], what: str) -> Fault:
    return Fault(Reason.TOOL_FAILED, f"{command[0]} failed: {what}", variables={"program": command[0]})
