"""The resolver of a node of any tier, put together: store, routes, nodes, cache, chain, front, server."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from nodes.settings import NodeSettings
from nodes.upward.identity import KEY_FILE
from nodes.version import software_version
from registry.keyring import read_operators
from resolver import chain
from resolver.cache.memory import SCAN, MemoryCache, MemorySettings
from resolver.clock import Clock
from resolver.counting import Counting
from resolver.federation.children import Children
from resolver.federation.driver import Driver, Drivers
from resolver.federation.grpc_driver import GrpcDriver
from resolver.federation.native_driver import NativeDriver
from resolver.federation.settings import FederationSettings
from resolver.federation.usual import native_usual, none_usual
from resolver.following import Following
from resolver.front.core import Core, NodeCard
from resolver.front.grpc import GrpcFront
from resolver.front.listing import Listing
from resolver.front.native_front import NativeFront, NativeNumbers
from resolver.front.paging import PageTokens
from resolver.holders import Holders
from resolver.routes import Endpoint, Protocol, RouteTable
from resolver.rpc.serving import Server, build_server
from resolver.store import StoreReader
from resolver.store.shared import SharedRecords
from resolver.trust.actors import NodeTable
from resolver.trust.answers import AnswerSigner, AnswerVerifier
from resolver.trust.keys import PrivateKey
from resolver.trust.operators import Operators
from resolver.trust.queries import QueryVerifier
from resolver.units import Size

if TYPE_CHECKING:
    from resolver.cache.redis import RedisCache

ANSWER_TIERS: Final = ("memory", "store", "child")
"""Where an answer may come from, nearest first."""

SHARED_TIERS: Final = ("memory", "redis", "store", "child")
"""The same where resolvers share a Redis."""

_MEMORY_PART: Final = 8
_MEMORY_LEAST: Final = 16 << 20
"""Beside a native front the memory cache has an eighth of its size, and no less than so many bytes."""


CURRENCY_SECONDS: Final = 0.25
"""How often it is looked whether the resolver is current."""


class Resolver:
    """A resolver over a store. It follows the store and serves as long as the context `serving` lasts.

    `operators` are those of this node, who may sign queries as nodes may.
    """

    def __init__(
        self,
        store: StoreReader,
        secret: bytes,
        settings: NodeSettings,
        operators: Operators,
        clock: Clock,
        registry: CollectorRegistry,
        counting: Counting | None = None,
    ) -> None:
        routes, nodes = RouteTable(), NodeTable()
        has_native = settings.has_native
        # What a native front asks for it keeps: here, once there is no room left, a sample is enough.
        cache = MemoryCache(_memory(settings, has_native=has_native), registry, scan=0 if has_native else SCAN)
        federation = _federation(settings.federation, cache, nodes, clock, registry, has_native=has_native)
        self._children = federation.children
        self._following = Following(
            store, routes, cache, clock, settings.following, registry, nodes=nodes, others=(federation.cache,)
        )
        self._shared = _share(settings, store, self._following, cache, routes, clock, registry)
        holders = Holders(settings.node, nodes=nodes, routes=routes, is_current=lambda: self._following.is_current)
        self._chain = chain.build(
            node=settings.node,
            clock=clock,
            records=self._shared.records if self._shared else store,
            routes=routes,
            cache=cache,
            following=self._following,
            holders=holders,
            settings=settings.chain,
            registry=registry,
            federation=federation,
        )
        addresses = (
            (settings.front.streaming,) if has_native else (settings.serving.address, settings.front.streaming)
        )
        self._server = build_server(settings.serving, addresses)
        core = Core(
            chain=self._chain,
            listing=Listing(store, routes, PageTokens(secret), holders),
            node=_card(settings),
            applied_index=lambda: self._following.applied,
            settings=settings.front,
            clock=clock,
            registry=registry,
            signer=_signer(settings, clock),
            counting=counting,
        )
        signatures = QueryVerifier(settings.node, nodes, operators, clock)
        front = GrpcFront(core, signatures=signatures, clock=clock, registry=registry)
        front.add_to(self._server)
        self._native = None
        if has_native:
            self._native = NativeFront(
                settings.native,
                settings.serving,
                core,
                referred=settings.front.streaming,
                answers_alone=not settings.chain.admission.rate,
                signatures=signatures,
                routes=routes,
                current_until=lambda: self._following.current_until,
                counting=counting,
                clock=clock,
            )
            self._following.tell(self._native)
            front.calls.tell_beside(self._native.numbers)
        NativeNumbers(self._native, registry)

    @property
    def is_current(self) -> bool:
        """Has it applied what the store's feed says, up to a moment ago?"""
        return self._following.is_current

    def hear(self, silent: Mapping[Endpoint, float], until: float) -> None:
        """Hear from the node's prober at which endpoints nobody answers (`resolver.federation.hearsay`)."""
        self._children.hear(silent, until)

    @asynccontextmanager
    async def serving(self, inside: Server) -> AsyncIterator[None]:
        """Serve, and drain at the end; `inside` is told whether the resolver is current.

        Raises:
            Fault (in a group): the address cannot be bound, the store cannot be read.
        """
        await self._following.start()
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._following.run()), tasks.create_task(self._tell_currency(inside))]
            if self._shared:
                background += [tasks.create_task(each) for each in self._shared.tasks(self._following)]
            await self._server.start()
            try:
                async with self._native.serving() if self._native else nullcontext():
                    yield
                await self._server.drain()
            finally:
                await self._server.stop()
                await self._chain.close()
                for task in background:
                    task.cancel()

    async def _tell_currency(self, inside: Server) -> None:
        while True:
            inside.set_serving(is_serving=self.is_current)
            if self._native:
                self._native.set_serving(is_serving=self.is_current)
            await asyncio.sleep(CURRENCY_SECONDS)


class Shared:
    """What resolvers share: public records in Redis, in front of the store."""

    def __init__(self, cache: "RedisCache", records: SharedRecords) -> None:
        self.records = records
        self._cache = cache

    def tasks(self, following: Following) -> Sequence[Coroutine[None, None, None]]:
        """Give what runs beside: staying connected, hearing of changes at once, keeping what the store said."""
        return self._cache.run(), self._cache.hear(following.wake), self.records.run()


def _share(
    settings: NodeSettings,
    store: StoreReader,
    following: Following,
    memory: MemoryCache,
    routes: RouteTable,
    clock: Clock,
    registry: CollectorRegistry,
) -> Shared | None:
    if not settings.redis.is_set:
        return None
    # Nodes without a Redis need not wait until its driver is imported.
    from resolver.cache.redis import RedisCache  # noqa: PLC0415

    cache = RedisCache(settings.redis, clock=clock, registry=registry)
    records = SharedRecords(
        store,
        cache,
        following=following,
        memory=memory,
        routes=routes,
        settings=settings.shared,
        registry=registry,
    )
    memory.tell_beside("redis", records.lookups)
    return Shared(cache, records)


def _memory(settings: NodeSettings, *, has_native: bool) -> MemorySettings:
    """Keep little where the native front keeps answers: what it asks for anew when routes have changed."""
    if not has_native:
        return settings.memory
    part = max(settings.memory.size // _MEMORY_PART, _MEMORY_LEAST)
    return replace(settings.memory, size=Size(min(part, settings.memory.size)))


def _federation(
    settings: FederationSettings,
    memory: MemoryCache,
    nodes: NodeTable,
    clock: Clock,
    registry: CollectorRegistry,
    *,
    has_native: bool,
) -> chain.Federation:
    verifier = AnswerVerifier(nodes) if settings.signed else None

    def grpc_driver(endpoint: Endpoint) -> Driver:
        # The authorities that gRPC brings along only gRPC has.
        if has_native and (not endpoint.tls_name or (settings.tls and settings.tls.server_ca)):
            return NativeDriver(endpoint, settings.tls, clock, verifier)
        return GrpcDriver(endpoint, settings.tls, clock, verifier)

    drivers = Drivers({Protocol.GRPC: grpc_driver})
    answers = MemoryCache(settings.cache, None)
    memory.tell_other("child", answers)
    children = Children(drivers, settings=settings, clock=clock, registry=registry)
    usual = native_usual() if has_native else none_usual
    return chain.Federation(children, answers, nodes, settings, usual)


def _signer(settings: NodeSettings, clock: Clock) -> AnswerSigner | None:
    """Sign by the key that the node above knows; where there is none above, nobody could tell whose it is."""
    upward = settings.upward
    if not upward.is_set:
        return None
    return AnswerSigner(settings.node, lambda: PrivateKey.from_file(upward.key or settings.data / KEY_FILE), clock)


def _card(settings: NodeSettings) -> NodeCard:
    tiers = SHARED_TIERS if settings.redis.is_set else ANSWER_TIERS
    return NodeCard(
        node=settings.node,
        tier=settings.tier,
        software_version=software_version(),
        recursion_available=True,
        answer_tiers=tiers,
    )


async def build_resolver(
    store: StoreReader,
    settings: NodeSettings,
    clock: Clock,
    registry: CollectorRegistry,
    counting: Counting | None = None,
) -> Resolver:
    """Put a resolver together; what it answers is counted there, if anywhere.

    Raises:
        Fault: FILE_UNREADABLE naming a TLS file or one of an operator's key, KEY_INVALID, STORE_UNAVAILABLE.
    """
    operators = read_operators(settings.registry, settings.data)
    return Resolver(store, await store.secret(), settings, operators, clock, registry, counting)
