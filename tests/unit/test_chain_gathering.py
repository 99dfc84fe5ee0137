"""Gathering: what is merged, what is asked once, whose deadline ends what, and that nothing is left in the air."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from resolver.answer import FOUND, Failed, Ready
from resolver.cache.memory import SCAN, MemoryCache, MemorySettings
from resolver.chain.gathering import Gathering, GatheringSettings
from resolver.clock import SetClock
from resolver.errors import Fault, Reason
from resolver.following import Following, FollowingSettings
from resolver.query import Query
from resolver.routes import RouteTable
from resolver.trace import Trace
from resolver.trust.actors import NodeTable
from resolver.units import Duration
from tests.small_store import SmallStore


class Below:
    """A link that answers with the keys, when it is let, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Query] = []
        self.fault: Exception | None = None
        self.ended = 0
        self._gate = asyncio.Event()
        self._gate.set()

    @property
    def batches(self) -> list[list[bytes]]:
        return [list(query.identifiers) for query in self.asked]

    def hold(self) -> asyncio.Event:
        """Let what is asked from now on wait for this."""
        self._gate = asyncio.Event()
        return self._gate

    def release(self) -> None:
        self._gate.set()

    async def resolve(self, query: Query) -> Sequence[Ready]:
        self.asked.append(query)
        gate, fault = self._gate, self.fault
        await gate.wait()
        self.ended += 1
        if fault:
            raise fault
        return [Ready(key, FOUND) for key in query.identifiers]


class Field:
    """Gathering over that link, beside a feed that the test moves on."""

    def __init__(self, settings: GatheringSettings | None = None) -> None:
        self.below = Below()
        self.clock = SetClock()
        self.registry = CollectorRegistry()
        routes, cache = RouteTable(), MemoryCache(MemorySettings(), self.registry)
        self.following = Following(
            SmallStore(), routes, cache, self.clock, FollowingSettings(), self.registry, nodes=NodeTable()
        )
        self.kept: list[list[bytes]] = []
        self.gathering = Gathering(
            self.below,
            keep=lambda keys, _: self.kept.append(list(keys)),
            following=self.following,
            clock=self.clock,
            settings=settings or GatheringSettings(),
            registry=self.registry,
        )

    async def ask(
        self, *keys: bytes, seconds: float = 60, authoritative: bool = False, trace: Trace | None = None
    ) -> list[bytes]:
        query = Query(
            identifiers=list(keys),
            deadline=self.clock.monotonic() + seconds,
            authoritative=authoritative,
            trace=trace,
        )
        return [ready.frame for ready in await self.gathering.resolve(query)]

    def start(self, *keys: bytes, seconds: float = 60, authoritative: bool = False) -> "asyncio.Task[list[bytes]]":
        return asyncio.create_task(self.ask(*keys, seconds=seconds, authoritative=authoritative))

    def sample(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)


async def turns(count: int = 5) -> None:
    """Let everything that is ready run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def reason_of(task: "asyncio.Task[list[bytes]]") -> Reason:
    with pytest.raises(Fault) as caught:
        await task
    return caught.value.reason


# --- merging -------------------------------------------------------------------------------------------------------


async def test_what_is_asked_in_one_turn_is_one_batch_below() -> None:
    field = Field()
    answers = [*await asyncio.gather(field.ask(b"A"), field.ask(b"B", b"C"), field.ask(b"D"))]
    assert answers == [[b"A"], [b"B", b"C"], [b"D"]]
    assert field.below.batches == [[b"A", b"B", b"C", b"D"]]


async def test_what_several_ask_at_once_is_asked_once() -> None:
    field = Field()
    answers = [*await asyncio.gather(field.ask(b"A", b"B"), field.ask(b"B", b"C"), field.ask(b"A"))]
    assert answers == [[b"A", b"B"], [b"B", b"C"], [b"A"]]
    assert field.below.batches == [[b"A", b"B", b"C"]]
    assert field.sample("topnode_gathering_joined_total") == 2
    assert field.sample("topnode_gathering_flights_total") == 1


async def test_what_has_landed_is_kept_before_anybody_is_told() -> None:
    field = Field()
    seen: list[int] = []
    asking = [field.start(b"A"), field.start(b"B", b"A")]
    for task in asking:
        task.add_done_callback(lambda _: seen.append(len(field.kept)))
    await asyncio.gather(*asking)
    assert field.kept == [[b"A", b"B"]]
    assert seen == [1, 1]


async def test_what_is_not_everybodys_or_did_not_land_is_not_kept() -> None:
    field = Field()
    await field.ask(b"A", authoritative=True)
    field.below.fault = Fault(Reason.STORE_UNAVAILABLE)
    await reason_of(field.start(b"B"))
    assert field.kept == []


async def test_what_a_traced_query_brings_is_kept_too() -> None:
    field = Field()
    await field.ask(b"A", trace=Trace("top", field.clock))
    assert field.kept == [[b"A"]]


async def test_small_queries_do_not_pass_for_a_scan_however_many_they_are() -> None:
    field = Field()
    await asyncio.gather(*(field.ask(b"%d" % number) for number in range(600)))
    assert [len(keys) for keys in field.kept] == [SCAN, SCAN, 600 - 2 * SCAN]
    scan = [b"s%d" % number for number in range(SCAN + 1)]
    await asyncio.gather(field.ask(*scan), field.ask(b"alone"))
    assert field.kept[3:] == [[*scan, b"alone"]]


async def test_what_is_in_the_air_is_joined_and_the_rest_is_asked() -> None:
    field = Field()
    field.below.hold()
    first = field.start(b"A", b"B")
    await turns()
    second = field.start(b"C", b"B", b"A")
    await turns()
    assert field.below.batches == [[b"A", b"B"], [b"C"]]
    assert field.sample("topnode_gathering_in_flight_identifiers") == 3
    field.below.release()
    assert [*await asyncio.gather(first, second)] == [[b"A", b"B"], [b"C", b"B", b"A"]]
    assert field.sample("topnode_gathering_in_flight_identifiers") == 0


async def test_what_has_landed_is_asked_again() -> None:
    field = Field()
    await field.ask(b"A")
    await field.ask(b"A")
    assert field.below.batches == [[b"A"], [b"A"]]


async def test_each_flight_that_lands_is_gone_while_others_are_in_the_air() -> None:
    """Nobody is given what a landed flight brought: it may have changed since."""
    field = Field()
    gate = field.below.hold()
    first = field.start(b"A")
    await turns()
    field.below.hold()
    second = field.start(b"B")
    await turns()
    gate.set()
    await first
    third = field.start(b"A")
    await turns()
    assert field.below.batches == [[b"A"], [b"B"], [b"A"]]
    field.below.release()
    await asyncio.gather(second, third)


async def test_no_batch_below_has_more_than_a_thousand() -> None:
    field = Field()
    batches = [[b"%d/%d" % (batch, number) for number in range(400)] for batch in range(6)]
    answers = await asyncio.gather(*(field.ask(*batch) for batch in batches))
    assert answers == batches
    assert [len(batch) for batch in field.below.batches] == [800, 800, 800]


async def test_nobody_joins_a_flight_that_began_before_a_change() -> None:
    """It may carry what was true before; who asks after the change was applied is told what is true after it."""
    field = Field()
    field.below.hold()
    before = field.start(b"A")
    await turns()
    field.following.applied += 1
    after = field.start(b"A")
    await turns()
    assert field.below.batches == [[b"A"], [b"A"]]
    field.below.release()
    await asyncio.gather(before, after)
    assert field.sample("topnode_gathering_in_flight_identifiers") == 0


async def test_what_boards_before_and_after_a_change_departs_apart() -> None:
    """All in one turn of the loop, which takes things in their order."""
    field = Field()
    before = field.start(b"A")
    asyncio.get_running_loop().call_soon(setattr, field.following, "applied", 1)
    after = field.start(b"B"), field.start(b"B")
    await asyncio.gather(before, *after)
    assert field.below.batches == [[b"A"], [b"B"]]


async def test_an_authoritative_question_flies_alone() -> None:
    field = Field()
    await asyncio.gather(field.ask(b"A"), field.ask(b"A", authoritative=True), field.ask(b"A", authoritative=True))
    assert len(field.below.asked) == 3
    assert sum(query.authoritative for query in field.below.asked) == 2


async def test_a_traced_question_flies_alone_with_its_trace() -> None:
    field = Field()
    trace = Trace("top", field.clock)
    await asyncio.gather(field.ask(b"A"), field.ask(b"A", trace=trace))
    assert [query.trace for query in field.below.asked].count(trace) == 1
    assert [(step.tier, step.verdict) for step in trace.steps] == [("gathering", "alone")]


# --- deadlines and cancellation ------------------------------------------------------------------------------------


async def test_a_flight_has_its_own_deadline_and_not_its_callers() -> None:
    field = Field()
    await field.ask(b"A", seconds=0.5)
    assert field.below.asked[0].deadline == field.clock.monotonic() + 2


async def test_a_cancelled_caller_ends_nobody_elses_waiting() -> None:
    field = Field()
    field.below.hold()
    first, second = field.start(b"A"), field.start(b"A")
    await turns()
    first.cancel()
    await turns()
    assert first.cancelled()
    field.below.release()
    assert await second == [b"A"]
    assert field.below.batches == [[b"A"]]


async def test_a_flight_that_everybody_left_lands_all_the_same() -> None:
    field = Field()
    field.below.hold()
    caller = field.start(b"A")
    await turns()
    caller.cancel()
    await turns()
    field.below.release()
    await turns()
    assert field.below.ended == 1
    assert field.sample("topnode_gathering_in_flight_identifiers") == 0


async def test_a_callers_deadline_ends_only_its_own_waiting() -> None:
    field = Field()
    field.below.hold()
    patient, hasty = field.start(b"A"), field.start(b"A", seconds=0)
    assert await reason_of(hasty) is Reason.DEADLINE_SPENT
    field.below.release()
    assert await patient == [b"A"]


@pytest.mark.parametrize("authoritative", [False, True])
async def test_a_store_that_does_not_answer_in_time_is_unavailable(*, authoritative: bool) -> None:
    """More time would not help the caller, so it is not the caller's deadline that is blamed."""
    field = Field(GatheringSettings(deadline=Duration(0.001)))
    field.below.hold()
    with pytest.raises(Fault) as caught:
        await field.ask(b"A", authoritative=authoritative)
    assert (caught.value.reason, caught.value.retry_after) == (Reason.STORE_UNAVAILABLE, 0.001)
    await turns()
    assert field.below.ended == 0
    assert field.sample("topnode_gathering_in_flight_identifiers") == 0


# --- failures ------------------------------------------------------------------------------------------------------


async def test_a_fault_reaches_each_who_waits_as_one_of_its_own() -> None:
    field = Field()
    field.below.fault = Fault(Reason.STORE_UNAVAILABLE, "Down.", field="f", retry_after=3.0, variables={"a": "b"})
    caught = await asyncio.gather(field.ask(b"A"), field.ask(b"A", b"B"), return_exceptions=True)
    faults = [fault for fault in caught if isinstance(fault, Fault)]
    assert len(faults) == 2
    assert faults[0] is not faults[1]
    for fault in faults:
        assert (fault.reason, fault.detail, fault.field) == (Reason.STORE_UNAVAILABLE, "Down.", "f")
        assert (fault.retry_after, fault.variables) == (3.0, {"a": "b"})


async def test_a_failed_flight_spoils_only_the_keys_that_were_on_it() -> None:
    field = Field()
    field.below.hold()
    field.below.fault = Fault(Reason.STORE_UNAVAILABLE)
    first = field.start(b"A")
    await turns()
    field.below.fault = None
    query = Query(identifiers=[b"A", b"B"], deadline=field.clock.monotonic() + 60)
    second = asyncio.create_task(field.gathering.resolve(query))
    await turns()
    field.below.release()
    assert await reason_of(first) is Reason.STORE_UNAVAILABLE
    failed, answered = await second
    assert isinstance(failed, Failed)
    assert failed.fault.reason is Reason.STORE_UNAVAILABLE
    assert answered.frame == b"B"


async def test_a_mistake_below_reaches_the_caller_and_leaves_nothing_in_the_air() -> None:
    field = Field()
    field.below.fault = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await field.ask(b"A")
    assert field.sample("topnode_gathering_in_flight_identifiers") == 0
    field.below.fault = None
    assert await field.ask(b"A") == [b"A"]


async def test_bounds_what_is_in_the_air() -> None:
    field = Field(GatheringSettings(identifiers=1_000))
    field.below.hold()
    names = [b"%d" % number for number in range(999)]
    flying = field.start(*names)
    await turns()
    last = field.start(b"last")
    await turns()
    assert await reason_of(field.start(b"one too many")) is Reason.TOO_MANY_IN_FLIGHT
    assert await reason_of(field.start(b"alone", authoritative=True)) is Reason.TOO_MANY_IN_FLIGHT
    joining = field.start(b"0")
    await turns()
    field.below.release()
    assert [*await asyncio.gather(flying, last, joining)] == [names, [b"last"], [b"0"]]
    assert await field.ask(b"one too many") == [b"one too many"]


# --- closing -------------------------------------------------------------------------------------------------------


async def test_closing_waits_for_what_is_in_the_air_and_takes_no_more() -> None:
    field = Field()
    field.below.hold()
    flying, boarding = field.start(b"A"), field.start(b"B")
    await asyncio.sleep(0)
    closing = asyncio.create_task(field.gathering.close())
    await turns()
    assert not closing.done()
    assert await reason_of(field.start(b"C")) is Reason.NODE_DRAINING
    field.below.release()
    await closing
    assert [*await asyncio.gather(flying, boarding)] == [[b"A"], [b"B"]]


async def test_closing_what_does_nothing_is_quick() -> None:
    await Field().gathering.close()


@pytest.mark.parametrize(
    ("settings", "field"), [({"deadline": Duration(0)}, "deadline"), ({"identifiers": 999}, "identifiers")]
)
def test_refuses_settings_with_which_nothing_flies(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(Fault) as caught:
        GatheringSettings(**settings)
    assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, field)
