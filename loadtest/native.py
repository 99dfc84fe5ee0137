"""The native front beside the grpcio one: `python -m loadtest.native [--json FILE]`.

One node, whose resolver serves at both, is pinned to one core; h2load (Debian's nghttp2-client) asks from the others
in turns, and medians of the CPU that the resolver used are given. Many identifiers are asked for in batches, by a
generator of our own. Absolute bounds are scaled by what a call of the bare echo costs here (`machine`).
"""

import argparse
import asyncio
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvloop
from msgspec import Struct
from rich.console import Console

from deploy import certificates
from loadtest import machine, servers, workload
from loadtest.cores import cpu_seconds, on_generator_cores
from loadtest.driver import Loop
from loadtest.figures import Bar, Figures
from resolver.front.core import SERVICE

RECORDS: Final = 20_000
HOT: Final = 1_000
"""Records that are asked for again and again in batches."""

ROUNDS: Final = 5
SHAPES: Final = ((8, 16, 100_000, 3.5, 30), (50, 20, 100_000, 3.5, 30), (10, 1, 40_000, 9.0, 12))
"""Connections, streams of each, calls of a round; microseconds that a hit may take; of grpcio's at least so many."""

GRPCIO_SHARE: Final = 20
"""The grpcio front gets so many times fewer calls, to take about as long."""

IDENTIFIERS: Final = 5e6
"""Of a batch of 1,000 from the cache, a second of one core."""


def main() -> None:
    """Measure, show, write down; exit code 1 when a promise was missed."""
    parser = argparse.ArgumentParser(prog="loadtest.native", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("h2load is needed: sudo apt-get install nghttp2-client")
    console = Console()
    with tempfile.TemporaryDirectory(prefix="topnode-native-") as folder, console.status("the bare echo") as status:
        figures = _measure(Path(folder), status.update)
    figures.show(console)
    if arguments.json:
        figures.write(arguments.json)
    sys.exit(not all(bar.holds for bar in figures.bars))


def _measure(folder: Path, tell: Callable[[str], None]) -> Figures:
    here = uvloop.run(machine.measure())
    figures = Figures(notes={"bare echo, CPU us a call": here.echo * 1e6})
    asyncio.run(workload.build_store(folder / "store", RECORDS))
    certificate = _certificate(folder)
    body = folder / "request"
    (call,) = workload.unary([workload.identifier(7)])
    body.write_bytes(b"\0" + len(call.request).to_bytes(4, "big") + call.request)
    with _node(folder / "store") as plain:
        _hits(plain, body, figures, tell)
        tell("batches of 1,000")
        _batches(plain, figures)
    with _node(folder / "store", **certificate) as secured:
        tell("over TLS")
        _secured(secured, body, figures)
    figures.scale(here.slowness)
    return figures


class _Place(Struct, frozen=True):
    """A resolver, the ports of its two fronts, and whether they speak TLS."""

    pid: int
    native: int
    grpcio: int
    is_secured: bool = False

    def cost(self, port: int, body: Path, *, connections: int, streams: int, calls: int) -> float:
        """Give the microseconds of CPU that the resolver takes for a call.

        Raises:
            RuntimeError: calls failed.
        """
        before = cpu_seconds(self.pid)
        scheme = "https" if self.is_secured else "http"
        command = ["h2load", f"--requests={calls}", f"--clients={connections}", f"--max-concurrent-streams={streams}"]
        command += [f"--data={body}", "--header=content-type: application/grpc", "--header=te: trailers"]
        with on_generator_cores():
            ran = subprocess.run(
                [*command, f"{scheme}://127.0.0.1:{port}/{SERVICE}/Resolve"],
                capture_output=True,
                check=True,
                text=True,
                timeout=120,
            )
        used = cpu_seconds(self.pid) - before
        succeeded = re.search(r"(\d+) succeeded", ran.stdout)
        if succeeded is None or int(succeeded[1]) != calls:
            raise RuntimeError(ran.stdout)
        return used / calls * 1e6


def _hits(place: _Place, body: Path, figures: Figures, tell: Callable[[str], None]) -> None:
    for connections, streams, calls, bound, least in SHAPES:
        shape = f"{connections}x{streams}"
        tell(f"hits, {shape}")
        native, ratios = [], []
        for _ in range(ROUNDS):
            fast = place.cost(place.native, body, connections=connections, streams=streams, calls=calls)
            few = calls // GRPCIO_SHARE
            slow = place.cost(place.grpcio, body, connections=connections, streams=streams, calls=few)
            native.append(fast)
            ratios.append(slow / fast)
        figures.bars += [
            _ceiling(f"a hit, {shape}, CPU us", statistics.median(native), bound),
            Bar(
                name=f"grpcio's CPU of it, {shape}, times",
                measured=statistics.median(ratios),
                bound=least,
                is_floor=True,
            ),
        ]


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


def _secured(place: _Place, body: Path, figures: Figures) -> None:
    connections, streams, calls, *_ = SHAPES[0]
    costs = [
        place.cost(place.native, body, connections=connections, streams=streams, calls=calls) for _ in range(ROUNDS)
    ]
    plain = next(bar.measured for bar in figures.bars if bar.name.startswith("a hit, 8x16"))
    more = statistics.median(costs) - plain
    figures.bars.append(_ceiling("a hit over TLS, 8x16, more than a plain one, CPU us", more, 0.5))


@contextmanager
def _node(store: Path, **settings: str) -> Iterator[_Place]:
    native = {"TOPNODE_NATIVE__ENABLED": "true"}
    with servers.node(store, workers=1, **native, **settings) as node:
        if not node.native:
            sys.exit("there is no native front here: make native")
        yield _Place(node.pids["worker-0"], node.native, node.resolver, is_secured=bool(settings))


def _certificate(folder: Path) -> dict[str, str]:
    """Make a certificate; gives the settings that name it."""
    certificates.init(folder / "ca", "authority")
    certificates.issue(folder / "ca", "node", ips=["127.0.0.1"])
    files = {"CERTIFICATE": folder / "ca" / "node.pem", "KEY": folder / "ca" / "node.key"}
    return {f"TOPNODE_SERVING__TLS__{name}": str(path) for name, path in files.items()}


def _ceiling(name: str, measured: float, bound: float) -> Bar:
    return Bar(name=name, measured=measured, bound=bound, is_floor=False, is_absolute=True)


if __name__ == "__main__":
    main()
