"""The bridge between the driver's thread and the event loop, and how long an answer is waited for.

The driver calls back in a thread of its own. What it brings is put into a queue, and the loop is woken once for all
that has come until it looks: waking it for each answer takes as long as the answer itself. Time is kept here too: a
timer of the driver's costs each query a system call and a change of threads, one of the loop's next to nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from cassandra.cluster import ResponseFuture, Session
from cassandra.pool import Host
from cassandra.query import BatchStatement, BatchType, BoundStatement, PreparedStatement
from cassandra.query import Statement as Bound

from resolver.bounds import IDENTIFIER_BYTES
from resolver.clock import Clock
from resolver.errors import Fault
from resolver.store.cassandra.border import Border, closed
from resolver.store.cassandra.hedging import Hedging
from resolver.store.cassandra.statements import Statement, Way

Row: TypeAlias = tuple[Any, ...]
Landed: TypeAlias = Callable[[Sequence[Row], Fault | None], None]
"""Called in the event loop with the rows, or with what went wrong."""

Quiet: TypeAlias = list[None]
"""An element for each answer that is of no use before the others: as long as there are some left, the loop sleeps."""

_NO_ROWS: Final[Sequence[Row]] = ()

_HEADS: Final = [length.to_bytes(4, "big") for length in range(IDENTIFIER_BYTES + 1)]


class Asking:
    """Asks prepared statements for one event loop.

    `patience` is how many seconds each way waits for an answer; `hedging` are the ways for which a second node is
    asked before that.

    Raises (or lands with):
        Fault: as `Border.fault`, STORE_UNAVAILABLE above all. Where that was a write, it may be done or not.
    """

    def __init__(
        self,
        session: Session,
        prepared: Mapping[Statement, PreparedStatement],
        border: Border,
        *,
        patience: Mapping[Way, float],
        hedging: Mapping[Way, Hedging],
        clock: Clock,
    ) -> None:
        for statement, each in prepared.items():
            each.is_idempotent = statement.way is not Way.DECIDE
        self.session = session
        self._prepared = prepared
        self.border = border
        self.patience = patience
        self.hedging = hedging
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self._landings: deque[tuple[_Flight, Sequence[Row] | None, BaseException | None, float]] = deque()
        self._is_waking = False
        self.is_closed = False

    def send_list(
        self,
        statement: Statement,
        keys: Sequence[bytes],
        landed: Landed,
        *,
        nodes: Sequence[Host] = (),
        quiet: Quiet | None = None,
    ) -> None:
        """Ask a statement whose one value is a list of blobs; else as `send`."""
        # What the driver's own way of encoding a list takes, key by key, is a third of the whole lookup.
        bound = BoundStatement(self._prepared[statement])
        bound.values = [blobs(keys)]
        self._send(bound, statement.way, landed, nodes, quiet)

    def send(
        self,
        statement: Statement,
        values: Sequence[Any],
        landed: Landed,
        *,
        nodes: Sequence[Host] = (),
        quiet: Quiet | None = None,
    ) -> None:
        """Ask, these nodes before others; `landed` is called in a later turn of the loop, once.

        `quiet` is shared by what is asked together: the loop is woken for the last of them.
        """
        self._send(self._prepared[statement].bind(values), statement.way, landed, nodes, quiet)

    def _send(self, bound: Bound, way: Way, landed: Landed, nodes: Sequence[Host], quiet: Quiet | None) -> None:
        if self.is_closed:
            self.loop.call_soon(landed, _NO_ROWS, closed())
            return
        if nodes:
            bound.wanted = nodes
        _Flight(self, bound, way, landed, quiet)

    def bound(self, requests: Sequence[tuple[Statement, Sequence[Any]]]) -> Bound:
        """Give writes as the driver's session executes them; several are of one partition, and are done as one."""
        if len(requests) == 1:
            ((statement, values),) = requests
            return self._prepared[statement].bind(values)
        batch = BatchStatement(BatchType.UNLOGGED)
        for statement, values in requests:
            batch.add(self._prepared[statement].bind(values))
        batch.is_idempotent = True
        return batch

    async def ask(self, statement: Statement, values: Sequence[Any] = ()) -> Sequence[Row]:
        """Ask and give all rows."""
        future: asyncio.Future[Sequence[Row]] = self.loop.create_future()

        def landed(rows: Sequence[Row], fault: Fault | None) -> None:
            if future.done():
                return
            if fault is None:
                future.set_result(rows)
            else:
                future.set_exception(fault)

        self.send(statement, values, landed)
        return await future

    def close(self) -> None:
        """Let nothing be asked any more."""
        self.is_closed = True

    def bring(self, flight: "_Flight", rows: Sequence[Row] | None, error: BaseException | None) -> None:
        """Take from the driver's thread what has come, and wake the loop if nobody has yet and it is of use."""
        self._landings.append((flight, rows, error, self.clock.monotonic()))
        quiet = flight.quiet
        if quiet and error is None:
            # Looked at after it is taken: of two threads that take the last two, one at least sees that none is left.
            with suppress(IndexError):
                quiet.pop()
            if quiet:
                return
        elif quiet:
            # The caller hears of this one now, and nobody waits for the others together any more.
            quiet.clear()
        if not self._is_waking and not self.loop.is_closed():
            self._is_waking = True
            self.loop.call_soon_threadsafe(self.land)

    def land(self) -> None:
        """Hand out what has come until now, in the loop."""
        # First: what comes from now on wakes the loop again, even if it is taken along here.
        self._is_waking = False
        landings = self._landings
        while landings:
            flight, rows, error, at = landings.popleft()
            flight.land(rows or _NO_ROWS, error, at)


def blobs(keys: Sequence[bytes]) -> bytes:
    """Encode a list of blobs as CQL has it (native protocol 4, section 6.11): their number, each with its length."""
    parts = [len(keys).to_bytes(4, "big")] * (1 + 2 * len(keys))
    parts[1::2] = map(_HEADS.__getitem__, map(len, keys))
    parts[2::2] = keys
    return b"".join(parts)


class _Flight:
    """One statement on its way: on one node, or on two where the first takes long. Lands once."""

    __slots__ = ("asking", "began", "bound", "future", "hedging", "landed", "out", "quiet", "timer", "way")

    def __init__(self, asking: Asking, bound: Bound, way: Way, landed: Landed, quiet: Quiet | None) -> None:
        self.asking = asking
        self.quiet = quiet
        self.bound = bound
        self.way = way
        self.landed: Landed | None = landed
        self.out = 0
        self.began = asking.clock.monotonic()
        self.hedging = hedging = asking.hedging.get(way)
        self.future: ResponseFuture | None = None
        patience = asking.patience[way]
        if hedging is not None and hedging.delay < patience and hedging.has_others:
            self.timer = asking.loop.call_later(hedging.delay, self.hedge, hedging)
        else:
            self.timer = asking.loop.call_later(patience, self.give_up)
        self.fly()

    def fly(self) -> None:
        self.out += 1
        self.future = future = self.asking.session.execute_async(self.bound, execution_profile=self.way)
        future.add_callbacks(self.answered, self.failed)

    def hedge(self, hedging: Hedging) -> None:
        """Ask a second node, where the answer has not come quietly."""
        self.asking.land()
        if self.landed is None:
            return
        if self.future is not None and self.future.attempted_hosts:
            self.bound.avoided = self.future.attempted_hosts[-1]
        hedging.hedged.inc()
        left = self.began + self.asking.patience[self.way] - self.asking.clock.monotonic()
        self.timer = self.asking.loop.call_later(max(0.0, left), self.give_up)
        self.fly()

    def give_up(self) -> None:
        """Let what comes from now on be too late."""
        self.asking.land()
        landed, self.landed = self.landed, None
        if landed is not None:
            landed(_NO_ROWS, self.asking.border.overdue(self.asking.patience[self.way]))

    # --- in the driver's thread --------------------------------------------------------------------------------

    def answered(self, rows: Sequence[Row] | None) -> None:
        self.asking.bring(self, rows, None)

    def failed(self, error: BaseException) -> None:
        self.asking.bring(self, None, error)

    # --- in the loop -------------------------------------------------------------------------------------------

    def land(self, rows: Sequence[Row], error: BaseException | None, at: float) -> None:
        """Hand on what came at this time."""
        self.out -= 1
        landed = self.landed
        if landed is None or (error is not None and self.out):
            return
        self.landed = self.future = None
        self.timer.cancel()
        if error is not None:
            landed(_NO_ROWS, closed() if self.asking.is_closed else self.asking.border.fault(error))
            return
        if self.hedging is not None:
            self.hedging.note(at - self.began)
        landed(rows, None)
