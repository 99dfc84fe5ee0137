"""Records through a shared cache: what counts, what is asked of the store, what is kept, what is not believed."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from resolver import wire
from resolver.cache.memory import MARKERS_MAX
from resolver.errors import Fault, Reason
from resolver.marking import Marking
from resolver.routes import Prefix
from resolver.store.shared import SharedSettings
from resolver.units import Duration
from tests.shared_resolver import Replicas, SharedResolver
from tests.small_shelves import SmallShelves
from tests.small_store import body

PREFIXES = (Prefix("88.100", "h"), Prefix("88.200", "h"))
A, B, C = b"88.100/A", b"88.100/B", b"88.200/C"


class Field:
    """A store, a shared cache that is marked, and two resolvers."""

    def __init__(self) -> None:
        self.store, self.shelves = Replicas(), SmallShelves()
        self.store.commit(prefixes=PREFIXES)
        self.marking = Marking(self.store, self.shelves, Duration(0.2), CollectorRegistry())
        self.one = SharedResolver(self.store, self.shelves)
        self.other = SharedResolver(self.store, self.shelves)

    def write(self, *keys: bytes) -> int:
        """Write these in one entry, each with its index as version."""
        index = self.store.index + 1
        return self.store.commit({key: body(key.decode(), index) for key in keys})

    async def start(self) -> "Field":
        assert await self.marking.catch_up()
        for each in (self.one, self.other):
            await each.following.start()
        return self

    async def warm(self, *keys: bytes) -> None:
        """Have these kept in the shared cache."""
        await self.one.read(*keys)
        await self.one.keep()
        self.store.asked.clear()


@pytest.fixture
async def field() -> Field:
    made = Field()
    made.write(A, B, C)
    return await made.start()


# --- hits and misses -----------------------------------------------------------------------------------------------


async def test_what_one_resolver_read_another_finds(field: Field) -> None:
    assert await field.one.read(A, b"88.100/NO") == [2, None]
    await field.one.keep()
    field.store.asked.clear()
    assert await field.other.read(A, b"88.100/NO") == [2, None]
    assert field.store.asked == []
    assert dict(field.other.records.lookups) == {"hit": 2, "miss": 0, "refused": 0, "bypassed": 0}


async def test_only_what_is_missed_is_asked_and_everything_stands_in_its_place(field: Field) -> None:
    await field.warm(B)
    fetched = await field.other.records.public([A, B, b"88.100/NO", C, B])
    texts = [each and wire.decode_record(each).identifier.to_text() for each in fetched.bodies]
    assert texts == ["88.100/A", "88.100/B", None, "88.200/C", "88.100/B"]
    assert field.store.asked == [[A, b"88.100/NO", C]]
    assert fetched.shared == 2


async def test_nothing_is_asked_and_the_store_says_as_of_when(field: Field) -> None:
    fetched = await field.one.records.public([])
    assert (fetched.bodies, fetched.as_of) == ([], 2)


async def test_a_hit_is_true_as_of_what_is_followed_and_a_miss_as_of_what_the_store_says(field: Field) -> None:
    await field.warm(A)
    for _ in range(3):
        field.write(C)
    await field.one.following.catch_up()
    assert (await field.one.records.public([A])).as_of == 5
    field.store.lag = 2
    assert (await field.one.records.public([A, B])).as_of == 3


async def test_the_authoritys_own_word_and_restricted_values_come_from_the_store(field: Field) -> None:
    await field.warm(A)
    await field.other.records.public([A], confirmed=True)
    await field.other.records.full([A])
    assert (field.store.confirmed, field.store.asked) == ([[A]], [[A]])
    assert await field.other.records.holds_below(b"88.100")


async def test_a_long_batch_with_repeats_comes_back_whole(field: Field) -> None:
    keys = [b"88.100/%d" % (number % 700) for number in range(1_000)]
    field.write(*keys[:700])
    assert await field.one.read(*keys) == [3] * 1_000
    await field.one.keep()
    assert await field.other.read(*keys) == [3] * 1_000


# --- changes -------------------------------------------------------------------------------------------------------


async def test_a_change_that_is_marked_is_asked_of_the_store_by_who_knows_nothing_of_it(field: Field) -> None:
    await field.warm(A)
    field.write(A)
    await field.marking.catch_up()
    assert await field.other.read(A) == [3]


async def test_a_change_that_is_not_marked_is_asked_of_the_store_by_who_knows_of_it(field: Field) -> None:
    await field.warm(A)
    field.write(A)
    await field.other.following.catch_up()
    assert await field.other.read(A) == [3]
    assert field.other.records.lookups["refused"] == 1


async def test_who_begins_after_a_change_does_not_count_what_is_not_marked_up_to_there(field: Field) -> None:
    await field.warm(A, B)
    field.write(A)
    late = SharedResolver(field.store, field.shelves)
    await late.following.start()
    assert await late.read(A, B) == [3, 2]
    assert late.records.lookups["bypassed"] == 2
    await field.marking.catch_up()
    assert await late.read(B) == [2]
    assert late.records.lookups["hit"] == 1


async def test_who_has_forgotten_changes_one_by_one_needs_them_marked(field: Field) -> None:
    await field.warm(A)
    field.write(A)
    many = [b"88.200/%d" % number for number in range(MARKERS_MAX + 1)]
    field.store.commit(dict.fromkeys(many, body("88.200/x", 4)))
    await field.other.following.catch_up()
    assert field.other.memory.floor >= 3
    assert await field.other.read(A) == [3]
    assert field.other.records.lookups["bypassed"] == 1


async def test_a_change_that_names_no_keys_voids_what_was_read_before_it_below_its_prefix(field: Field) -> None:
    await field.warm(A, C)
    index = field.store.index + 1
    field.store.commit({A: body("88.100/a", index)}, below=[b"88.100"])
    await field.other.following.catch_up()
    assert await field.other.read(A, C) == [3, 2]
    assert field.store.asked == [[A]]
    await field.other.keep()
    assert await field.one.read(A) == [3]


async def test_who_begins_after_a_change_that_named_no_keys_does_not_count_what_was_read_before_it(
    field: Field,
) -> None:
    """Its routes do not know of it: they are read as they are."""
    await field.warm(A)
    field.store.commit({A: body("88.100/a", 3)}, below=[b"88.100"])
    await field.marking.catch_up()
    late = SharedResolver(field.store, field.shelves)
    await late.following.start()
    assert await late.read(A) == [3]
    await late.keep()
    assert await late.read(A) == [3]
    assert late.records.lookups["hit"] == 1


async def test_a_change_of_a_prefix_voids_what_was_read_before_it(field: Field) -> None:
    await field.warm(A, C)
    field.store.commit(prefixes=[Prefix("88.100", "another")])
    await field.other.following.catch_up()
    await field.other.read(A, C)
    assert field.store.asked == [[A]]


async def test_while_the_feed_is_not_followed_the_store_alone_is_asked(field: Field) -> None:
    await field.warm(A)
    field.other.clock.advance(1.1)
    assert await field.other.read(A) == [2]
    assert (field.store.asked, field.other.records.lookups["bypassed"]) == ([[A]], 1)


# --- what a replica missed -----------------------------------------------------------------------------------------


async def test_a_body_older_than_a_marker_is_asked_for_again_and_what_is_confirmed_is_kept(field: Field) -> None:
    field.store.missed[A] = body("88.100/a", 2)
    field.write(A)
    await field.marking.catch_up()
    assert await field.one.read(A, B) == [3, 2]
    assert field.store.confirmed == [[A]]
    await field.one.keep()
    assert await field.other.read(A) == [3]
    assert field.one.registry.get_sample_value("topnode_shared_confirmed_total") == 1


async def test_a_body_older_than_a_change_that_is_followed_is_asked_for_again(field: Field) -> None:
    field.store.missed[A] = body("88.100/a", 2)
    field.write(A)
    await field.one.following.catch_up()
    assert await field.one.read(A) == [3]


async def test_what_is_kept_although_a_replica_missed_its_change_gives_way_to_the_marker(field: Field) -> None:
    field.store.missed[A] = body("88.100/a", 2)
    field.write(A)
    assert await field.one.read(A) == [2]
    await field.one.keep()
    await field.marking.catch_up()
    assert await field.other.read(A) == [3]


async def test_an_absence_that_is_kept_late_does_not_take_a_markers_place(field: Field) -> None:
    assert await field.one.read(b"88.100/NEW") == [None]
    field.write(b"88.100/NEW")
    await field.marking.catch_up()
    await field.one.keep()
    assert await field.other.read(b"88.100/NEW") == [3]


# --- failure -------------------------------------------------------------------------------------------------------


async def test_a_cache_out_of_reach_is_no_error_and_nothing_waits_to_be_kept(field: Field) -> None:
    await field.warm(A)
    field.shelves.is_away = True
    assert await field.other.read(A, b"88.100/NO") == [2, None]
    assert field.other.records.lookups["bypassed"] == 2
    assert not field.other.records._fills
    field.shelves.is_away = False
    assert await field.other.read(A) == [2]
    assert field.other.records.lookups["hit"] == 1


async def test_a_cache_that_lost_everything_is_not_counted_until_an_era_begins(field: Field) -> None:
    await field.warm(A)
    field.shelves.lose()
    assert await field.other.read(A) == [2]
    await field.marking.catch_up()
    assert await field.other.read(A) == [2]
    await field.other.keep()
    assert await field.one.read(A) == [2]
    assert field.one.records.lookups["hit"] == 1


async def test_a_store_that_does_not_answer_is_the_callers_error_only_where_it_was_asked(field: Field) -> None:
    await field.warm(A)
    field.store.fault = Fault(Reason.STORE_UNAVAILABLE)
    assert await field.one.read(A) == [2]
    with pytest.raises(Fault) as caught:
        await field.one.read(A, B)
    assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_no_more_calls_than_allowed_ask_the_store_at_once(field: Field) -> None:
    field.shelves.is_away = True
    resolver = SharedResolver(field.store, field.shelves, SharedSettings(store_calls=2))
    await resolver.following.start()
    field.store.hold()
    field.store.asked.clear()
    readings = [asyncio.create_task(resolver.read(b"88.100/%d" % number)) for number in range(6)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(field.store.asked) == 2
    field.store.release()
    await asyncio.gather(*readings)
    assert len(field.store.asked) == 6


async def test_what_waits_to_be_kept_is_bounded_and_what_is_dropped_is_counted(field: Field) -> None:
    keys = [b"88.100/%d" % number for number in range(1_000)]
    for _ in range(11):
        await field.one.read(*keys)
    assert len(field.one.records._fills) == 10_000
    assert field.one.registry.get_sample_value("topnode_shared_fills_dropped_total") == 1_000


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(Fault) as caught:
        SharedSettings(store_calls=0)
    assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, "store_calls")


def test_lookups_are_told_beside_those_of_the_memory_cache() -> None:
    resolver = SharedResolver(Replicas(), SmallShelves())
    resolver.memory.tell_beside("redis", resolver.records.lookups)
    resolver.records.lookups["hit"] += 3
    found = resolver.registry.get_sample_value("topnode_cache_lookups_total", {"tier": "redis", "verdict": "hit"})
    assert found == 3
