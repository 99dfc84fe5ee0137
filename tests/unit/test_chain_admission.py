"""Admission: what is refused, why, for how long, and that what was admitted is given back."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from resolver.answer import FOUND, Ready
from resolver.chain.admission import CALLERS_MAX, Admission, AdmissionSettings, RateLimit
from resolver.clock import SetClock
from resolver.errors import Fault, Reason
from resolver.query import PUBLIC, Asker, Query
from resolver.trace import Trace


class Below:
    """A link that answers everything, when it is let."""

    def __init__(self) -> None:
        self.asked: list[Query] = []
        self.fault: Fault | None = None
        self._gate = asyncio.Event()
        self._gate.set()

    def hold(self) -> None:
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    async def resolve(self, query: Query) -> Sequence[Ready]:
        self.asked.append(query)
        await self._gate.wait()
        if self.fault:
            raise self.fault
        return [Ready(identifier, FOUND) for identifier in query.identifiers]


class Door:
    """Admission with all that it needs."""

    def __init__(self, **settings: int) -> None:
        self.below = Below()
        self.clock = SetClock()
        self.registry = CollectorRegistry()
        self._admission = Admission(
            self.below, clock=self.clock, settings=AdmissionSettings(**settings), registry=self.registry
        )

    def query(
        self, count: int = 1, *, asker: Asker = PUBLIC, seconds: float = 5, trace: Trace | None = None
    ) -> Query:
        return Query(
            identifiers=[b"88.100/%d" % number for number in range(count)],
            deadline=self.clock.monotonic() + seconds,
            asker=asker,
            trace=trace,
        )

    async def ask(self, count: int = 1, *, asker: Asker = PUBLIC, seconds: float = 5) -> Sequence[Ready]:
        return await self._admission.resolve(self.query(count, asker=asker, seconds=seconds))

    async def ask_traced(self, trace: Trace) -> None:
        await self._admission.resolve(self.query(trace=trace))

    async def refusal(self, count: int = 1, *, asker: Asker = PUBLIC, seconds: float = 5) -> Fault:
        with pytest.raises(Fault) as caught:
            await self.ask(count, asker=asker, seconds=seconds)
        return caught.value

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


async def test_admits_and_answers_in_order() -> None:
    assert [ready.frame for ready in await Door().ask(3)] == [b"88.100/0", b"88.100/1", b"88.100/2"]


@pytest.mark.parametrize(
    ("count", "seconds", "reason"),
    [
        (0, 5, Reason.BATCH_EMPTY),
        (1_001, 5, Reason.BATCH_TOO_LARGE),
        (1, 0, Reason.DEADLINE_SPENT),
        (1, -1, Reason.DEADLINE_SPENT),
    ],
)
async def test_refuses_before_any_work(count: int, seconds: float, reason: Reason) -> None:
    door = Door()
    fault = await door.refusal(count, seconds=seconds)
    assert (fault.reason, door.below.asked) == (reason, [])
    assert door.sample("topnode_admission_refused_total", reason=reason.name) == 1


async def test_admits_the_largest_batch() -> None:
    assert len(await Door().ask(1_000)) == 1_000


async def test_names_how_many_and_how_many_are_allowed() -> None:
    fault = await Door().refusal(1_001)
    assert (fault.field, dict(fault.variables)) == ("identifiers", {"identifiers": "1001", "allowed": "1000"})


@pytest.mark.parametrize(("settings", "counts"), [({"queries": 2}, (1, 1)), ({"identifiers": 1_500}, (1_000, 500))])
async def test_bounds_what_is_in_flight(settings: dict[str, int], counts: tuple[int, ...]) -> None:
    """What is in flight fills the bound; one more is refused; when it is answered there is room again."""
    door = Door(**settings)
    door.below.hold()
    flying = [asyncio.create_task(door.ask(count)) for count in counts]
    await asyncio.sleep(0)
    assert door.sample("topnode_admission_in_flight_queries") == len(counts)
    assert door.sample("topnode_admission_in_flight_identifiers") == sum(counts)
    fault = await door.refusal()
    assert fault.reason is Reason.TOO_MANY_IN_FLIGHT
    assert fault.retry_after
    door.below.release()
    await asyncio.gather(*flying)
    assert len(await door.ask()) == 1


async def test_gives_room_back_after_failures_and_cancellations() -> None:
    door = Door(queries=1)
    door.below.fault = Fault(Reason.STORE_UNAVAILABLE)
    assert (await door.refusal()).reason is Reason.STORE_UNAVAILABLE
    door.below.fault = None
    door.below.hold()
    task = asyncio.create_task(door.ask())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    door.below.release()
    assert len(await door.ask()) == 1
    assert door.sample("topnode_admission_in_flight_queries") == 0
    assert door.sample("topnode_admission_in_flight_identifiers") == 0


# --- rates ---------------------------------------------------------------------------------------------------------

ONE, OTHER = Asker(address="192.0.2.1"), Asker(address="192.0.2.2")


async def test_admits_any_rate_unless_one_is_set() -> None:
    door = Door()
    for _ in range(100):
        await door.ask(1_000, asker=ONE)


async def test_limits_identifiers_a_second_for_each_caller() -> None:
    door = Door(rate=100, burst=1_000)
    await door.ask(1_000, asker=ONE)
    fault = await door.refusal(50, asker=ONE)
    assert fault.reason is Reason.RATE_LIMITED
    assert fault.retry_after == pytest.approx(0.5)
    await door.ask(1_000, asker=OTHER)


@given(rate=st.integers(1, 1_000_000), counts=st.lists(st.integers(1, 1_000), min_size=1, max_size=30))
def test_who_waits_as_long_as_told_is_admitted_and_who_waits_less_is_not(rate: int, counts: list[int]) -> None:
    limit, now = RateLimit(rate, 1_000), 1_000_000.0
    for count in counts:
        wait = limit.spend("caller", count, now)
        if wait:
            assert limit.spend("caller", count, now + wait * 0.99) > 0 or wait < 1e-6
            now += wait
            assert limit.spend("caller", count, now) == 0.0


async def test_a_refused_query_costs_nothing() -> None:
    door = Door(rate=100, burst=1_000)
    await door.ask(1_000, asker=ONE)
    for _ in range(50):
        await door.refusal(1_000, asker=ONE)
    door.clock.advance(10)
    await door.ask(1_000, asker=ONE)


async def test_a_pause_fills_the_bucket_and_no_more() -> None:
    door = Door(rate=100, burst=1_000)
    await door.ask(1, asker=ONE)
    door.clock.advance(3_600)
    await door.ask(1_000, asker=ONE)
    assert (await door.refusal(1, asker=ONE)).reason is Reason.RATE_LIMITED


async def test_a_proven_identity_counts_and_not_the_address() -> None:
    """Two identities behind one address have a bucket each; one identity at two addresses has one."""
    door = Door(rate=1, burst=1_000)
    await door.ask(1_000, asker=Asker(address="192.0.2.1", identity="88.111"))
    await door.ask(1_000, asker=Asker(address="192.0.2.1", identity="88.112"))
    await door.ask(1_000, asker=Asker(address="192.0.2.1"))
    fault = await door.refusal(1, asker=Asker(address="192.0.2.9", identity="88.111"))
    assert fault.reason is Reason.RATE_LIMITED


async def test_an_identity_spelled_like_an_address_is_somebody_else() -> None:
    door = Door(rate=1, burst=1_000)
    await door.ask(1_000, asker=Asker(address="192.0.2.1"))
    await door.ask(1_000, asker=Asker(address="192.0.2.2", identity="192.0.2.1"))


def test_remembers_a_bounded_number_of_callers_and_forgets_those_that_asked_least_recently() -> None:
    limit = RateLimit(1, 1_000)
    limit.spend("busy", 1_000, 0)
    for number in range(CALLERS_MAX + 10):
        limit.spend(f"{number}", 1, 0)
        if number == 100:
            limit.spend("busy", 0, 0)
    assert len(limit) == CALLERS_MAX
    assert limit.spend("busy", 1, 0) > 0
    assert limit.spend("0", 1_000, 0) == 0.0


# --- trace and settings --------------------------------------------------------------------------------------------


async def test_leaves_a_step_in_the_trace() -> None:
    door = Door()
    trace = Trace("top", door.clock)
    await door.ask_traced(trace)
    assert [(step.tier, step.verdict) for step in trace.steps] == [("admission", "passed")]


@pytest.mark.parametrize(("field", "value"), [("queries", 0), ("identifiers", 999), ("rate", -1), ("burst", 999)])
def test_refuses_settings_that_admit_nothing(field: str, value: int) -> None:
    broken: dict[str, Any] = {field: value}
    with pytest.raises(Fault) as caught:
        AdmissionSettings(**broken)
    assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, field)
