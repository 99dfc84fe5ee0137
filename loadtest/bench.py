"""`make bench`: what a lookup costs, beside what the transport and the store alone cost, in one run.

The serving processes are pinned to one core and the generator to the others. Rounds of node and echo alternate, and
medians are reported. Nothing leaves loopback, every run is bounded in calls and time, and all processes end with it.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from loadtest import gathering, local, proofs, registering, workload
from loadtest.cores import generator_cores, pin, server_core
from loadtest.driver import Call, Driven, Loop
from loadtest.figures import Bar, Figures, Transport

RECORDS: Final = 1_000_000
GROWN: Final = 10_000_000
ROUNDS: Final = 5
SECONDS: Final = 1.0
HOT: Final = 20_000
"""Identifiers that are asked again and again."""

CONNECTIONS: Final = 8
CALLERS: Final = {0: 128, 1: 128, 10: 64, 100: 16, 1_000: 2}
"""Calls under way at once, by batch size; 0 is the unary method. Enough to keep the serving core busy (0.99 of it
with two batches of 1,000); more only wait, and their answers push each other out of its cache."""

CALLS: Final = {0: 6_000, 1: 6_000, 10: 2_000, 100: 400, 1_000: 100}
"""Calls in one round of cold or absent identifiers: each is asked once, so all rounds use up some
860,000 of the million."""


def main() -> None:
    """Measure, show, write down; exit code 1 when a promise was missed."""
    arguments = _arguments()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="topnode-bench-", dir=arguments.folder) as folder:
        figures = _measure(Path(folder), console)
    figures.show(console)
    if arguments.json:
        figures.write(arguments.json)
        console.print(f"written to {arguments.json}")
    sys.exit(not all(bar.holds for bar in figures.bars))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="loadtest.bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--folder", type=Path, help="where the stores are made: 5 GB on a local disk")
    return parser.parse_args()


def _measure(folder: Path, console: Console) -> Figures:
    figures = Figures()
    with console.status("a store of 1,000,000 records"):
        asyncio.run(workload.build_store(folder / "store", RECORDS))
    with console.status("calls beside the echo") as status:
        uvloop.run(_transport(folder / "store", figures, status.update))
    _promise_transport(figures)
    with console.status("bulk writes beside plain appends"):
        appends = local.append_rates(folder, 500_000)
    figures.bars.append(_floor("bulk write into an empty store, of plain append", appends.ratio, 0.7))
    figures.notes["plain append, records/s"] = appends.plain
    figures.notes["bulk into empty, records/s"] = appends.empty
    figures.notes["bulk into full, records/s"] = appends.full
    with console.status("topnode load"):
        rate = local.load_rate(folder, 300_000)
    figures.notes["topnode load, records for each CPU second"] = rate
    figures.bars.append(
        _floor("topnode load, against its bound scaled by the echo", rate / _scaled(figures, 60_000), 1)
    )
    with console.status("registering") as status:
        found = uvloop.run(registering.measure(folder, status.update))
    _promise_registering(found, figures)
    with console.status("single lookups, gathered and not"):
        gathered = uvloop.run(_gathered(folder / "store"))
    figures.notes["lookups for each CPU second of a client, one call each"] = gathered.one_each
    figures.notes["the same, gathered"] = gathered.gathered
    figures.notes["one call each, records read too"] = gathered.one_each_read_too
    figures.notes["gathered, records read too"] = gathered.gathered_read_too
    figures.bars.append(_floor("client's gathered lookups, of one call each", gathered.ratio, 20))
    with console.status("memory of the cache"):
        overhead = local.cache_overhead(200_000)
    figures.bars.append(_ceiling("cache overhead, bytes an entry", overhead, 300))
    with console.status("a store of 10,000,000 records"):
        for used in folder.iterdir():
            if used.name != "store" and used.is_dir():
                shutil.rmtree(used)
        asyncio.run(workload.build_store(folder / "grown", GROWN))
        ratio = local.growth(folder / "store", RECORDS, folder / "grown", GROWN, lookups=20_000)
    figures.bars.append(_ceiling("cold lookup, 10 M records beside 1 M", ratio, 1.5))
    return figures


async def _gathered(store: Path) -> gathering.Gathered:
    names = [workload.identifier(number).decode() for number in range(HOT)]
    usual = os.sched_getaffinity(0)
    with _node(store) as (port, _):
        os.sched_setaffinity(0, generator_cores())
        try:
            return await gathering.measure(f"127.0.0.1:{port}", names)
        finally:
            os.sched_setaffinity(0, usual)


def _promise_registering(found: registering.Registering, figures: Figures) -> None:
    figures.notes["registered in bulk, identifiers for each CPU second"] = found.bulk
    figures.notes["registered singly, a second"] = found.singles
    figures.notes["the store's durable commits of one record, a second"] = found.commits
    figures.notes["py-lmdb's durable commits of one record, a second"] = found.lmdb_commits
    bulk = found.bulk / _scaled(figures, 60_000)
    figures.bars += [
        _floor("registering 1,000 in an envelope, against its bound scaled by the echo", bulk, 1),
        _floor("registering singly, of the store's durable commits", found.single_share, 0.5),
        _ceiling("registering singly at half load, p99 in ms", found.p99_at_half * 1e3, 20),
        _ceiling("visible to resolvers under load, seconds", found.visible, 1),
        _ceiling("journal beside envelopes of 1,000, percent", found.journal_share * 100, 1),
        _ceiling("journal beside an envelope of one, bytes", found.journal_bytes, 400),
    ]
    proven = proofs.measure()
    figures.bars += [
        _ceiling("inclusion proof at 10 M entries, ms", proven.proof * 1e3, 1),
        _ceiling("receipt verified at 10 M entries, ms", proven.verification * 1e3, 1),
    ]


def _ceiling(name: str, measured: float, bound: float) -> Bar:
    return Bar(name=name, measured=measured, bound=bound, is_floor=False)


def _floor(name: str, measured: float, bound: float) -> Bar:
    return Bar(name=name, measured=measured, bound=bound, is_floor=True)


ECHO_CPU: Final = 110.0
"""Microseconds of a bare unary echo on the machine for which absolute bounds were set."""


def _scaled(figures: Figures, rate: float) -> float:
    echo = next(row.echo_cpu for row in figures.transport if (row.kind, row.batch) == ("hot", 0))
    return rate * ECHO_CPU / echo if echo > 1.1 * ECHO_CPU else rate


def _promise_transport(figures: Figures) -> None:
    rows = {(row.kind, row.batch): row for row in figures.transport}
    unary, batch, cold = rows["hot", 0], rows["hot", 1_000], rows["cold", 1_000]
    assert cold.store_share is not None
    figures.bars += [
        _ceiling("hot unary, of the echo's CPU", unary.ratio, 1.25),
        _floor("hot batch of 1,000, of unary's rate", batch.per_cpu_second / unary.per_cpu_second, 100),
        _floor("cold batch of 1,000, of py-lmdb's batch rate", cold.store_share, 0.4),
    ]


async def _transport(store: Path, figures: Figures, tell: Callable[[str], None]) -> None:
    with _node(store) as (node_port, node_pid), _echo() as (echo_port, echo_pid):
        os.sched_setaffinity(0, generator_cores())
        node = Loop(node_port, node_pid, connections=CONNECTIONS)
        echo = Loop(echo_port, echo_pid, connections=CONNECTIONS)
        fresh = iter(workload.shuffled(RECORDS, seed=1))
        try:
            for kind in ("hot", "cold", "absent"):
                for size in CALLERS:
                    tell(f"{kind}, {size or 'unary'}")
                    figures.transport.append(await _compare(kind, size, node, echo, fresh, store))
        finally:
            await node.close()
            await echo.close()


async def _compare(kind: str, size: int, node: Loop, echo: Loop, fresh: Iterator[int], store: Path) -> Transport:
    ours, bare, alone = [], [], []
    for number in range(ROUNDS):
        names = _names(kind, size, number, fresh)
        calls = list(workload.batches(names, size) if size else workload.unary(names))
        if kind == "hot":
            await node.run(calls, callers=CALLERS[size], seconds=SECONDS)
        answered = await node.length(calls[0])
        ours.append(await node.run(_often(calls, kind), callers=CALLERS[size], seconds=SECONDS))
        echoed = [Call(f"/topnode.Echo/{answered}", call.request, call.identifiers) for call in calls]
        bare.append(await echo.run(_often(echoed, kind), callers=CALLERS[size], seconds=SECONDS))
        if kind == "cold":
            alone.append(local.store_read_cpu(store, names, size or 1))
    return _summary(kind, size, ours, bare, alone)


def _often(calls: Sequence[Call], kind: str) -> Iterator[Call]:
    return islice(cycle(calls), 200_000) if kind == "hot" else iter(calls)


def _names(kind: str, size: int, number: int, fresh: Iterator[int]) -> list[bytes]:
    count = CALLS[size] * (size or 1)
    if kind == "hot":
        return [workload.identifier(each) for each in workload.shuffled(HOT, seed=number)]
    if kind == "cold":
        return [workload.identifier(each) for each in islice(fresh, count)]
    first = number * 10_000_000 + size * 1_000_000
    return [workload.absent_identifier(each) for each in range(first, first + count)]


def _summary(kind: str, size: int, ours: list[Driven], bare: list[Driven], alone: list[float]) -> Transport:
    node_cpus = [each.cpu / each.identifiers for each in ours]
    node_cpu = statistics.median(node_cpus)
    shares = [store / (node * 1e6) for store, node in zip(alone, node_cpus, strict=False)]
    return Transport(
        kind=kind,
        batch=size,
        node_cpu=node_cpu * 1e6,
        echo_cpu=statistics.median(each.cpu / each.identifiers for each in bare) * 1e6,
        store_cpu=statistics.median(alone) if alone else None,
        store_share=statistics.median(shares) if shares else None,
        per_cpu_second=1 / node_cpu,
        p50_ms=statistics.median(each.quantile(0.5) for each in ours) * 1e3,
        p99_ms=statistics.median(each.quantile(0.99) for each in ours) * 1e3,
    )


@contextmanager
def _node(store: Path) -> Iterator[tuple[int, int]]:
    """A real node in one process, on the servers' core."""
    command = [sys.executable, "-m", "nodes", "serve", "top", "--data", str(store), "--workers", "0", "--json"]
    command += ["--listen", "127.0.0.1:0", "--registry", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    command += ["--log-level", "warning"]
    with _pinned(command) as serving:
        started = json.loads(_first_line(serving))
        yield int(started["address"].rpartition(":")[2]), serving.pid


@contextmanager
def _echo() -> Iterator[tuple[int, int]]:
    with _pinned([sys.executable, "-m", "loadtest.echo"]) as serving:
        yield int(_first_line(serving)), serving.pid


def _first_line(serving: "subprocess.Popen[bytes]") -> bytes:
    assert serving.stdout is not None
    return serving.stdout.readline()


@contextmanager
def _pinned(command: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    usual = os.sched_getaffinity(0)
    pin(server_core())
    serving = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    os.sched_setaffinity(0, usual)
    try:
        yield serving
    finally:
        serving.terminate()
        serving.wait(timeout=30)


if __name__ == "__main__":
    main()
