"""The way around the servers, measured: run files, SSTables, their import into a running node, and reading from it.

    python -m deploy.cassandra --folder /somewhere/ring start
    python -m loadtest.bulk --rows 20000000 --folder /somewhere/bulk --ring /somewhere/ring

A row is a registration of the demo's corpus. Folder and ring lie on one file system, which needs about 1.5 KB for
each row at the highest. What was made is removed in the end, the keyspace too. The promise is scaled by what a call
of the bare echo costs here (`machine`); exit code 1 where it was missed.
"""

import argparse
import random
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from cassandra.cluster import Cluster, Session
from cassandra.concurrent import execute_concurrent_with_args
from msgspec.structs import replace
from rich.console import Console

from deploy.cassandra.ring import Ring
from loadtest import machine
from loadtest.figures import Bar, Figures
from nodes.demo.corpus import RUN, Corpus
from resolver import wire
from resolver.handle import CaseRule, Handle
from resolver.record import Record
from resolver.store import Write
from resolver.store.cassandra.bulk import BulkSettings, Made, Report, build_sstables, import_sstables
from resolver.store.cassandra.layout import buckets_for
from resolver.store.cassandra.migrating import migrations
from resolver.store.cassandra.runs import RunWriter, run_files
from resolver.units import Size

KEYSPACE: Final = "bulk_measured"
REGISTERED_AT: Final = 1_800_000_000
CHUNK: Final = 16 * RUN
SCALE: Final = 444_000_000
READ: Final = 100_000
WIDTH: Final = 32
AT_ONCE: Final = 8
_ONE_OF: Final = 97
"""Of so many rows one may be read."""


def main() -> None:
    """Measure, and print what was found."""
    arguments = _arguments()
    here = uvloop.run(machine.measure())
    ring = Ring.remembered(arguments.ring.resolve())
    folder: Path = arguments.folder
    settings = BulkSettings(memory=Size.from_text(arguments.memory), sstable=Size.from_text(arguments.sstable))
    cluster = Cluster(ring.addresses, port=ring.native_port, protocol_version=5)
    session = cluster.connect()
    try:
        _make_keyspace(session)
        wanted, buckets = _write_runs(folder / "runs", arguments.rows)
        began = time.perf_counter()
        program = [sys.executable, "-m", "deploy.cassandra.bulk"]
        report = build_sstables(
            folder / "runs", folder / "made", program=program, keyspace=KEYSPACE, buckets=buckets, settings=settings
        )
        own = _show(report, time.perf_counter() - began)
        _show_files(folder / "made" / KEYSPACE)
        shutil.rmtree(folder / "runs")
        began = time.perf_counter()
        import_sstables(folder / "made", nodetool=ring.nodetool(1, []), keyspace=KEYSPACE, settings=settings)
        print(f"import: {time.perf_counter() - began:.1f} s")
        _read(session, wanted)
    finally:
        session.execute(f"DROP KEYSPACE IF EXISTS {KEYSPACE}", timeout=60)
        cluster.shutdown()
        shutil.rmtree(folder / "made", ignore_errors=True)
        shutil.rmtree(folder / "runs", ignore_errors=True)
    promise = Bar(
        name="the Java step", measured=own, bound=200_000, is_floor=True, unit="rows per CPU second", is_absolute=True
    )
    figures = Figures(bars=[promise], notes={"bare echo, CPU us a call": here.echo * 1e6})
    figures.scale(here.slowness)
    figures.show(Console())
    sys.exit(not all(bar.holds for bar in figures.bars))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtest.bulk", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--folder", type=Path, required=True, help="where runs and SSTables are made")
    parser.add_argument("--ring", type=Path, required=True, help="the folder of a ring of one node that runs")
    parser.add_argument("--memory", default="2GiB", help="for sorting")
    parser.add_argument("--sstable", default="1GiB", help="about the size of an SSTable")
    return parser.parse_args()


def _make_keyspace(session: Session) -> None:
    session.execute(f"DROP KEYSPACE IF EXISTS {KEYSPACE}", timeout=60)
    session.execute(
        f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    )
    session.set_keyspace(KEYSPACE)
    for migration in migrations():
        for statement in migration.statements:
            session.execute(statement, timeout=60)


# --- rows ----------------------------------------------------------------------------------------------------------


def _write_runs(folder: Path, rows: int) -> tuple[dict[bytes, bytes], dict[bytes, int]]:
    """Write run files; give some of the bodies by key, and how many buckets each prefix has."""
    wanted: dict[bytes, bytes] = {}
    spent, octets = 0.0, 0
    with RunWriter(folder) as writer:
        writes = _writes(rows)
        index = 1_000
        while chunk := list(islice(writes, CHUNK)):
            index += 1
            began = time.process_time()
            writer.add(index, chunk)
            spent += time.process_time() - began
            octets += sum(len(write.public) + len(write.full) for write in chunk)
            version = wire.version_field(index)
            wanted.update({write.key: write.public + version for write in chunk[index % _ONE_OF :: _ONE_OF]})
        count, below = writer.rows, dict(writer.below)
    size = sum(path.stat().st_size for path in run_files(folder))
    print(
        f"runs: {count:,} rows, {count / spent:,.0f} rows per CPU second of RunWriter.add, {size / count:.0f} B a row"
    )
    print(f"bodies: {octets / count:.0f} B a row (public, and full where there is one); {len(below)} prefixes")
    return wanted, {prefix: buckets_for(keys) for prefix, keys in below.items()}


def _writes(rows: int) -> Iterator[Write]:
    """Give registrations of the corpus. Those of one run differ by their serial, which is put in by replacing."""
    corpus = Corpus(rows)
    number = 0
    while number < rows:
        end = min(number + RUN, rows) - 1
        prefix = corpus.prefix(number)
        if corpus.prefix(end) is not prefix:
            # An enterprise's last run is not whole; it is left out.
            number = next(each for each in range(number, rows) if corpus.prefix(each) is not prefix)
            continue
        found = corpus.registration((number + end) // 2)
        record = Record(
            identifier=Handle.from_text(found.identifier),
            values=tuple(replace(value, timestamp=REGISTERED_AT) for value in found.values),
            registrant=prefix.holder or prefix.text,
            registered_at=REGISTERED_AT,
            updated_at=REGISTERED_AT,
        )
        key = record.identifier.canonical(prefix.case)
        public = wire.record_body(record, public=True)
        full = b"" if record.is_public else wire.record_body(record, public=False)
        own, serials = _serials(corpus, (number + end) // 2, prefix.case)
        for serial in serials[: end + 1 - number]:
            yield Write(key.replace(own, serial), public.replace(own, serial), full.replace(own, serial), True)
        number = end + 1


def _serials(corpus: Corpus, number: int, case: CaseRule) -> tuple[bytes, list[bytes]]:
    """Find the serial of a registration, and give those of the whole run, of the same length."""
    one, other = corpus.identifier(number), corpus.unregistered(number)
    at = next(place for place, letters in enumerate(zip(one, other, strict=True)) if letters[0] != letters[1])
    if case is CaseRule.SENSITIVE:
        both = product(range(1, RUN // 2 + 1), "xX")
        return one[at : at + 5].encode(), [f"{serial:04}{letter}".encode() for serial, letter in both]
    return one[at : at + 4].encode(), [f"{serial:04}".encode() for serial in range(1, RUN + 1)]


# --- what was found ------------------------------------------------------------------------------------------------


def _show(report: Report, seconds: float) -> float:
    """Show what each step took, and give the rows per CPU second of all that the program does itself."""
    records, listing = report.records, report.listing
    steps = {
        "encoding (read, check, lay out)": report.encoding.cpu,
        "sort records": records.sorting.cpu + records.spilling.cpu + records.merging.cpu,
        "sort listing": listing.sorting.cpu + listing.spilling.cpu + listing.merging.cpu,
        "write records": records.writing.cpu,
        "write listing": listing.writing.cpu,
    }
    steps["write both"] = records.writing.cpu + listing.writing.cpu
    steps["all of it"] = sum(steps.values()) - steps["write both"]
    steps["with garbage and compiling"] = report.process_cpu
    for step, cpu in steps.items():
        print(f"  {step:32}{cpu:8.1f} CPU s {report.rows / cpu:12,.0f} rows per CPU second")
    print(f"build: {seconds:.1f} s, {report.rows / seconds:,.0f} rows/s on the wall")
    for name, made in (("records", records), ("listing", listing)):
        _show_table(name, made)
    print(msgspec.json.encode(replace(report, samples=())).decode())
    return report.rows / steps["all of it"]


def _show_table(name: str, made: Made) -> None:
    each = made.octets / made.written
    print(
        f"{name}: {made.written:,} rows in {made.partitions:,} partitions, {made.sstables} SSTables, "
        f"{made.spills} spills, {each:.1f} B a row; {SCALE / 1e6:.0f} million rows: {SCALE * each / 1e9:.0f} GB"
    )


def _show_files(folder: Path) -> None:
    sizes: dict[str, int] = {}
    for path in folder.glob("*/*.db"):
        kind = f"{path.parent.name} {path.name.rpartition('-')[2]}"
        sizes[kind] = sizes.get(kind, 0) + path.stat().st_size
    print(", ".join(f"{kind} {size:,}" for kind, size in sorted(sizes.items())))


def _read(session: Session, wanted: dict[bytes, bytes]) -> None:
    """Read keys from all over the table, and as many that are not there."""
    session.default_timeout = 60
    select = session.prepare("SELECT key, public_body FROM records WHERE key IN ?")
    keys = random.Random(1).sample(sorted(wanted), min(READ, len(wanted)))
    for what, asked in (("there", keys), ("absent", [key + b"!" for key in keys])):
        lists = [(asked[first : first + WIDTH],) for first in range(0, len(asked), WIDTH)]
        began = time.perf_counter()
        answers: list[Any] = list(execute_concurrent_with_args(session, select, lists, concurrency=AT_ONCE))
        seconds = time.perf_counter() - began
        found = {row.key: row.public_body for answer in answers for row in answer.result_or_exc}
        right = sum(found.get(key) == wanted.get(key) for key in asked)
        rate = len(asked) / seconds
        print(f"read {what}: {len(found):,} found, {right:,} of {len(asked):,} as written, {rate:,.0f} keys/s")
    listed = session.prepare("SELECT count(*) FROM listing WHERE prefix = ? AND bucket = ?")
    prefixes = sorted({key.partition(b"/")[0] for key in keys})
    counts = []
    for prefix in prefixes[:5]:
        buckets = 1
        while not (
            count := sum(session.execute(listed, (prefix, each)).one()[0] for each in range(buckets, 2 * buckets))
        ):
            buckets *= 2
        counts.append(count // buckets)
    print(f"listing: buckets of {', '.join(map(str, counts))} rows; median {statistics.median(counts):,.0f}")


if __name__ == "__main__":
    main()
