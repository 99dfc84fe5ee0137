"""The native front beside the grpcio one, and beside bare echoes: `python -m loadtest.native [--json FILE]`.

One node, whose resolver serves at both fronts, is pinned to one core, and so is whatever it is compared with; h2load
(Debian's nghttp2-client) asks from the others, all servers in turns, and medians of the CPU that each used are given.
Many identifiers are asked for in batches, by a generator of our own; a different identifier with each call, which is
what a miss needs (`misses`), by a program in Rust. Where cargo or go is missing, what needs it is left out, and that
is said. Idle connections are counted in memory (`idle`).

Absolute bounds are scaled by what a call of the bare echo of grpcio costs here (`machine`), which is measured before
everything and after it: where the two differ much, the machine was not quiet, and the figures say little.
"""

import argparse
import asyncio
import resource
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import grpc
import uvloop
from msgspec import Struct
from rich.console import Console

from deploy import certificates
from loadtest import h2load, idle, machine, misses, programs, servers, workload
from loadtest.cores import on_generator_cores
from loadtest.driver import Loop
from loadtest.figures import Bar, Compared, Figures
from loadtest.h2load import Shape
from loadtest.machine import Machine
from loadtest.programs import BARE, RESOLVE, Programs, Server

HOT: Final = 1_000
"""Records that are asked for again and again in batches."""

ROUNDS: Final = 5
SHAPES: Final = (
    (Shape(8, 16, 100_000), 3.5, 30),
    (Shape(50, 20, 100_000), 3.5, 30),
    (Shape(10, 1, 40_000), 9.0, 12),
)
"""Microseconds that a hit may take; of grpcio's at least so many."""

GRPCIO_SHARE: Final = 20
"""Servers on grpcio get so many times fewer calls, to take about as long."""

IDENTIFIERS: Final = 5e6
"""Of a batch of 1,000 from the cache, a second of one core."""

MISS: Final = 8.0
"""Microseconds that a miss may take beyond the store's own cost (`misses`)."""

IDLE_KIB: Final = 20.0
"""Of memory, for a connection on which nothing has been asked."""

NO_REDIS: Final = "there is no redis-server (sudo apt-get install redis-server): misses that Redis answers."


def main() -> None:
    """Measure, show, write down; exit code 1 when a promise was missed."""
    parser = argparse.ArgumentParser(prog="loadtest.native", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if not h2load.is_there():
        sys.exit("h2load is needed: sudo apt-get install nghttp2-client")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # For the idle connections, on both of their ends.
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    console = Console()
    with tempfile.TemporaryDirectory(prefix="topnode-native-") as folder, console.status("building") as status:
        figures = _measure(Path(folder), status.update)
    figures.show(console)
    if arguments.json:
        figures.write(arguments.json)
    sys.exit(not all(bar.holds for bar in figures.bars))


def _measure(folder: Path, tell: Callable[[str], None]) -> Figures:
    built = programs.built()
    figures = Figures(left_out=built.left_out)
    tell("the bare echo")
    before = uvloop.run(machine.measure())
    tell("a store")
    asyncio.run(workload.build_store(folder / "store", misses.RECORDS))
    _fronts(folder, built, figures, tell)
    if built.has_rust:
        _misses(folder, built, figures, tell)
    tell("the bare echo again")
    after = uvloop.run(machine.measure())
    figures.notes |= {
        "bare echo of grpcio before everything, CPU us a call": before.echo * 1e6,
        "and after it": after.echo * 1e6,
    }
    figures.scale(Machine((before.echo + after.echo) / 2).slowness)
    return figures


def _fronts(folder: Path, built: Programs, figures: Figures, tell: Callable[[str], None]) -> None:
    """Measure what the fronts can do with what is in memory."""
    certificate = _certificate(folder)
    (call,) = workload.unary([workload.identifier(7)])
    message = folder / "request"
    message.write_bytes(programs.framed([call.request]))
    with _node(folder / "store") as plain:
        answer = _answer(plain, call.request)
        _side_by_side(plain, built, folder, message, answer, figures, tell)
        tell("batches of 1,000")
        _batches(plain, figures)
    tell("idle connections")
    _idle(folder, built, call.request, figures)
    with _node(folder / "store", **certificate) as secured:
        tell("over TLS")
        _secured(secured, message, figures)
        kept = idle.measure(secured.pid, secured.native, authorities=folder / "ca" / "authority.pem")
        figures.notes["an idle connection over TLS, KiB"] = kept / 1_024


class _Place(Struct, frozen=True):
    """A resolver, and the ports of its two fronts."""

    pid: int
    native: int
    grpcio: int


class _Side(Struct, frozen=True):
    """A server that is compared with others: `share` is how many times less often it is asked."""

    name: str
    server: Server
    path: str = RESOLVE
    share: int = 1


def _side_by_side(
    place: _Place,
    built: Programs,
    folder: Path,
    message: Path,
    answer: bytes,
    figures: Figures,
    tell: Callable[[str], None],
) -> None:
    """Ask all servers for the same by turns: the fronts, and echoes that have the answer in memory."""
    native = _Side("native front, hit", Server(place.pid, place.native))
    grpcio = _Side("grpcio front, hit", Server(place.pid, place.grpcio), share=GRPCIO_SHARE)
    with ExitStack() as stack:
        file = folder / "answer"
        file.write_bytes(programs.framed([answer]))
        sides = [native]
        for echo, name in built.echoes.items():
            sides.append(_Side(name, stack.enter_context(built.echo(echo, file)), share=1 if echo == BARE else 2))
        port, pid = stack.enter_context(servers.echo())
        path = f"/topnode.Echo/{len(answer)}"
        sides += [_Side("bare echo, grpcio", Server(pid, port), path, GRPCIO_SHARE), grpcio]
        found = {shape: _rounds(sides, shape, message, tell) for shape, _, _ in SHAPES}
    figures.compared = [_compared(side.name, native.name, found) for side in sides]
    hits, slow = figures.compared[0], figures.compared[-1]
    for shape, bound, least in SHAPES:
        figures.bars += [
            _ceiling(f"a hit, {shape}, CPU us", hits.costs[str(shape)], bound),
            Bar(
                name=f"grpcio's CPU of it, {shape}, times",
                measured=slow.ratios[str(shape)],
                bound=least,
                is_floor=True,
            ),
        ]


def _rounds(
    sides: Sequence[_Side], shape: Shape, message: Path, tell: Callable[[str], None]
) -> dict[str, list[float]]:
    """Give what a call cost each server, round after round."""
    costs: dict[str, list[float]] = {side.name: [] for side in sides}
    for number in range(1, ROUNDS + 1):
        for side in sides:
            tell(f"{side.name}, {shape}, round {number} of {ROUNDS}")
            costs[side.name].append(
                h2load.cost(side.server, message, shape, path=side.path, share=side.share),
            )
    return costs


def _compared(name: str, first: str, found: dict[Shape, dict[str, list[float]]]) -> Compared:
    ratios = {
        str(shape): statistics.median(own / theirs for own, theirs in zip(costs[name], costs[first], strict=True))
        for shape, costs in found.items()
    }
    return Compared(name, {str(shape): statistics.median(costs[name]) for shape, costs in found.items()}, ratios)


def _batches(place: _Place, figures: Figures) -> None:
    async def measured() -> float:
        loop = Loop(place.native, place.pid, connections=4)
        calls = list(workload.batches([workload.identifier(number) for number in range(HOT)], HOT))
        try:
            await loop.run(calls, callers=1, seconds=10)
            rounds = [await loop.run(calls * 400, callers=8, seconds=10) for _ in range(ROUNDS)]
        finally:
            await loop.close()
        return statistics.median(HOT * each.calls / each.cpu for each in rounds)

    with on_generator_cores():
        rate = uvloop.run(measured())
    figures.bars.append(
        Bar(
            name="identifiers of batches of 1,000, a CPU second",
            measured=rate,
            bound=IDENTIFIERS,
            is_floor=True,
            is_absolute=True,
        )
    )


def _secured(place: _Place, message: Path, figures: Figures) -> None:
    shape, *_ = SHAPES[0]
    server = Server(place.pid, place.native)
    costs = [h2load.cost(server, message, shape, scheme="https") for _ in range(ROUNDS)]
    more = statistics.median(costs) - figures.compared[0].costs[str(shape)]
    figures.bars.append(_ceiling(f"a hit over TLS, {shape}, more than a plain one, CPU us", more, 0.5))


def _misses(folder: Path, built: Programs, figures: Figures, tell: Callable[[str], None]) -> None:
    tell("misses, from LMDB")
    _missed("LMDB", misses.from_lmdb(built, folder, folder / "store"), figures)
    if shutil.which("redis-server") is None:
        figures.left_out.append(NO_REDIS)
        return
    tell("misses, from Redis")
    _missed("Redis", misses.from_redis(built, folder, folder / "store"), figures)


def _missed(source: str, missed: misses.Missed, figures: Figures) -> None:
    shape = f"{misses.CONNECTIONS}x{misses.STREAMS}"
    figures.bars.append(
        _ceiling(f"a miss, {shape}, from {source}, beyond the store's own cost, CPU us", missed.beyond, MISS)
    )
    figures.notes |= {
        f"a miss from {source}, CPU us": missed.lookup,
        f"of it {source}'s own": missed.store,
        f"identifiers asked of {source} at once": missed.batch,
        f"99 of 100 misses from {source} were answered within, us": missed.p99_us,
    }


@contextmanager
def _node(store: Path, **settings: str) -> Iterator[_Place]:
    native = {"TOPNODE_NATIVE__ENABLED": "true"}
    with servers.node(store, workers=1, **native, **settings) as node:
        if not node.native:
            sys.exit("there is no native front here: make native")
        yield _Place(node.pids["worker-0"], node.native, node.resolver)


def _answer(place: _Place, request: bytes) -> bytes:
    with grpc.insecure_channel(f"127.0.0.1:{place.native}") as channel:
        send: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RESOLVE)
        return send(request, timeout=10)


def _certificate(folder: Path) -> dict[str, str]:
    """Make a certificate; gives the settings that name it."""
    certificates.init(folder / "ca", "authority")
    certificates.issue(folder / "ca", "node", ips=["127.0.0.1"])
    files = {"CERTIFICATE": folder / "ca" / "node.pem", "KEY": folder / "ca" / "node.key"}
    return {f"TOPNODE_SERVING__TLS__{name}": str(path) for name, path in files.items()}


def _ceiling(name: str, measured: float, bound: float) -> Bar:
    return Bar(name=name, measured=measured, bound=bound, is_floor=False, is_absolute=True)


def _idle(folder: Path, built: Programs, request: bytes, figures: Figures) -> None:
    # Each in a process of its own: what another one's connections have given back would be taken again.
    with _node(folder / "store") as place:
        kept = idle.measure(place.pid, place.native) / 1_024
    figures.bars.append(
        Bar(name="an idle connection, memory", measured=kept, bound=IDLE_KIB, is_floor=False, unit="KiB")
    )
    with _node(folder / "store") as place:
        kept = idle.measure(place.pid, place.native, request)
    figures.notes["an idle connection that has asked once, KiB"] = kept / 1_024
    if built.has_rust:
        # How much of it the crate takes that the front is built on.
        with built.echo(BARE, folder / "answer") as echo:
            kept = idle.measure(echo.pid, echo.port, request)
        figures.notes["the same of the bare echo on the crate h2, KiB"] = kept / 1_024


if __name__ == "__main__":
    main()
