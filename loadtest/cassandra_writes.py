"""What committing to Cassandra costs, beside the bare driver that sends the same statements.

Run as `python -m loadtest.cassandra_writes --port 9042` beside a ring that was started without --fast: that one
compiles with C1 only, and syncs its commit log seldom. The keyspaces are made where there are none and stay. Both
ways take turns; ratios are medians of those of the rounds.
"""

import asyncio
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import uvloop
from cassandra.query import BatchStatement, BatchType
from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from rich.console import Console

from loadtest.figures import Bar, Figures
from loadtest.rings import ring_by_options
from resolver import wire
from resolver.bounds import ANSWERS_KEPT
from resolver.clock import SystemClock
from resolver.handle import Handle
from resolver.record import Record, Value
from resolver.store import Commit, Entry, Nonce, Write
from resolver.store.cassandra import applying
from resolver.store.cassandra.carrying import IN_FLIGHT, Bundle
from resolver.store.cassandra.layout import JOURNAL
from resolver.store.cassandra.migrating import migrate
from resolver.store.cassandra.session import Session
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.spans import NEW, Span
from resolver.store.cassandra.statements import MAKE_HEAD, PUT_WATERMARK, Way
from resolver.store.cassandra.writer import CassandraWriter

ROUNDS: Final = 5
WARMING: Final = 1
"""Rounds before those that count."""

SECONDS: Final = 2.0
"""Each way has so long in a round."""

FEW: Final = 64
MANY: Final = 512
"""Registrations of one record each that are committed together: by few callers, and as many as a group takes.

Few are limited by the four times that a commit waits for the ring, whatever is sent: there is no bar for them.
"""

CHUNK: Final = 8_192
"""Records of one entry: an import's chunk."""

SHARE: Final = 0.8

_AT: Final = 1_800_000_000

Made: TypeAlias = Callable[[int], Commit]


class Rate(Struct, frozen=True):
    """Statements for each second, and for each CPU second of this process; and records for each second."""

    statements: float
    per_cpu: float
    records: float


class Round(Struct, frozen=True):
    """One kind of commit in one round: by the writer, and by the bare driver."""

    kind: str
    ours: Rate
    bare: Rate


async def measure(settings: CassandraSettings) -> list[Round]:
    """Let the writer and the bare driver take turns, each in a keyspace of its own."""
    clock, registry = SystemClock(), CollectorRegistry()
    other = replace(settings, keyspace=f"{settings.keyspace}_bare")
    for each in (settings, other):
        await migrate(each, clock=clock, registry=CollectorRegistry())
    bare = await Session.open(other, clock=clock, registry=CollectorRegistry())
    writer = await CassandraWriter.open(settings, owner="loadtest", waits=True, clock=clock, registry=registry)
    try:
        rounds = []
        for number in range(WARMING + ROUNDS):
            for kind, made, records in _kinds(number):
                rounds.append(await _round(kind, _Ours(writer, registry), _Bare(bare), made, records))
        kinds = len(rounds) // (WARMING + ROUNDS)
        return rounds[WARMING * kinds :]
    finally:
        await writer.close()
        bare.close()


def _kinds(number: int) -> Iterator[tuple[str, Made, int]]:
    for count in (FEW, MANY):
        yield f"{count} registrations", _Singles(f"88.{count}.{number}", count).commit, count
    yield f"a chunk of {CHUNK:,}", _Chunks(f"88.9.{number}").commit, CHUNK


class _Singles:
    """Commits of many entries with a record each."""

    def __init__(self, prefix: str, count: int) -> None:
        self._prefix = prefix
        self._count = count

    def commit(self, number: int) -> Commit:
        numbers = range(number * self._count, (number + 1) * self._count)
        return Commit(entries=[_entry(f"{self._prefix}-{each}", [_write(self._prefix, each)]) for each in numbers])


class _Chunks:
    """Commits of one entry with many records."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._some = _write(prefix, 0).public

    def commit(self, number: int) -> Commit:
        prefix, some = self._prefix.encode(), self._some
        keys = (b"%s/%09d" % (prefix, each) for each in range(number * CHUNK, (number + 1) * CHUNK))
        chunk = b"c" * (CHUNK * 40)
        return Commit(
            entries=[_entry(f"{self._prefix}-{number}", [Write(key, some, b"", True) for key in keys], chunk)]
        )


def _entry(name: str, writes: Sequence[Write], *artefacts: bytes) -> Entry:
    return Entry(
        statement=b"s" * 200,
        artefacts=(b"e" * 700, *artefacts),
        result=b"r" * 10,
        request=name.encode().ljust(32, b"."),
        at=_AT,
        nonces=(Nonce(name.encode().ljust(32, b"."), _AT + 300),),
        writes=writes,
    )


def _write(prefix: str, number: int) -> Write:
    text = f"{prefix}/{number:09}"
    values = (Value(index=1, type="URL", data=f"https://example.org/{text}".encode()),)
    body = wire.record_body(Record(identifier=Handle.from_text(text), values=values), public=True)
    return Write(text.encode(), body, b"", True)


async def _round(kind: str, ours: "_Ours", bare: "_Bare", made: Made, records: int) -> Round:
    """Commit by commit in turn, so that both meet the same machine."""
    number = 0
    while min(ours.clocks.wall, bare.clocks.wall) < SECONDS:
        await ours.commit(made(number))
        await bare.commit(made(number), 1 + number * 1_000)
        number += 1
    return Round(kind, ours.rate(number * records), bare.rate(number * records))


class _Ours:
    """The writer."""

    def __init__(self, writer: CassandraWriter, registry: CollectorRegistry) -> None:
        self.clocks = _Clocks()
        self._writer = writer
        self._registry = registry
        self._before = self._sent()
        self._commits = 0

    async def commit(self, commit: Commit) -> None:
        with self.clocks:
            await self._writer.commit(commit)
        self._commits += 1

    def rate(self, records: int) -> Rate:
        # The head's transaction is not among what is counted.
        return self.clocks.rate(self._sent() - self._before + self._commits, records)

    def _sent(self) -> float:
        return self._registry.get_sample_value("topnode_cassandra_writes_total") or 0.0


class _Clocks:
    """Adds up the time in its context, on the wall and of this process's CPU."""

    def __init__(self) -> None:
        self.wall = 0.0
        self._cpu = 0.0

    def __enter__(self) -> None:
        self._began, self._used = time.perf_counter(), time.process_time()

    def __exit__(self, *_error: object) -> None:
        self.wall += time.perf_counter() - self._began
        self._cpu += time.process_time() - self._used

    def rate(self, statements: float, records: int) -> Rate:
        return Rate(statements / self.wall, statements / self._cpu, records / self.wall)


def _bundles(commit: Commit, first: int) -> Iterator[Bundle]:
    """Give all that is sent for a commit; in place of the head's transaction one that is always applied."""
    redos = applying.redos_of(commit)
    spans: defaultdict[bytes, Span] = defaultdict(lambda: NEW)
    yield from applying.journal(commit, redos, first, 1)
    yield [(MAKE_HEAD, (f"{time.perf_counter()}",))]
    yield from applying.changes(redos, first, spans, answers_kept=ANSWERS_KEPT)
    yield applying.drop_redo(first, 1)
    yield [(PUT_WATERMARK, (JOURNAL, first, b"", 0, first))]


class _Bare:
    """The driver alone: the next statement is sent by the one that is answered, in the driver's own thread."""

    def __init__(self, session: Session) -> None:
        self.clocks = _Clocks()
        self._sent = 0
        self._driver = session.asking.session
        self._prepared = session.asking._prepared  # noqa: SLF001 - the same statements, without our way of asking
        self._ended = threading.Semaphore(0)
        self._bundles: Iterator[Bundle] = iter(())
        self._turn = threading.Lock()

    async def commit(self, commit: Commit, first: int) -> None:
        bundles = list(_bundles(commit, first))
        with self.clocks:
            await asyncio.to_thread(self._send, bundles)

    def rate(self, records: int) -> Rate:
        return self.clocks.rate(self._sent, records)

    def _send(self, bundles: Sequence[Bundle]) -> None:
        self._bundles = iter(bundles)
        for _ in range(IN_FLIGHT):
            self._next()
        for _ in range(IN_FLIGHT):
            self._ended.acquire()

    def _next(self, _rows: object = None) -> None:
        with self._turn:
            bundle = next(self._bundles, None)
            self._sent += len(bundle) if bundle else 0
        if bundle is None:
            self._ended.release()
            return
        bound, way = self._bound(bundle)
        self._driver.execute_async(bound, execution_profile=way).add_callbacks(self._next, self._failed)

    def _bound(self, bundle: Bundle) -> tuple[object, Way]:
        if len(bundle) == 1:
            ((statement, values),) = bundle
            return self._prepared[statement].bind(values), statement.way
        batch = BatchStatement(BatchType.UNLOGGED)
        for statement, values in bundle:
            batch.add(self._prepared[statement].bind(values))
        return batch, Way.WRITE

    def _failed(self, error: BaseException) -> None:
        self._ended.release()
        raise error


def figures_of(rounds: Sequence[Round]) -> Figures:
    """Hold what was measured against the bars."""
    bars: list[Bar] = []
    notes: dict[str, float] = {}
    for kind in dict.fromkeys(each.kind for each in rounds):
        some = [each for each in rounds if each.kind == kind]
        share = statistics.median(each.ours.statements / each.bare.statements for each in some)
        name = f"{kind} at once, of the bare driver's rate"
        if kind.startswith(f"{FEW} "):
            notes[name] = share
        else:
            bars.append(Bar(name=name, measured=share, bound=SHARE, is_floor=True))
        for field in ("statements", "per_cpu", "records"):
            for side in ("ours", "bare"):
                found = statistics.median(getattr(getattr(each, side), field) for each in some)
                notes[f"{kind}, {side}: {field}"] = found
    return Figures(bars=bars, notes=notes)


def main() -> None:
    settings = ring_by_options("loadtest.cassandra_writes", __doc__)
    figures_of(uvloop.run(measure(settings))).show(Console())


if __name__ == "__main__":
    main()
