"""What recursion costs, and what a child that is down costs others: `python -m loadtest.federation [--json FILE]`.

A top node and a node that hosts the prefixes of 25 children run as real processes on one core, what asks them on the
others. Everything is measured with the fronts that there are by default; what recursion adds, between grpcio fronts
too. What is compared is measured in turns, and medians over the rounds are given. Children that are away are the same
node behind a proxy that is late.
"""

import argparse
import asyncio
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from itertools import cycle, islice
from pathlib import Path
from types import MappingProxyType
from typing import Final

import uvloop
from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from loadtest import servers, workload
from loadtest.cores import on_generator_cores
from loadtest.driver import Call, Loop, quantile
from loadtest.figures import Bar, Figures
from loadtest.routes_memory import CHILDREN as ROUTED
from loadtest.routes_memory import rows
from resolver import wire
from resolver.cache.memory import MemoryCache, MemorySettings
from resolver.clock import SystemClock
from resolver.following import Following, FollowingSettings
from resolver.front.native_front import is_installed
from resolver.handle import Handle
from resolver.routes import Endpoint, Hosting, Prefix, Protocol, RouteTable
from resolver.store import Write
from resolver.store.embedded import EmbeddedReader
from resolver.trust.actors import NodeTable
from resolver.v1 import resolver_pb2 as pb

CHILDREN: Final = 25
RECORDS: Final = 400
"""Records of each child."""

LATE: Final = 0.01
"""Seconds that answers of a child far away take longer."""

AWAY: Final = 0.001
"""The same of a child on another machine of the same region."""

ROUNDS: Final = 7
STARTS: Final = 3
HOPS: Final = 4
"""Starts of a top node, and rounds with each, in which a hop is measured.

Where two nodes share a core a hop takes up to a fifth more or less, by the addresses at which each happens to lie:
branches of one program at two places push each other out of what the core remembers of them.
"""

WARMING: Final = 1
"""Rounds before those that count."""

CALLS: Final = 1_500
RATE: Final = 300.0
"""Lookups of hosted identifiers a second while others ask for children."""

WINDOW: Final = 150
"""Lookups before it is the other side's turn: half a second."""

WINDOWS: Final = 60
"""For each side. A p99 of 9,000 lookups is the same within 3 % where nothing is different; one of 500 is not."""

PREFIXES: Final = 1_000_000
BATCH: Final = "/topnode.resolver.v1.ResolverService/BatchResolve"

HOSTED: Final = "88.112"
DEAD: Final = "88.113"
CHILD: Final = "88.114"
"""The child that a hop goes to."""

NEW: Final = 40_000
"""Identifiers of which each is asked for once at the child and once through the top, or nearly so."""

FRONTS: Final = MappingProxyType({"grpcio": "false", "native": "true"})
"""The fronts between which a hop is measured, and whether the native one is enabled."""

FAR: Final = "88.2"
"""Children far away are 88.200 to 88.224."""


def main() -> None:
    """Measure, show, write down; exit code 1 when a promise was missed."""
    parser = argparse.ArgumentParser(prog="loadtest.federation", description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    console = Console()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="topnode-federation-") as folder, console.status("nodes") as status:
        uvloop.run(measure(Path(folder), figures, status.update))
        status.update("a table of 1,000,000 routes")
        _routes(figures)
        status.update("a resolver that has them, and 500 children")
        uvloop.run(_reach(Path(folder), figures))
    figures.show(console)
    if arguments.json:
        figures.write(arguments.json)
    sys.exit(not all(bar.holds for bar in figures.bars))


async def measure(folder: Path, figures: Figures, tell: Callable[[str], None]) -> None:
    """Measure everything that needs nodes."""
    for front, enabled in FRONTS.items():
        if front == "grpcio" or is_installed():
            tell(f"one more hop, between {front} fronts")
            await _hop(folder / front, figures, front, enabled)
    hosted = [*_near(), *_far()]
    await workload.build_store_of(folder / "child", _records(hosted), _hosted(hosted), node="child")
    usual = {"TOPNODE_NATIVE__ENABLED": str(is_installed()).lower()}
    with servers.node(folder / "child", workers=1, TOPNODE_NODE="child", **usual) as child, _silent() as silent:
        async with _late(child.native or child.resolver, LATE) as late:
            await workload.build_store_of(
                folder / "top",
                _records([HOSTED]),
                [*_hosted([HOSTED]), *_routed(child, late, silent)],
                node="top",
            )
            forgetful = {"TOPNODE_FEDERATION__POSITIVE_FOR": "0s", "TOPNODE_FEDERATION__DEADLINE": "500ms"}
            with servers.node(folder / "top", workers=1, **usual, **forgetful) as top, on_generator_cores():
                place = _Place(top)
                try:
                    tell("a batch over 25 children")
                    await place.batch(figures)
                    tell("a child that is dead")
                    await place.dead(figures)
                finally:
                    await place.close()


# --- one more hop --------------------------------------------------------------------------------------------------


async def _hop(folder: Path, figures: Figures, front: str, enabled: str) -> None:
    """Compare a lookup at the child, one of a hosted identifier at the top, and one that goes to the child.

    Nobody has asked before for what is asked: where somebody has, the top node asks nobody. That is what the child's
    own cache saves beside it, when a top node that is to forget asks for the same again.

    Of a child at no distance at all, on the top node's own core, where it takes its caches, and of one that is on
    another machine.
    """
    own, below = ([f"{prefix}/BRK-{number:09d}" for number in range(NEW)] for prefix in (HOSTED, CHILD))
    await workload.build_store_of(folder / "child", _records_of(below), _hosted([CHILD]), node="child")
    native = {"TOPNODE_NATIVE__ENABLED": enabled}
    with servers.node(folder / "child", workers=1, TOPNODE_NODE="child", **native) as child:
        async with _late(child.native or child.resolver, AWAY) as away:
            for name, port in (("near", child.native or child.resolver), ("away", away)):
                routes = [*_hosted([HOSTED]), _delegation(CHILD, port)]
                await workload.build_store_of(folder / name, _records_of(own), routes, node="top")
                hop = _Hop(own, below)
                for _ in range(STARTS):
                    with servers.node(folder / name, workers=1, **native) as top, on_generator_cores():
                        await hop.compare(_loop_at(port, child), _loop_of(top), HOPS)
                where = "on the same core" if name == "near" else "1 ms away"
                told = f"recursion adds, of a child's round trip, {where}, between {front} fronts"
                figures.bars.append(_ceiling(told, hop.added, 1.3))
                figures.notes |= hop.notes(told)
        forgetful = {**native, "TOPNODE_FEDERATION__POSITIVE_FOR": "0s"}
        hop = _Hop(own[:RECORDS], below[:RECORDS])
        with servers.node(folder / "near", workers=1, **forgetful) as top, on_generator_cores():
            await hop.compare(_loop_at(child.native or child.resolver, child), _loop_of(top), ROUNDS)
        told = f"the same on the same core, where the child answers from its cache, {front} fronts"
        figures.notes |= {told: hop.added} | hop.notes(told)


def _loop_at(port: int, node: servers.Node) -> Loop:
    return Loop(port, node.pids["worker-0"], connections=1)


def _loop_of(node: servers.Node) -> Loop:
    return _loop_at(node.native or node.resolver, node)


class _Hop:
    """A child and the node above it: what is asked at the one and through the other, all of it again once used up."""

    def __init__(self, own: Sequence[str], below: Sequence[str]) -> None:
        self._own = cycle([_call([name]) for name in own])
        self._below = cycle([_call([name]) for name in below])
        self._rounds: list[tuple[float, float, float]] = []
        self._more: list[float] = []

    async def compare(self, child: Loop, top: Loop, rounds: int) -> None:
        """Ask in turns, for some rounds more. The loops are closed then."""
        turns = [(child, self._below), (top, self._own), (top, self._below)]
        for number in range(WARMING + rounds):
            direct, own, through = [
                await loop.run(islice(calls, CALLS), callers=1, seconds=1) for loop, calls in turns
            ]
            if number >= WARMING:
                self._rounds.append((direct.quantile(0.5), own.quantile(0.5), through.quantile(0.5)))
                self._more.append(through.cpu / through.calls - own.cpu / own.calls)
        await child.close()
        await top.close()

    @property
    def added(self) -> float:
        """What going through the top adds to a lookup there, of a round trip of the child."""
        return statistics.median((through - own) / direct for direct, own, through in self._rounds)

    def notes(self, name: str) -> dict[str, float]:
        direct, own, through = (statistics.median(each) * 1e6 for each in zip(*self._rounds, strict=True))
        return {
            f"{name}: a lookup at the child, p50 in us": direct,
            f"{name}: one of a hosted identifier at the top": own,
            f"{name}: one through the top": through,
            f"{name}: CPU of the top for one more hop, us": statistics.median(self._more) * 1e6,
        }


# --- batches, and a child that is dead -----------------------------------------------------------------------------


class _Side(Struct):
    """One of two that are compared: calls for a child, how long they took, and how long those of others did."""

    calls: Sequence[Call]
    own: list[float] = []
    others: list[float] = []


class _Place:
    """The top node, and two connections to it."""

    def __init__(self, top: servers.Node) -> None:
        self._admin = top.admin
        self._top = _loop_of(top)
        self._others = _loop_of(top)
        self._hosted = [_call([name]) for name in _identifiers([HOSTED])]

    async def close(self) -> None:
        for loop in (self._top, self._others):
            await loop.close()

    async def batch(self, figures: Figures) -> None:
        """Compare a batch of 1,000 over 25 children with the part of one of them, all of them near, and all far."""
        for name, prefixes in (("near", _near()), ("far", _far())):
            whole = _call([name for group in zip(*map(_forty, prefixes), strict=True) for name in group])
            parts = [_call(_forty(prefix)) for prefix in prefixes]
            await self._top.run([whole, *parts], callers=1, seconds=10)
            before, ratios = self._calls(), []
            for _ in range(ROUNDS):
                took = (await self._top.run([whole] * 5, callers=1, seconds=10)).quantile(0.5)
                alone = await self._top.run(parts, callers=1, seconds=10)
                ratios.append(took / alone.latencies[-1])
            calls = (self._calls() - before) / ROUNDS - len(parts)
            if name == "far":
                figures.bars += [
                    _ceiling("calls for a batch of 1,000 over 25 children", calls / 5, 25),
                    _ceiling("its time, of the slowest child's (10 ms away)", statistics.median(ratios), 3),
                ]
            else:
                figures.notes["the same with all 25 on this core, of the slowest child's"] = statistics.median(ratios)

    async def dead(self, figures: Figures) -> None:
        """Compare what others see while a child is asked that answers, and while one is asked that is dead."""
        alive = [_call([name]) for name in _identifiers(_near()[:1])]
        dead = [_call([name]) for name in _identifiers([DEAD])]
        # Until the breaker is open its callers wait for their deadline: one after the other, since those who come at
        # once are one call.
        await self._others.run(dead[:20], callers=1, seconds=5)
        waited = self._calls(child=DEAD, outcome="failed")
        figures.notes["calls of the dead child that waited for their deadline, until it was left alone"] = waited
        await self._beside(_Side(alive))
        calm, troubled = _Side(alive), _Side(dead)
        for number in range(WINDOWS):
            # A B B A: what becomes slower or faster meanwhile weighs on both alike.
            for side in (troubled, calm) if number % 2 else (calm, troubled):
                await self._beside(side)
        beside_alive, beside_dead = quantile(calm.others, 0.99), quantile(troubled.others, 0.99)
        figures.notes["a dead child's callers are told, p50 in ms"] = quantile(troubled.own, 0.5) * 1e3
        figures.notes["others' p99 beside a child that answers, ms"] = beside_alive * 1e3
        figures.notes["others' p99 beside a dead one, ms"] = beside_dead * 1e3
        figures.bars += [
            _ceiling("others' p99 while a child is dead, of that while it answers", beside_dead / beside_alive, 1.1),
            _ceiling("a dead child's callers are told, p99 in ms", quantile(troubled.own, 0.99) * 1e3, 5),
        ]

    async def _beside(self, side: "_Side") -> None:
        """Look up hosted identifiers at an even rate for a moment, and at half of it what this side asks."""
        others, own = await asyncio.gather(
            self._top.paced(list(_again(self._hosted, WINDOW)), rate=RATE),
            self._others.paced(list(_again(side.calls, WINDOW // 2)), rate=RATE / 2),
        )
        side.others += others.latencies
        side.own += own.latencies

    def _calls(self, **labels: str) -> float:
        """Give the calls of children so far, those with these labels."""
        with urllib.request.urlopen(f"http://{self._admin}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "topnode_child_calls_total" and labels.items() <= sample.labels.items()
        )


# --- routes --------------------------------------------------------------------------------------------------------


class _Lookups(Struct, frozen=True):
    """Seconds: a lookup of a prefix that was asked for lately, of any, and a changed row with the lookup after it."""

    kept: float
    any: float
    changed: float


def _routes(figures: Figures) -> None:
    memory = json.loads(
        subprocess.run(
            [sys.executable, "-m", "loadtest.routes_memory", str(PREFIXES)], capture_output=True, check=True
        ).stdout
    )
    figures.notes["routes and scopes of 1,000,000 prefixes alone, MB"] = memory["with_scopes_mb"]
    found = _lookups()
    figures.bars.append(_ceiling("route lookup, us", found.kept * 1e6, 3))
    figures.notes["route lookup of a prefix not asked for lately, us"] = found.any * 1e6
    figures.notes["one changed route, and the next lookup, us"] = found.changed * 1e6


async def _reach(folder: Path, figures: Figures) -> None:
    """Start on a store with a million prefixes, delegated to 500 children, and ask each child of a real resolver."""
    names = [f"88.{100 + number}" for number in range(ROUTED)]
    await workload.build_store_of(folder / "children", [], _hosted(names), node="child")
    with servers.node(folder / "children", workers=1, TOPNODE_NODE="child") as child:
        async with AsyncExitStack() as stack:
            # A connection to each: behind ports of their own.
            ports = [await stack.enter_async_context(_late(child.resolver, 0)) for _ in names]
            await workload.build_store_of(folder / "routes", [], list(_delegated(names, ports)), node="top")
            figures.bars.append(
                _ceiling("start with 1,000,000 prefixes in the store, s", await _start(folder / "routes"), 10)
            )
            with servers.node(folder / "routes", workers=1) as top:
                loop = Loop(top.resolver, top.pids["worker-0"], connections=1)
                calls = [_call([f"{name}.{number:08d}/NONE"]) for number, name in enumerate(names)]
                await loop.run(calls, callers=4, seconds=30)
                own = _own_megabytes(top.pids["worker-0"])
                await loop.close()
    figures.bars.append(_ceiling("own memory of a resolver with 1,000,000 prefixes and 500 children, MB", own, 250))


async def _start(folder: Path) -> float:
    """Give the seconds until a resolver knows a million prefixes that its store holds."""
    with closing(EmbeddedReader.open(folder)) as reader:
        routes, registry = RouteTable(), CollectorRegistry()
        following = Following(
            reader,
            routes,
            MemoryCache(MemorySettings(), registry),
            SystemClock(),
            FollowingSettings(),
            registry,
            nodes=NodeTable(),
        )
        began = time.perf_counter()
        await following.start()
        took = time.perf_counter() - began
    if len(routes) != PREFIXES:
        raise RuntimeError(len(routes))
    return took


def _delegated(names: Sequence[str], ports: Sequence[int]) -> Iterator[Prefix]:
    """Make a million prefixes with a term each, shared out to children with these names, behind these ports."""
    for number in range(PREFIXES):
        place = number % len(names)
        yield Prefix(
            f"{names[place]}.{number:08d}",
            names[place],
            hosting=Hosting.DELEGATED,
            expires_at=1_900_000_000 + number,
            endpoints=(Endpoint(Protocol.GRPC, "127.0.0.1", ports[place]),),
            epoch=number,
        )


def _own_megabytes(pid: int) -> float:
    """Give what a process does not share with a file or another process."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) * 1_024 / 1e6 for row in rows if row.startswith("Anonymous:"))


def _lookups() -> _Lookups:
    table = RouteTable()
    table.put(rows(PREFIXES))
    numbers = random.sample(range(PREFIXES), 50_000)
    asked = [b"88.%d.%08d" % (100 + number % ROUTED, number) for number in numbers]
    scope = table.scope
    first = _seconds_each(lambda: [scope(prefix) for prefix in asked], len(asked))
    again = _seconds_each(lambda: [scope(prefix) for prefix in asked], len(asked))
    changed = [
        Prefix(prefix.decode(), prefix.decode(), hosting=Hosting.DELEGATED, epoch=PREFIXES + number)
        for number, prefix in enumerate(asked[:100])
    ]

    def change() -> None:
        for row in changed:
            table.put([row])
            scope(row.key)

    return _Lookups(again, first, _seconds_each(change, len(changed)))


def _seconds_each(work: Callable[[], object], count: int) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) / count


# --- what is asked -------------------------------------------------------------------------------------------------


def _near() -> list[str]:
    return [f"88.1{number:02d}" for number in range(50, 50 + CHILDREN)]


def _far() -> list[str]:
    return [f"{FAR}{number:02d}" for number in range(CHILDREN)]


def _identifiers(prefixes: Sequence[str]) -> list[str]:
    return [f"{prefix}/BRK-{number:09d}" for prefix in prefixes for number in range(RECORDS)]


def _forty(prefix: str) -> list[str]:
    return _identifiers([prefix])[: 1_000 // CHILDREN]


def _records(prefixes: Sequence[str]) -> list[Write]:
    return _records_of(_identifiers(prefixes))


def _records_of(identifiers: Sequence[str]) -> list[Write]:
    example = workload.example_record()
    return [
        Write(name.encode(), wire.record_body(replace(example, identifier=Handle.from_text(name)), public=True))
        for name in identifiers
    ]


def _hosted(prefixes: Sequence[str]) -> list[Prefix]:
    return [Prefix(prefix, "child") for prefix in prefixes]


def _routed(child: servers.Node, far: int, silent: int) -> Iterator[Prefix]:
    for prefixes, port in ((_near(), child.native or child.resolver), (_far(), far), ([DEAD], silent)):
        for prefix in prefixes:
            yield _delegation(prefix, port)


def _delegation(prefix: str, port: int) -> Prefix:
    endpoint = Endpoint(Protocol.GRPC, "127.0.0.1", port)
    return Prefix(prefix, prefix, hosting=Hosting.DELEGATED, endpoints=(endpoint,))


def _call(names: Sequence[str]) -> Call:
    options = pb.Options(mode=pb.MODE_RECURSIVE)
    request = pb.BatchResolveRequest(identifiers=names, options=options)
    return Call(BATCH, request.SerializeToString(), len(names))


def _again(calls: Sequence[Call], count: int = CALLS) -> Iterator[Call]:
    for number in range(count):
        yield calls[number % len(calls)]


def _ceiling(name: str, measured: float, bound: float) -> Bar:
    return Bar(name=name, measured=measured, bound=bound, is_floor=False)


# --- networks ------------------------------------------------------------------------------------------------------


@contextmanager
def _silent() -> Iterator[int]:
    """Give a port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield listening.getsockname()[1]


@asynccontextmanager
async def _late(port: int, seconds: float) -> AsyncIterator[int]:
    """Give a port behind which a server's answers come so many seconds late."""
    loop = asyncio.get_running_loop()
    writers: list[asyncio.StreamWriter] = []

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: float) -> None:
        with suppress(OSError):
            while octets := await reader.read(1 << 18):
                loop.call_later(late, write, writer, octets)
        writer.close()

    def write(writer: asyncio.StreamWriter, octets: bytes) -> None:
        if not writer.is_closing():
            writer.write(octets)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, server_writer))
        await asyncio.gather(passed(reader, server_writer, 0), passed(server_reader, writer, seconds))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        # Until each direction has seen that it is over.
        await asyncio.sleep(2 * seconds)


if __name__ == "__main__":
    main()
