"""Nodes that ask each other without a network: a whole read path each, and drivers that hand questions over."""

import asyncio
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry

from resolver import chain, wire
from resolver.answer import Answer, Failed, Ready
from resolver.cache.memory import MemoryCache
from resolver.chain import ChainSettings
from resolver.clock import Clock, SystemClock
from resolver.errors import Fault, Reason
from resolver.federation.children import Children
from resolver.federation.driver import Driver, Drivers, Question, Reply
from resolver.federation.settings import FederationSettings
from resolver.following import Following, FollowingSettings
from resolver.holders import Holders
from resolver.query import NO_PATH, Mode, Path, Query
from resolver.routes import Endpoint, Hosting, Prefix, Protocol, RouteTable
from resolver.trace import Trace
from resolver.trust.actors import NodeTable
from resolver.units import Duration
from tests.small_store import SmallStore


def at(name: str, port: int = 1, *, priority: int = 0) -> Endpoint:
    """Where a node of this name answers, in a network that is a dict."""
    return Endpoint(Protocol.GRPC, name, port, priority)


def delegated(prefix: str, holder: str = "", *endpoints: Endpoint) -> Prefix:
    """A prefix delegated to a node, reached at its own name unless endpoints are given."""
    holder = holder or prefix
    return Prefix(prefix, holder, hosting=Hosting.DELEGATED, endpoints=endpoints or (at(holder),))


class Network:
    """Which driver answers at which address; `opened` are the addresses of drivers that were made."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, int], Driver] = {}
        self.opened: list[tuple[str, int]] = []
        self.drivers = Drivers({Protocol.GRPC: self._open})

    def _open(self, endpoint: Endpoint) -> Driver:
        self.opened.append((endpoint.address, endpoint.port))
        return self.at[endpoint.address, endpoint.port]


class SaidDriver:
    """A driver that gives what it is told to: `answers` by key, an exception for all, after `seconds`.

    `asked` are the questions. A key without an answer is absent at "88.1", the authority.
    """

    def __init__(self, answers: Mapping[bytes, bytes | Fault] | None = None, *, seconds: float = 0) -> None:
        self.answers = dict(answers or {})
        self.fault: Fault | None = None
        self.seconds = seconds
        self.asked: list[Question] = []
        self.probes = 0
        self.closed = 0
        self.missing = 0

    async def ask(self, question: Question) -> Reply:
        self.asked.append(question)
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self.fault:
            raise self.fault.anew()
        given = [self.answers.get(key, ABSENT) for key in question.identifiers]
        return Reply(given[self.missing :], Protocol.GRPC)

    async def probe(self, within: float) -> None:  # noqa: ARG002 - it answers at once or not at all
        self.probes += 1
        if self.fault:
            raise self.fault.anew()

    async def close(self, grace: float = 0) -> None:  # noqa: ARG002 - nothing is in flight
        self.closed += 1


ABSENT = bytes.fromhex("0802") + bytes.fromhex("2001")
"""An answer as short as can be: absent, said by the authority."""


class FederatedNode:
    """One node of a network, as a driver of it and as a read path. Its feed is followed when a test says so."""

    def __init__(
        self,
        name: str,
        network: Network,
        records: Mapping[bytes, bytes] | None = None,
        prefixes: Sequence[Prefix] = (),
        *,
        settings: FederationSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.clock = clock or SystemClock()
        self.store = SmallStore(records, prefixes)
        self.registry = CollectorRegistry()
        self.nodes = NodeTable()
        self.asked: list[Question] = []
        self.seconds = 0.0
        self.fault: Fault | None = None
        settings = settings or FederationSettings()
        cache, self.kept = MemoryCache(settings.cache, self.registry), MemoryCache(settings.cache, None)
        routes = RouteTable()
        self.following = Following(
            self.store,
            routes,
            cache,
            self.clock,
            FollowingSettings(bypass_after=Duration(3_600)),
            self.registry,
            nodes=self.nodes,
            others=(self.kept,),
        )
        self.children = Children(network.drivers, settings=settings, clock=self.clock, registry=self.registry)
        self.chain = chain.build(
            node=name,
            clock=self.clock,
            records=self.store,
            routes=routes,
            cache=cache,
            following=self.following,
            holders=Holders(name, nodes=self.nodes, routes=routes, is_current=lambda: True),
            settings=ChainSettings(),
            registry=self.registry,
            federation=chain.Federation(self.children, self.kept, self.nodes, settings),
        )
        network.at[name, 1] = self

    async def start(self) -> "FederatedNode":
        await self.following.start()
        return self

    async def resolve(self, *identifiers: str, seconds: float = 5, **wanted: object) -> Sequence[Ready]:
        """Ask its read path, for recursion unless another mode is wanted."""
        options = {"mode": Mode.RECURSIVE, **wanted}
        query = Query(
            identifiers=[each.encode() for each in identifiers],
            deadline=self.clock.monotonic() + seconds,
            **options,  # type: ignore[arg-type] # the names are Query's
        )
        return await self.chain.resolve(query)

    async def answers(self, *identifiers: str, **wanted: object) -> list[Answer | Reason]:
        """Ask likewise, and give answers decoded, and reasons where there is none."""
        return [
            ready.fault.reason if isinstance(ready, Failed) else wire.decode_answer(wire.answer_bytes(ready.frame))
            for ready in await self.resolve(*identifiers, **wanted)  # type: ignore[arg-type] # likewise
        ]

    async def answer(self, identifier: str, **wanted: object) -> Answer:
        """Ask for one, which must be answered."""
        (answer,) = await self.answers(identifier, **wanted)
        assert isinstance(answer, Answer), answer
        return answer

    def sample(self, name: str, **labels: str) -> float:
        """Read a metric, 0 where it is not there yet."""
        return self.registry.get_sample_value(name, labels) or 0.0

    # --- as the driver by which others ask it ----------------------------------------------------------------------

    async def ask(self, question: Question) -> Reply:
        self.asked.append(question)
        if self.seconds:
            left = question.deadline - self.clock.monotonic()
            await asyncio.sleep(min(self.seconds, left))
            if self.seconds > left:
                raise Fault(Reason.DEADLINE_SPENT)
        if self.fault:
            raise self.fault.anew()
        trace = Trace(self.name, self.clock) if question.trace else None
        query = Query(
            identifiers=question.identifiers,
            deadline=question.deadline,
            mode=Mode.RECURSIVE,
            authoritative=question.authoritative,
            path=question.path or NO_PATH,
            trace=trace,
        )
        answers = await self.chain.resolve(query)
        results = [ready.fault if isinstance(ready, Failed) else wire.answer_bytes(ready.frame) for ready in answers]
        return Reply(results, Protocol.GRPC, trace.steps if trace else ())

    async def probe(self, within: float) -> None:  # noqa: ARG002 - it answers at once or not at all
        if self.fault:
            raise self.fault.anew()

    async def close(self, grace: float = 0) -> None:
        """Stay: others still ask it."""


__all__ = ["ABSENT", "FederatedNode", "Network", "Path", "SaidDriver", "at", "delegated"]
