"""Many small reads of records, gathered into few queries with an `IN` list each.

A query costs the driver as much as ten rows do, so keys that are asked for at the same time share queries. A
coordinator works through a list one key after the other, so a few queries must be in flight for it to be busy: as
long as there are fewer than eight, whatever waits is sent in equal shares; beyond that keys wait until a list is long
enough to be worth it, or until one of those comes back. Where nodes hold different keys, each has its own lists.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge

from resolver.errors import Fault, Reason
from resolver.store.cassandra.asking import Asking, Quiet, Row
from resolver.store.cassandra.layout import has_version_of
from resolver.store.cassandra.placing import Placing
from resolver.store.cassandra.settings import QUERIES_MIN, CassandraSettings
from resolver.store.cassandra.statements import FULL_SURE, PUBLIC_NEAR, PUBLIC_SURE, Statement, Way

if TYPE_CHECKING:
    from cassandra.pool import Host

WIDTH_MIN: Final = 32
WIDTH_MAX: Final = 100
"""Keys in a list: what is worth a query of its own while others are in flight, and the most that one holds.

Of a quorum no more than the first are asked in one list: while a replica is lost, a coordinator waits a moment for
each of its rows, for one after the other, before it asks another replica."""

_RETRY_SECONDS: Final = 0.1

Bodies: TypeAlias = dict[bytes, bytes]
"""What was found, by key. It may hold what others asked for too."""


class RecordsMetrics:
    """How reads are gathered, and how often the nearest replica did not know what the others know."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.queries = Counter(
            "topnode_cassandra_record_queries_total", "Queries for records.", ["way"], registry=registry
        )
        self.keys = Counter(
            "topnode_cassandra_record_keys_total", "Keys in queries for records.", ["way"], registry=registry
        )
        self.in_flight = Gauge(
            "topnode_cassandra_record_queries_in_flight", "Queries for records in flight.", registry=registry
        )
        self.waiting = Gauge(
            "topnode_cassandra_record_keys_waiting", "Keys that wait for a query.", registry=registry
        )
        self.found_late = Counter(
            "topnode_cassandra_found_late_total",
            "Records that a replica did not have and a quorum had.",
            registry=registry,
        )


class Records:
    """Reads bodies by key.

    Raises:
        Fault: STORE_UNAVAILABLE when Cassandra does not answer in time, TOO_MANY_IN_FLIGHT.
    """

    def __init__(
        self, asking: Asking, placing: Placing, settings: CassandraSettings, registry: CollectorRegistry
    ) -> None:
        metrics = RecordsMetrics(registry)
        self._near, self._sure, self._full = ways = [
            _Gathering(asking, placing, statement, shape, settings, metrics)
            for statement, shape in ((PUBLIC_NEAR, None), (PUBLIC_SURE, None), (FULL_SURE, _full_bodies))
        ]
        metrics.in_flight.set_function(lambda: sum(each.in_flight for each in ways))
        metrics.waiting.set_function(lambda: sum(each.waiting for each in ways))
        self._found_late = metrics.found_late

    async def public(self, keys: Sequence[bytes], *, confirmed: bool) -> list[bytes | None]:
        """Read from the nearest replica; what it does not have, or everything if `confirmed`, from a quorum."""
        if confirmed:
            return list(map((await self._sure.fetch(keys)).get, keys))
        bodies = list(map((await self._near.fetch(keys)).get, keys))
        if None not in bodies:
            return bodies
        missing = [key for key, body in zip(keys, bodies, strict=True) if body is None]
        late = await self._sure.fetch(missing)
        if late:
            self._found_late.inc(sum(key in late for key in missing))
        return [late.get(key) if body is None else body for key, body in zip(keys, bodies, strict=True)]

    async def full(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Read from a quorum: the write path decides by it."""
        return list(map((await self._full.fetch(keys)).get, keys))


def _full_bodies(rows: Sequence[Row]) -> Sequence[Row]:
    return [(key, full if has_version_of(full, public) else public) for key, public, full in rows]


class _Call:
    """What one caller wants: how many keys have not come back, and what has.

    `quiet` is shared by its lists that hold nobody else's keys.
    """

    __slots__ = ("done", "found", "left", "quiet")

    def __init__(self, count: int, done: "asyncio.Future[Bodies]") -> None:
        self.left = count
        self.found: Bodies = {}
        self.quiet: Quiet = []
        self.done = done

    def land(self, count: int, bodies: Bodies | Sequence[Row]) -> None:
        """Take what has come back for so many of the keys: a dict of what others asked for too, or its own rows."""
        if self.done.done():
            return
        if count == self.left and not self.found and isinstance(bodies, dict):
            self.done.set_result(bodies)
            return
        self.found.update(bodies)
        self.left -= count
        if not self.left:
            self.done.set_result(self.found)

    def fail(self, fault: Fault) -> None:
        """Take that some of the keys have not come back."""
        if not self.done.done():
            self.done.set_exception(fault.anew())


class _Wish:
    """Keys that a caller wants from one node, and how many of them were sent."""

    __slots__ = ("call", "keys", "sent")

    def __init__(self, call: _Call, keys: Sequence[bytes]) -> None:
        self.call = call
        self.keys = keys
        self.sent = 0


class _Lane:
    """What is wanted from one node, in its order, how many queries it works on, and who can stand in for it."""

    __slots__ = ("in_flight", "nodes", "waiting", "wishes")

    def __init__(self) -> None:
        self.nodes: Sequence[Host] = ()
        self.in_flight = 0
        self.waiting = 0
        self.wishes: deque[_Wish] = deque()

    def add(self, wish: _Wish) -> None:
        self.wishes.append(wish)
        self.waiting += len(wish.keys)

    def take(self, width: int) -> tuple[list[bytes], list[tuple[_Call, int]]]:
        """Take so many keys, and note whose they are. Of those who have given up nothing is taken."""
        keys: list[bytes] = []
        calls: list[tuple[_Call, int]] = []
        while self.wishes and len(keys) < width:
            wish = self.wishes[0]
            left = len(wish.keys) - wish.sent
            if wish.call.done.done():
                self.wishes.popleft()
                self.waiting -= left
                continue
            count = min(left, width - len(keys))
            keys += wish.keys[wish.sent : wish.sent + count]
            calls.append((wish.call, count))
            wish.sent += count
            self.waiting -= count
            if count == left:
                self.wishes.popleft()
        return keys, calls


class _Gathering:
    """Gathers what is asked of one statement."""

    def __init__(
        self,
        asking: Asking,
        placing: Placing,
        statement: Statement,
        shape: Callable[[Sequence[Row]], Sequence[Row]] | None,
        settings: CassandraSettings,
        metrics: RecordsMetrics,
    ) -> None:
        self.in_flight = 0
        self._asking = asking
        self._placing = placing
        self._statement = statement
        self._shape = shape
        self._settings = settings
        self._deadline = float(settings.deadline)
        self._widest = WIDTH_MAX if statement.way is Way.NEAR else WIDTH_MIN
        self._queries = metrics.queries.labels(statement.way.value)
        self._keys = metrics.keys.labels(statement.way.value)
        self._lanes: defaultdict[Host | None, _Lane] = defaultdict(_Lane)
        self._is_due = False
        self._hushed: set[_Call] = set()
        self._loop = asyncio.get_running_loop()

    @property
    def waiting(self) -> int:
        """Keys that were not sent yet."""
        return sum(lane.waiting for lane in self._lanes.values())

    async def fetch(self, keys: Sequence[bytes]) -> Bodies:
        """Find what is there under these keys."""
        if not keys:
            return {}
        if self.waiting + len(keys) > self._settings.waiting:
            raise Fault(Reason.TOO_MANY_IN_FLIGHT, retry_after=_RETRY_SECONDS)
        call = _Call(len(keys), self._loop.create_future())
        for nodes, some in self._placing.places(keys):
            lane = self._lanes[nodes[0] if nodes else None]
            lane.nodes = nodes
            lane.add(_Wish(call, some))
        self._be_due()
        overdue = self._loop.call_later(self._deadline, self._give_up, call)
        try:
            return await call.done
        finally:
            overdue.cancel()
            self._hushed.discard(call)
            call.quiet.clear()

    def _be_due(self) -> None:
        """Send at the end of this turn, together with what others want by then."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
        at_least = -(-QUERIES_MIN // len(self._lanes))
        for lane in self._lanes.values():
            while lane.waiting and self.in_flight < self._settings.queries:
                width = share(lane.waiting, at_least - lane.in_flight, self._widest)
                keys, calls = lane.take(width)
                if not keys:
                    break
                self.in_flight += 1
                lane.in_flight += 1
                self._queries.inc()
                self._keys.inc(len(keys))
                landed = partial(self._land, lane, calls)
                quiet = self._hush(calls)
                self._asking.send_list(self._statement, keys, landed, nodes=lane.nodes, quiet=quiet)
        if self.waiting:
            # Now every answer is of use: it makes room for another query.
            for call in self._hushed:
                call.quiet.clear()

    def _hush(self, calls: Sequence[tuple[_Call, int]]) -> Quiet | None:
        """Let the loop sleep until all lists of one caller have come, where this is one of several."""
        call, count = calls[0]
        if len(calls) > 1 or count == call.left:
            return None
        call.quiet.append(None)
        self._hushed.add(call)
        return call.quiet

    def _land(self, lane: _Lane, calls: list[tuple[_Call, int]], rows: Sequence[Row], fault: Fault | None) -> None:
        """Hand out what has come."""
        self.in_flight -= 1
        lane.in_flight -= 1
        if fault is not None:
            for call, _ in calls:
                call.fail(fault)
        else:
            pairs = rows if self._shape is None else self._shape(rows)
            bodies: Bodies | Sequence[Row] = dict(pairs) if len(calls) > 1 else pairs
            for call, count in calls:
                call.land(count, bodies)
        if self.waiting:
            self._be_due()

    def _give_up(self, call: _Call) -> None:
        if not call.done.done():
            call.done.set_exception(self._asking.border.overdue(self._deadline))


def share(waiting: int, free: int, widest: int) -> int:
    """Give how many of the waiting keys to send as one list, where so many more lists are wanted in flight.

    None are where enough are in flight; then 0 is to wait. A pure function.
    """
    if free > 0:
        return min(waiting, widest, max(WIDTH_MIN, -(-waiting // free)))
    return min(waiting, widest) if waiting >= WIDTH_MIN else 0
