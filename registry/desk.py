"""The desk: verified requests wait here, are planned one after another, and are written in groups.

One task does it all in turn: what is planned is planned against everything before it. While a group is being made
durable, the next one gathers. What a request comes to is decided by its planner (`registry.kinds`).
"""

import asyncio
import collections
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from registry.answers import Answer, FirstAnswers, check_same
from registry.entries import entry_of
from registry.journal import Journal, Store
from registry.kinds import Planner
from registry.plans import Outcome, Plan
from registry.refused_nonces import RefusedNonces
from registry.settings import RegistrySettings
from registry.state import State
from registry.verify import Verified, Verifier
from resolver.clock import Clock
from resolver.errors import Fault, Kind, Reason
from resolver.store import Entry, Nonce

GROUP_REQUESTS: Final = 512
"""Requests that are written together, at most."""

GROUP_BYTES: Final = 2 << 20
"""Envelopes and chunks that are written together have this many bytes, or little more: all of them are waited for."""

QUIET_TURNS: Final = 4
"""Turns of the event loop without another request after which a group is taken."""

LINGER_SECONDS: Final = 0.005
"""No group waits for more requests longer than this."""

SLICE: Final = 16
"""Requests that are planned between two turns of the event loop: a few milliseconds, unless they have many rows."""

_COMMIT_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_RETRY_SECONDS: Final = 1.0

_LOOK_SECONDS: Final = 0.2
"""Time between two attempts to read what a commit that failed left in the store."""

_PASSING: Final = frozenset((Kind.UNAVAILABLE, Kind.RESOURCE_EXHAUSTED, Kind.DEADLINE_EXCEEDED, Kind.INTERNAL))
"""Such refusals are not about what was signed: the same envelope may be sent again."""

_log = logging.getLogger(__name__)


class DeskMetrics:
    """What is written, and in how large groups."""

    def __init__(self, registry: CollectorRegistry, kinds: Sequence[str]) -> None:
        entries = Counter("topnode_registry_entries_total", "Entries of the journal.", ("kind",), registry=registry)
        rows = Counter(
            "topnode_registry_rows_total", "Rows, by what became of them.", ("outcome",), registry=registry
        )
        self._refusals = Counter(
            "topnode_registry_row_refusals_total",
            "Rows that were refused, by reason.",
            ("reason",),
            registry=registry,
        )
        self.entries = {kind: entries.labels(kind) for kind in kinds}
        self.rows = {outcome: rows.labels(outcome.name.lower()) for outcome in Outcome}
        self.repeated = Counter(
            "topnode_registry_repeated_total", "Requests that got their first answer again.", registry=registry
        )
        self.commit_seconds = Histogram(
            "topnode_registry_commit_seconds",
            "Making a group of entries durable.",
            registry=registry,
            buckets=_COMMIT_BUCKETS,
        )
        self.failed = Counter(
            "topnode_registry_commit_failures_total", "Groups of entries that were refused.", registry=registry
        )
        self.waiting = Gauge("topnode_registry_waiting_requests", "Requests that wait.", registry=registry)
        self.waiting_bytes = Gauge(
            "topnode_registry_waiting_bytes", "Bytes of requests that wait.", registry=registry
        )

    def count_rows(self, plan: Plan) -> None:
        """Count what became of the rows of a request."""
        for outcome in set(plan.outcomes):
            self.rows[outcome].inc(plan.outcomes.count(outcome))
        for reason, count in collections.Counter(fault.reason.name for fault in plan.refusals.values()).items():
            self._refusals.labels(reason).inc(count)


class _Waiting:
    """A request on its way through the desk. Nobody waits any more where `answer` is done.

    As a context: what is raised in it, foreseen or not, is raised at the caller instead, and the desk goes on.
    """

    __slots__ = ("answer", "size", "verified")

    def __init__(self, verified: Verified) -> None:
        self.verified = verified
        self.size = len(verified.envelope) + len(verified.request.chunk)
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self.refuse(error)
        return True

    def give(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def refuse(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class _Planned:
    """A request that is going to be an entry, and the later sendings of the same that came in its group."""

    __slots__ = ("entry", "plan", "repeats", "waiting")

    def __init__(self, waiting: _Waiting, plan: Plan, entry: Entry) -> None:
        self.waiting = waiting
        self.plan = plan
        self.entry = entry
        self.repeats: list[_Waiting] = []

    @property
    def callers(self) -> list[_Waiting]:
        return [self.waiting, *self.repeats]


class Desk:
    """Takes verified requests. `run` is the task that writes; without it nobody is answered.

    Failure policy: a commit that fails refuses its whole group with the store's reason. What the store then holds is
    read at once; as long as it cannot be read, whoever comes is refused. More waiting requests than allowed are
    refused, not kept.
    """

    def __init__(
        self,
        *,
        store: Store,
        state: State,
        journal: Journal,
        verifier: Verifier,
        planners: Mapping[str, Planner],
        settings: RegistrySettings,
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        self._store = store
        self._state = state
        self._journal = journal
        self._verifier = verifier
        self._planners = planners
        self._settings = settings
        self._clock = clock
        self._answers = FirstAnswers(store, journal)
        self._refused = RefusedNonces()
        self._metrics = DeskMetrics(registry, list(planners))
        self._metrics.waiting.set_function(lambda: len(self._queue))
        self._metrics.waiting_bytes.set_function(lambda: self._bytes)
        self._queue: deque[_Waiting] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()

    async def submit(self, verified: Verified) -> Answer:
        """Have a request planned and written, and give what it came to: durable when this returns.

        The nonce of a request that is refused behind the rung of nonces is spent.

        Raises:
            Fault: the rung of the ladder on which it fails in its turn (10 to 14 in `registry.verify`); its
                planner's; TOO_MANY_IN_FLIGHT; STORE_FULL, STORE_UNAVAILABLE.
        """
        waiting = _Waiting(verified)
        self._check_room(waiting.size)
        self._queue.append(waiting)
        self._bytes += waiting.size
        self._arrived.set()
        return await waiting.answer

    async def run(self) -> None:
        """Take what waits, group by group, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                await self._let_in()
                await self._take(self._next_group())

    async def _let_in(self) -> None:
        """Wait for those who are just arriving: a commit costs as much as verifying several requests."""
        began, quiet = self._clock.monotonic(), 0
        while quiet < QUIET_TURNS and self._clock.monotonic() - began < LINGER_SECONDS:
            size = len(self._queue)
            await asyncio.sleep(0)
            quiet = quiet + 1 if len(self._queue) == size else 0

    def _check_room(self, size: int) -> None:
        settings = self._settings
        if not self._queue:
            return
        if len(self._queue) >= settings.waiting or self._bytes + size > settings.waiting_size:
            raise Fault(
                Reason.TOO_MANY_IN_FLIGHT,
                f"{len(self._queue)} requests wait to be written.",
                retry_after=_RETRY_SECONDS,
            )

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        octets = 0
        while self._queue and len(group) < GROUP_REQUESTS and octets < GROUP_BYTES:
            waiting = self._queue.popleft()
            self._bytes -= waiting.size
            octets += waiting.size
            if not waiting.answer.done():
                group.append(waiting)
        return group

    async def _take(self, group: list[_Waiting]) -> None:
        """Plan a group and write it; everybody in it is answered when this returns."""
        try:
            turn = await self._turn(group, int(self._clock.wall()))
        except Fault as fault:
            _refuse(group, fault)
            return
        for number, waiting in enumerate(group, start=1):
            with waiting:
                await turn.take(waiting)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        if turn.planned:
            await self._write(turn.planned)
        for plan in turn.unwritten:
            self._metrics.count_rows(plan)
        self._metrics.repeated.inc(turn.repeated)

    async def _turn(self, group: Sequence[_Waiting], at: int) -> "_Turn":
        """Ask the store once about all of a group."""
        await self._be_current(at)
        requests = [each.verified.request_key for each in group]
        nonces = [each.verified.nonce for each in group]
        answered, spent = await asyncio.gather(self._store.answered(requests), self._store.spent(nonces))
        return _Turn(
            self._state,
            self._verifier,
            self._planners,
            self._answers,
            self._refused,
            at=at,
            answered=dict(zip(requests, answered, strict=True)),
            spent={nonce for nonce, is_spent in zip(nonces, spent, strict=True) if is_spent},
        )

    async def _be_current(self, at: int) -> None:
        """Have journal and state be what the store is, and terms end by this time."""
        await self._journal.be_sure()
        await self._state.begin(at)
        self._refused.tell_time(at)

    async def _settle(self, callers: Sequence[_Waiting], failed: Fault) -> None:
        """After a commit that failed read what it left in the store, and refuse whoever comes before that is known.

        Its callers are told when that was tried, so that one who sends again at once finds everything settled.
        """
        unread = await self._look()
        _refuse(callers, failed)
        if unread:
            _log.error("What that left in the store cannot be read yet: %s", unread)
        while unread:
            _refuse(self._queue, unread)
            self._queue.clear()
            self._bytes = 0
            await asyncio.sleep(_LOOK_SECONDS)
            unread = await self._look()

    async def _look(self) -> Fault | None:
        try:
            await self._be_current(int(self._clock.wall()))
        except Fault as fault:
            return fault
        return None

    async def _write(self, planned: Sequence[_Planned]) -> None:
        try:
            with self._metrics.commit_seconds.time():
                last = await self._journal.commit([each.entry for each in planned])
        except Fault as fault:
            self._state.forget()
            self._metrics.failed.inc()
            _log.error("A group of %d requests is refused: %s", len(planned), fault)
            await self._settle([waiting for each in planned for waiting in each.callers], fault)
            return
        except BaseException:
            self._state.forget()
            raise
        self._state.committed()
        self._count(planned)
        for index, each in enumerate(planned, start=last - len(planned) + 1):
            try:
                receipt = await self._journal.receipt_of(index, each.entry.statement)
            except Fault as fault:
                # It is in the journal; whoever asks again is told so.
                _refuse(each.callers, fault)
                continue
            each.waiting.give(Answer(result=each.entry.result, receipt=receipt))
            for waiting in each.repeats:
                waiting.give(Answer(result=each.entry.result, receipt=receipt, is_repeated=True))

    def _count(self, planned: Sequence[_Planned]) -> None:
        for each in planned:
            self._metrics.entries[each.waiting.verified.request.kind].inc()
            self._metrics.count_rows(each.plan)


class _Turn:
    """One group being planned, at one time: what is accepted so far, by request and by nonce.

    `answered` and `spent` are what the store said about the group's requests and nonces.
    """

    def __init__(
        self,
        state: State,
        verifier: Verifier,
        planners: Mapping[str, Planner],
        answers: FirstAnswers,
        refused: RefusedNonces,
        *,
        at: int,
        answered: Mapping[bytes, int],
        spent: set[Nonce],
    ) -> None:
        self.planned: list[_Planned] = []
        self.unwritten: list[Plan] = []
        self.repeated = 0
        self._state = state
        self._verifier = verifier
        self._planners = planners
        self._answers = answers
        self._refused = refused
        self._at = at
        self._answered = answered
        self._spent = spent
        self._by_request: dict[bytes, _Planned] = {}

    async def take(self, waiting: _Waiting) -> None:
        """Climb the rungs that need the store, then plan; what is not going to be an entry is answered at once.

        Raises:
            Fault: why it is refused.
        """
        verified = waiting.verified
        refusals = self._verifier.refusals
        with refusals:
            is_repeated = await self._is_repeated(waiting)
        if is_repeated:
            self.repeated += 1
            return
        self._verifier.check_fresh(verified, self._at)
        with refusals:
            self._check_nonce(verified.nonce)
        try:
            entry, plan = await self._plan(verified)
        except Fault as fault:
            # A chunk that was damaged on its way is sent again behind the same envelope.
            if fault.kind not in _PASSING and fault.reason is not Reason.CHUNK_MISMATCH:
                self._refused.add(verified.nonce)
            raise
        if _changes_nothing(plan):
            self._refused.add(verified.nonce)
            self.unwritten.append(plan)
            waiting.give(Answer(result=entry.result))
            return
        self._state.add(plan)
        planned = _Planned(waiting, plan, entry)
        self.planned.append(planned)
        self._by_request[verified.request_key] = planned
        self._spent.add(verified.nonce)

    async def _is_repeated(self, waiting: _Waiting) -> bool:
        """Tell whether the same request was accepted before; its first answer is given, now or with its group."""
        verified = waiting.verified
        twin = self._by_request.get(verified.request_key)
        if twin is not None:
            check_same(verified, twin.waiting.verified.body_sha256)
            twin.repeats.append(waiting)
            return True
        index = self._answered[verified.request_key]
        if not index:
            return False
        waiting.give(await self._answers.given(verified, index))
        return True

    def _check_nonce(self, nonce: Nonce) -> None:
        if nonce in self._spent or nonce in self._refused:
            raise Fault(Reason.NONCE_SPENT, field="head.nonce")

    async def _plan(self, verified: Verified) -> tuple[Entry, Plan]:
        """Plan a request whose time has come, for whoever it is that has signed it."""
        actor = self._verifier.still_allowed(verified, self._state)
        taken = replace(verified, request=replace(verified.request, actor=actor, at=self._at))
        with self._verifier.refusals:
            plan = await self._planners[taken.request.kind](taken.request, self._state)
        return entry_of(taken, plan), plan


def _changes_nothing(plan: Plan) -> bool:
    """Was every row refused? Then there is nothing to be written, but how far an import has come."""
    return 0 < len(plan.refusals) == len(plan.outcomes) and not plan.checkpoints


def _refuse(group: Iterable[_Waiting], fault: Fault) -> None:
    """Refuse each with a fault of its own."""
    for waiting in group:
        waiting.refuse(fault.anew())
