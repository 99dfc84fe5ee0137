"""Who writes: one process at a time, by an epoch that only lightweight transactions change.

The head of the journal is the fence: whoever takes over raises the epoch in the same row that every commit must
change, so a writer that was merely paused commits nothing more. Signs of life only say when somebody else may try.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.asking import Asking
from resolver.store.cassandra.carrying import AGAIN_SECONDS, is_worth_repeating
from resolver.store.cassandra.layout import JOURNAL
from resolver.store.cassandra.settings import LeaseSettings
from resolver.store.cassandra.statements import (
    ADVANCE_HEAD,
    BEATS,
    DROP_BEAT,
    HEAD,
    HEAD_LAST_WORD,
    PUT_BEAT,
    TAKE_HEAD,
    Statement,
)

_RETRY_SECONDS: Final = 1.0

_log: Final = logging.getLogger(__name__)


class Head(Struct, frozen=True, kw_only=True):
    """The head of the journal: which entries are committed, and who may commit the next.

    `starts` are pairs of the size at which an epoch began and the epoch, sorted.
    """

    epoch: int
    size: int
    tree_head: bytes
    starts: tuple[tuple[int, int], ...]
    owner: str


class Beat(Struct, frozen=True):
    """A writer's sign of life: the epoch in which it writes, a number that goes up, and whether it has let go."""

    epoch: int
    number: int
    is_released: bool = False


class Verdict(Enum):
    """What a look at the writer's signs of life comes to."""

    ALIVE = "alive"
    UNSURE = "unsure"
    GONE = "gone"


class Watch:
    """Decides whether a writer is gone, by looking at its signs of life. No I/O; the watcher's own clock counts."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._seen: Beat | None = None
        self._since = 0.0

    def see(self, beat: Beat, *, began: float, ended: float) -> Verdict:
        """Take in a look that began and ended at these times, by a clock that never goes back."""
        if beat.epoch == 0 or beat.is_released:
            return Verdict.GONE
        seen, self._seen = self._seen, beat
        if beat != seen:
            self._since = ended
            return Verdict.UNSURE if seen is None else Verdict.ALIVE
        # What was seen when the first look had ended still stood when this one began.
        return Verdict.GONE if began - self._since >= self._patience else Verdict.UNSURE

    def forget(self) -> None:
        """Begin again: while nothing could be seen, nothing could be written either."""
        self._seen = None


class LeaseMetrics:
    """Who writes, and how often that changed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.epoch = Gauge("topnode_cassandra_epoch", "The epoch in which this process writes.", registry=registry)
        self.takeovers = Counter(
            "topnode_cassandra_takeovers_total",
            "Epochs that this process began: as a new writer, or to find out what became of a commit.",
            ["why"],
            registry=registry,
        )
        for why in ("start", "unknown"):
            self.takeovers.labels(why)
        self.missed_beats = Counter(
            "topnode_cassandra_missed_beats_total", "Signs of life that could not be written.", registry=registry
        )


class Lease:
    """The right to write. Made by `take`; `epoch` is the one in which this process writes."""

    def __init__(
        self, asking: Asking, owner: str, settings: LeaseSettings, *, clock: Clock, metrics: LeaseMetrics
    ) -> None:
        self.epoch = 0
        self._asking = asking
        # Two of one name are told apart: also this process from what it was before it was started again.
        self._owner = f"{owner}, {secrets.token_hex(4)}"
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._beats = 0

    async def take(self, *, waits: bool, check: Callable[[], Awaitable[None]] | None = None) -> Head:
        """Become the writer as soon as there is none, and give the journal's head as it was left.

        `check` is asked each time before that is tried; it raises LOAD_UNFINISHED where a load comes first.

        Raises:
            Fault: STORE_OWNED where there is one and it is not waited for; STORE_UNAVAILABLE, LOAD_UNFINISHED
                likewise.
        """
        watch, waited_for = Watch(self._settings.lease), ""
        while True:
            try:
                if check is not None:
                    await check()
                head = await self._claimed(watch, waits=waits)
            except Fault as fault:
                is_hindered = fault.reason is Reason.LOAD_UNFINISHED
                if not waits or not (is_hindered or is_worth_repeating(fault)):
                    raise
                if is_hindered and fault.detail != waited_for:
                    waited_for = fault.detail
                    _log.warning("Cassandra: standing by. %s", fault)
                watch.forget()
                head = None
            if head is not None:
                return head
            await asyncio.sleep(self._settings.beat_every)

    async def take_again(self) -> Head:
        """Begin another epoch: whatever was under way in this one is decided then, and the head tells how.

        Raises:
            Fault: STORE_FENCED where somebody else has taken over; STORE_UNAVAILABLE.
        """
        until = self._clock.monotonic() + self._settings.patience
        while True:
            try:
                head = await self.last_word()
                self._check_own(head)
                if head.epoch == self.epoch:
                    head = await self._claim(head)
                    self._check_own(head)
                if head.epoch > self.epoch:
                    await self._begin(head, "unknown")
                    return head
            except Fault as fault:
                if not is_worth_repeating(fault) or self._clock.monotonic() >= until:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)

    async def advance(self, size: int, to: int, tree_head: bytes) -> None:
        """Commit: let the journal have this size instead, and this as the head of its tree.

        Sent again while it is not answered: of this epoch there is no other commit from that size on.

        Raises:
            Fault: STORE_FENCED: nothing is committed. STORE_UNAVAILABLE: it may be or not; only another epoch tells.
        """
        until = self._clock.monotonic() + self._settings.patience
        while True:
            try:
                if await self._decide(ADVANCE_HEAD, to, tree_head, JOURNAL, self.epoch, size):
                    return
                head = await self.last_word()
                self._check_own(head)
                if (head.epoch, head.size) == (self.epoch, to):
                    return
                raise _damaged(f"Its head says {head.size} entries in epoch {head.epoch}, its writer {size}")
            except Fault as fault:
                if not is_worth_repeating(fault) or self._clock.monotonic() >= until:
                    raise
            await asyncio.sleep(AGAIN_SECONDS)

    async def beat(self) -> None:
        """Give a sign of life, and see whether this process is still the writer.

        Raises:
            Fault: STORE_FENCED; STORE_UNAVAILABLE.
        """
        await self._put_beat()
        self._check_own(await self._head(HEAD))

    async def release(self) -> None:
        """Let somebody else become the writer at once.

        Raises:
            Fault: STORE_UNAVAILABLE.
        """
        await self._put_beat(is_released=True)

    async def check(self) -> None:
        """See that this process is still the writer, and that whoever comes next knows what it has written by now.

        Raises:
            Fault: STORE_FENCED; STORE_UNAVAILABLE.
        """
        self._check_own(await self.last_word())

    async def last_word(self) -> Head:
        """Read the head so that every transaction before this is decided."""
        return await self._head(HEAD_LAST_WORD)

    async def _head(self, statement: Statement) -> Head:
        rows = await self._asking.ask(statement, (JOURNAL,))
        if not rows:
            raise _damaged("It has no head")
        epoch, size, tree_head, starts, owner = rows[0]
        pairs = sorted((start, each) for each, start in (starts or {}).items())
        return Head(epoch=epoch, size=size, tree_head=tree_head, starts=tuple(pairs), owner=owner)

    async def _claimed(self, watch: Watch, *, waits: bool) -> Head | None:
        """Look at the writer once, and take its place where it is gone."""
        began = self._clock.monotonic()
        seen = await self._head(HEAD)
        beat = await self._beat_of(seen.epoch)
        verdict = watch.see(beat, began=began, ended=self._clock.monotonic())
        if verdict is Verdict.ALIVE and not waits:
            raise _owned(seen)
        # Its own name there: what this process tried before was done after all, unheard.
        if verdict is not Verdict.GONE and seen.owner != self._owner:
            return None
        head = await self.last_word()
        if head.epoch == seen.epoch:
            head = await self._claim(head)
        # Somebody else was quicker.
        if head.owner != self._owner:
            return None
        if seen.owner and not beat.is_released:
            _log.warning("Cassandra: taking over from %s at entry %d", seen.owner, head.size)
        await self._begin(head, "start")
        return head

    async def _claim(self, head: Head) -> Head:
        """Try to begin the next epoch, and give the head as it is then."""
        epoch = head.epoch + 1
        await self._decide(TAKE_HEAD, epoch, self._owner, epoch, head.size, JOURNAL, head.epoch, head.size)
        return await self.last_word()

    async def _begin(self, head: Head, why: str) -> None:
        before, self.epoch, self._beats = self.epoch, head.epoch, 0
        self._metrics.epoch.set(head.epoch)
        self._metrics.takeovers.labels(why).inc()
        # Signs of life are worth a try and no more: the next one comes soon.
        with suppress(Fault):
            await self._put_beat()
            for epoch in {before, head.epoch - 1} - {0}:
                await self._asking.ask(DROP_BEAT, (JOURNAL, epoch))

    async def _beat_of(self, epoch: int) -> Beat:
        for each, number, _owner, is_released in await self._asking.ask(BEATS, (JOURNAL,)):
            if each == epoch:
                return Beat(epoch, number, bool(is_released))
        return Beat(epoch, 0)

    async def _put_beat(self, *, is_released: bool = False) -> None:
        self._beats += 1
        values = (JOURNAL, self.epoch, self._beats, self._owner, is_released, self._beats)
        try:
            await self._asking.ask(PUT_BEAT, values)
        except Fault:
            self._metrics.missed_beats.inc()
            raise

    async def _decide(self, statement: Statement, *values: object) -> bool:
        """Carry out a transaction, and tell whether its conditions held."""
        rows = await self._asking.ask(statement, values)
        return bool(rows[0][0])

    def _check_own(self, head: Head) -> None:
        if head.epoch > self.epoch and head.owner != self._owner:
            raise _fenced(head)


def _owned(head: Head) -> Fault:
    return Fault(Reason.STORE_OWNED, f"{head.owner} is the writer of this store.", variables={"what": head.owner})


def _fenced(head: Head) -> Fault:
    return Fault(
        Reason.STORE_FENCED,
        f"{head.owner} has become the writer in epoch {head.epoch}.",
        retry_after=_RETRY_SECONDS,
        variables={"what": head.owner, "epoch": str(head.epoch)},
    )


def _damaged(what: str) -> Fault:
    return Fault(Reason.JOURNAL_DAMAGED, f"{what}.")
