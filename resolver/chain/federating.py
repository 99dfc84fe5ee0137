"""Federating: answers for delegated prefixes by asking the children to whom they are delegated.

Beside the other links, not among them: only who wants recursion comes here. Children's answers are kept in a cache of
their own, because they are another thing than what this node says itself.

Failure policy: what a child said before, within its limit and marked stale; then the registered copy, where the
caller allows that; else the child's failure, for its own identifiers only. A child that is down by decision
(takeover) is not asked at all: its copies answer, marked so.
"""

import asyncio
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter

from resolver import wire
from resolver.answer import FOUND, NOT_HERE, Failed, Ready
from resolver.bounds import HOPS_MAX
from resolver.cache.memory import SCAN, MemoryCache
from resolver.cache.s3fifo import VISITS_MAX
from resolver.chain.keys import KeyMaker
from resolver.chain.link import Link
from resolver.chain.scopes import Speaker
from resolver.clock import Clock
from resolver.errors import Fault, Kind, Reason
from resolver.federation.asking import Asking, Errand, looped, too_far
from resolver.federation.checking import Said, Wanted
from resolver.federation.child import Child
from resolver.federation.children import Children
from resolver.federation.flights import Flights, Trip
from resolver.federation.settings import DEADLINE_MIN, SHARE, FederationSettings
from resolver.federation.usual import Usual, none_usual
from resolver.following import Following
from resolver.freshness import Freshness, freshness
from resolver.query import Mode, Path, Query
from resolver.routes import Hosting, Prefix, RouteTable
from resolver.trust.actors import NodeTable

TIER: Final = "child"

_NO_ANSWER: Final = frozenset({Kind.UNAVAILABLE, Kind.DEADLINE_EXCEEDED, Kind.RESOURCE_EXHAUSTED})
"""The child has not answered, for whatever cause: then something else is better than nothing."""

_RETRY_AFTER: Final = 1.0


class _Here(Enum):
    """What this node answers itself below a prefix."""

    TAKEOVER = auto()
    """The registered copies, because the child is down by decision."""

    HOSTED = auto()
    """Whatever it has: the prefix is delegated no more."""


_Way: TypeAlias = Child | Fault | _Here
"""Whom to ask below a prefix: a child; nobody, because that fails; or this node itself."""


class Federation(Struct, frozen=True):
    """What the link needs that others do not: the children, their answers' cache, who is taken over, and settings.

    `usual` checks answers before Python does.
    """

    children: Children
    cache: MemoryCache
    nodes: NodeTable
    settings: FederationSettings
    usual: Usual = none_usual


class FederatingMetrics:
    """Where answers came from that no child gave, and what got none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        instead = Counter(
            "topnode_federation_instead_total",
            "Identifiers answered without their child: stale, copy (the caller allows it), takeover.",
            ("by",),
            registry=registry,
        )
        self.stale, self.copy, self.takeover = map(instead.labels, ("stale", "copy", "takeover"))
        self.failed = Counter(
            "topnode_federation_failed_total",
            "Identifiers under delegated prefixes that got no answer, by reason.",
            ("reason",),
            registry=registry,
        )


class Federating:
    """Answers recursive queries about delegated prefixes; `below` gives the registered copies."""

    def __init__(
        self,
        below: Link,
        federation: Federation,
        *,
        node: str,
        routes: RouteTable,
        following: Following,
        speaker: Speaker,
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        self._below = below
        self._node = node
        self._children = federation.children
        self._cache = federation.cache
        self._nodes = federation.nodes
        self._settings = federation.settings
        self._routes = routes
        self._following = following
        self._speaker = speaker
        self._from_here = Path((node,), federation.settings.hops - 1)
        self._key_maker = KeyMaker(routes, speaker)
        self._clock = clock
        self._asking = Asking(federation.children, clock=clock, settings=federation.settings, usual=federation.usual)
        self._flights = Flights(
            self._fly, identifiers=federation.settings.identifiers, clock=clock, registry=registry
        )
        self._metrics = FederatingMetrics(registry)

    def reaches(self, prefix: Prefix) -> bool:
        """Is there a way from here to the holder of this delegated prefix?"""
        return self._children.reaches(prefix.endpoints)

    async def resolve(self, query: Query) -> Sequence[Ready]:
        made = self._key_maker.keys(query.identifiers)
        wanted = made.wanted()
        answers = self._kept(query, wanted) if query.is_shared else {}
        rest = [key for key in wanted if key not in answers]
        if rest:
            answers |= await self._ask(query, rest)
        failed = [key for key in rest if isinstance(answers[key], Failed)]
        if failed:
            await self._mend(query, failed, answers)
        return made.answers(wanted, [answers[key] for key in wanted])

    async def _mend(self, query: Query, keys: Sequence[bytes], answers: dict[bytes, Ready]) -> None:
        """Put something else in the place of failures, where there is something, and count those that stay."""
        lacking = [key for key in keys if _is_lacking(answers[key])]
        if lacking:
            answers |= await self._instead(query, lacking)
        for key in keys:
            ready = answers[key]
            if isinstance(ready, Failed):
                self._metrics.failed.labels(ready.fault.reason.name).inc()

    async def close(self) -> None:
        """Ask nobody any more."""
        await self._flights.close()
        await self._children.close()

    # --- what is held ----------------------------------------------------------------------------------------------

    def _kept(self, query: Query, keys: Sequence[bytes]) -> dict[bytes, Ready]:
        """Give the answers that children gave before and that are still good."""
        now, kept = self._clock.monotonic(), {}
        is_current = self._following.is_current
        taken_over: dict[bytes, bool] = {}
        for key in keys:
            held = self._cache.find(key)
            if held is None or self._judge(key, held, now, is_current=is_current) is not Freshness.FRESH:
                continue
            prefix = key.partition(b"/")[0]
            is_over = taken_over.get(prefix)
            if is_over is None:
                is_over = taken_over[prefix] = self._is_taken_over(self._routes.scope(prefix).prefix)
            # While a child is down by decision all answers are copies, marked so: not now this and now that.
            if not is_over:
                held.visits = min(held.visits + 1, VISITS_MAX)
                kept[key] = held
        self._cache.hits += len(kept)
        self._cache.misses += len(keys) - len(kept)
        if query.trace:
            query.trace.step(TIER, f"{len(kept)} kept, {len(keys) - len(kept)} to be asked")
        return kept

    def _judge(self, key: bytes, held: Ready, now: float, *, is_current: bool) -> Freshness:
        scope = self._routes.scope(key.partition(b"/")[0])
        return freshness(held, scope, now=now, stale_for=self._settings.stale_for, is_current=is_current)

    # --- asking ----------------------------------------------------------------------------------------------------

    async def _ask(self, query: Query, keys: Sequence[bytes]) -> dict[bytes, Ready]:
        """Ask the children, each once with its part; what fails stands in its place."""
        path = self._onward(query.path)
        answers: dict[bytes, Ready] = {}
        parts: dict[Child, list[Wanted]] = {}
        here: dict[_Here, list[bytes]] = {}
        ways: dict[bytes, tuple[_Way, Wanted]] = {}
        for key in keys:
            prefix = key.partition(b"/")[0]
            found = ways.get(prefix)
            if found is None:
                found = ways[prefix] = self._way(prefix, path)
            way, sample = found
            if isinstance(way, Child):
                parts.setdefault(way, []).append(Wanted(key, sample.below, sample.case_sensitive))
            elif isinstance(way, Fault):
                answers[key] = Failed(fault=way)
            else:
                here.setdefault(way, []).append(key)
        for where, some in here.items():
            answers |= await (self._taken_over if where is _Here.TAKEOVER else self._copies)(query, some)
        if parts and isinstance(path, Path):
            answers |= await self._ask_children(query, parts, path)
        return answers

    def _onward(self, path: Path) -> Path | Fault:
        """Give the path as it is sent on, or why there is no going on."""
        visited = path.visited
        if not visited and not path.hops_left:
            # As nearly all come: from a caller that is no node.
            return self._from_here
        if self._node in visited:
            return looped((*visited, self._node))
        hops = min(path.hops_left, self._settings.hops)
        if hops < 1 or len(visited) >= HOPS_MAX:
            return too_far((*visited, self._node))
        return Path((*visited, self._node), hops - 1)

    def _way(self, asked: bytes, path: Path | Fault) -> tuple[_Way, Wanted]:
        """Tell whom to ask below a folded prefix, and what all keys directly below it have in common."""
        scope = self._routes.scope(asked)
        prefix = scope.prefix
        if prefix is None or prefix.hosting is not Hosting.DELEGATED:
            return _Here.HOSTED, Wanted(b"", asked, scope.case_sensitive)
        sample = Wanted(b"", prefix.key, scope.case_sensitive)
        if self._is_taken_over(prefix):
            return _Here.TAKEOVER, sample
        if isinstance(path, Fault):
            return path, sample
        if prefix.holder in path.visited:
            return looped((*path.visited, prefix.holder)), sample
        return self._children.child(prefix.holder, prefix.endpoints), sample

    def _is_taken_over(self, prefix: Prefix | None) -> bool:
        row = None if prefix is None else self._nodes.node(prefix.holder)
        return row is not None and row.takeover

    async def _ask_children(self, query: Query, parts: dict[Child, list[Wanted]], path: Path) -> dict[bytes, Ready]:
        left = query.deadline - self._clock.monotonic()
        if left * SHARE < DEADLINE_MIN:
            return _all_failed(parts, Fault(Reason.DEADLINE_SPENT, "Too little time is left to ask another node."))
        until = self._clock.monotonic() + min(left * SHARE, self._settings.deadline)
        trips = {Trip(child, path, self._following.applied): wanted for child, wanted in parts.items()}
        if query.trace or not query.is_shared:
            return await self._fly_alone(query, trips, until)
        answers = await self._flights.take(trips, until)
        if len(answers) < sum(map(len, parts.values())):
            for child, wanted in parts.items():
                late = Failed(fault=_late(child))
                answers |= {each.key: late for each in wanted if each.key not in answers}
        return answers

    async def _fly_alone(self, query: Query, trips: dict[Trip, list[Wanted]], until: float) -> dict[bytes, Ready]:
        """Ask for one caller only; nothing of it is kept where it is not everybody's."""
        flown = await asyncio.gather(*(self._fly(*each, until, query) for each in trips.items()))
        return {
            each.key: ready
            for wanted, answers in zip(trips.values(), flown, strict=True)
            for each, ready in zip(wanted, answers, strict=True)
        }

    async def _fly(
        self, trip: Trip, wanted: Sequence[Wanted], until: float, query: Query | None = None
    ) -> Sequence[Ready]:
        """Ask one child, and keep what it says. A query is given where it flies alone."""
        generation = self._routes.generation
        prefixes = [each.key.partition(b"/")[0] for each in wanted]
        lines: dict[bytes, tuple[int, bytes, bytes]] = {}
        for prefix in prefixes:
            if prefix not in lines:
                lines[prefix] = self._line(prefix)
        errand = Errand(
            path=trip.path,
            deadline=until,
            authoritative=query is not None and query.authoritative,
            trace=query.trace if query else None,
        )
        results = await self._asking.ask(trip.child, wanted, errand)
        now = self._clock.monotonic()
        is_shared = query is None or query.is_shared
        # Where routes changed meanwhile, nobody can say for which epoch these answers are: they are not kept.
        is_still = generation == self._routes.generation
        still = lines if is_still else {prefix for prefix in lines if self._line(prefix) == lines[prefix]}
        answers: list[Ready] = []
        keeps = False
        for prefix, result in zip(prefixes, results, strict=True):
            if isinstance(result, Said):
                may_keep = is_shared and prefix in still and result.keep_for > 0
                expires = now + result.keep_for if may_keep else 0.0
                keeps = keeps or may_keep
                epoch, found_tag, other_tag = lines[prefix]
                tag = found_tag if result.outcome == FOUND else other_tag
                answers.append(Ready(result.frame, result.outcome, expires, epoch, generation, trip.applied, tag))
            else:
                answers.append(Failed(fault=result))
        if keeps:
            self._keep([each.key for each in wanted], answers)
        return answers

    def _line(self, prefix: bytes) -> tuple[int, bytes, bytes]:
        """Give the epoch directly below a prefix, and the tags of what is found there and of what is not."""
        scope = self._routes.scope(prefix)
        sayings = self._speaker.sayings(scope)
        return (scope.epoch, sayings.found_tag, sayings.other_tag) if sayings else (scope.epoch, b"", b"")

    def _keep(self, keys: Sequence[bytes], answers: Sequence[Ready]) -> None:
        # In small parts: a batch that was fetched from afar is not to pass for a scan.
        for first in range(0, len(keys), SCAN):
            self._cache.put(keys[first : first + SCAN], answers[first : first + SCAN])

    # --- when the child does not answer ----------------------------------------------------------------------------

    async def _instead(self, query: Query, keys: Sequence[bytes]) -> dict[bytes, Ready]:
        """Give stale answers, and registered copies where the caller allows that, for keys that got no answer."""
        instead: dict[bytes, Ready] = {}
        now = self._clock.monotonic()
        for key in keys if query.is_shared else ():
            held = self._cache.find(key)
            if held is not None and self._judge(key, held, now, is_current=False) is Freshness.STALE:
                instead[key] = Ready(wire.stale_frame(held.frame), held.outcome, tag=held.tag)
        if instead:
            self._cache.stale += len(instead)
            self._metrics.stale.inc(len(instead))
            if query.trace:
                query.trace.step(TIER, f"{len(instead)} stale")
        rest = [key for key in keys if key not in instead]
        if rest and query.with_copy:
            copies = {
                key: ready for key, ready in (await self._copies(query, rest)).items() if ready.outcome == FOUND
            }
            self._metrics.copy.inc(len(copies))
            instead |= copies
        return instead

    async def _taken_over(self, query: Query, keys: Sequence[bytes]) -> dict[bytes, Ready]:
        """Answer from the copies in the place of a child that is down, and say so."""
        copies = await self._copies(query, keys)
        self._metrics.takeover.inc(len(copies))
        return {key: _marked(ready) for key, ready in copies.items()}

    async def _copies(self, query: Query, keys: Sequence[bytes]) -> dict[bytes, Ready]:
        local = replace(query, identifiers=keys, mode=Mode.LOCAL, with_copy=False)
        try:
            return dict(zip(keys, await self._below.resolve(local), strict=True))
        except Fault as fault:
            return dict.fromkeys(keys, Failed(fault=fault.with_traceback(None)))


def _is_lacking(ready: Ready) -> bool:
    """Has the child not said anything of this identifier?"""
    if not isinstance(ready, Failed):
        return False
    return ready.fault.kind in _NO_ANSWER or ready.fault.reason is Reason.CHILD_ANSWER_REFUSED


def _marked(ready: Ready) -> Ready:
    if ready.outcome in {FOUND, NOT_HERE}:
        return Ready(wire.takeover_frame(ready.frame), ready.outcome, tag=ready.tag)
    return ready


def _all_failed(parts: dict[Child, list[Wanted]], fault: Fault) -> dict[bytes, Ready]:
    return {each.key: Failed(fault=fault) for wanted in parts.values() for each in wanted}


def _late(child: Child) -> Fault:
    return Fault(
        Reason.CHILD_UNREACHABLE,
        f"The node {child.name} has not answered in the time that there was.",
        field="identifier",
        retry_after=_RETRY_AFTER,
        variables={"child": child.name},
    )
