"""Reads of records are gathered into few queries, and a miss is confirmed."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from cassandra import Unavailable
from prometheus_client import CollectorRegistry

from resolver import wire
from resolver.errors import Fault, Reason
from resolver.store.cassandra.placing import Placing
from resolver.store.cassandra.records import WIDTH_MAX, WIDTH_MIN, Records, share
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.cassandra.statements import Way
from resolver.units import Duration
from tests.small_driver import SmallDriver, asking_of

KEYS = [b"%04d" % number for number in range(3_000)]
ROWS = {key: (b"body of " + key,) for key in KEYS}
BODIES = [b"body of " + key for key in KEYS]


def records_of(driver: SmallDriver, registry: CollectorRegistry | None = None, **more: object) -> Records:
    registry = registry or CollectorRegistry()
    settings = CassandraSettings(hosts=("small",), **more)  # type: ignore[arg-type] # whatever the test sets
    asking = asking_of(driver, registry, patience=float(settings.deadline))
    placing = Placing(driver.metadata, keyspace="small", datacenter="datacenter1")
    return Records(asking, placing, settings, registry)


def holding(**ways: Mapping[bytes, Sequence[bytes | None]]) -> SmallDriver:
    return SmallDriver(rows={Way(way): rows for way, rows in ways.items()})


@pytest.mark.parametrize(
    ("waiting", "free", "sent"),
    [
        (0, 8, 0),
        (1, 8, 1),
        (128, 8, WIDTH_MIN),
        (1_000, 8, WIDTH_MAX),
        (400, 8, 50),
        (40, 1, 40),
        (WIDTH_MIN - 1, 0, 0),
        (WIDTH_MIN, 0, WIDTH_MIN),
        (90, -1, 90),
        (5_000, -50, WIDTH_MAX),
    ],
)
def test_lists_are_as_wide_as_the_load_is(waiting: int, free: int, sent: int) -> None:
    assert share(waiting, free, WIDTH_MAX) == sent
    assert share(waiting, free, WIDTH_MIN) == min(sent, WIDTH_MIN)


async def test_callers_of_one_turn_share_queries_and_each_gets_its_own() -> None:
    driver = holding(near=ROWS)
    records = records_of(driver)
    found = await asyncio.gather(*(records.public([key], confirmed=False) for key in KEYS[:128]))
    assert found == [[body] for body in BODIES[:128]]
    assert driver.widths == [WIDTH_MIN] * 4


async def test_a_batch_is_spread_over_queries_and_comes_back_in_its_order_with_repeats() -> None:
    driver = holding(near=ROWS)
    keys = KEYS[:999] + KEYS[:1]
    assert await records_of(driver).public(keys, confirmed=False) == BODIES[:999] + BODIES[:1]
    assert driver.widths == [WIDTH_MAX] * 10


async def test_nothing_is_asked_for_nothing() -> None:
    driver = holding()
    assert await records_of(driver).public([], confirmed=False) == []
    assert driver.asked == []


async def test_while_enough_is_in_flight_few_keys_wait_for_company_or_for_a_landing() -> None:
    driver = holding(near=ROWS)
    driver.is_held = True
    records = records_of(driver)
    batch = asyncio.ensure_future(records.public(KEYS[: 8 * WIDTH_MIN], confirmed=False))
    await driver.has_asked(8)
    few = asyncio.ensure_future(records.public(KEYS[:5], confirmed=False))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(driver.asked) == 8
    more = asyncio.ensure_future(records.public(KEYS[5:WIDTH_MIN], confirmed=False))
    await driver.has_asked(9)
    assert driver.widths[8] == WIDTH_MIN
    driver.release()
    assert await few == BODIES[:5]
    assert await more == BODIES[5:WIDTH_MIN]
    assert await batch == BODIES[: 8 * WIDTH_MIN]


async def test_no_more_queries_are_in_flight_than_is_set() -> None:
    driver = holding(near=ROWS)
    driver.is_held = True
    records = records_of(driver, queries=10)
    batch = asyncio.ensure_future(records.public(KEYS, confirmed=False))
    await driver.has_asked(10)
    await asyncio.sleep(0)
    assert len(driver.asked) == 10
    driver.release()
    assert await batch == BODIES


async def test_an_answer_makes_room_for_keys_that_wait_also_where_it_is_one_of_several() -> None:
    driver = holding(near=ROWS)
    driver.is_held = True
    records = records_of(driver, queries=8)
    batch = asyncio.ensure_future(records.public(KEYS[:800], confirmed=False))
    await driver.has_asked(8)
    first, *_ = driver.asked
    waits = asyncio.ensure_future(records.public(KEYS[800:], confirmed=False))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.to_thread(first.land, driver.answer(first))
    await driver.has_asked(9)
    driver.release()
    assert await batch == BODIES[:800]
    assert await waits == BODIES[800:]


async def test_a_list_that_fails_ends_its_batch_at_once_and_holds_up_nobody() -> None:
    driver = holding(near=ROWS)
    driver.is_held = True
    records = records_of(driver, queries=8)
    batch = asyncio.ensure_future(records.public(KEYS[:800], confirmed=False))
    await driver.has_asked(8)
    for future in driver.asked[:3]:
        await asyncio.to_thread(future.land, driver.answer(future))
    await asyncio.to_thread(driver.asked[3].land, Unavailable("few", consistency=1))
    with pytest.raises(Fault):
        await batch
    waits = asyncio.ensure_future(records.public(KEYS[:1], confirmed=False))
    await driver.has_asked(9)
    driver.release()
    assert await waits == BODIES[:1]


async def test_more_keys_than_may_wait_are_refused_and_the_others_served() -> None:
    driver = holding(near=ROWS)
    driver.is_held = True
    records = records_of(driver, waiting=1_000)
    first = asyncio.ensure_future(records.public(KEYS[:1_000], confirmed=False))
    await asyncio.sleep(0)
    with pytest.raises(Fault) as caught:
        await records.public(KEYS[1_000:1_001], confirmed=False)
    assert caught.value.reason is Reason.TOO_MANY_IN_FLIGHT
    await driver.has_asked(8)
    driver.release()
    assert await first == BODIES[:1_000]


async def test_what_the_nearest_replica_does_not_have_is_asked_of_a_quorum() -> None:
    registry = CollectorRegistry()
    driver = holding(near={b"a": (b"1",), b"c": (b"3",)}, sure={b"b": (b"2",)})
    records = records_of(driver, registry)
    assert await records.public([b"a", b"b", b"c", b"d"], confirmed=False) == [b"1", b"2", b"3", None]
    asked = [(future.way, future.names) for future in driver.asked]
    assert asked == [(Way.NEAR, [b"a", b"b", b"c", b"d"]), (Way.SURE, [b"b", b"d"])]
    assert registry.get_sample_value("topnode_cassandra_found_late_total") == 1


async def test_what_shall_be_confirmed_is_asked_of_a_quorum_only() -> None:
    driver = holding(near={b"a": (b"old",)}, sure={b"a": (b"new",)})
    assert await records_of(driver).public([b"a", b"b"], confirmed=True) == [b"new", None]
    assert [future.way for future in driver.asked] == [Way.SURE]


async def test_a_full_body_of_another_version_than_the_public_one_is_void() -> None:
    def body(text: bytes, version: int) -> bytes:
        return text + wire.version_field(version)

    rows = {
        b"open": (body(b"p", 7), None),
        b"shut": (body(b"p", 300), body(b"f", 300)),
        b"void": (body(b"p", 300), body(b"f", 299)),
    }
    driver = SmallDriver(rows={Way.SURE: rows})
    found = await records_of(driver).full([b"open", b"shut", b"void", b"none"])
    assert found == [body(b"p", 7), body(b"f", 300), body(b"p", 300), None]


async def test_a_failure_is_told_to_each_who_waits_for_it_in_its_own_words() -> None:
    driver = holding(near=ROWS)
    driver.error = Unavailable("few", consistency=1)
    records = records_of(driver)
    calls = [records.public([key], confirmed=False) for key in KEYS[:3]]
    faults = await asyncio.gather(*calls, return_exceptions=True)
    assert [fault.reason for fault in faults if isinstance(fault, Fault)] == [Reason.STORE_UNAVAILABLE] * 3
    assert len({id(fault) for fault in faults}) == 3
    assert len(driver.asked) == 1


async def test_who_gives_up_is_not_waited_for_and_takes_nobody_along() -> None:
    driver = holding(near=ROWS)
    driver.is_held = True
    records = records_of(driver)
    one, other = (asyncio.ensure_future(records.public(KEYS[:2], confirmed=False)) for _ in range(2))
    await driver.has_asked(1)
    one.cancel()
    driver.release()
    assert await other == BODIES[:2]
    assert one.cancelled()


async def test_keys_of_those_who_gave_up_before_are_not_asked() -> None:
    driver = holding(near=ROWS)
    records = records_of(driver)
    one = asyncio.ensure_future(records.public(KEYS[:2], confirmed=False))
    other = asyncio.ensure_future(records.public(KEYS[2:4], confirmed=False))
    # Both have asked in this turn, and the query leaves at its end.
    asyncio.get_running_loop().call_soon(one.cancel)
    assert await other == BODIES[2:4]
    assert one.cancelled()
    assert await records.public(KEYS[:1], confirmed=False) == BODIES[:1]


async def test_what_has_not_come_by_the_deadline_counts_as_not_answered() -> None:
    registry = CollectorRegistry()
    driver = holding(near=ROWS)
    driver.is_held = True
    records = records_of(driver, registry, deadline=Duration(0.02))
    with pytest.raises(Fault) as caught:
        await records.public(KEYS, confirmed=False)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    driver.release()
    assert await records.public(KEYS[:10], confirmed=False) == BODIES[:10]
    assert registry.get_sample_value("topnode_cassandra_record_keys_waiting") == 0
