"""The bridge to the driver: every statement lands once, in the loop, with rows or with a Fault."""

import asyncio
import threading
from collections.abc import Sequence
from functools import partial

import pytest
from cassandra import InvalidRequest, OperationTimedOut, ProtocolVersion, ReadTimeout, Unavailable
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.cqltypes import lookup_casstype
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from resolver.bounds import IDENTIFIER_BYTES
from resolver.clock import SetClock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.asking import Asking, Quiet, Row, blobs
from resolver.store.cassandra.border import Border
from resolver.store.cassandra.statements import FULL_SURE, PUBLIC_NEAR, PUT_RECORD, Way
from tests.small_driver import SmallDriver, asking_of

ROWS = {Way.NEAR: {b"a": (b"body",)}}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def counted(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(f"topnode_cassandra_{name}_total", labels) or 0.0


async def test_rows_come_back_whichever_thread_brings_them(registry: CollectorRegistry) -> None:
    driver = SmallDriver(rows=ROWS)
    asking = asking_of(driver, registry)
    assert await asking.ask(PUBLIC_NEAR, ([b"a", b"b"],)) == [(b"a", b"body")]
    driver.is_held = True
    asked = [asyncio.ensure_future(asking.ask(PUBLIC_NEAR, ([b"a"],))) for _ in range(50)]
    await asyncio.sleep(0)
    bringing = threading.Thread(target=driver.release)
    bringing.start()
    assert await asyncio.gather(*asked) == [[(b"a", b"body")]] * 50
    bringing.join()


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (OperationTimedOut(), "timeout", Reason.STORE_UNAVAILABLE),
        (ReadTimeout("slow", consistency=1), "timeout", Reason.STORE_UNAVAILABLE),
        (Unavailable("few", consistency=1), "unavailable", Reason.STORE_UNAVAILABLE),
        (NoHostAvailable("none", {}), "unreachable", Reason.STORE_UNAVAILABLE),
        (ConnectionShutdown("gone"), "unreachable", Reason.STORE_UNAVAILABLE),
        (ConnectionRefusedError(111, "refused"), "unreachable", Reason.STORE_UNAVAILABLE),
        (InvalidRequest("no table"), "schema", Reason.STORE_NOT_MIGRATED),
        (RuntimeError("what is that"), "other", Reason.STORE_UNAVAILABLE),
    ],
)
async def test_what_the_driver_raises_is_a_fault_and_counted_by_kind(
    registry: CollectorRegistry, error: Exception, kind: str, reason: Reason
) -> None:
    driver = SmallDriver()
    driver.error = error
    with pytest.raises(Fault) as caught:
        await asking_of(driver, registry).ask(PUBLIC_NEAR, ([b"a"],))
    assert caught.value.reason is reason
    assert counted(registry, "failures", kind=kind) == 1


async def test_a_statement_without_an_answer_is_given_up_and_what_comes_later_is_too_late(
    registry: CollectorRegistry,
) -> None:
    driver = SmallDriver(rows=ROWS)
    driver.is_held = True
    asking = asking_of(driver, registry, patience=0.01)
    with pytest.raises(Fault) as caught:
        await asking.ask(PUBLIC_NEAR, ([b"a"],))
    assert (caught.value.reason, caught.value.variables["kind"]) == (Reason.STORE_UNAVAILABLE, "timeout")
    driver.release()
    assert await asking.ask(PUBLIC_NEAR, ([b"a"],)) == [(b"a", b"body")]
    assert counted(registry, "failures", kind="timeout") == 1


async def test_a_second_node_is_asked_when_the_first_is_slow_and_the_first_answer_counts(
    registry: CollectorRegistry,
) -> None:
    driver = SmallDriver("one", "two", rows=ROWS)
    driver.is_held = True
    asking = asking_of(driver, registry)
    asking.hedging[Way.NEAR].delay = 0.001
    asked = asyncio.ensure_future(asking.ask(PUBLIC_NEAR, ([b"a"],)))
    await driver.has_asked(2)
    assert [future.attempted_hosts[0].name for future in driver.asked] == ["one", "two"]
    driver.asked[1].land([(b"a", b"from two")])
    assert await asked == [(b"a", b"from two")]
    driver.asked[0].land([(b"a", b"from one")])
    assert counted(registry, "hedged", way="near") == 1


async def test_a_failure_of_one_of_two_waits_for_the_other(registry: CollectorRegistry) -> None:
    driver = SmallDriver("one", "two", rows=ROWS)
    driver.is_held = True
    asking = asking_of(driver, registry)
    asking.hedging[Way.NEAR].delay = 0.001
    asked = [asyncio.ensure_future(asking.ask(PUBLIC_NEAR, ([b"a"],))) for _ in range(2)]
    await driver.has_asked(4)
    for future in driver.asked[:2]:
        future.land(ConnectionShutdown("gone"))
    driver.asked[2].land([(b"a", b"body")])
    driver.asked[3].land(ConnectionShutdown("gone too"))
    good, bad = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(map(type, (good, bad)), key=str) == sorted((list, Fault), key=str)


async def test_with_one_node_only_nothing_is_asked_twice_and_a_write_never_is() -> None:
    for nodes, statement in ((("one",), PUBLIC_NEAR), (("one", "two"), PUT_RECORD)):
        driver = SmallDriver(*nodes, rows=ROWS)
        driver.is_held = True
        asking = asking_of(driver, CollectorRegistry(), patience=0.02)
        for each in asking.hedging.values():
            each.delay = 0.001
        with pytest.raises(Fault):
            await asking.ask(statement, ([b"a"],))
        assert len(driver.asked) == 1


async def test_a_closed_one_says_so_also_of_what_is_under_way(registry: CollectorRegistry) -> None:
    driver = SmallDriver()
    driver.is_held = True
    asking = asking_of(driver, registry)
    asked = asyncio.ensure_future(asking.ask(FULL_SURE, ([b"a"],)))
    await asyncio.sleep(0)
    asking.close()
    driver.asked[0].land(ConnectionShutdown("closed"))
    for each in (asked, asking.ask(FULL_SURE, ([b"a"],))):
        with pytest.raises(Fault, match="closed"):
            await each
    assert len(driver.asked) == 1


async def test_a_kind_of_failure_is_logged_once_a_second(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SetClock()
    border = Border("small", clock=clock, registry=registry)
    for _ in range(100):
        border.fault(Unavailable("few", consistency=1))
    border.overdue(2)
    assert [record.message.split(":")[1].strip() for record in caplog.records] == ["unavailable", "timeout"]
    clock.advance(1)
    border.fault(Unavailable("few", consistency=1))
    assert len(caplog.records) == 3
    assert counted(registry, "failures", kind="unavailable") == 101


@given(st.lists(st.binary(max_size=300) | st.just(bytes(IDENTIFIER_BYTES)), max_size=100))
def test_a_list_of_blobs_is_encoded_as_the_driver_does_it(keys: list[bytes]) -> None:
    assert blobs(keys) == lookup_casstype("ListType(BytesType)").serialize(keys, ProtocolVersion.V5)


class Lists:
    """Three lists that are asked together, each answer held back until the test brings it from another thread."""

    def __init__(self, registry: CollectorRegistry, *, patience: float = 5.0, delay: float = 5.0) -> None:
        self.driver = SmallDriver("one", "two", rows={Way.NEAR: {b"%d" % name: (b"",) for name in range(3)}})
        self.driver.is_held = True
        self.asking: Asking = asking_of(self.driver, registry, patience=patience)
        self.asking.hedging[Way.NEAR].delay = delay
        self.quiet: Quiet = []
        self.landed: dict[int, Sequence[Row] | Fault] = {}
        self.have_landed = asyncio.Event()
        for name in range(3):
            self.quiet.append(None)
            self.asking.send_list(PUBLIC_NEAR, [b"%d" % name], partial(self.land, name), quiet=self.quiet)

    def land(self, name: int, rows: Sequence[Row], fault: Fault | None) -> None:
        self.landed[name] = fault or rows
        if len(self.landed) == len(self.driver.asked):
            self.have_landed.set()

    async def bring(self, name: int, error: Exception | None = None) -> set[int]:
        """Bring one, and tell which have landed when the loop has had its chance."""
        future = self.driver.asked[name]
        await asyncio.to_thread(future.land, error or self.driver.answer(future))
        await asyncio.sleep(0)
        return set(self.landed)


async def test_answers_that_are_of_use_together_wake_the_loop_once(registry: CollectorRegistry) -> None:
    lists = Lists(registry)
    assert await lists.bring(2) == set()
    assert await lists.bring(0) == set()
    assert await lists.bring(1) == {0, 1, 2}
    assert lists.landed == {name: [(b"%d" % name, b"")] for name in range(3)}


async def test_a_failure_wakes_the_loop_at_once_and_so_does_all_that_comes_after(registry: CollectorRegistry) -> None:
    lists = Lists(registry)
    assert await lists.bring(0) == set()
    assert await lists.bring(1, ConnectionShutdown("gone")) == {0, 1}
    assert isinstance(lists.landed[1], Fault)
    assert await lists.bring(2) == {0, 1, 2}


async def test_once_every_answer_is_of_use_each_wakes_the_loop(registry: CollectorRegistry) -> None:
    lists = Lists(registry)
    assert await lists.bring(0) == set()
    lists.quiet.clear()
    assert await lists.bring(1) == {0, 1}
    assert await lists.bring(2) == {0, 1, 2}


async def test_what_has_come_quietly_is_not_asked_of_a_second_node(registry: CollectorRegistry) -> None:
    lists = Lists(registry, delay=0.5)
    assert await lists.bring(0) == set()
    await lists.driver.has_asked(5)
    assert [future.names for future in lists.driver.asked[3:]] == [[b"1"], [b"2"]]
    assert lists.landed == {0: [(b"0", b"")]}


async def test_what_has_come_quietly_is_not_given_up(registry: CollectorRegistry) -> None:
    lists = Lists(registry, patience=0.5)
    assert await lists.bring(0) == set()
    await lists.have_landed.wait()
    assert [isinstance(lists.landed[name], Fault) for name in range(3)] == [False, True, True]
    assert counted(registry, "failures", kind="timeout") == 2
