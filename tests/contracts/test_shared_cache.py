"""What every cache that resolvers share must do: a real Redis, a cluster of them, and the small one of the tests."""

from collections.abc import AsyncIterator, Iterator
from typing import Protocol
from uuid import uuid4

import pytest

from resolver.cache.redis import RedisSettings
from resolver.shelves import (
    ABSENT,
    AS_OF_AT,
    BODY_AT,
    FOUND,
    MARKER,
    NOWHERE,
    VERSION_AT,
    Fill,
    MarkedCache,
    SharedCache,
    State,
)
from resolver.units import Duration
from tests.services import redis_servers
from tests.shared_caches import connected
from tests.small_shelves import SmallShelves


class Cache(SharedCache, MarkedCache, Protocol):
    """A cache, as resolvers and as the one who marks changes know it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server for all tests here, each of which has a namespace of its own."""
    with redis_servers.redis_server(tmp_path_factory.mktemp("redis")) as started:
        yield started.address


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a node of a cluster, likewise."""
    with redis_servers.redis_cluster(tmp_path_factory.mktemp("redis")) as (first, *_):
        yield first.address


@pytest.fixture(
    params=[
        "small",
        pytest.param("server", marks=pytest.mark.needs("redis")),
        pytest.param("cluster", marks=pytest.mark.needs("redis")),
    ]
)
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    if request.param == "small":
        yield SmallShelves()
        return
    address = request.getfixturevalue(request.param)
    settings = RedisSettings(
        address=address, cluster=request.param == "cluster", namespace=uuid4().hex, deadline=Duration(5)
    )
    async with connected(settings) as redis:
        yield redis


KEYS = [b"88.100/%d" % number for number in range(40)]
A, B, C, *_ = KEYS


async def values(cache: Cache, *keys: bytes) -> list[tuple[bytes, int, int, bytes] | None]:
    """Give kind, version, as_of and body of what is held in this era."""
    found: dict[int, tuple[bytes, int, int, bytes] | None] = {}
    for shelf in await cache.get(keys):
        assert shelf.state
        for place, value in zip(shelf.places, shelf.values, strict=True):
            is_there = value is not None and value[1:VERSION_AT] == shelf.state.era
            found[place] = _read(value) if value and is_there else None
    return [found[place] for place in range(len(keys))]


def _read(value: bytes) -> tuple[bytes, int, int, bytes]:
    version, as_of = value[VERSION_AT:AS_OF_AT], value[AS_OF_AT:BODY_AT]
    return value[:1], int.from_bytes(version, "big"), int.from_bytes(as_of, "big"), value[BODY_AT:]


async def states(cache: Cache, *keys: bytes) -> list[State]:
    """Give the state of the shelf of each key."""
    found: dict[int, State] = {}
    for shelf in await cache.get(keys):
        assert shelf.state
        found |= dict.fromkeys(shelf.places, shelf.state)
    return [found[place] for place in range(len(keys))]


async def fill(cache: Cache, key: bytes, body: bytes | None, *, version: int = 0, as_of: int = 0) -> None:
    (state,) = await states(cache, key)
    await cache.fill([Fill(key, body, version, as_of or version, state.era)])


async def begun(cache: Cache, index: int = 10) -> Cache:
    assert await cache.begin(index, anew=False)
    return cache


# --- eras ----------------------------------------------------------------------------------------------------------


async def test_before_an_era_began_no_shelf_has_a_state_and_nothing_is_kept(cache: Cache) -> None:
    assert await cache.marked() == NOWHERE
    assert {shelf.state for shelf in await cache.get(KEYS)} == {None}
    await cache.fill([Fill(A, b"a", 5, 5, b"none")])
    await begun(cache, 1)
    assert await values(cache, A) == [None]


async def test_every_place_stands_on_one_shelf_whether_there_are_states_or_not(cache: Cache) -> None:
    for _ in range(2):
        places = [place for shelf in await cache.get(KEYS) for place in shelf.places]
        assert sorted(places) == list(range(len(KEYS)))
        await begun(cache)


async def test_an_era_begins_at_its_index_on_every_shelf(cache: Cache) -> None:
    await begun(cache, 10)
    assert await cache.marked() == 10
    assert {(state.since, state.below, state.marked) for state in await states(cache, *KEYS)} == {(10, 0, 10)}


async def test_an_era_that_there_is_goes_on_unless_another_is_asked_for(cache: Cache) -> None:
    await begun(cache, 10)
    before = await states(cache, *KEYS)
    await cache.begin(20, anew=False)
    assert await states(cache, *KEYS) == before
    await cache.begin(20, anew=True)
    after = await states(cache, *KEYS)
    assert all(new.era != old.era for new, old in zip(after, before, strict=True))
    assert await cache.marked() == 20


async def test_what_is_of_an_earlier_era_counts_as_not_there_and_gives_way_to_anything(cache: Cache) -> None:
    await begun(cache, 10)
    await cache.fill(
        [Fill(key, b"old", 10, 1_000, state.era) for key, state in zip(KEYS, await states(cache, *KEYS), strict=True)]
    )
    await cache.begin(20, anew=True)
    assert await values(cache, *KEYS) == [None] * len(KEYS)
    await fill(cache, A, b"a", version=3, as_of=20)
    await cache.mark([(B, 21)], below=0, after=20, upto=21)
    assert await values(cache, A, B) == [(FOUND, 3, 20, b"a"), (MARKER, 21, 21, b"")]


async def test_a_fill_of_an_earlier_era_is_not_kept(cache: Cache) -> None:
    await begun(cache, 10)
    (before,) = await states(cache, A)
    await cache.begin(20, anew=True)
    await cache.fill([Fill(A, b"late", 50, 50, before.era)])
    assert await values(cache, A) == [None]


async def test_a_fill_from_before_its_era_began_is_not_kept(cache: Cache) -> None:
    """What changed before that left no marker in this era: it may be one of those."""
    await begun(cache, 10)
    await fill(cache, A, b"a", version=4, as_of=9)
    await fill(cache, B, b"b", version=4, as_of=10)
    assert await values(cache, A, B) == [None, (FOUND, 4, 10, b"b")]


# --- fills ---------------------------------------------------------------------------------------------------------


async def test_what_was_filled_is_given_in_its_place(cache: Cache) -> None:
    await begun(cache)
    eras = await states(cache, *KEYS)
    fills = [Fill(key, b"body of " + key, 5, 12, state.era) for key, state in zip(KEYS, eras, strict=True)]
    await cache.fill(fills[::2])
    expected = [(FOUND, 5, 12, b"body of " + key) if at % 2 == 0 else None for at, key in enumerate(KEYS)]
    assert await values(cache, *KEYS) == expected
    assert await values(cache, *KEYS[::-1]) == expected[::-1]


async def test_an_absence_is_kept_as_one(cache: Cache) -> None:
    await begun(cache)
    await fill(cache, A, None, as_of=12)
    assert await values(cache, A) == [(ABSENT, 0, 12, b"")]


async def test_any_bytes_are_a_key_and_a_body(cache: Cache) -> None:
    await begun(cache)
    key, body = "88.100/零件\r\n{x}".encode() + bytes(range(1, 32)), bytes(range(256)) * 30
    await fill(cache, key, body, version=11)
    assert await values(cache, key) == [(FOUND, 11, 11, body)]


async def test_the_longest_identifier_has_its_place(cache: Cache) -> None:
    await begun(cache)
    key = b"88.100/" + b"x" * (2_048 - 7)
    await fill(cache, key, b"long", version=11)
    assert await values(cache, key, A) == [(FOUND, 11, 11, b"long"), None]


@pytest.mark.parametrize(
    ("first", "second", "is_replaced"),
    [
        ((b"a", 11, 12), (b"b", 12, 12), True),
        ((b"a", 12, 12), (b"b", 11, 13), False),
        ((b"a", 11, 12), (b"a", 11, 14), True),
        ((b"a", 11, 14), (b"a", 11, 12), False),
        ((None, 0, 12), (b"b", 11, 11), True),
        ((b"a", 11, 12), (None, 0, 20), False),
        ((None, 0, 12), (None, 0, 13), True),
    ],
)
async def test_what_is_newer_by_version_and_then_by_as_of_takes_the_place(
    cache: Cache, first: tuple[bytes | None, int, int], second: tuple[bytes | None, int, int], *, is_replaced: bool
) -> None:
    await begun(cache)
    for body, version, as_of in (first, second):
        await fill(cache, A, body, version=version, as_of=as_of)
    body, version, as_of = second if is_replaced else first
    assert await values(cache, A) == [(ABSENT if body is None else FOUND, version, as_of, body or b"")]


async def test_indexes_are_compared_as_numbers_whatever_their_bytes(cache: Cache) -> None:
    await begun(cache, 0)
    for version in (0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x10000, 0xFFFFFFFF, 0x100000000, 2**53 - 1):
        await fill(cache, A, b"%d" % version, version=version)
        await fill(cache, A, b"older", version=version - 1, as_of=2**53 - 1)
        assert await values(cache, A) == [(FOUND, version, version, b"%d" % version)]


# --- markers -------------------------------------------------------------------------------------------------------


async def test_a_change_leaves_markers_and_raises_all_shelves(cache: Cache) -> None:
    await begun(cache)
    await fill(cache, A, b"a", version=5, as_of=10)
    await fill(cache, C, b"c", version=5, as_of=10)
    assert await cache.mark([(A, 11), (B, 12)], below=0, after=10, upto=13) == 13
    assert await values(cache, A, B, C) == [(MARKER, 11, 11, b""), (MARKER, 12, 12, b""), (FOUND, 5, 10, b"c")]
    assert {(state.below, state.marked) for state in await states(cache, *KEYS)} == {(0, 13)}


async def test_a_change_that_names_no_keys_is_told_by_the_state(cache: Cache) -> None:
    await begun(cache)
    assert await cache.mark([], below=12, after=10, upto=13) == 13
    assert await cache.mark([], below=0, after=13, upto=14) == 14
    assert {(state.below, state.marked) for state in await states(cache, *KEYS)} == {(12, 14)}


async def test_a_marker_gives_way_to_a_body_of_its_version_and_to_no_absence(cache: Cache) -> None:
    await begun(cache)
    await cache.mark([(A, 11)], below=0, after=10, upto=11)
    await fill(cache, A, b"stale", version=10, as_of=20)
    await fill(cache, A, None, as_of=20)
    assert await values(cache, A) == [(MARKER, 11, 11, b"")]
    await fill(cache, A, b"new", version=11, as_of=10)
    assert await values(cache, A) == [(FOUND, 11, 10, b"new")]


async def test_a_marker_takes_the_place_of_what_is_older_whatever_it_was_read_as_of(cache: Cache) -> None:
    """A replica that missed the write gave it: it has the old version, read as of a new index."""
    await begun(cache)
    await fill(cache, A, b"old", version=5, as_of=20)
    await fill(cache, B, None, as_of=20)
    await fill(cache, C, b"new", version=12, as_of=20)
    await cache.mark([(A, 11), (B, 11), (C, 11)], below=0, after=10, upto=11)
    assert await values(cache, A, B, C) == [(MARKER, 11, 11, b""), (MARKER, 11, 11, b""), (FOUND, 12, 20, b"new")]


async def test_of_two_markers_the_newer_one_stays(cache: Cache) -> None:
    await begun(cache)
    await cache.mark([(A, 12), (A, 11)], below=0, after=10, upto=12)
    await cache.mark([(A, 11)], below=0, after=10, upto=11)
    assert await values(cache, A) == [(MARKER, 12, 12, b"")]


async def test_marking_again_from_further_back_lowers_nothing(cache: Cache) -> None:
    await begun(cache)
    await cache.mark([], below=15, after=10, upto=20)
    assert await cache.mark([(A, 12)], below=12, after=11, upto=12) == 20
    assert {(state.below, state.marked) for state in await states(cache, *KEYS)} == {(15, 20)}


async def test_where_something_is_missing_nothing_is_marked_and_it_is_told_up_to_where(cache: Cache) -> None:
    await begun(cache)
    await fill(cache, A, b"a", version=5, as_of=10)
    assert await cache.mark([(A, 12)], below=12, after=11, upto=12) == 10
    assert await values(cache, A) == [(FOUND, 5, 10, b"a")]
    assert {(state.below, state.marked) for state in await states(cache, *KEYS)} == {(0, 10)}


async def test_without_a_state_nothing_is_marked(cache: Cache) -> None:
    assert await cache.mark([(A, 1)], below=0, after=0, upto=1) == NOWHERE
    await begun(cache, 1)
    assert await values(cache, A) == [None]


async def test_thousands_are_marked_and_filled_at_once(cache: Cache) -> None:
    await begun(cache)
    many = [b"88.200/%d" % number for number in range(3_000)]
    assert await cache.mark([(key, 11) for key in many], below=0, after=10, upto=11) == 11
    assert await values(cache, *many) == [(MARKER, 11, 11, b"")] * len(many)
    eras = await states(cache, *many)
    await cache.fill([Fill(key, key, 11, 11, state.era) for key, state in zip(many, eras, strict=True)])
    assert await values(cache, *many) == [(FOUND, 11, 11, key) for key in many]


async def test_publishing_reaches_whoever_is_there(cache: Cache) -> None:
    assert await cache.publish(7)
