"""`make bench`: what a lookup costs, beside what the transport and the store alone cost, in one run.

The serving processes are pinned to one core and the generator to the others. Rounds of node and echo alternate, and
medians are reported. Nothing leaves loopback, every run is bounded in calls and time, and all processes end with it.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from loadtest import counting, gathering, local, proofs, registering, servers, suspending, workload
from loadtest.cores import on_generator_cores
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
    store = folder / "store"
    with console.status("a store of 1,000,000 records"):
        asyncio.run(workload.build_store(store, RECORDS))
    with console.status("calls beside the echo") as status:
        uvloop.run(_transport(store, figures, status.update))
    _promise_transport(figures)
    with console.status("bulk writes beside plain appends"):
        _promise_bulk_writes(local.append_rates(folder, 500_000), figures)
    with console.status("topnode load and topnode --help"):
        _promise_commands(folder, figures)
    with console.status("registering") as status:
        _promise_registering(uvloop.run(registering.measure(folder, status.update)), figures)
    with console.status("receipts in a journal of 10,000,000 entries"):
        _promise_receipts(proofs.measure(), figures)
    with console.status("a prefix with a million cached answers is disabled") as status:
        _promise_silence(uvloop.run(suspending.measure(store, RECORDS, status.update)), figures)
    with console.status("single lookups, gathered and not"):
        _promise_gathering(uvloop.run(_gathered(store)), figures)
    with console.status("lookups, counted and not"):
        _note_counting(asyncio.run(counting.measure(folder / "counted")), figures)
    with console.status("memory of the cache"):
        figures.bars.append(_ceiling("cache overhead, bytes an entry", local.cache_overhead(200_000), 300))
    with console.status("a store of 10,000,000 records"):
        _promise_growth(folder, figures)
    return figures


def _promise_bulk_writes(appends: local.Appends, figures: Figures) -> None:
    figures.bars.append(_floor("bulk write into an empty store, of plain append", appends.ratio, 0.7))
    figures.notes["plain append, records/s"] = appends.plain
    figures.notes["bulk into empty, records/s"] = appends.empty
    figures.notes["bulk into full, records/s"] = appends.full


def _promise_commands(folder: Path, figures: Figures) -> None:
    figures.bars += [
        _floor("topnode load, rows for each CPU second", local.load_rate(folder, 300_000), 60_000),
        _ceiling("topnode --help, ms", local.help_time() * 1e3, 150),
    ]


def _promise_registering(found: registering.Registering, figures: Figures) -> None:
    bulk, singles = found.bulk, found.singles
    figures.notes["registered in bulk, identifiers a second of wall time"] = bulk.per_second
    figures.notes["registered in bulk in no order, identifiers for each CPU second"] = bulk.scattered
    figures.notes["registered singly, a second"] = singles.rate
    figures.notes["the store's durable commits of one record, a second"] = singles.commits
    figures.notes["py-lmdb's durable commits of one record, a second"] = singles.lmdb_commits
    figures.notes["registered singly, of py-lmdb's commits"] = singles.lmdb_share
    figures.notes["registrations whose becoming visible was timed"] = found.looks
    assert found.looks >= registering.LOOKS
    figures.bars += [
        _floor("registered in bulk, identifiers for each CPU second", bulk.per_cpu_second, 60_000),
        _floor("registered singly, of the store's own commits of one record", singles.share, 0.5),
        _ceiling("registered singly at half load, p99 in ms", singles.p99 * 1e3, 20),
        _ceiling("visible to resolvers under load, seconds", found.visible, 1),
        _ceiling("journal beside envelopes of 1,000, percent", found.journal_share * 100, 1),
        _ceiling("journal beside an envelope of one, bytes", found.journal_bytes, 400),
    ]


def _promise_receipts(proven: proofs.Proven, figures: Figures) -> None:
    figures.bars += [
        _ceiling("inclusion proof at 10 M entries, ms", proven.proof * 1e3, 1),
        _ceiling("receipt verified at 10 M entries, ms", proven.verification * 1e3, 1),
    ]


def _promise_silence(found: suspending.Suspended, figures: Figures) -> None:
    figures.notes["answers in the cache when their prefix was disabled"] = found.cached
    assert found.cached >= RECORDS
    figures.bars += [
        _ceiling("silent after its prefix was disabled, a million answers cached, seconds", found.silent_after, 1),
        _ceiling("answers of it given after that, of a thousand", found.answered_still, 0),
    ]


def _promise_gathering(found: gathering.Gathered, figures: Figures) -> None:
    figures.notes["lookups for each CPU second of a client, one call each"] = found.one_each
    figures.notes["the same, gathered"] = found.gathered
    figures.notes["one call each, records read too"] = found.one_each_read_too
    figures.notes["gathered, records read too"] = found.gathered_read_too
    figures.bars.append(_floor("client's gathered lookups, of one call each", found.ratio, 20))


def _note_counting(found: dict[int, dict[str, float]], figures: Figures) -> None:
    for batch, medians in found.items():
        figures.notes[f"counting adds to a lookup, batches of {batch:,}, ns"] = medians["added"]


def _promise_growth(folder: Path, figures: Figures) -> None:
    for used in folder.iterdir():
        if used.name != "store" and used.is_dir():
            shutil.rmtree(used)
    asyncio.run(workload.build_store(folder / "grown", GROWN))
    ratio = local.growth(folder / "store", RECORDS, folder / "grown", GROWN, lookups=20_000)
    figures.bars.append(_ceiling("cold lookup, 10 M records beside 1 M", ratio, 1.5))


async def _gathered(store: Path) -> gathering.Gathered:
    names = [workload.identifier(number).decode() for number in range(HOT)]
    with servers.node(store, workers=0) as node, on_generator_cores():
        return await gathering.measure(f"127.0.0.1:{node.resolver}", names)


def _ceiling(name: str, measured: float, bound: float) -> Bar:
    return Bar(name=name, measured=measured, bound=bound, is_floor=False)


def _floor(name: str, measured: float, bound: float) -> Bar:
    return Bar(name=name, measured=measured, bound=bound, is_floor=True)


def _promise_transport(figures: Figures) -> None:
    rows = {(row.kind, row.batch): row for row in figures.transport}
    unary, batch, cold = rows["hot", 0], rows["hot", 1_000], rows["cold", 1_000]
    figures.bars += [
        _ceiling("hot unary, of the echo's CPU", unary.ratio, 1.25),
        _floor("hot batch of 1,000, of unary's rate", batch.per_cpu_second / unary.per_cpu_second, 100),
        _floor("cold batch of 1,000, of py-lmdb's getmulti", cold.store_share, 0.4),
    ]


async def _transport(store: Path, figures: Figures, tell: Callable[[str], None]) -> None:
    with servers.node(store, workers=0) as ours, servers.echo() as (echo_port, echo_pid), on_generator_cores():
        node = Loop(ours.resolver, ours.pids["owner"], connections=CONNECTIONS)
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
    node_cpus = [each.cpu / each.identifiers * 1e6 for each in ours]
    echo_cpus = [each.cpu / each.identifiers * 1e6 for each in bare]
    node_cpu = statistics.median(node_cpus)
    return Transport(
        kind=kind,
        batch=size,
        node_cpu=node_cpu,
        echo_cpu=statistics.median(echo_cpus),
        ratio=statistics.median(node / echo for node, echo in zip(node_cpus, echo_cpus, strict=True)),
        store_cpu=statistics.median(alone),
        store_share=statistics.median(store / node for store, node in zip(alone, node_cpus, strict=True)),
        per_cpu_second=1e6 / node_cpu,
        p50_ms=statistics.median(each.quantile(0.5) for each in ours) * 1e3,
        p99_ms=statistics.median(each.quantile(0.99) for each in ours) * 1e3,
    )


if __name__ == "__main__":
    main()
