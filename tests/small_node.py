"""A whole read path over a small store, with a clock that stands still: what the tests of the chain ask."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from resolver import chain, wire
from resolver.answer import Answer, Failed, Ready
from resolver.cache.memory import MemoryCache, MemorySettings
from resolver.chain import Chain, ChainSettings
from resolver.clock import SetClock
from resolver.following import Following, FollowingSettings
from resolver.handle import CaseRule
from resolver.holders import Holders
from resolver.query import PUBLIC, Asker, Mode, Query
from resolver.routes import Hosting, Prefix, PrefixState, RouteTable
from resolver.store import RecordReader
from resolver.trace import Trace
from resolver.trust.actors import NodeTable
from tests.small_store import SmallStore

NODE = "top"

PREFIXES = (
    Prefix("88.100", "88.100", hosting=Hosting.HERE),
    Prefix("88.200", "88.200", hosting=Hosting.DELEGATED),
    Prefix("88.300", "88.300", case=CaseRule.SENSITIVE),
    Prefix("88.400", "88.400", state=PrefixState.DISABLED),
    Prefix("88.500", "88.500", expires_at=1_800_000_100),
    Prefix("88.600", "88.600", state=PrefixState.PENDING),
)
"""Hosted, delegated, case-sensitive, disabled, expiring 100 seconds after the clock's start, applied for."""


class SmallNode:
    """One node's read path. Its feed is followed when a test says so (`catch_up`)."""

    def __init__(
        self,
        store: SmallStore,
        settings: ChainSettings | None = None,
        *,
        following: FollowingSettings | None = None,
        records: RecordReader | None = None,
        memory: MemorySettings | None = None,
    ) -> None:
        self.store = store
        self.clock = SetClock()
        self.registry = CollectorRegistry()
        self.routes = RouteTable()
        self.nodes = NodeTable()
        self.cache = MemoryCache(memory or MemorySettings(), self.registry)
        self.following = Following(
            store,
            self.routes,
            self.cache,
            self.clock,
            following or FollowingSettings(),
            self.registry,
            nodes=self.nodes,
        )
        self.holders = Holders(
            NODE, nodes=self.nodes, routes=self.routes, is_current=lambda: self.following.is_current
        )
        self.chain: Chain = chain.build(
            node=NODE,
            clock=self.clock,
            records=records or store,
            routes=self.routes,
            cache=self.cache,
            following=self.following,
            holders=self.holders,
            settings=settings or ChainSettings(),
            registry=self.registry,
        )

    async def start(self) -> "SmallNode":
        await self.following.start()
        return self

    async def catch_up(self) -> None:
        await self.following.catch_up()

    async def wait(self, seconds: float) -> None:
        """Let time go by, with the feed followed."""
        self.clock.advance(seconds)
        await self.following.catch_up()

    def query(
        self,
        *identifiers: str | bytes,
        asker: Asker = PUBLIC,
        types: Sequence[str] = (),
        indexes: Sequence[int] = (),
        mode: Mode = Mode.LOCAL,
        authoritative: bool = False,
        with_copy: bool = False,
        trace: Trace | None = None,
    ) -> Query:
        """Build a query whose deadline is a minute from now."""
        return Query(
            identifiers=[each.encode() if isinstance(each, str) else each for each in identifiers],
            deadline=self.clock.monotonic() + 60,
            asker=asker,
            types=tuple(types),
            indexes=tuple(indexes),
            mode=mode,
            authoritative=authoritative,
            with_copy=with_copy,
            trace=trace,
        )

    async def ask(self, *identifiers: str | bytes) -> list[Answer]:
        """Ask plainly; every identifier must get an answer."""
        return decoded(await self.chain.resolve(self.query(*identifiers)))

    def sample(self, name: str, **labels: str) -> float:
        """Read a metric."""
        value = self.registry.get_sample_value(name, labels)
        assert value is not None, f"no metric {name} {labels}"
        return value


def decoded(answers: Sequence[Ready]) -> list[Answer]:
    for ready in answers:
        if isinstance(ready, Failed):
            raise ready.fault
    return [wire.decode_answer(wire.answer_bytes(ready.frame)) for ready in answers]
