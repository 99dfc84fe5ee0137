"""A driver of Cassandra in a dict: answers `IN` queries for records, holds them, or fails. For tests of the bridge.

It has the few methods of the real one that `resolver.store.cassandra.asking` uses, and calls back in the same way: at
once where the answer is there, later where it is not, and from another thread where the test says so.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cassandra import ProtocolVersion
from cassandra.cqltypes import BytesType, ListType
from cassandra.protocol import ColumnMetadata
from cassandra.query import BoundStatement, PreparedStatement
from prometheus_client import CollectorRegistry

from resolver.clock import Clock, SystemClock
from resolver.store.cassandra.asking import Asking
from resolver.store.cassandra.border import Border
from resolver.store.cassandra.hedging import Hedging, HedgingMetrics
from resolver.store.cassandra.statements import ALL, Statement, Way


class Node:
    """A node of the ring, as far as anybody looks at it."""

    def __init__(self, name: str, datacenter: str = "datacenter1", *, is_up: bool = True) -> None:
        self.name = name
        self.datacenter = datacenter
        self.is_up = is_up


class Token(NamedTuple):
    """The end of a range of hashes."""

    value: int


class TokenMap:
    """Which nodes hold the range up to each token: one node to a range, or more of those that follow."""

    def __init__(self, nodes: Sequence[Node], tokens: Sequence[int], replicas: int) -> None:
        self.ring = [Token(value) for value in tokens]
        self._held = {
            token: [nodes[(place + each) % len(nodes)] for each in range(replicas)]
            for place, token in enumerate(self.ring)
        }

    def get_replicas(self, _keyspace: str, token: Token) -> list[Node]:
        return self._held[token]


class Nodes:
    """The driver's knowledge of the ring."""

    token_map: TokenMap | None = None

    def __init__(self, *names: str) -> None:
        self.nodes = [Node(name) for name in names]

    def all_hosts(self) -> list[Node]:
        return self.nodes


def prepared(statement: Statement) -> PreparedStatement:
    """Prepare a statement of one value, a list of blobs, as a node does it."""
    columns = [ColumnMetadata("small", "records", "keys", ListType.apply_parameters((BytesType,)))]
    return PreparedStatement(columns, b"", None, statement.cql, "small", ProtocolVersion.V5, None, None)


class Future:
    """What is under way."""

    def __init__(self, bound: BoundStatement, way: Way, node: Node) -> None:
        (value,) = bound.values
        self.names: list[bytes] = ListType.apply_parameters((BytesType,)).from_binary(value, ProtocolVersion.V5)
        self.way = way
        self.attempted_hosts = [node]
        self.result: Sequence[Any] | BaseException | None = None
        self._callbacks: tuple[Callable[..., None], Callable[..., None]] | None = None

    def add_callbacks(self, answered: Callable[..., None], failed: Callable[..., None]) -> None:
        self._callbacks = answered, failed
        self._call()

    def land(self, result: Sequence[Any] | BaseException) -> None:
        self.result = result
        self._call()

    def _call(self) -> None:
        if self._callbacks is None or self.result is None:
            return
        answered, failed = self._callbacks
        if isinstance(self.result, BaseException):
            failed(self.result)
        else:
            answered(self.result)


class SmallDriver:
    """`rows` are the columns behind each key, by way; `asked` is everything that was executed, in its order."""

    def __init__(self, *nodes: str, rows: Mapping[Way, Mapping[bytes, Sequence[bytes | None]]] | None = None) -> None:
        self.metadata = Nodes(*nodes or ("one",))
        self.rows = rows or {}
        self.asked: list[Future] = []
        self.is_held = False
        self.error: BaseException | None = None
        self._has_come = asyncio.Event()

    def execute_async(self, bound: BoundStatement, *, execution_profile: Way) -> Future:
        avoided: Node | None = getattr(bound, "avoided", None)
        wanted: Sequence[Node] = getattr(bound, "wanted", ())
        nodes = [node for node in self.metadata.nodes if node != avoided]
        future = Future(bound, execution_profile, next((node for node in wanted if node in nodes), nodes[0]))
        self.asked.append(future)
        self._has_come.set()
        if not self.is_held:
            future.result = self.answer(future)
        return future

    def answer(self, future: Future) -> Sequence[Any] | BaseException:
        if self.error is not None:
            return self.error
        held = self.rows.get(future.way, {})
        return [(name, *held[name]) for name in dict.fromkeys(future.names) if name in held]

    def release(self) -> None:
        """Answer everything that waits, and from now on at once."""
        self.is_held = False
        for future in self.asked:
            if future.result is None:
                future.land(self.answer(future))

    async def has_asked(self, count: int) -> None:
        """Wait until so many statements were executed."""
        while len(self.asked) < count:
            self._has_come.clear()
            await self._has_come.wait()

    @property
    def widths(self) -> list[int]:
        """How many names stood in each query."""
        return [len(future.names) for future in self.asked]


def asking_of(
    driver: SmallDriver, registry: CollectorRegistry, *, patience: float = 5.0, clock: Clock | None = None
) -> Asking:
    """Ask this driver. Hedged are the ways that are hedged in earnest."""
    clock = clock or SystemClock()
    metrics = HedgingMetrics(registry)
    return Asking(
        driver,
        {each: prepared(each) for each in ALL},
        Border("small", clock=clock, registry=registry),
        patience=dict.fromkeys(Way, patience),
        hedging={
            way: Hedging(way, metrics, datacenter="datacenter1", metadata=driver.metadata)
            for way in (Way.NEAR, Way.SURE)
        },
        clock=clock,
    )
