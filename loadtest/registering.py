"""What registering costs: signed requests at a node's registry, beside the store's own durable commits, in one run.

The node's processes share one core, the generator has the others. Requests are signed before the clock starts.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Final

import grpc
import lmdb
import msgspec
from msgspec import Struct

from loadtest import workload
from loadtest.cores import generator_cores, pin, server_core
from loadtest.driver import Call, Loop
from registry.keyring import OPERATOR_FILE
from registry.opening import SUBMIT_METHOD
from resolver.clock import SystemClock
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.trust.envelopes import payload_type_of, seal
from resolver.trust.heads import Payload, new_head
from resolver.trust.keys import PrivateKey
from resolver.v1 import resolver_pb2 as pb

ROUNDS: Final = 3
BULK: Final = 120
"""Envelopes of 1,000 in a round."""

SINGLES: Final = 12_000
"""Envelopes of one in a round, at most."""

SECONDS: Final = 4.0
CALLERS: Final = {1: 64, 1_000: 4}
JOURNAL: Final = ("entries", "tiles", "answered", "answers")
"""The databases that make up the journal, beside the envelopes themselves."""

_COMMITS: Final = 1_500
_ENTERPRISE: Final = "88.111.10"


class Registering(Struct, frozen=True, kw_only=True):
    """What was found. Times are in seconds, rates a second; `bulk` is a CPU second of the registry process.

    `commits` are those of the store, of one entry with one record each and one after another; `lmdb_commits` those of
    py-lmdb, which writes a tenth of the pages. `single_share` is of the store's.
    """

    bulk: float
    singles: float
    commits: float
    lmdb_commits: float
    single_share: float
    p99_at_half: float
    visible: float
    journal_share: float
    journal_bytes: float


class _Node(Struct, frozen=True):
    """A running node: where its resolvers and its registry are, the registry's process, and who signs."""

    address: str
    registry: int
    owner: int
    key: PrivateKey


async def measure(folder: Path, tell: Callable[[str], None]) -> Registering:
    """Measure on a fresh node in this folder; everything has ended when this returns."""
    numbers = count()
    bulk, singles, commits, bare = [], [], [], []
    with _node(folder / "registering") as node:
        os.sched_setaffinity(0, generator_cores())
        loop = Loop(node.registry, node.owner, connections=4)
        try:
            await _allocate(loop, node)
            for each in range(ROUNDS):
                tell(f"registering, 1,000 in an envelope, round {each + 1}")
                calls = [_call(node, islice(numbers, 1_000)) for _ in range(BULK)]
                driven = await loop.run(calls, callers=CALLERS[1_000], seconds=60)
                bulk.append(driven.identifiers / driven.cpu)
            before = _journal_bytes(folder / "registering")
            for each in range(ROUNDS):
                tell(f"registering, one in an envelope, round {each + 1}")
                calls = [_call(node, islice(numbers, 1)) for _ in range(SINGLES)]
                driven = await loop.run(calls, callers=CALLERS[1], seconds=SECONDS)
                singles.append(driven.calls / driven.wall)
                commits.append(await _commit_rate(folder / f"commits{each}"))
                bare.append(_lmdb_rate(folder / f"bare{each}"))
            after = _journal_bytes(folder / "registering")
            tell("registering at half load")
            rate = statistics.median(singles) / 2
            calls = [_call(node, islice(numbers, 1)) for _ in range(int(rate * SECONDS))]
            paced = await loop.paced(calls, rate=rate)
            tell("visible under load")
            visible = await _visible(loop, node, numbers)
        finally:
            await loop.close()
    share = statistics.median(ours / theirs for ours, theirs in zip(singles, commits, strict=True))
    return Registering(
        bulk=statistics.median(bulk),
        singles=statistics.median(singles),
        commits=statistics.median(commits),
        lmdb_commits=statistics.median(bare),
        single_share=share,
        p99_at_half=paced.quantile(0.99),
        visible=visible,
        journal_share=before.journal / before.artefacts,
        journal_bytes=(after.journal - before.journal) / (after.entries - before.entries),
    )


async def _visible(loop: Loop, node: _Node, numbers: Iterator[int]) -> float:
    """Give the longest time from a registration's answer until a resolver knows it, while others register."""
    calls = [_call(node, islice(numbers, 1_000)) for _ in range(BULK // 2)]
    load = asyncio.ensure_future(loop.run(calls, callers=2, seconds=30))
    longest = 0.0
    async with grpc.aio.insecure_channel(node.address) as channel:
        resolve = channel.unary_unary(
            "/topnode.resolver.v1.ResolverService/Resolve",
            pb.ResolveRequest.SerializeToString,
            pb.ResolveResponse.FromString,
        )
        while not load.done():
            number = next(numbers)
            request = pb.ResolveRequest(identifier=_name(number))
            # Asked before it is there, so that its absence is cached.
            await resolve(request, timeout=5)
            await loop.run([_call(node, [number])], callers=1, seconds=10)
            began = time.perf_counter()
            while (await resolve(request, timeout=5)).answer.outcome != pb.OUTCOME_FOUND:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
            longest = max(longest, time.perf_counter() - began)
    await load
    return longest


class _Sizes(Struct, frozen=True):
    entries: int
    journal: int
    artefacts: int


def _journal_bytes(path: Path) -> _Sizes:
    """Give what the journal and the envelopes beside it take on the disk, in whole pages."""
    environment = lmdb.open(str(path), readonly=True, max_dbs=32, lock=False)
    try:
        with environment.begin() as transaction:

            def stat(name: str) -> "lmdb._StatDict":
                return transaction.stat(environment.open_db(name.encode(), transaction, create=False))

            return _Sizes(
                entries=stat("entries")["entries"],
                journal=sum(_octets(stat(name)) for name in JOURNAL),
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


async def _allocate(loop: Loop, node: _Node) -> None:
    rows = [{"prefix": prefix, "holder": "top", "hosting": "here"} for prefix in ("88", "88.111", _ENTERPRISE)]
    await loop.run([_signed(node, "prefix-allocate.v1", {"rows": rows}, 3)], callers=1, seconds=10)


def _call(node: _Node, numbers: Sequence[int] | Iterator[int]) -> Call:
    rows = [{"identifier": _name(number), "values": _values(number)} for number in numbers]
    return _signed(node, "identifiers.v1", {"rows": rows}, len(rows))


def _name(number: int) -> str:
    return f"{_ENTERPRISE}/BRK-{number:09}"


def _values(number: int) -> list[dict[str, object]]:
    return [
        {"index": value.index, "type": value.type, "data": value.data.decode().replace("000000000", f"{number:09}")}
        for value in workload.example_record().values
    ]


def _signed(node: _Node, kind: str, body: object, identifiers: int) -> Call:
    head = new_head(node="top", method=SUBMIT_METHOD, actor="local", request_id=os.urandom(16).hex(), now=time.time())
    payload = Payload(head, msgspec.json.encode(body)).to_bytes()
    envelope = seal(payload_type_of(kind), payload, [node.key])
    return Call(f"/{SUBMIT_METHOD}", envelope.to_bytes(), identifiers)


@contextmanager
def _node(data: Path) -> Iterator[_Node]:
    """A real node with one resolver, all of its processes on the servers' core."""
    command = [sys.executable, "-m", "nodes", "serve", "top", "--data", str(data), "--workers", "1", "--json"]
    command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warning"]
    usual = os.sched_getaffinity(0)
    pin(server_core())
    environment = {**os.environ, "TOPNODE_REGISTRY__ADDRESS": "127.0.0.1:0"}
    serving = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    os.sched_setaffinity(0, usual)
    try:
        assert serving.stdout is not None
        started = json.loads(serving.stdout.readline())
        with urllib.request.urlopen(f"http://{started['admin']}/readyz", timeout=10) as answer:
            owner = next(each["pid"] for each in json.load(answer)["processes"] if each["name"] == "owner")
        port = int(started["registry"].rpartition(":")[2])
        yield _Node(started["address"], port, owner, PrivateKey.from_file(data / OPERATOR_FILE))
    finally:
        serving.terminate()
        serving.wait(timeout=60)
        os.sched_setaffinity(0, usual)
