"""One child: a holder and the endpoints by which it is reached. Failover, hedging and the bound of calls in flight.

Failure policy: another endpoint at once where a call fails, in the order of priorities; where none is left, or more
calls wait than may, CHILD_UNREACHABLE at once. There are no other attempts: whoever asked gives something else.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.federation.driver import Question, Reply
from resolver.federation.endpoint import ChildEndpoint, is_trouble
from resolver.federation.settings import DEADLINE_MIN, FederationSettings
from resolver.routes import Endpoint
from resolver.rpc.calls import LATENCY_BUCKETS

ATTEMPTS: Final = 3
"""Endpoints that are asked for one call, at most."""

_RETRY_AFTER: Final = 1.0
"""Seconds after which a caller may try again: by then a child that has come back was probed."""

_SPARE_MAX: Final = 100.0
"""Identifiers that may be asked for a second time in a row. What is larger than that is never sent twice."""


class Ledger:
    """What all children have in common: how long calls took, and how many were sent twice."""

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BUCKETS) + 1)
        self.seconds = 0.0
        self.hedges = 0

    def note(self, seconds: float) -> None:
        """Note how long a call took, with all its attempts."""
        self.buckets[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        self.seconds += seconds


class Child:
    """Asks one child. `label` names it in metrics; `outcomes` and `refused` count under it.

    `outcomes` are calls: answered, failed, turned away (no endpoint to be asked, or too many calls already).
    `untrusted` are answers whose signature does not fit.
    """

    def __init__(
        self,
        name: str,
        endpoints: Sequence[ChildEndpoint],
        *,
        label: str,
        ledger: Ledger,
        clock: Clock,
        settings: FederationSettings,
    ) -> None:
        self.name = name
        self.label = label
        self.outcomes: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.untrusted = 0
        self._endpoints = list(endpoints)
        self._ledger = ledger
        self._monotonic = clock.monotonic
        self._room = asyncio.Semaphore(settings.calls)
        self._waiting = 0
        self._waiting_max = settings.waiting
        self._hedge_share = settings.hedge_percent / 100
        self._spare = 0.0

    @property
    def is_up(self) -> bool:
        """Is there an endpoint that is asked?"""
        return not all(endpoint.is_down for endpoint in self._endpoints)

    @property
    def told_down(self) -> Iterator[Endpoint]:
        """The endpoints that are left alone on a prober's word, without their priorities."""
        return (endpoint.place for endpoint in self._endpoints if endpoint.is_told_down)

    def heard(self) -> None:
        """Take note that a prober has said something."""
        for endpoint in self._endpoints:
            endpoint.heard()

    async def ask(self, question: Question) -> Reply:
        """Ask, and once more for those whose answers did not fit into one reply.

        Raises:
            Fault: CHILD_UNREACHABLE, CHILD_ANSWER_REFUSED, or what the child refuses all of it for.
        """
        reply = await self._ask_once(question)
        if len(reply.results) != len(question.identifiers):
            raise Fault(Reason.CHILD_ANSWER_REFUSED, variables={"child": self.name, "why": "count"})
        left = _too_large(enumerate(reply.results))
        return await self._ask_rest(question, reply, left) if left else reply

    async def _ask_rest(self, question: Question, reply: Reply, left: list[int]) -> Reply:
        """Ask again for what did not fit into a reply, as long as that helps."""
        results, trust = list(reply.results), reply.trust
        while left:
            rest = replace(question, identifiers=[question.identifiers[place] for place in left])
            more = await self._ask_once(rest)
            trust = max(trust, more.trust)
            for place, result in zip(left, more.results, strict=False):
                results[place] = result
            still = _too_large([(place, results[place]) for place in left])
            if len(still) == len(left):
                break
            left = still
        # Of several replies the least trusted one: the numbers are in that order.
        return Reply(results, reply.protocol, reply.steps, trust)

    async def close(self, grace: float = 0) -> None:
        """Close all connections; what is in flight may take this many seconds."""
        for endpoint in self._endpoints:
            await endpoint.close(grace)

    async def _ask_once(self, question: Question) -> Reply:
        candidates = self._candidates()
        if not candidates:
            raise self._turn_away("None of its endpoints answers.")
        if self._room.locked():
            await self._enter(question.deadline)
        else:
            # Without waiting: acquiring what is free does not give up the turn.
            await self._room.acquire()
        began = self._monotonic()
        outcome = "failed"
        try:
            reply = await self._over(candidates, question)
            outcome = "answered"
        finally:
            self._room.release()
            self.outcomes[outcome] += 1
            self._ledger.note(self._monotonic() - began)
        return reply

    async def _enter(self, deadline: float) -> None:
        """Wait until there is room for one more call."""
        if self._waiting >= self._waiting_max:
            raise self._turn_away("As many calls as may wait for it already.")
        self._waiting += 1
        try:
            async with asyncio.timeout(max(0.0, deadline - self._monotonic())):
                await self._room.acquire()
        except TimeoutError:
            raise self._turn_away("Calls before this one took all the time there was.") from None
        finally:
            self._waiting -= 1

    def _candidates(self) -> list[ChildEndpoint]:
        """Give the endpoints to be asked, best first: by priority, then by load, then by how fast they were."""
        up = []
        for endpoint in self._endpoints:
            if endpoint.is_down:
                endpoint.want()
            else:
                up.append(endpoint)
        if len(up) > 1:
            up.sort(key=lambda each: (each.route.priority, each.in_flight, each.latencies.late_after or 0.0))
        return up[:ATTEMPTS]

    async def _over(self, candidates: Sequence[ChildEndpoint], question: Question) -> Reply:
        """Ask one endpoint after the other until one answers."""
        self._spare = min(_SPARE_MAX, self._spare + self._hedge_share * len(question.identifiers))
        last: Fault | None = None
        for place, endpoint in enumerate(candidates):
            others = candidates[place + 1 :]
            left = question.deadline - self._monotonic()
            if left < DEADLINE_MIN:
                break
            # Half of the time, while there is another one that could answer in the other half.
            attempt = replace(question, deadline=question.deadline - left / 2) if others else question
            try:
                return await self._hedged(endpoint, others[0] if others else endpoint, attempt)
            except Fault as fault:
                if not is_trouble(fault):
                    raise
                last = fault
        if last is not None and last.reason is Reason.CHILD_ANSWER_REFUSED:
            raise last
        raise self._unreachable(last.detail if last else "There was no time left to ask it.")

    async def _hedged(self, endpoint: ChildEndpoint, spare: ChildEndpoint, question: Question) -> Reply:
        """Ask, and a second time when the answer is late and the budget allows: the first answer counts."""
        late_after, count = endpoint.latencies.late_after, len(question.identifiers)
        if late_after is None or self._spare < count or question.deadline - self._monotonic() <= late_after:
            return await endpoint.ask(question)
        return await _Hedge(endpoint, spare, question, self._spend).first(late_after)

    def _spend(self, count: int) -> bool:
        """Take a second attempt at so many identifiers out of the budget, if there is as much in it."""
        if self._spare < count:
            return False
        self._spare -= count
        self._ledger.hedges += 1
        return True

    def _turn_away(self, detail: str) -> Fault:
        self.outcomes["turned_away"] += 1
        return self._unreachable(detail)

    def _unreachable(self, detail: str) -> Fault:
        return Fault(
            Reason.CHILD_UNREACHABLE,
            f"The node {self.name} does not answer. {detail}",
            retry_after=_RETRY_AFTER,
            variables={"child": self.name},
        )


class _Hedge:
    """Two attempts at one question, the second one only when the first is late: the first answer counts.

    The first runs in the caller's own task, for a task more would cost every call as much as the rest of this module;
    a second one that wins ends it as asyncio's timeouts do: by cancelling, and taking that back.
    """

    def __init__(
        self, endpoint: ChildEndpoint, spare: ChildEndpoint, question: Question, may_spend: Callable[[int], bool]
    ) -> None:
        self._endpoint = endpoint
        self._spare = spare
        self._question = question
        self._may_spend = may_spend
        self._second: asyncio.Task[Reply] | None = None
        self._caller: asyncio.Task[Any] | None = None
        self._has_won = False

    async def first(self, late_after: float) -> Reply:
        """Give the first answer, or what the last attempt failed for."""
        self._caller = asyncio.current_task()
        timer = asyncio.get_running_loop().call_later(late_after, self._launch)
        try:
            return await self._endpoint.ask(self._question)
        except Fault:
            self._caller = None
            if self._second is None:
                raise
            return await self._second
        except asyncio.CancelledError:
            # Unless somebody else cancelled the caller as well.
            if self._has_won and self._second and self._caller and not self._caller.uncancel():
                return self._second.result()
            raise
        finally:
            self._caller = None
            timer.cancel()
            if self._second:
                self._second.cancel()

    def _launch(self) -> None:
        if self._caller and self._may_spend(len(self._question.identifiers)):
            self._second = asyncio.get_running_loop().create_task(self._spare.ask(self._question))
            self._second.add_done_callback(self._came)

    def _came(self, second: asyncio.Task[Reply]) -> None:
        if not second.cancelled() and second.exception() is None and self._caller:
            self._has_won = True
            self._caller.cancel()


def _too_large(results: Iterable[tuple[int, bytes | Fault]]) -> list[int]:
    return [
        place for place, result in results if isinstance(result, Fault) and result.reason is Reason.ANSWER_TOO_LARGE
    ]
