"""What callers of a real node see while its Redis is killed: no error, and how long they wait before and after.

The node stands before a ring and a Redis; calls come at an even rate, come what may. Most ask for what Redis holds,
some for what nobody has asked for yet: as where there is far more than a cache holds, so that in ordinary times too
the slowest calls of a hundred are those that the ring answers.
"""

import itertools
import random
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import uvloop
from msgspec import Struct
from prometheus_client import CollectorRegistry

from loadtest import servers, workload
from loadtest.cores import on_generator_cores
from loadtest.driver import Call, Driven, Loop
from loadtest.figures import Bar, Figures
from loadtest.redis_path import redis_server
from resolver.clock import SystemClock
from resolver.store.cassandra.migrating import migrate
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.writer import CassandraWriter
from resolver.trust.keys import PrivateKey

COUNT: Final = 60_000
HELD: Final = 5_000
"""Identifiers that are asked again and again; the memory of the node holds a fifth of them, Redis all."""

NEW_ONE_IN: Final = 20
RATE: Final = 400
"""Lookups a second: node, ring, Redis and generator share two cores here, and at twice that rate it is the queue for
the cores that is measured, one time with this outcome and one time with that."""

SECONDS: Final = 6
ROUNDS: Final = 5
WARMING: Final = 1
"""Rounds before those that count."""

CONNECTIONS: Final = 8

_CONFIG: Final = """\
[registry]
key = "{key}"
[memory]
entries = 1_000
[cassandra]
hosts = ["{settings.hosts[0]}"]
port = {settings.port}
keyspace = "{settings.keyspace}"
datacenter = "{settings.datacenter}"
replicas = {settings.replicas}
[redis]
address = "{redis}"
"""


class Loss(Struct, frozen=True):
    """One killing: the 99th percentile before it and from one second after it, and queries of the ring a second."""

    before: float
    after: float
    worst: float
    queries_before: float
    queries_after: float


def measured(settings: CassandraSettings, folder: Path) -> Figures:
    """Fill the ring, and kill a Redis some times. Any error of a call ends it."""
    folder.mkdir()
    key = PrivateKey.generate()
    key.to_file(folder / "journal.pem")
    uvloop.run(_filled(settings, key))
    rounds = [_round(settings, folder, number) for number in range(WARMING + ROUNDS)]
    return figures_of(rounds[WARMING:])


def figures_of(rounds: list[Loss]) -> Figures:
    """Hold what was measured against the bar."""
    rounds = sorted(rounds, key=lambda each: each.after / each.before)
    middle = rounds[len(rounds) // 2]
    return Figures(
        bars=[
            Bar(
                name="p99 from a second after Redis was killed, of before",
                measured=middle.after / middle.before,
                bound=2,
                is_floor=False,
            )
        ],
        notes={
            f"p99 at {RATE} lookups a second, ms": middle.before * 1e3,
            "p99 without Redis, ms": middle.after * 1e3,
            "the slowest call of all, ms": max(each.worst for each in rounds) * 1e3,
            "queries of the ring a second": middle.queries_before,
            "queries of the ring a second, without Redis": middle.queries_after,
        },
    )


async def _filled(settings: CassandraSettings, key: PrivateKey) -> None:
    clock = SystemClock()
    await migrate(settings, clock=clock, registry=CollectorRegistry())
    writer = await CassandraWriter.open(settings, owner="loadtest", clock=clock, registry=CollectorRegistry())
    try:
        await workload.fill(writer, key, COUNT)
    finally:
        await writer.close()


def _round(settings: CassandraSettings, folder: Path, number: int) -> Loss:
    config = folder / f"node-{number}.toml"
    with redis_server(folder) as redis:
        config.write_text(_CONFIG.format(key=folder / "journal.pem", settings=settings, redis=redis.address))
        with (
            servers.node(folder / f"node-{number}", "--config", str(config), workers=1) as node,
            on_generator_cores(),
        ):
            return uvloop.run(_killing(node, _Names(number), redis.process.kill))


async def _killing(node: servers.Node, names: "_Names", kill: Callable[[], None]) -> Loss:
    loop = Loop(node.resolver, node.pids["worker-0"], connections=CONNECTIONS)
    try:
        # Once into Redis, once more out of it.
        for _ in range(2):
            await loop.run(workload.unary(names.held), callers=32, seconds=30)
        before, queries_before = await _paced(loop, node, names)
        kill()
        first = await loop.paced(names.calls(RATE), rate=RATE)
        after, queries_after = await _paced(loop, node, names)
    finally:
        await loop.close()
    return Loss(
        before.quantile(0.99),
        after.quantile(0.99),
        max(each.latencies[-1] for each in (before, first, after)),
        queries_before,
        queries_after,
    )


async def _paced(loop: Loop, node: servers.Node, names: "_Names") -> tuple[Driven, float]:
    asked = _queries(node)
    driven = await loop.paced(names.calls(RATE * SECONDS), rate=RATE)
    return driven, (_queries(node) - asked) / driven.wall


class _Names:
    """What is asked for: some again and again, and some once."""

    def __init__(self, seed: int) -> None:
        names = [workload.identifier(each) for each in workload.shuffled(COUNT, seed=seed)]
        self.held, new = names[:HELD], names[HELD:]
        self._new = iter(new)
        self._random = random.Random(seed)

    def calls(self, count: int) -> list[Call]:
        return list(workload.unary(list(itertools.islice(self._mixed(), count))))

    def _mixed(self) -> Iterator[bytes]:
        for number in itertools.count():
            yield self._random.choice(self.held) if number % NEW_ONE_IN else next(self._new)


def _queries(node: servers.Node) -> float:
    """Ask the node how often it has asked the ring for records."""
    with urllib.request.urlopen(f"http://{node.admin}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(map(float, re.findall(r"^topnode_cassandra_record_queries_total{.*} (\S+)$", text, re.MULTILINE)))
