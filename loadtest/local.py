"""Measurements without a network: the store's rates, the load's, the cache's memory, and growth with the store."""

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import lmdb
import uvloop
from msgspec import Struct
from prometheus_client import CollectorRegistry

from loadtest import workload
from loadtest.chains import chain_over
from loadtest.cores import on_server_core
from resolver import wire
from resolver.answer import FOUND, Ready
from resolver.cache.memory import MemoryCache, MemorySettings
from resolver.clock import SystemClock
from resolver.query import Query
from resolver.store.embedded import EmbeddedReader, EmbeddedWriter, Owner
from resolver.units import Size

ROUNDS: Final = 3
PAIRS: Final = 9
HELPS: Final = 11


def store_read_cpu(path: Path, names: Sequence[bytes], size: int) -> float:
    """CPU microseconds for each key of py-lmdb's own batch read, with batches of this size."""
    environment = lmdb.open(str(path), readonly=True, max_dbs=16, lock=False)
    records = environment.open_db(b"records", create=False)
    began = time.process_time()
    for first in range(0, len(names), size):
        with environment.begin(db=records) as transaction, transaction.cursor() as cursor:
            cursor.getmulti(names[first : first + size])
    cpu = time.process_time() - began
    environment.close()
    return cpu / len(names) * 1e6


class Appends(Struct, frozen=True):
    """Records a second written in bulk, sorted, durable, in wall time: medians; `ratio` is that of the pairs."""

    plain: float
    empty: float
    full: float
    ratio: float


def append_rates(folder: Path, count: int) -> Appends:
    """Measure plain py-lmdb append, ours into an empty store, and ours into a full one, in turns."""
    plain, empty, full = [], [], []
    for number in range(PAIRS):
        with on_server_core():
            plain.append(_plain_append(folder / f"plain{number}", count))
            into_empty, into_full = uvloop.run(_bulk_load(folder / f"ours{number}", count))
        empty.append(into_empty)
        full.append(into_full)
    # By pairs, because the disk's speed changes more from one to the next than between the two of a pair.
    ratio = statistics.median(ours / theirs for ours, theirs in zip(empty, plain, strict=True))
    return Appends(statistics.median(plain), statistics.median(empty), statistics.median(full), ratio)


def _plain_append(path: Path, count: int) -> float:
    environment = lmdb.open(str(path), map_size=64 << 30, max_dbs=4)
    records = environment.open_db(b"records")
    took = 0.0
    # The same bytes as ours gets, sorted by key: within one prefix the numbers already are.
    for first in range(0, count, workload.PART):
        items = sorted((write.key, write.public) for write in workload.writes(range(first, first + workload.PART)))
        began = time.perf_counter()
        for start in range(0, len(items), workload.ENTRY):
            with environment.begin(write=True, db=records) as transaction, transaction.cursor() as cursor:
                cursor.putmulti(items[start : start + workload.ENTRY], append=True)
        took += time.perf_counter() - began
    environment.close()
    return count / took


async def _bulk_load(path: Path, count: int) -> tuple[float, float]:
    writer = EmbeddedWriter.open(path, owner=Owner.here("benchmark", clock=SystemClock()))
    try:
        await workload.put(writer, prefixes=workload.prefixes())
        evens = await _put_parts(writer, count, offset=0)
        # A full store: the same prefixes again, between and behind what is there.
        odds = await _put_parts(writer, count, offset=count // 2)
    finally:
        writer.close()
    return evens, odds


async def _put_parts(writer: EmbeddedWriter, count: int, *, offset: int) -> float:
    took = 0.0
    for first in range(0, count, workload.PART):
        writes = workload.writes(range(offset + first, offset + first + workload.PART))
        began = time.perf_counter()
        await workload.put(writer, writes)
        took += time.perf_counter() - began
    return count / took


def load_rate(folder: Path, count: int) -> float:
    """Records for each CPU second of `topnode load` from NDJSON, start and checks included."""
    rows = folder / "rows.ndjson"
    with rows.open("wb") as file:
        file.writelines(workload.prefix_rows())
        file.writelines(workload.rows(range(count)))
    rates = []
    for number in range(ROUNDS):
        command = [
            sys.executable,
            "-m",
            "nodes",
            "load",
            str(rows),
            "--data",
            str(folder / f"load{number}"),
            "--json",
        ]
        loading = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(loading.pid, 0)
        loading.returncode = os.waitstatus_to_exitcode(status)
        if loading.returncode:
            raise SystemExit(f"topnode load ended with {loading.returncode}")
        rates.append(count / (used.ru_utime + used.ru_stime))
    return statistics.median(rates)


def help_time() -> float:
    """Seconds of wall time that `topnode --help` takes, from its start to its end."""
    command = [str(Path(sys.executable).with_name("topnode")), "--help"]
    took = []
    for _ in range(HELPS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def cache_overhead(entries: int) -> float:
    """Bytes that the memory cache takes for each entry beyond the bytes of key and answer.

    The headers of the two byte strings count as the cache's; numbers that entries share do not.
    """
    cache = MemoryCache(MemorySettings(size=Size(4 << 30), entries=2 * entries), CollectorRegistry())
    body = wire.record_body(workload.example_record(), public=True)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    octets = 0
    for first in range(0, entries, 1_000):
        keys = [workload.identifier(number) for number in range(first, first + 1_000)]
        answers = [Ready(wire.frame(body), FOUND, float(first + 1), as_of=1) for _ in keys]
        octets += sum(map(len, keys)) + sum(len(ready.frame) for ready in answers)
        cache.put(keys, answers)
    del keys, answers
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return (held - octets) / entries


def growth(small: Path, small_count: int, large: Path, large_count: int, *, lookups: int) -> float:
    """How many times the median of a cold unary lookup at the chain takes in the larger store."""
    return asyncio.run(_growth((small, small_count), (large, large_count), lookups))


async def _growth(small: tuple[Path, int], large: tuple[Path, int], lookups: int) -> float:
    medians: dict[Path, list[float]] = {small[0]: [], large[0]: []}
    for number in range(ROUNDS):
        for path, count in (small, large):
            names = [workload.identifier(each) for each in workload.shuffled(count, seed=number)[:lookups]]
            medians[path].append(await _cold_median(path, names))
    return statistics.median(medians[large[0]]) / statistics.median(medians[small[0]])


async def _cold_median(path: Path, names: Sequence[bytes]) -> float:
    """Seconds; each name is asked once, so none is in the cache."""
    reader = EmbeddedReader.open(path)
    try:
        link, clock = await chain_over(reader), SystemClock()
        took = []
        for name in names:
            began = time.perf_counter()
            await link.resolve(Query(identifiers=(name,), deadline=clock.monotonic() + 5))
            took.append(time.perf_counter() - began)
    finally:
        reader.close()
    return statistics.median(took)
