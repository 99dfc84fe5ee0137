"""Caching: answers from memory what it can, checks the rest and asks below for it.

Positive, absent and stale answers (RFC 8767). The order of the work is the order of its cost: the caller's bytes are
looked up as they are, because most spellings are their own key; only a miss is checked, folded and looked up again.
"""

from collections.abc import Sequence
from typing import Any, Final

from resolver import wire
from resolver.answer import FAULT, Failed, Ready
from resolver.cache.memory import MemoryCache
from resolver.cache.s3fifo import VISITS_MAX
from resolver.chain.keys import KeyMaker, Keys
from resolver.chain.link import Link
from resolver.chain.scopes import Speaker
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.following import Following
from resolver.freshness import Freshness, FreshnessSettings, freshness
from resolver.query import Query
from resolver.routes import RouteTable

_NO_ANSWER: Final = frozenset({Reason.STORE_UNAVAILABLE, Reason.DEADLINE_SPENT})
"""What went wrong is that there was no answer in time: then a stale one is better than none."""

_RECHECK: Final = 1.0
"""Seconds between two attempts to ask a store that did not answer, where a stale answer is held.

RFC 8767 section 5 (failure recheck timer); shorter than there, because what is asked is our own store.
"""

_NO_GENERATION: Final = -1


class Caching:
    """Answers from a memory cache. What is given below is put there by the link that gathers, a whole flight at once.

    An identifier that breaks a rule or whose prefix refuses gets its own `Failed`; the others are not affected.
    Failure policy: stale where the store does not answer and the answer is held, else closed.
    """

    def __init__(
        self,
        below: Link,
        *,
        cache: MemoryCache,
        routes: RouteTable,
        following: Following,
        speaker: Speaker,
        clock: Clock,
        settings: FreshnessSettings,
    ) -> None:
        self._below = below
        self._cache = cache
        self._find = cache.find
        self._routes = routes
        self._following = following
        self._key_maker = KeyMaker(routes, speaker)
        self._monotonic = clock.monotonic
        self._stale_for = float(settings.stale_for)
        self._is_troubled = False
        self._recheck_at = 0.0

    async def resolve(self, query: Query) -> Sequence[Ready]:
        # As query.is_shared says, without the call.
        if query.authoritative or query.is_full:
            return await self._bypass(query)
        now = self._monotonic()
        # Where the feed is not followed, nothing in the cache is known to hold still.
        is_current = now <= self._following.current_until
        generation = self._routes.generation if is_current else _NO_GENERATION
        answers: list[Any] = list(map(self._find, query.identifiers))
        if not any(answers):
            return await self._complete(query, answers, range(len(answers)), now=now, is_current=is_current)
        missed: list[int] = []
        for place, ready in enumerate(answers):
            if ready is not None and ready.expires > now and ready.generation == generation:
                if ready.visits < VISITS_MAX:
                    ready.visits += 1
            else:
                missed.append(place)
        if missed:
            return await self._complete(query, answers, missed, now=now, is_current=is_current)
        self._count(query, hits=len(answers), misses=0)
        return answers

    async def _bypass(self, query: Query) -> Sequence[Ready]:
        """Answer what is not everybody's, or must come from the store itself."""
        made = self._key_maker.keys(query.identifiers)
        if query.trace:
            query.trace.step("memory", "bypassed")
        wanted = made.wanted()
        given = await self._ask(query, wanted, is_all=made.has_all) if wanted else ()
        return made.answers(wanted, given)

    async def _complete(
        self, query: Query, answers: list[Any], missed: Sequence[int], *, now: float, is_current: bool
    ) -> Sequence[Ready]:
        """Answer the places that were missed at first sight; what stands in them was held and judged unfit."""
        names = list(query.identifiers)
        if len(missed) < len(names):
            names = [names[place] for place in missed]
        made = self._key_maker.keys(names)
        hits = len(answers) - len(missed)
        if is_current:
            hits += self._look_again(names, made, [answers[place] for place in missed], now)
        wanted = made.wanted()
        self._count(query, hits=hits, misses=len(wanted))
        is_all = made.has_all and len(missed) == len(answers)
        given = await self._give(query, wanted, now, is_all=is_all) if wanted else ()
        if len(missed) == len(answers):
            return made.answers(wanted, given)
        for place, ready in zip(missed, made.answers(wanted, given), strict=True):
            answers[place] = ready
        return answers

    def _look_again(self, names: Sequence[bytes], made: Keys, held: Sequence[Ready | None], now: float) -> int:
        """Settle what is in the cache after all: under another spelling, or from before the routes changed last."""
        if made.keys == names and not any(held):
            return 0
        generation = self._routes.generation
        hits = 0
        for place, (name, key, ready) in enumerate(zip(names, made.keys, held, strict=True)):
            found = ready if name == key else self._find(key)
            if found is None or place in made.settled:
                continue
            is_known = found.generation == generation and found.expires > now
            if is_known or self._judge(key, found, now, is_current=True) is Freshness.FRESH:
                found.generation = generation
                found.visits = min(found.visits + 1, VISITS_MAX)
                made.settled[place] = found
                hits += 1
        return hits

    async def _give(self, query: Query, keys: Sequence[bytes], now: float, *, is_all: bool) -> Sequence[Ready]:
        stale = {} if self._may_ask(now) else self._stale_answers(query, keys, now)
        if not stale:
            return await self._ask(query, keys, is_all=is_all)
        rest = [key for key in keys if key not in stale]
        given = await self._ask(query, rest, is_all=False) if rest else ()
        answers = stale | dict(zip(rest, given, strict=True))
        return [answers[key] for key in keys]

    async def _ask(self, query: Query, keys: Sequence[bytes], *, is_all: bool) -> Sequence[Ready]:
        """Ask below. What fails as a whole is raised where it is all of a query, else stands in each place."""
        try:
            asked = query if keys == list(query.identifiers) else query.about(keys)
            given = await self._below.resolve(asked)
        except Fault as fault:
            self._note_trouble(fault)
            given = self._or_stale(query, keys, [Failed(fault=fault.with_traceback(None))] * len(keys))
            if is_all and all(ready.outcome == FAULT for ready in given):
                raise
            return given
        self._is_troubled = False
        if not query.is_shared:
            return given
        return self._or_stale(query, keys, given) if FAULT in [ready.outcome for ready in given] else given

    def _or_stale(self, query: Query, keys: Sequence[bytes], given: Sequence[Ready]) -> Sequence[Ready]:
        """Put stale answers, where they are held, in the place of those that the store did not give."""
        lacking = [key for key, ready in zip(keys, given, strict=True) if _is_lacking(ready)]
        stale = self._stale_answers(query, lacking, self._monotonic()) if query.is_shared else {}
        return [stale.get(key, ready) for key, ready in zip(keys, given, strict=True)]

    def _stale_answers(self, query: Query, keys: Sequence[bytes], now: float) -> dict[bytes, Ready]:
        stale = {}
        for key in keys:
            held = self._find(key)
            if held is not None and self._judge(key, held, now, is_current=False) is Freshness.STALE:
                stale[key] = Ready(wire.stale_frame(held.frame), held.outcome, tag=held.tag)
        self._cache.stale += len(stale)
        if query.trace and stale:
            query.trace.step("memory", f"{len(stale)} stale")
        return stale

    def _judge(self, key: bytes, held: Ready, now: float, *, is_current: bool) -> Freshness:
        scope = self._routes.scope(key.partition(b"/")[0])
        return freshness(held, scope, now=now, stale_for=self._stale_for, is_current=is_current)

    def _may_ask(self, now: float) -> bool:
        """Tell whether to ask below although stale answers may be held: one query tries, the others go on."""
        if self._is_troubled and now < self._recheck_at:
            return False
        self._recheck_at = now + _RECHECK
        return True

    def _note_trouble(self, fault: Fault) -> None:
        if fault.reason is Reason.STORE_UNAVAILABLE:
            self._is_troubled = True

    def _count(self, query: Query, *, hits: int, misses: int) -> None:
        self._cache.hits += hits
        self._cache.misses += misses
        if query.trace:
            query.trace.step("memory", f"{hits} hit, {misses} miss")


def _is_lacking(ready: Ready) -> bool:
    """Has the store not said anything of this identifier?"""
    return isinstance(ready, Failed) and ready.fault.reason in _NO_ANSWER
