"""Many statements, carried out: all of them, or an error where they are waited for."""

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.asking import Asking
from resolver.store.cassandra.carrying import Bundle, Carrier, CarryingMetrics
from resolver.store.cassandra.statements import PUT_NODE, PUT_TILE
from tests.keyspaces import Keyspace, Keyspaces

pytestmark = pytest.mark.needs("cassandra")


@pytest.fixture
def keyspace(keyspaces: Keyspaces) -> Iterator[Keyspace]:
    with keyspaces.one() as lent:
        yield lent


@pytest.fixture
async def asking(keyspace: Keyspace) -> Asking:
    return keyspace.session().asking


def carrier(asking: Asking, registry: CollectorRegistry | None = None) -> Carrier:
    metrics = CarryingMetrics(registry or CollectorRegistry())
    return Carrier(asking, patience=10, clock=SystemClock(), metrics=metrics)


def tiles(count: int) -> Iterator[Bundle]:
    return ([(PUT_TILE, (b"%d" % each, b"tile", 1))] for each in range(count))


@pytest.mark.parametrize("in_flight", [1, 7, 128, 2_000])
async def test_everything_is_sent_once(keyspace: Keyspace, asking: Asking, in_flight: int) -> None:
    registry = CollectorRegistry()
    bundles = [*tiles(1_000), [(PUT_NODE, (0, b"%d" % each, b"row", 1)) for each in range(50)]]
    await carrier(asking, registry).carry(bundles, in_flight=in_flight)
    assert len(keyspace.rows("SELECT name FROM {}.tiles")) == 1_000
    assert len(keyspace.rows("SELECT key FROM {}.nodes")) == 50
    assert registry.get_sample_value("topnode_cassandra_writes_total") == 1_050


async def test_nothing_is_done_at_once(asking: Asking) -> None:
    await carrier(asking).carry([])


@pytest.mark.parametrize("number", [0, 5, 500])
async def test_an_error_of_whoever_gives_statements_is_raised_where_they_are_waited_for(
    asking: Asking, number: int
) -> None:
    def failing() -> Iterator[Bundle]:
        yield from tiles(number)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await carrier(asking).carry(failing(), in_flight=16)


@pytest.mark.parametrize("number", [0, 5, 500])
async def test_a_statement_that_cannot_be_sent_is_no_different(asking: Asking, number: int) -> None:
    with pytest.raises(TypeError):
        await carrier(asking).carry([*tiles(number), [(PUT_TILE, (b"name", "no bytes", 1))]], in_flight=16)


async def test_a_closed_store_is_not_tried_again(asking: Asking) -> None:
    asking.close()
    with pytest.raises(Fault) as caught:
        await asyncio.wait_for(carrier(asking).carry(tiles(3)), 5)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_nothing_more_is_sent_for_whoever_has_gone_away(asking: Asking) -> None:
    taken = 0

    def endless() -> Iterator[Bundle]:
        nonlocal taken
        while True:
            taken += 1
            yield from tiles(1)

    waiting = asyncio.create_task(carrier(asking).carry(endless(), in_flight=4))
    while taken < 100:  # noqa: ASYNC110 - another thread counts
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    stopped_at = taken
    await carrier(asking).carry(tiles(100))
    assert taken == stopped_at
