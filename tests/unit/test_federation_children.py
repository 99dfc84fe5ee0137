"""A child and its endpoints: failover, the breaker and mending, hedging, bounds, and what is remembered."""

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.federation import breaker as breakers
from resolver.federation.breaker import Breaker
from resolver.federation.child import Child
from resolver.federation.children import Children
from resolver.federation.driver import Question
from resolver.federation.endpoint import ChildEndpoint
from resolver.federation.hearsay import Hearsay
from resolver.federation.latencies import Latencies
from resolver.federation.settings import FederationSettings
from resolver.query import Path
from resolver.routes import Endpoint, Protocol
from tests.small_federation import ABSENT, Network, SaidDriver, at

CLOCK = SystemClock()


class Place:
    """A child with as many endpoints as drivers are given, in the order of priority."""

    def __init__(self, *drivers: SaidDriver, settings: FederationSettings | None = None) -> None:
        self.network = Network()
        self.registry = CollectorRegistry()
        self.children = Children(
            self.network.drivers, settings=settings or FederationSettings(), clock=CLOCK, registry=self.registry
        )
        endpoints = []
        for port, driver in enumerate(drivers, 1):
            self.network.at["child", port] = driver
            endpoints.append(at("child", port, priority=port))
        self.endpoints = tuple(endpoints)

    @property
    def child(self) -> Child:
        return self.children.child("88.1", self.endpoints)

    async def ask(self, *keys: bytes, seconds: float = 1) -> Sequence[bytes | Fault]:
        return (await self.child.ask(question(*keys, seconds=seconds))).results

    def sample(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def question(*keys: bytes, seconds: float = 1) -> Question:
    return Question(identifiers=keys or (b"88.1/A",), deadline=CLOCK.monotonic() + seconds, path=Path(("top",), 3))


def unreachable() -> Fault:
    return Fault(Reason.NODE_UNREACHABLE)


async def test_the_next_endpoint_is_asked_at_once_when_one_fails() -> None:
    dead, alive = SaidDriver(), SaidDriver()
    dead.fault = unreachable()
    place = Place(dead, alive)
    assert await place.ask() == [ABSENT]
    assert (len(dead.asked), len(alive.asked)) == (1, 1)
    await place.children.close()
    assert (dead.closed, alive.closed) == (1, 1)


async def test_the_first_priority_is_asked_as_long_as_it_answers() -> None:
    first, second = SaidDriver(), SaidDriver()
    place = Place(first, second)
    for _ in range(10):
        await place.ask()
    assert (len(first.asked), len(second.asked)) == (10, 0)


async def test_what_is_refused_for_good_is_not_asked_of_another_endpoint() -> None:
    first, second = SaidDriver(), SaidDriver()
    first.fault = Fault(Reason.NOT_AUTHORISED)
    place = Place(first, second)
    with pytest.raises(Fault) as refused:
        await place.ask()
    assert refused.value.reason is Reason.NOT_AUTHORISED
    assert second.asked == []


async def test_an_endpoint_that_hangs_takes_half_of_the_time_only() -> None:
    hanging, alive = SaidDriver(seconds=0.4), SaidDriver()
    hanging.fault = Fault(Reason.DEADLINE_SPENT)
    place = Place(hanging, alive)
    began = CLOCK.monotonic()
    await place.ask(seconds=1)
    asked = hanging.asked[0]
    assert asked.deadline - began == pytest.approx(0.5, abs=0.1)
    assert len(alive.asked) == 1


async def test_after_five_failures_nobody_is_asked_and_callers_are_told_at_once() -> None:
    dead = SaidDriver()
    dead.fault = unreachable()
    place = Place(dead)
    for _ in range(breakers.FAILURES):
        with pytest.raises(Fault):
            await place.ask()
    assert place.sample("topnode_child_up", child="88.1") == 0
    began = CLOCK.monotonic()
    with pytest.raises(Fault) as turned_away:
        await place.ask()
    assert CLOCK.monotonic() - began < 0.5, "half of what a call has"
    assert (turned_away.value.reason, turned_away.value.retry_after) == (Reason.CHILD_UNREACHABLE, 1.0)
    assert len(dead.asked) == breakers.FAILURES
    assert place.sample("topnode_child_calls_total", child="88.1", outcome="failed") == breakers.FAILURES
    assert place.sample("topnode_child_calls_total", child="88.1", outcome="turned_away") == 1
    await place.children.close()


async def test_an_endpoint_is_asked_again_once_a_probe_over_a_fresh_connection_was_answered() -> None:
    driver = SaidDriver()
    driver.fault = unreachable()
    place = Place(driver)
    for _ in range(breakers.FAILURES):
        with pytest.raises(Fault):
            await place.ask()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert driver.closed == 1, "the connection is given up"
    driver.fault = None
    async with asyncio.timeout(5):
        while not place.child.is_up:  # noqa: ASYNC110 - it is seen from outside, as metrics see it
            await asyncio.sleep(0.01)
    assert driver.probes == 1
    assert len(place.network.opened) == 2
    assert await place.ask() == [ABSENT]
    assert place.sample("topnode_child_up", child="88.1") == 1
    await place.children.close()


async def test_an_endpoint_that_nobody_wants_is_probed_when_somebody_does() -> None:
    """And not taken for one that answers before that."""
    driver = SaidDriver()
    driver.fault = unreachable()
    network = Network()
    network.at["child", 1] = driver
    endpoint = ChildEndpoint(
        at("child"), drivers=network.drivers, clock=CLOCK, hearsay=Hearsay(CLOCK), probes_unasked=1
    )
    for _ in range(breakers.FAILURES):
        with pytest.raises(Fault):
            await endpoint.ask(question())
    async with asyncio.timeout(5):
        while not driver.probes:  # noqa: ASYNC110 - it is seen from outside
            await asyncio.sleep(0.01)
    driver.fault = None
    await asyncio.sleep(1.1)
    assert (driver.probes, endpoint.is_down) == (1, True)
    endpoint.want()
    await asyncio.sleep(0.01)
    assert (driver.probes, endpoint.is_down) == (2, False)
    assert (await endpoint.ask(question())).results == [ABSENT]
    await endpoint.close()


# --- on a prober's word ---------------------------------------------------------------------------------------------


def a_prober_says(place: Place, *endpoints: Endpoint, since: float | None = None, lasts: float = 60) -> None:
    """Have it say that nobody answers there: since now, unless another moment is given."""
    now = CLOCK.monotonic()
    place.children.hear(dict.fromkeys(endpoints, now if since is None else since), now + lasts)


async def test_where_nobody_answers_a_prober_the_first_caller_is_told_at_once() -> None:
    """Also by a child that was never asked before; and the caller has it probed."""
    hanging = SaidDriver(seconds=5)
    hanging.fault = unreachable()
    place = Place(hanging)
    a_prober_says(place, *place.endpoints)
    began = CLOCK.monotonic()
    with pytest.raises(Fault) as turned_away:
        await place.ask()
    assert CLOCK.monotonic() - began < 0.5, "half of what a call has"
    assert turned_away.value.reason is Reason.CHILD_UNREACHABLE
    await asyncio.sleep(0.01)
    assert (hanging.asked, hanging.probes) == ([], 1)
    assert place.sample("topnode_child_told_down_endpoints") == 1
    assert place.sample("topnode_child_up", child="88.1") == 0
    await place.children.close()


async def test_nobody_is_probed_from_here_before_somebody_asks() -> None:
    place = Place(driver := SaidDriver())
    await place.ask()
    a_prober_says(place, *place.endpoints)
    await asyncio.sleep(1)
    assert (driver.probes, place.child.is_up) == (0, False)
    await place.children.close()


async def test_a_connection_to_where_nobody_answers_is_given_up() -> None:
    """It may be dead on one side only: who asks when the word is over gets another one."""
    place = Place(driver := SaidDriver())
    await place.ask()
    a_prober_says(place, *place.endpoints)
    await asyncio.sleep(0)
    assert driver.closed == 1
    a_prober_says(place)
    assert await place.ask() == [ABSENT]
    assert place.network.opened == [("child", 1)] * 2
    await place.children.close()


async def test_another_endpoint_is_asked_instead() -> None:
    hanging, alive = SaidDriver(seconds=5), SaidDriver()
    place = Place(hanging, alive)
    a_prober_says(place, place.endpoints[0])
    assert await place.ask() == [ABSENT]
    assert (len(hanging.asked), len(alive.asked)) == (0, 1)
    assert place.child.is_up
    await place.children.close()


async def test_an_own_probe_that_is_answered_outweighs_the_prober() -> None:
    driver = SaidDriver()
    place = Place(driver)
    a_prober_says(place, *place.endpoints)
    with pytest.raises(Fault):
        await place.ask()
    async with asyncio.timeout(5):
        while not place.child.is_up:  # noqa: ASYNC110 - it is seen from outside
            await asyncio.sleep(0.01)
    assert (driver.probes, place.sample("topnode_child_told_down_endpoints")) == (1, 0)
    assert await place.ask() == [ABSENT]
    await place.children.close()


async def test_a_call_that_was_answered_since_the_first_of_its_probes_outweighs_the_prober() -> None:
    driver = SaidDriver()
    place = Place(driver)
    began = CLOCK.monotonic()
    await place.ask()
    a_prober_says(place, *place.endpoints, since=began)
    assert await place.ask() == [ABSENT]
    assert (driver.probes, place.sample("topnode_child_told_down_endpoints")) == (0, 0)
    # Three probes later nothing was answered in between.
    a_prober_says(place, *place.endpoints)
    assert not place.child.is_up
    await place.children.close()


async def test_a_refusal_is_an_answer_too() -> None:
    driver = SaidDriver()
    driver.fault = Fault(Reason.NOT_AUTHORISED)
    place = Place(driver)
    began = CLOCK.monotonic()
    with pytest.raises(Fault):
        await place.ask()
    a_prober_says(place, *place.endpoints, since=began)
    assert place.child.is_up


async def test_what_a_prober_takes_back_or_says_no_more_is_asked_again() -> None:
    driver = SaidDriver()
    place = Place(driver)
    a_prober_says(place, *place.endpoints)
    assert not place.child.is_up
    a_prober_says(place)
    assert await place.ask() == [ABSENT]
    a_prober_says(place, *place.endpoints, lasts=0.05)
    assert not place.child.is_up
    await asyncio.sleep(0.06)
    assert await place.ask() == [ABSENT]
    assert driver.probes == 0
    await place.children.close()


async def test_failures_of_its_own_keep_an_endpoint_down_when_the_prober_says_it_is_well() -> None:
    """And it is probed from here, though it had been left alone on the prober's word before."""
    driver = SaidDriver()
    driver.fault = unreachable()
    place = Place(driver)
    a_prober_says(place, *place.endpoints)
    with pytest.raises(Fault):
        await place.ask()
    await asyncio.sleep(0.01)
    a_prober_says(place)
    for _ in range(breakers.FAILURES):
        with pytest.raises(Fault):
            await place.ask()
    assert (place.child.is_up, place.sample("topnode_child_told_down_endpoints")) == (False, 0)
    driver.fault = None
    async with asyncio.timeout(5):
        while not place.child.is_up:  # noqa: ASYNC110 - it is seen from outside
            await asyncio.sleep(0.01)
    assert await place.ask() == [ABSENT]
    await place.children.close()
    assert len(place.network.opened) == driver.closed, "no connection is left open"


# --- late answers, and bounds ---------------------------------------------------------------------------------------


async def test_a_caller_in_a_hurry_says_nothing_against_an_endpoint() -> None:
    slow = SaidDriver()
    slow.fault = Fault(Reason.DEADLINE_SPENT)
    place = Place(slow)
    for _ in range(2 * breakers.FAILURES):
        with pytest.raises(Fault):
            await place.ask(seconds=0.1)
    assert place.child.is_up


async def test_more_calls_than_may_wait_fail_at_once() -> None:
    slow = SaidDriver(seconds=0.05)
    place = Place(slow, settings=FederationSettings(calls=2, waiting=3))
    results = await asyncio.gather(*(place.ask() for _ in range(8)), return_exceptions=True)
    failed = [each for each in results if isinstance(each, Fault)]
    assert [fault.reason for fault in failed] == [Reason.CHILD_UNREACHABLE] * 3
    assert len(slow.asked) == 5


async def test_waiting_for_room_ends_with_the_deadline() -> None:
    slow = SaidDriver(seconds=0.2)
    place = Place(slow, settings=FederationSettings(calls=1))
    first = asyncio.ensure_future(place.ask())
    await asyncio.sleep(0.01)
    with pytest.raises(Fault):
        await place.ask(seconds=0.05)
    assert await first == [ABSENT]
    assert await place.ask() == [ABSENT]


@pytest.mark.parametrize("turns", range(6))
async def test_whoever_goes_takes_no_place_along(turns: int) -> None:
    """Also in the turn of the loop in which a place is handed on to somebody who goes."""
    slow = SaidDriver(seconds=0.02)
    place = Place(slow, settings=FederationSettings(calls=1))
    first, second, third = (asyncio.ensure_future(place.ask()) for _ in range(3))
    if turns < 5:
        await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0.005)
    else:
        # It has ended, and the next one has not gone on yet.
        await asyncio.wait({first}, return_when=asyncio.FIRST_COMPLETED)
    second.cancel()
    assert await asyncio.wait_for(third, 1) == await first == [ABSENT]
    await asyncio.gather(second, return_exceptions=True)
    assert await place.ask(seconds=0.5) == [ABSENT]


async def test_a_late_answer_is_asked_for_once_more_within_the_budget() -> None:
    first, second = SaidDriver(), SaidDriver()
    place = Place(first, second, settings=FederationSettings(hedge_percent=5))
    for _ in range(60):
        await place.ask()
    first.seconds = 0.3
    began = CLOCK.monotonic()
    for _ in range(3):
        await place.ask()
    assert CLOCK.monotonic() - began < 0.3
    assert len(second.asked) == 3
    assert place.sample("topnode_child_hedges_total") == 3
    # 64 calls earn three second attempts and no fourth.
    await place.ask()
    assert place.sample("topnode_child_hedges_total") == 3


async def test_the_budget_counts_identifiers_and_not_calls() -> None:
    first, second = SaidDriver(), SaidDriver()
    place = Place(first, second, settings=FederationSettings(hedge_percent=5))
    for _ in range(60):
        await place.ask()
    first.seconds = 0.05
    await place.ask(*(b"88.1/%d" % number for number in range(8)))
    assert second.asked == []
    await place.ask(*(b"88.1/%d" % number for number in range(3)))
    assert [len(each.identifiers) for each in second.asked] == [3]


async def test_without_a_budget_nothing_is_asked_twice() -> None:
    first, second = SaidDriver(), SaidDriver()
    place = Place(first, second, settings=FederationSettings(hedge_percent=0))
    for _ in range(60):
        await place.ask()
    first.seconds = 0.05
    await place.ask()
    assert second.asked == []


async def test_a_second_attempt_that_fails_does_not_spoil_the_first() -> None:
    first, second = SaidDriver(), SaidDriver()
    place = Place(first, second, settings=FederationSettings(hedge_percent=100))
    for _ in range(20):
        await place.ask()
    first.seconds, second.fault = 0.05, unreachable()
    assert await place.ask() == [ABSENT]
    assert len(second.asked) == 1


async def test_a_cancelled_caller_leaves_no_attempt_behind() -> None:
    driver = SaidDriver()
    place = Place(driver, settings=FederationSettings(hedge_percent=100))
    for _ in range(20):
        await place.ask()
    driver.seconds = 5
    asked = asyncio.ensure_future(place.ask())
    await asyncio.sleep(0.05)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others


async def test_what_did_not_fit_into_a_reply_is_asked_for_again() -> None:
    class Narrow(SaidDriver):
        """Gives two answers at a time."""

        async def ask(self, asked: Question) -> "object":  # type: ignore[override] # a Reply all the same
            reply = await super().ask(asked)
            too_large = Fault(Reason.ANSWER_TOO_LARGE)
            results = [result if place < 2 else too_large for place, result in enumerate(reply.results)]
            return type(reply)(results, reply.protocol)

    narrow = Narrow()
    place = Place(narrow)
    assert await place.ask(b"a", b"b", b"c", b"d", b"e") == [ABSENT] * 5
    assert [len(asked.identifiers) for asked in narrow.asked] == [5, 3, 1]


async def test_what_never_fits_is_not_asked_for_for_ever() -> None:
    narrow = SaidDriver({b"a": Fault(Reason.ANSWER_TOO_LARGE)})
    (result,) = await Place(narrow).ask(b"a")
    assert isinstance(result, Fault)
    assert len(narrow.asked) == 2


# --- all children --------------------------------------------------------------------------------------------------


async def test_of_more_children_than_are_remembered_the_one_asked_longest_ago_is_closed() -> None:
    driver = SaidDriver()
    place = Place(driver, settings=FederationSettings(children=2))
    place.network.at = {(name, 1): driver for name in "abc"}
    children = [place.children.child(name, (at(name),)) for name in "ab"]
    for child in children:
        await child.ask(question())
    assert place.children.child("a", (at("a"),)) is children[0]
    place.children.child("c", (at("c"),))
    assert len(place.children) == 2
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert driver.closed == 1
    with pytest.raises(Fault) as forgotten:
        await children[1].ask(question())
    assert forgotten.value.reason is Reason.CHILD_UNREACHABLE
    assert place.children.child("a", (at("a"),)) is children[0]
    await place.children.close()


async def test_endpoints_that_speak_what_nobody_here_speaks_are_left_out() -> None:
    place = Place(SaidDriver())
    foreign = Endpoint(Protocol.HTTP, "child", 80)
    assert place.children.reaches((foreign, *place.endpoints))
    assert not place.children.reaches((foreign,))
    child = place.children.child("88.1", (foreign, *place.endpoints))
    assert (await child.ask(question())).results == [ABSENT]
    with pytest.raises(Fault) as refused:
        place.network.drivers.open(foreign)
    assert (refused.value.reason, refused.value.variables) == (Reason.METHOD_UNKNOWN, {"protocol": "http"})


async def test_seconds_are_told_without_a_label_for_each_child() -> None:
    place = Place(SaidDriver())
    await place.ask()
    assert place.sample("topnode_child_seconds_count") == 1


# --- pure parts ----------------------------------------------------------------------------------------------------


def test_a_breaker_opens_when_more_than_half_of_the_latest_calls_failed() -> None:
    breaker = Breaker()
    for _ in range(9):
        breaker.failed()
        breaker.succeeded()
    assert not breaker.failed(), "10 of 19"
    assert breaker.failed(), "11 of 20"
    assert breaker.is_open
    assert not breaker.failed(), "it is open already"


def test_probes_come_less_often_each_time_up_to_a_bound() -> None:
    breaker = Breaker()
    while not breaker.failed():
        pass
    rests = [breaker.rest() for _ in range(10)]
    assert all(
        0.5 * most <= rest <= most for rest, most in zip(rests, (0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30), strict=True)
    )
    breaker.close()
    assert not breaker.is_open
    assert breaker.rest() <= breakers.REST_MIN


def test_late_is_what_95_of_100_are_not() -> None:
    latencies = Latencies()
    for number in range(15):
        latencies.note(number / 1_000)
        assert latencies.late_after is None
    for number in range(15, 112):
        latencies.note(number / 1_000)
    assert latencies.late_after == pytest.approx(0.106)
    for _ in range(128):
        latencies.note(0.0001)
    assert latencies.late_after == 0.002
