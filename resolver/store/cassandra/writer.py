"""Writing, in the one process whose turn it is. What is written is in `applying`, whose turn it is in `lease`.

A commit is three steps: the journal is proposed, the head's transaction decides it, and what its entries change is
applied. A commit that failed in the middle may have been decided or not: before anything else is done, another epoch
is begun, which settles it, and what was decided is applied from its redo. So does whoever takes over.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from typing import Final, NoReturn, Self

import msgspec
import prometheus_client
from msgspec import Struct
from prometheus_client import CollectorRegistry

from resolver.bell import Bell
from resolver.bounds import ANSWERS_KEPT
from resolver.clock import Clock
from resolver.errors import Fault, Reason, first_fault
from resolver.store import CHANGES_KEPT, Checkpoint, Commit, Fetched
from resolver.store.cassandra import applying
from resolver.store.cassandra.border import closed
from resolver.store.cassandra.carrying import Bundle, Carrier, CarryingMetrics
from resolver.store.cassandra.counts import CassandraCounts
from resolver.store.cassandra.forgetting import Forgetting
from resolver.store.cassandra.growing import Growing, GrowingMetrics
from resolver.store.cassandra.layout import (
    BUCKET_KEYS,
    JOURNAL,
    Redo,
    checkpoint_decoder,
    epoch_of,
    import_name,
    import_row,
    part_of,
)
from resolver.store.cassandra.lease import Head, Lease, LeaseMetrics
from resolver.store.cassandra.reader import Reach, Reads
from resolver.store.cassandra.session import Session
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.spans import Span, Spans
from resolver.store.cassandra.statements import IMPORT, IMPORTS, PUT_WATERMARK, REDO, SPAN, WATERMARK
from resolver.store.naming import prefix_of

REDOS_DROPPED: Final = 1_000
"""Entries whose redo a new writer takes away, if it is still there: the last writer left the newest one behind."""

_COMMIT_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

_LASTING: Final = frozenset((Reason.STORE_FENCED, Reason.JOURNAL_DAMAGED))
"""Why a writer writes nothing more: it is another process's turn, or what is there does not fit together."""

_log: Final = logging.getLogger(__name__)


class Amounts(Struct, frozen=True, kw_only=True):
    """How much is remembered (changes of the feed; seconds of answers), and how many keys a bucket may hold."""

    changes: int = CHANGES_KEPT
    answers: int = ANSWERS_KEPT
    bucket_keys: int = BUCKET_KEYS


_AMOUNTS: Final = Amounts()


class WriterMetrics:
    """Commits, step by step."""

    def __init__(self, registry: CollectorRegistry) -> None:
        seconds = prometheus_client.Histogram(
            "topnode_cassandra_commit_seconds",
            "Steps of commits: proposing the journal, deciding by the head's transaction, applying.",
            ["step"],
            registry=registry,
            buckets=_COMMIT_BUCKETS,
        )
        self.proposing = seconds.labels("proposing")
        self.deciding = seconds.labels("deciding")
        self.applying = seconds.labels("applying")


class CassandraWriter(Reads):
    """A StoreWriter and StoreReader for the process whose turn it is; for one event loop.

    `begin` makes it the writer, until another process becomes it or this one calls `close`; `run` is what is done
    beside. What it reads is what a quorum says, up to its own last commit.
    """

    def __init__(
        self,
        session: Session,
        settings: CassandraSettings,
        *,
        owner: str,
        amounts: Amounts = _AMOUNTS,
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        asking = session.asking
        super().__init__(asking, settings, registry, changes_kept=amounts.changes)
        self._session = session
        lease = settings.lease
        self._beat_every = lease.beat_every
        self._answers_kept = amounts.answers
        self._metrics = WriterMetrics(registry)
        self._lease = Lease(asking, owner, lease, clock=clock, metrics=LeaseMetrics(registry))
        self._carrier = Carrier(asking, patience=lease.patience, clock=clock, metrics=CarryingMetrics(registry))
        self.counts = CassandraCounts(asking, self._carrier)
        self._spans = Spans(self._carrier)
        self._growing = Growing(
            self._carrier,
            self._spans,
            self._lease,
            self._settled,
            bucket_keys=amounts.bucket_keys,
            clock=clock,
            metrics=GrowingMetrics(registry),
        )
        self._forgetting = Forgetting(self._carrier, changes_kept=amounts.changes)
        self._turn = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None
        self._reached = Reach(0, b"", ())
        self._redo: tuple[int, int] | None = None
        self._spread: Mapping[bytes, int] = {}
        self._is_sure = False
        self._is_closed = False
        self._bell: Bell | None = None
        self._stop: asyncio.Future[Fault] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(
        cls,
        settings: CassandraSettings,
        *,
        owner: str,
        waits: bool = False,
        clock: Clock,
        registry: CollectorRegistry,
    ) -> Self:
        """Become the writer of the store in this keyspace; `owner` is a few words for people.

        Raises:
            Fault: as `Session.open` and `begin`.
        """
        session = await Session.open(settings, clock=clock, registry=registry)
        writer = cls(session, settings, owner=owner, clock=clock, registry=registry)
        try:
            await writer.begin(waits=waits)
        except BaseException:
            await writer.close()
            raise
        return writer

    async def begin(self, *, waits: bool = False, resumes: str = "") -> None:
        """Become the writer, and finish what the last one left; `waits`: stand by as long as there is another.

        While a load around the servers is not finished, nobody but whoever `resumes` the one of this name writes.

        Raises:
            Fault: STORE_OWNED where there is another that is not waited for, LOAD_UNFINISHED likewise;
                JOURNAL_DAMAGED; STORE_UNAVAILABLE.
        """
        check = partial(self._check_loads, resumes)
        head = await self._lease.take(waits=waits, check=check)
        self._beating = asyncio.create_task(self._beat())
        try:
            async with self._turn:
                await self._catch_up(head)
                await self._carrier.carry(
                    applying.drop_redo(index, epoch_of(index, head.starts))
                    for index in range(max(1, head.size - REDOS_DROPPED + 1), head.size + 1)
                )
                self._is_sure = True
            # What was applied just now may have begun one.
            await check()
        except BaseException:
            self._beating.cancel()
            raise

    async def run(self) -> None:
        """Forget what is old and let listings grow, until cancelled.

        Raises:
            Fault: STORE_FENCED when another process has become the writer: this one can only end, and stand by.
                JOURNAL_DAMAGED.
        """
        raised: Fault | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._tend())
                tasks.create_task(self._until_stopped())
        except* Fault as faults:
            raised = first_fault(faults)
        if raised:
            raise raised

    async def close(self) -> None:
        """Finish the commit under way, let another process become the writer, and close the connection."""
        if self._is_closed:
            return
        self._is_closed = True
        async with self._turn:
            if self._beating is not None:
                self._beating.cancel()
                await asyncio.gather(self._beating, return_exceptions=True)
            if self._is_sure and not self._stop.done():
                await self._let_go()
            self._session.close()

    def tell_commits(self, bell: Bell) -> None:
        """Have this bell rung after each commit."""
        self._bell = bell

    # --- writing -----------------------------------------------------------------------------------------------

    async def commit(self, commit: Commit) -> int:
        async with self._settled() as size:
            if not commit.entries:
                return size
            try:
                await self._commit(commit, size)
            except BaseException as error:
                self._is_sure = False
                self._note_stop(error)
                raise
            return self._reached.size

    async def checkpoint(self, name: str) -> Checkpoint:
        row = await self._one(IMPORT, import_row(name), None)
        return Checkpoint() if row is None else checkpoint_decoder.decode(row)

    async def _check_loads(self, resumes: str) -> None:
        for row, octets, _ in await self._carrier.ask(IMPORTS, ()):
            name = import_name(row)
            if name != resumes and checkpoint_decoder.decode(octets).offline is not None:
                detail = f"The load {name} around the servers is not finished."
                raise Fault(Reason.LOAD_UNFINISHED, detail, variables={"name": name})

    # --- what a load around the servers needs --------------------------------------------------------------------

    async def holds_directly(self, prefix: bytes) -> bool:
        """Tell whether anything, a tombstone too, is held below exactly this folded prefix."""
        return bool(await self._carrier.ask(SPAN, (part_of(prefix), prefix)))

    def spread(self, buckets: Mapping[bytes, int]) -> None:
        """Have listings lie in so many buckets from the next commit on, below folded prefixes that have none yet."""
        self._spread = buckets

    # --- committing ----------------------------------------------------------------------------------------------

    async def _commit(self, commit: Commit, size: int) -> None:
        first, epoch = size + 1, self._lease.epoch
        redos = applying.redos_of(commit, buckets=self._spread)
        with self._metrics.proposing.time():
            await self._carrier.carry(applying.journal(commit, redos, first, epoch))
        with self._metrics.deciding.time():
            await self._lease.advance(size, size + len(redos), commit.tree_head)
        with self._metrics.applying.time():
            await self._apply(redos, first, epoch)
        self._spread = {}

    async def _apply(self, redos: Sequence[Redo], first: int, epoch: int) -> None:
        """Write everything that a commit changes, then say that it is there."""
        last, tree_head = first + len(redos) - 1, redos[-1].tree_head
        written = Counter([prefix_of(key) for redo in redos for key, *_ in redo.writes])
        found, new = await self._spans.learn(written)
        made = {prefix: Span(count) for redo in redos for prefix, count in redo.buckets}
        spans = {**found, **made}
        await self._carrier.carry(
            chain(
                ([spans[prefix].put(prefix)] for prefix in {*new, *made}),
                applying.changes(redos, first, spans, answers_kept=self._answers_kept),
                self._redo_to_drop(),
            )
        )
        hidden_from = self._hidden_from
        for index, redo in enumerate(redos, start=first):
            hidden_from = redo.hidden_from(index, hidden_from)
        await self._carrier.carry([[(PUT_WATERMARK, (JOURNAL, last, tree_head, hidden_from, last))]])
        self._hidden_from = hidden_from
        self._spans.note(spans)
        self._growing.note(written, spans)
        self._redo = (first, epoch)
        self._reached = Reach(last, tree_head, self._reached.starts)
        self.applied = last
        if self._bell is not None:
            self._bell.ring()

    def _redo_to_drop(self) -> list[Bundle]:
        """Give what takes the redo of the last commit away: it goes with the next one, and nobody waits for it."""
        return [] if self._redo is None else [applying.drop_redo(*self._redo)]

    # --- being sure --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _settled(self) -> AsyncIterator[int]:
        """Have a turn in which nothing else is written, and what was written is known; give the journal's size.

        Raises:
            Fault: STORE_FENCED, STORE_UNAVAILABLE, JOURNAL_DAMAGED.
        """
        async with self._turn:
            self._check_open()
            if not self._is_sure:
                await self._settle()
            yield self._reached.size

    async def _settle(self) -> None:
        """Find out what became of a commit that failed, and apply it where it was decided."""
        try:
            await self._catch_up(await self._lease.take_again())
        except Fault as fault:
            self._note_stop(fault)
            raise
        self._is_sure = True

    async def _catch_up(self, head: Head) -> None:
        """Apply what is committed and is not known to be applied."""
        rows = await self._carrier.ask(WATERMARK, (JOURNAL,))
        applied, tree_head, hidden_from = rows[0] if rows else (0, b"", 0)
        if applied > head.size:
            raise _damaged(applied, f"Entries up to {applied} were applied, and {head.size} are committed")
        self.applied, self._reached = applied, Reach(applied, tree_head or b"", head.starts)
        self._hidden_from = hidden_from or 0
        while self.applied < head.size:
            first = self.applied + 1
            epoch = epoch_of(first, head.starts)
            await self._apply(await self._redos(first, epoch), first, epoch)
            _log.warning("Cassandra: entries %d to %d were committed, and are applied now", first, self.applied)

    async def _redos(self, first: int, epoch: int) -> list[Redo]:
        parts = await self._carrier.ask(REDO, (first, epoch))
        try:
            return applying.redos_from_bytes(b"".join(octets for _, octets in parts))
        except msgspec.DecodeError:
            raise _damaged(first, f"What the entry {first} changes is missing") from None

    def _check_open(self) -> None:
        if self._is_closed:
            raise closed()
        if self._stop.done():
            raise self._stop.result().anew()

    def _note_stop(self, error: BaseException) -> None:
        if isinstance(error, Fault) and error.reason in _LASTING and not self._stop.done():
            self._stop.set_result(error)
            _log.error("Cassandra: %s Nothing more is written here.", error.detail)

    # --- beside commits ----------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Give signs of life as long as this process is the writer."""
        while not self._stop.done():
            await self._another_time(self._lease.beat())
            await asyncio.sleep(self._beat_every)

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(self._beat_every)
            await self._another_time(self._forgetting.tend(self._reached.size))
            await self._another_time(self._growing.tend())

    async def _until_stopped(self) -> NoReturn:
        raise (await asyncio.shield(self._stop)).anew()

    async def _another_time(self, work: Coroutine[None, None, None]) -> None:
        """Do what can as well be done another time; where it fails, the border has counted and told it."""
        try:
            await work
        except Fault as fault:
            self._note_stop(fault)

    async def _let_go(self) -> None:
        try:
            await self._carrier.carry(self._redo_to_drop())
            await self._lease.release()
        except Fault:
            _log.warning("Cassandra: the store was not let go of; the next writer waits until the lease is over")

    # --- what a writer knows better ----------------------------------------------------------------------------

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = True) -> Fetched:
        return await super().public(keys, confirmed=confirmed)

    async def head(self) -> int:
        return (await self._reach()).size

    async def _visible(self, bodies: list[bytes | None]) -> list[bytes | None]:
        # Only a load itself writes while anything is hidden, and it has to see what the ring has of it.
        return bodies

    async def _watermark(self) -> tuple[int, bytes]:
        reach = await self._reach()
        return reach.size, reach.tree_head

    async def _reach(self) -> Reach:
        """Give what this process has committed: without a look as long as it is sure of that."""
        self._check_open()
        if not self._is_sure:
            async with self._settled():
                pass
        return self._reached


def _damaged(index: int, what: str) -> Fault:
    return Fault(Reason.JOURNAL_DAMAGED, f"{what}.", variables={"index": str(index), "kind": "entry"})
