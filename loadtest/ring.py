"""`make bench`, second part: the cache and the store that several machines share, on servers of its own.

Starts a real Cassandra with the settings of production, one node of it, and Redis; everything ends with it. Bounds in
microseconds and rates are scaled by what a call of the bare echo costs here (`machine`).
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvloop
from msgspec.structs import replace
from rich.console import Console

from deploy.cassandra.ring import Ring
from loadtest import cassandra, cassandra_writes, machine, redis_loss, redis_path
from loadtest.figures import Figures
from resolver.store.cassandra.settings import CassandraSettings

PORTS: Final = {"native_port": 19_042, "storage_port": 17_000, "jmx_port": 17_199}


def main() -> None:
    """Measure, show, write down; exit code 1 when a promise was missed."""
    parser = argparse.ArgumentParser(prog="loadtest.ring", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--folder", type=Path, help="where the servers have their files: 3 GB on a local disk")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="topnode-ring-", dir=arguments.folder) as folder:
        figures = _measure(Path(folder), console)
    figures.show(console)
    if arguments.json:
        figures.write(arguments.json)
        console.print(f"written to {arguments.json}")
    sys.exit(not all(bar.holds for bar in figures.bars))


def _measure(folder: Path, console: Console) -> Figures:
    with console.status("the bare echo"):
        here = uvloop.run(machine.measure())
    figures = Figures(notes={"bare echo, CPU us a call": here.echo * 1e6})
    with console.status("through Redis"):
        _add(figures, redis_path.measured(folder))
    with console.status("Cassandra is starting") as status, ring(folder / "ring") as settings:
        status.update("reading from Cassandra")
        _add(figures, cassandra.figures_of(uvloop.run(cassandra.measure(replace(settings, keyspace="reading")))))
        status.update("writing to Cassandra")
        writing = replace(settings, keyspace="writing")
        _add(figures, cassandra_writes.figures_of(uvloop.run(cassandra_writes.measure(writing))))
        status.update("Redis is killed under a node")
        _add(figures, redis_loss.measured(replace(settings, keyspace="losing"), folder / "loss"))
    figures.scale(here.slowness)
    return figures


@contextmanager
def ring(folder: Path) -> Iterator[CassandraSettings]:
    """Run one node as production has it, but for the number of copies."""
    made = Ring.made(folder, **PORTS)
    made.start(made.numbers)
    try:
        yield CassandraSettings(hosts=tuple(made.addresses), port=made.native_port, replicas=1)
    finally:
        made.stop(made.numbers)


def _add(figures: Figures, more: Figures) -> None:
    figures.bars += more.bars
    figures.notes |= more.notes


if __name__ == "__main__":
    main()
