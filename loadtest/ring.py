"""`make bench`, second part: the cache and the store that several machines share, on servers of its own.

Starts a real Cassandra with the settings of production, one node of it, and Redis; everything ends with it. The
first line is what a call of the bare echo costs here: bounds in microseconds and rates are those of a machine on
which that is 110 us.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import uvloop
from msgspec.structs import replace
from rich.console import Console

from deploy.cassandra.ring import Ring
from loadtest import cassandra, cassandra_writes, redis_loss, redis_path, servers, workload
from loadtest.cores import on_generator_cores
from loadtest.driver import Call, Loop
from loadtest.figures import Figures
from resolver.store.cassandra.settings import CassandraSettings

ROUNDS: Final = 5
CONNECTIONS: Final = 8
CALLERS: Final = 128
ANSWER: Final = 330
"""Bytes: about what a lookup is answered with."""

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
        figures = Figures(notes={"bare echo, CPU us a call": uvloop.run(_echo())})
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


async def _echo() -> float:
    names = [workload.identifier(number) for number in range(1_000)]
    calls = [Call(f"/topnode.Echo/{ANSWER}", call.request) for call in workload.unary(names)]
    with servers.echo() as (port, pid), on_generator_cores():
        loop = Loop(port, pid, connections=CONNECTIONS)
        try:
            rounds = [
                await loop.run(islice(cycle(calls), 100_000), callers=CALLERS, seconds=1.0) for _ in range(ROUNDS)
            ]
        finally:
            await loop.close()
    return statistics.median(each.cpu / each.calls for each in rounds) * 1e6


def _add(figures: Figures, more: Figures) -> None:
    figures.bars += more.bars
    figures.notes |= more.notes


if __name__ == "__main__":
    main()
