"""The memory cache: its bounds, what stays when there is no more room, and that it gives nothing known to be old."""

import gc
import itertools
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from prometheus_client import CollectorRegistry

from resolver.answer import ABSENT, FOUND, NOT_HERE, Failed, Ready
from resolver.cache.memory import MARKERS_MAX, MemoryCache, MemorySettings
from resolver.cache.s3fifo import ENTRY_MAX, ENTRY_OCTETS
from resolver.errors import Fault, Reason
from resolver.units import Size

SMALLEST = Size(1 << 20)


def make_cache(*, size: int = 64 << 20, entries: int = 100_000) -> MemoryCache:
    return MemoryCache(MemorySettings(size=Size(size), entries=entries), CollectorRegistry())


def found(text: str = "answer", *, as_of: int = 1, octets: int = 0) -> Ready:
    return Ready(text.encode() + b"." * octets, FOUND, expires=1_000.0, as_of=as_of)


def absent(as_of: int = 1) -> Ready:
    return Ready(b"absent", ABSENT, expires=1_000.0, as_of=as_of)


def put(cache: MemoryCache, keys: Iterable[str | bytes], *, octets: int = 0) -> None:
    for key in keys:
        name = key.encode() if isinstance(key, str) else key
        cache.put([name], [found(name.decode(), octets=octets)])


def given(cache: MemoryCache, key: bytes) -> bytes | None:
    """What a reader gets who takes everything that is not past its time, and counts its visit."""
    ready = cache.find(key)
    if ready is None or ready.expires <= 0:
        return None
    ready.visits = min(ready.visits + 1, 3)
    return ready.frame


# --- keeping -------------------------------------------------------------------------------------------------------


def test_gives_what_was_put() -> None:
    cache = make_cache()
    assert cache.put([b"A", b"B"], [found("a"), absent()]) == 2
    assert (given(cache, b"A"), given(cache, b"B"), given(cache, b"C")) == (b"a", b"absent", None)


def test_keeps_the_good_ones_of_a_mixed_batch_only() -> None:
    """What may not be kept (no expiry, a failure, too large) is passed over, its neighbours are kept."""
    cache = make_cache()
    answers = [
        found("a"),
        Ready(b"elsewhere", NOT_HERE),
        Failed(fault=Fault(Reason.STORE_UNAVAILABLE)),
        absent(),
        found("x" * (ENTRY_MAX + 1)),
        found("x" * ENTRY_MAX),
    ]
    assert cache.put([b"A", b"B", b"C", b"D", b"E", b"F"], answers) == 3
    assert [key for key in (b"A", b"B", b"C", b"D", b"E", b"F") if given(cache, key)] == [b"A", b"D", b"F"]


def test_an_empty_batch_is_nothing() -> None:
    assert make_cache().put([], []) == 0


def test_the_same_answer_put_twice_has_one_place() -> None:
    """Two callers may wait for one flight and both put what it brought."""
    cache = make_cache()
    answer = found("a")
    cache.put([b"A"], [answer])
    octets = cache.octets
    cache.put([b"A"], [answer])
    assert (cache.octets, places(cache)) == (octets, [b"A"])


def test_an_answer_put_again_after_it_was_forgotten_has_one_place() -> None:
    cache = make_cache()
    answer = found("a")
    cache.put([b"A"], [answer])
    answer.place = cache._found.main_place
    cache.clear(1)
    cache.put([b"A"], [answer])
    cache.put([b"A"], [answer])
    assert (len(cache), places(cache), answer.place) == (1, [b"A"], cache._found.small_place)


# --- bounds --------------------------------------------------------------------------------------------------------


def places(cache: MemoryCache) -> list[bytes]:
    """All places in all queues."""
    return [key for share in (cache._found, cache._absent) for queue in (share._small, share._main) for key in queue]


def counted(cache: MemoryCache) -> int:
    """What the entries take, counted anew."""
    return sum(len(key) + len(ready.frame) + ENTRY_OCTETS for key, ready in cache._entries.items())


def test_never_takes_more_than_its_size() -> None:
    cache = make_cache(size=SMALLEST)
    for number in range(10_000):
        cache.put([b"%d" % number], [found(octets=number % 1_000)])
        assert cache.octets <= SMALLEST
    assert cache.octets == counted(cache)
    assert cache.octets > SMALLEST * 0.9
    assert cache.evicted == 10_000 - len(cache)


def test_never_holds_more_than_its_number_of_entries() -> None:
    cache = make_cache(entries=160)
    cache.put([b"%d" % number for number in range(1_000)], [found() for _ in range(1_000)])
    cache.put([b"no %d" % number for number in range(1_000)], [absent() for _ in range(1_000)])
    assert len(cache) == 160


def test_absent_answers_have_a_sixteenth_of_their_own() -> None:
    """Whoever asks for what is not there drives out nothing that is there."""
    cache = make_cache(entries=160)
    put(cache, (f"{number}" for number in range(150)))
    for number in range(10_000):
        cache.put([b"no %d" % number], [absent()])
    assert all(given(cache, b"%d" % number) for number in range(150))
    assert len(cache) == 160


def test_a_scan_leaves_what_is_asked_for_again() -> None:
    cache = make_cache(entries=1_600)
    wanted = [f"wanted {number}" for number in range(500)]
    for _ in range(2):
        put(cache, (name for name in wanted if not given(cache, name.encode())))
    put(cache, (f"scanned {number}" for number in range(100_000)))
    assert all(given(cache, name.encode()) for name in wanted)


def test_of_a_scan_in_large_batches_a_sample_is_kept_and_all_of_what_comes_back() -> None:
    """Once something had to leave; before that there is room for all."""
    cache = make_cache(entries=16_000)
    wide = [b"wide %d" % number for number in range(1_000)]
    cache.put(wide, [found() for _ in wide])
    assert all(given(cache, key) for key in wide)
    put(cache, (f"filler {number}" for number in range(20_000)))
    scan = [b"scan %d" % number for number in range(1_000)]
    cache.put(scan, [found() for _ in scan])
    assert sum(given(cache, key) is not None for key in scan) in {62, 63}
    for _ in range(100):
        missing = [key for key in scan if given(cache, key) is None]
        cache.put(missing, [found() for _ in missing])
    assert all(given(cache, key) for key in scan)
    assert cache.octets == counted(cache)


def test_small_batches_are_no_scan() -> None:
    cache = make_cache(entries=1_600)
    put(cache, (f"filler {number}" for number in range(2_000)))
    few = [b"few %d" % number for number in range(100)]
    cache.put(few, [found() for _ in few])
    assert all(given(cache, key) for key in few)


def test_where_everything_is_a_scan_a_sample_of_small_batches_is_kept_once_there_is_no_room() -> None:
    """As beside a front that keeps answers itself: what is asked here is kept there."""
    cache = MemoryCache(MemorySettings(size=SMALLEST), CollectorRegistry(), scan=0)
    before = [b"%d" % number for number in range(100)]
    put(cache, before)
    assert all(cache.find(key) for key in before)
    put(
        cache, (f"filling {number}" for number in itertools.takewhile(lambda _: not cache.evicted, itertools.count()))
    )
    after = [b"after %d" % number for number in range(1_600)]
    entered = sum(cache.put([key], [found()]) for key in after)
    assert 40 < entered < 200


def test_what_left_and_soon_comes_back_stays() -> None:
    """It goes straight to the main queue, which later ones that nobody asks for again do not touch."""
    cache = make_cache(entries=1_600)
    put(cache, ["WANTED"])
    numbers = itertools.count()
    while cache.find(b"WANTED"):
        put(cache, [f"first {next(numbers)}"])
    put(cache, ["WANTED"])
    put(cache, (f"second {number}" for number in range(10_000)))
    assert given(cache, b"WANTED") == b"WANTED"


def test_one_put_never_waits_for_a_whole_round_of_the_main_queue() -> None:
    """An entry enters it without credit; where all were visited since, an eviction passes over 64 at most."""
    cache = make_cache(entries=16_000)
    names = [f"{number}" for number in range(15_000)]
    for _ in range(3):
        put(cache, (name for name in names if not given(cache, name.encode())))
    put(cache, (f"filler {number}" for number in range(3_000)))
    assert {cache._entries[key].visits for key in cache._found._main} == {0}
    for ready in cache._entries.values():
        ready.visits = 3
    visits = sum(ready.visits for ready in cache._entries.values())
    cache._found._take_from_main()
    assert visits - sum(ready.visits for ready in cache._entries.values()) <= 64 + 3


@pytest.mark.parametrize("count", [60_000, 88_000])
@pytest.mark.parametrize(("together", "share"), [(1, 0.9), (1_000, 0.7)], ids=["one by one", "in batches"])
def test_an_entry_costs_at_most_300_bytes_beside_key_and_answer(count: int, together: int, share: float) -> None:
    """Measured, with the headers of both bytes objects; and what the cache believes is close to it and not below.

    Answers that were read together share the time of their expiry and the index of their reading, which one that was
    read alone has to itself. 88,000 entries stand just behind a growth of the dict, where it is emptiest.
    """
    cache = make_cache(size=4 << 30, entries=2 * count)
    gc.collect()
    tracemalloc.start()
    try:
        net = _fill(cache, count, together)
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    # Threads of what other tests have used may be alive, and allocate too.
    ours = snapshot.filter_traces([tracemalloc.Filter(True, each) for each in (__file__, "*/resolver/*")])
    overhead = (sum(trace.size for trace in ours.traces) - net) / count
    assert len(cache) == count
    assert overhead <= 300
    assert ENTRY_OCTETS * share <= overhead <= ENTRY_OCTETS


def _fill(cache: MemoryCache, count: int, together: int) -> int:
    net = 0
    for start in range(0, count, together):
        numbers = range(start, start + together)
        keys = [b"88.100.1/SN-%08d" % number for number in numbers]
        frames = [b"%180d" % number for number in numbers]
        # Numbers of their own, as those are that come from a clock and out of a store.
        expires, as_of = 1_000.0 + start, 1_000_000 + start
        net += sum(map(len, keys)) + sum(map(len, frames))
        cache.put(keys, [Ready(frame, FOUND, expires, as_of=as_of) for frame in frames])
    return net


# --- coherence -----------------------------------------------------------------------------------------------------


def test_a_dropped_key_is_gone_and_only_a_later_reading_brings_it_back() -> None:
    cache = make_cache()
    cache.put([b"A"], [found("old", as_of=4)])
    cache.drop([b"A"], 5)
    assert given(cache, b"A") is None
    assert cache.put([b"A"], [found("old", as_of=4)]) == 0
    assert cache.refused == 1
    assert cache.put([b"A"], [found("new", as_of=5)]) == 1
    assert given(cache, b"A") == b"new"


def test_a_key_that_was_not_held_leaves_a_marker_too() -> None:
    """A reading that began before the change and ends after it must not be kept."""
    cache = make_cache()
    cache.drop([b"A"], 5)
    assert cache.put([b"A", b"B"], [found(as_of=4), found(as_of=4)]) == 1
    assert (given(cache, b"A"), given(cache, b"B")) == (None, b"answer")


def test_a_later_reading_is_not_replaced_by_an_earlier_one() -> None:
    cache = make_cache()
    cache.put([b"A"], [found("new", as_of=9)])
    assert cache.put([b"A"], [found("old", as_of=8)]) == 0
    assert given(cache, b"A") == b"new"


def test_after_clearing_only_later_readings_count() -> None:
    cache = make_cache()
    put(cache, ["A", "B"])
    cache.clear(7)
    assert (len(cache), cache.octets) == (0, 0)
    assert cache.put([b"A"], [found(as_of=6)]) == 0
    assert cache.put([b"A"], [found(as_of=7)]) == 1


def test_forgotten_markers_raise_the_floor() -> None:
    """When there are too many to remember, whatever was read before the forgotten ones is refused."""
    cache = make_cache()
    for index in range(1, MARKERS_MAX + 2):
        cache.drop([b"%d" % index], index)
    assert len(cache._markers) <= MARKERS_MAX
    assert cache.put([b"never dropped"], [found(as_of=1)]) == 0
    assert cache.put([b"1"], [found(as_of=0)]) == 0
    assert cache.put([b"never dropped"], [found(as_of=MARKERS_MAX)]) == 1


def test_dropping_and_filling_the_same_key_piles_nothing_up() -> None:
    cache = make_cache()
    for index in range(1, 10_000):
        cache.put([b"A"], [found(as_of=index)])
        cache.drop([b"A"], index + 1)
    cache.put([b"A"], [found(as_of=10_000)])
    assert (places(cache), len(cache._markers), cache.octets) == ([b"A"], 1, counted(cache))


def test_an_entry_keeps_its_place_when_the_identifier_is_registered() -> None:
    """Absent and then found under one key: one place, and the sizes still add up."""
    cache = make_cache()
    cache.put([b"A"], [absent(as_of=1)])
    cache.drop([b"A"], 2)
    cache.put([b"A"], [found("registered", as_of=2)])
    assert (given(cache, b"A"), places(cache), cache.octets) == (b"registered", [b"A"], counted(cache))


def test_tells_what_it_remembers_of_changes() -> None:
    cache = make_cache()
    cache.drop([b"A", b"B"], 5)
    cache.drop([b"A"], 7)
    assert (cache.changed(b"A"), cache.changed(b"B"), cache.changed(b"C"), cache.floor) == (7, 5, None, 0)
    cache.drop([b"%d" % number for number in range(MARKERS_MAX)], 9)
    assert (cache.changed(b"B"), cache.floor >= 7) == (None, True)
    cache.clear(12)
    assert (cache.changed(b"A"), cache.floor) == (None, 12)


# --- settings and metrics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "value"), [("size", Size(1000)), ("entries", 3)])
def test_refuses_sizes_in_which_nothing_fits(field: str, value: int) -> None:
    broken: dict[str, Any] = {field: value}
    with pytest.raises(Fault) as caught:
        MemorySettings(**broken)
    assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, field)


def test_tells_its_numbers() -> None:
    registry = CollectorRegistry()
    cache = MemoryCache(MemorySettings(), registry)
    put(cache, ["A"])
    cache.drop([b"B"], 2)
    cache.put([b"B"], [found(as_of=1)])
    cache.hits, cache.misses, cache.stale = 3, 2, 1

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"tier": "memory", **labels})

    assert sample("topnode_cache_entries") == 1
    assert sample("topnode_cache_bytes") == cache.octets
    assert sample("topnode_cache_refused_total") == 1
    assert sample("topnode_cache_evicted_total") == 0
    assert [sample("topnode_cache_lookups_total", verdict=each) for each in ("hit", "miss", "stale")] == [3, 2, 1]


# --- against a model -----------------------------------------------------------------------------------------------

KEYS = [b"%d" % number for number in range(40)]


class CacheMachine(RuleBasedStateMachine):
    """A journal with versions of keys, readers that are late, and a cache that is told of changes late.

    The model: whatever the cache gives was true at some moment at or after the last change that it was told of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cache = make_cache(size=SMALLEST, entries=32)
        self.index = 1
        self.told = 1
        self.changed: dict[bytes, list[int]] = {key: [0] for key in KEYS}

    def version(self, key: bytes, as_of: int) -> int:
        """The newest version of a key that a reading as of an index sees."""
        return max(each for each in self.changed[key] if each <= as_of)

    @rule(keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True))
    def commit(self, keys: list[bytes]) -> None:
        self.index += 1
        for key in keys:
            self.changed[key].append(self.index)

    @rule()
    def follow(self) -> None:
        while self.told < self.index:
            self.told += 1
            self.cache.drop([key for key in KEYS if self.told in self.changed[key]], self.told)

    @rule()
    def restart(self) -> None:
        self.told = self.index
        self.cache.clear(self.index)

    @rule(
        keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=20, unique=True),
        late=st.integers(0, 6),
        octets=st.integers(0, 40_000),
    )
    def fill(self, keys: list[bytes], late: int, octets: int) -> None:
        as_of = max(1, self.index - late)
        answers = []
        for key in keys:
            version = self.version(key, as_of)
            frame = b"%d" % version + b" " * octets
            answers.append(Ready(frame, ABSENT if version % 3 == 0 else FOUND, expires=1.0, as_of=as_of))
        self.cache.put(keys, answers)

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=10))
    def read(self, keys: list[bytes]) -> None:
        for key in keys:
            got = given(self.cache, key)
            assert got is None or int(got) >= self.version(key, self.told)

    @invariant()
    def bounds_hold(self) -> None:
        cache = self.cache
        assert cache.octets <= SMALLEST
        assert cache.octets == counted(cache)
        assert len(cache) <= 32
        assert cache._found._small_octets == sum(
            len(key) + len(cache._entries[key].frame) + ENTRY_OCTETS for key in cache._found._small
        )

    @invariant()
    def every_key_has_one_place_and_its_entry_knows_it(self) -> None:
        assert sorted(places(self.cache)) == sorted(self.cache._entries)
        for share in (self.cache._found, self.cache._absent):
            for place, queue in ((share.small_place, share._small), (share.main_place, share._main)):
                assert all(self.cache._entries[key].place == place for key in queue)


TestCacheAgainstAModel = CacheMachine.TestCase
TestCacheAgainstAModel.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
