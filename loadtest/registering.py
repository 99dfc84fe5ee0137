"""What registering costs: signed requests at a node's registry, beside durable commits, in one run.

The node's processes share one core, the generator has the others. Requests are signed before the clock starts.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path
from typing import Final

import grpc
import lmdb
from msgspec import Struct

from loadtest import servers, workload
from loadtest.cores import on_generator_cores
from loadtest.driver import Call, Loop
from loadtest.signing import allocation, name, registration
from resolver.clock import SystemClock
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.v1 import resolver_pb2 as pb

ROUNDS: Final = 3
BULK: Final = 120
"""Envelopes of 1,000 in a round."""

SINGLES: Final = 12_000
"""Envelopes of one in a round, at most."""

SECONDS: Final = 4.0
CALLERS: Final = {1: 64, 1_000: 4}
JOURNAL: Final = ("entries", "tiles", "answered", "answers")
"""The databases that make up the journal, beside the envelopes themselves; nonces go after five minutes."""

LOOKS: Final = 10
"""Registrations whose becoming visible is timed, at least."""

_COMMITS: Final = 1_500
_SCATTERED: Final = 1_000_000_000


class Bulk(Struct, frozen=True, kw_only=True):
    """Identifiers registered by the thousand: for a CPU second of the registry process, and a second of wall time.

    Keys ascend; `scattered` are the same for a CPU second where they come in no order.
    """

    per_cpu_second: float
    per_second: float
    scattered: float


class Singles(Struct, frozen=True, kw_only=True):
    """Registrations one by one, a second, by many callers; beside commits of one record, one after another.

    `commits` are the store's (`EmbeddedWriter.commit`: one entry with one record), `lmdb_commits` bare py-lmdb's.
    Shares are medians of the rounds. `p99` is in seconds, at half of this rate.
    """

    rate: float
    commits: float
    lmdb_commits: float
    share: float
    lmdb_share: float
    p99: float


class Registering(Struct, frozen=True, kw_only=True):
    """What was found. `visible` is the longest of `looks`, in seconds; journal bytes are in whole pages."""

    bulk: Bulk
    singles: Singles
    visible: float
    looks: int
    journal_share: float
    journal_bytes: float


async def measure(folder: Path, tell: Callable[[str], None]) -> Registering:
    """Measure on a fresh node in this folder; everything has ended when this returns."""
    data = folder / "registering"
    with servers.node(data, workers=1) as node, on_generator_cores():
        loop = Loop(node.registry, node.pids["owner"], connections=4)
        try:
            await loop.run([allocation(node)], callers=1, seconds=10)
            run = _Run(node, loop, folder, tell)
            bulk = await run.bulk()
            before = _journal_bytes(data)
            singles = await run.singles()
            after = _journal_bytes(data)
            visible = await run.visible()
        finally:
            await loop.close()
    return Registering(
        bulk=bulk,
        singles=singles,
        visible=max(visible),
        looks=len(visible),
        journal_share=before.journal / before.artefacts,
        journal_bytes=(after.journal - before.journal) / (after.entries - before.entries),
    )


class _Run:
    """One node being measured; nothing is registered twice."""

    def __init__(self, node: servers.Node, loop: Loop, folder: Path, tell: Callable[[str], None]) -> None:
        self._node = node
        self._loop = loop
        self._folder = folder
        self._tell = tell
        self._numbers = count()

    async def bulk(self) -> Bulk:
        cpu, wall, scattered = [], [], []
        for each in range(ROUNDS):
            self._tell(f"registering, 1,000 in an envelope, round {each + 1}")
            driven = await self._loop.run(self._envelopes(BULK, 1_000), callers=CALLERS[1_000], seconds=60)
            cpu.append(driven.identifiers / driven.cpu)
            wall.append(driven.identifiers / driven.wall)
            anywhere = random.Random(each).sample(range(_SCATTERED, 2 * _SCATTERED), BULK * 1_000)
            calls = [registration(self._node, anywhere[at : at + 1_000]) for at in range(0, len(anywhere), 1_000)]
            driven = await self._loop.run(calls, callers=CALLERS[1_000], seconds=60)
            scattered.append(driven.identifiers / driven.cpu)
        return Bulk(
            per_cpu_second=statistics.median(cpu),
            per_second=statistics.median(wall),
            scattered=statistics.median(scattered),
        )

    async def singles(self) -> Singles:
        rates, commits, bare = [], [], []
        for each in range(ROUNDS):
            self._tell(f"registering, one in an envelope, round {each + 1}")
            driven = await self._loop.run(self._envelopes(SINGLES, 1), callers=CALLERS[1], seconds=SECONDS)
            rates.append(driven.calls / driven.wall)
            commits.append(await _commit_rate(self._folder / f"commits{each}"))
            bare.append(_lmdb_rate(self._folder / f"bare{each}"))
        rate = statistics.median(rates)
        p99 = []
        for each in range(ROUNDS):
            self._tell(f"registering at half load, round {each + 1}")
            paced = await self._loop.paced(self._envelopes(int(rate / 2 * SECONDS), 1), rate=rate / 2)
            p99.append(paced.quantile(0.99))
        return Singles(
            rate=rate,
            commits=statistics.median(commits),
            lmdb_commits=statistics.median(bare),
            share=statistics.median(ours / theirs for ours, theirs in zip(rates, commits, strict=True)),
            lmdb_share=statistics.median(ours / theirs for ours, theirs in zip(rates, bare, strict=True)),
            p99=statistics.median(p99),
        )

    async def visible(self) -> list[float]:
        """Time registrations from their answers until a resolver knows them, while thousands of others come in."""
        self._tell("visible under load")
        load = asyncio.ensure_future(self._loop.run(self._envelopes(2 * BULK, 1_000), callers=2, seconds=60))
        took = []
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._node.resolver}") as channel:
            resolve = channel.unary_unary(
                "/topnode.resolver.v1.ResolverService/Resolve",
                pb.ResolveRequest.SerializeToString,
                pb.ResolveResponse.FromString,
            )
            while not load.done():
                number = next(self._numbers)
                request = pb.ResolveRequest(identifier=name(number))
                # Asked before it is there, so that its absence is cached.
                await resolve(request, timeout=5)
                await self._loop.run([registration(self._node, [number])], callers=1, seconds=10)
                began = time.perf_counter()
                while (await resolve(request, timeout=5)).answer.outcome != pb.OUTCOME_FOUND:  # noqa: ASYNC110 - foreign
                    await asyncio.sleep(0.01)
                took.append(time.perf_counter() - began)
        await load
        return took

    def _envelopes(self, envelopes: int, rows: int) -> list[Call]:
        return [registration(self._node, islice(self._numbers, rows)) for _ in range(envelopes)]


class _Sizes(Struct, frozen=True):
    entries: int
    journal: int
    artefacts: int


def _journal_bytes(path: Path) -> _Sizes:
    """Give what the journal and the envelopes beside it take on the disk, in whole pages."""
    environment = lmdb.open(str(path), readonly=True, max_dbs=32, lock=False)
    try:
        with environment.begin() as transaction:

            def stat(database: str) -> "lmdb._StatDict":
                return transaction.stat(environment.open_db(database.encode(), transaction, create=False))

            return _Sizes(
                entries=stat("entries")["entries"],
                journal=sum(_octets(stat(database)) for database in JOURNAL),
                artefacts=_octets(stat("artefacts")),
            )
    finally:
        environment.close()


def _octets(pages: "lmdb._StatDict") -> int:
    return pages["psize"] * (pages["branch_pages"] + pages["leaf_pages"] + pages["overflow_pages"])


async def _commit_rate(path: Path) -> float:
    """Durable commits a second of the store itself: one entry with one record each, one after another."""
    writer = EmbeddedWriter.open(path, owner=Owner.here("benchmark", clock=SystemClock()))
    try:
        writes = workload.writes(range(100_000, 100_000 + _COMMITS))
        began = time.perf_counter()
        for write in writes:
            await workload.put(writer, [write])
        took = time.perf_counter() - began
    finally:
        writer.close()
    return len(writes) / took


def _lmdb_rate(path: Path) -> float:
    """Durable commits a second of py-lmdb: one record each, one after another."""
    environment = lmdb.open(str(path), map_size=1 << 30)
    writes = workload.writes(range(100_000, 100_000 + _COMMITS))
    began = time.perf_counter()
    for write in writes:
        with environment.begin(write=True) as transaction:
            transaction.put(write.key, write.public)
    took = time.perf_counter() - began
    environment.close()
    return len(writes) / took
