"""The desk: verified requests wait here, are planned one after another, and are written in groups.

One task does it all in turn: what is planned is planned against everything before it. While a group is being made
durable, the next one gathers. What a request comes to is decided by its planner (`registry.kinds`).
"""

import asyncio
import collections
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from registry.entries import entry_of
from registry.journal import Journal, Store
from registry.kinds import Planner
from registry.plans import Outcome, Plan
from registry.settings import RegistrySettings
from registry.state import State
from registry.v1 import registry_pb2 as pb
from registry.verify import Verified, Verifier
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.store import Entry
from resolver.trust.receipts import Receipt

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


class Answer(Struct, frozen=True, kw_only=True):
    """What a request came to: its result (`registry.entries.result_of`), and the proof that it is in the journal.

    Without a receipt nothing was written: every row was refused. `is_repeated`: an earlier sending of the same
    request was answered so; the receipt is of the same entry, in the tree as it is now.
    """

    result: bytes
    receipt: Receipt | None = None
    is_repeated: bool = False


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

    Failure policy: a commit that fails refuses its whole group with the store's reason, and what was planned is
    forgotten; the journal is as it was before. More waiting requests than allowed are refused, not kept.
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
        self._metrics = DeskMetrics(registry, list(planners))
        self._metrics.waiting.set_function(lambda: len(self._queue))
        self._metrics.waiting_bytes.set_function(lambda: self._bytes)
        self._queue: deque[_Waiting] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()

    async def submit(self, verified: Verified) -> Answer:
        """Have a request planned and written, and give what it came to: durable when this returns.

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
        at = int(self._clock.wall())
        try:
            await self._state.begin(at)
        except Fault as fault:
            _refuse(group, fault)
            return
        turn = _Turn(self._store, self._state, self._journal, self._verifier, self._planners, at)
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

    async def _write(self, planned: Sequence[_Planned]) -> None:
        first = self._journal.size + 1
        try:
            with self._metrics.commit_seconds.time():
                await self._journal.commit([each.entry for each in planned])
        except Fault as fault:
            self._state.forget()
            _refuse([waiting for each in planned for waiting in each.callers], fault)
            return
        except BaseException:
            self._state.forget()
            raise
        self._state.committed()
        self._count(planned)
        for index, each in enumerate(planned, start=first):
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
    """One group being planned: what is accepted so far, by request and by nonce."""

    def __init__(
        self,
        store: Store,
        state: State,
        journal: Journal,
        verifier: Verifier,
        planners: Mapping[str, Planner],
        at: int,
    ) -> None:
        self.planned: list[_Planned] = []
        self.unwritten: list[Plan] = []
        self.repeated = 0
        self._store = store
        self._state = state
        self._journal = journal
        self._verifier = verifier
        self._planners = planners
        self._at = at
        self._by_request: dict[bytes, _Planned] = {}
        self._nonces: set[bytes] = set()

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
        self._verifier.check_fresh(verified)
        with refusals:
            await self._check_nonce(verified)
        actor = self._verifier.still_allowed(verified, self._state)
        verified = replace(verified, request=replace(verified.request, actor=actor, at=self._at))
        with refusals:
            plan = await self._planners[verified.request.kind](verified.request, self._state)
        entry = entry_of(verified, plan)
        if _changes_nothing(plan):
            self.unwritten.append(plan)
            waiting.give(Answer(result=entry.result))
            return
        self._state.add(plan)
        planned = _Planned(waiting, plan, entry)
        self.planned.append(planned)
        self._by_request[verified.request_key] = planned
        self._nonces.add(verified.nonce.name)

    async def _is_repeated(self, waiting: _Waiting) -> bool:
        """Tell whether the same request was accepted before; its first answer is given, now or with its group."""
        verified = waiting.verified
        twin = self._by_request.get(verified.request_key)
        if twin is not None:
            _check_same(verified, twin.waiting.verified.body_sha256)
            twin.repeats.append(waiting)
            return True
        index = await self._store.answered(verified.request_key)
        if not index:
            return False
        (kept,) = await self._store.entries(index - 1, 1)
        _check_same(verified, pb.Statement.FromString(kept.statement).body_sha256)
        receipt = await self._journal.receipt_of(index, kept.statement)
        waiting.give(Answer(result=kept.result, receipt=receipt, is_repeated=True))
        return True

    async def _check_nonce(self, verified: Verified) -> None:
        if verified.nonce.name in self._nonces or await self._store.is_spent(verified.nonce):
            raise Fault(Reason.NONCE_SPENT, field="head.nonce")


def _changes_nothing(plan: Plan) -> bool:
    """Was every row refused? Then there is nothing to be written, but how far an import has come."""
    return 0 < len(plan.refusals) == len(plan.outcomes) and not plan.checkpoints


def _check_same(verified: Verified, body_sha256: bytes) -> None:
    if verified.body_sha256 != body_sha256:
        raise Fault(
            Reason.REQUEST_ID_REUSED, field="head.request_id", variables={"request_id": verified.head.request_id}
        )


def _refuse(group: Sequence[_Waiting], fault: Fault) -> None:
    """Refuse each with a fault of its own: raising one changes it."""
    for waiting in group:
        said = Fault(
            fault.reason, fault.detail, field=fault.field, retry_after=fault.retry_after, variables=fault.variables
        )
        waiting.refuse(said)
