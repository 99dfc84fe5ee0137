"""What a node says of what its store holds: outcome, standing, authority, and how long it may be kept."""

from collections.abc import Sequence
from typing import Any

import pytest

from resolver import wire
from resolver.answer import ABSENT, FOUND, NOT_HERE, Failed, Outcome, Ready, Standing
from resolver.chain.lookup import Lookup
from resolver.chain.scopes import Speaker
from resolver.clock import SetClock
from resolver.errors import Fault, Reason
from resolver.freshness import FreshnessSettings
from resolver.query import Query
from resolver.routes import Hosting, Prefix, RouteTable
from resolver.store import Fetched
from resolver.trace import Trace
from tests.small_node import NODE, PREFIXES
from tests.small_store import SmallStore, body


class Desk:
    """A lookup over a small store."""

    def __init__(self, records: dict[bytes, bytes] | None = None) -> None:
        self.store = SmallStore(records, PREFIXES)
        self.routes = RouteTable()
        self.routes.put(self.store.rows())
        self.clock = SetClock()
        self.routes.tell_time(self.clock.wall())
        self.lookup = Lookup(
            self.store,
            routes=self.routes,
            speaker=Speaker(NODE),
            clock=self.clock,
            settings=FreshnessSettings(),
        )

    async def ask(self, *keys: bytes, trace: Trace | None = None) -> Sequence[Ready]:
        return await self.lookup.resolve(Query(identifiers=keys, deadline=self.clock.monotonic() + 5, trace=trace))


def said(ready: Ready) -> tuple[Any, ...]:
    answer = wire.decode_answer(wire.answer_bytes(ready.frame))
    assert answer.outcome == ready.outcome
    return answer.outcome, answer.standing, answer.authority, answer.prefix


RECORDS = {
    b"88.100/A": body("88.100/a", 5),
    b"88.100/GONE": body("88.100/gone", deleted=True),
    b"88.200/A": body("88.200/a"),
    b"88.200/GONE": body("88.200/gone", deleted=True),
    b"88.400/A": body("88.400/a"),
}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"88.100/A", (Outcome.FOUND, Standing.AUTHORITATIVE, NODE, "88.100")),
        (b"88.100/GONE", (Outcome.ABSENT, Standing.AUTHORITATIVE, NODE, "88.100")),
        (b"88.100/NO", (Outcome.ABSENT, Standing.AUTHORITATIVE, NODE, "88.100")),
        (b"88.100.7/NO", (Outcome.ABSENT, Standing.AUTHORITATIVE, NODE, "88.100")),
        (b"88.200/A", (Outcome.FOUND, Standing.REGISTERED_COPY, "88.200", "88.200")),
        (b"88.200/NO", (Outcome.NOT_HERE, Standing.UNSPECIFIED, "88.200", "88.200")),
        # Absent comes only from the authority: a deleted copy says nothing of the identifier.
        (b"88.200/GONE", (Outcome.NOT_HERE, Standing.UNSPECIFIED, "88.200", "88.200")),
        (b"88.600/NO", (Outcome.NOT_HERE, Standing.UNSPECIFIED, NODE, "")),
        (b"77/NO", (Outcome.NOT_HERE, Standing.UNSPECIFIED, NODE, "")),
    ],
)
async def test_says_with_what_right_it_speaks(key: bytes, expected: tuple[Any, ...]) -> None:
    (ready,) = await Desk(RECORDS).ask(key)
    assert said(ready) == expected


async def test_gives_the_record_in_its_registered_spelling_with_its_version() -> None:
    (ready,) = await Desk(RECORDS).ask(b"88.100/A")
    record = wire.decode_answer(wire.answer_bytes(ready.frame)).record
    assert record is not None
    assert (record.identifier.to_text(), record.version) == ("88.100/a", 5)


async def test_a_tombstone_says_why() -> None:
    (ready,) = await Desk(RECORDS).ask(b"88.100/GONE")
    record = wire.decode_answer(wire.answer_bytes(ready.frame)).record
    assert record is not None
    assert record.tombstone is not None
    assert record.tombstone.reason == "scrapped"


async def test_refuses_below_a_prefix_that_was_disabled_meanwhile() -> None:
    (ready,) = await Desk(RECORDS).ask(b"88.400/A")
    assert isinstance(ready, Failed)
    assert ready.fault.reason is Reason.PREFIX_DISABLED


async def test_answers_in_order_across_scopes() -> None:
    answers = await Desk(RECORDS).ask(b"88.100/NO", b"88.200/A", b"88.100/A", b"88.200/NO")
    assert [ready.outcome for ready in answers] == [ABSENT, FOUND, FOUND, NOT_HERE]


async def test_frames_are_as_wire_frames_them_whatever_their_size() -> None:
    """The loop writes frames itself, for short answers and for those beyond its table."""
    desk = Desk({b"88.100/%d" % size: body(f"88.100/{size}", data="x" * size) for size in (1, 200, 4_000, 20_000)})
    for ready in await desk.ask(b"88.100/1", b"88.100/200", b"88.100/4000", b"88.100/20000"):
        assert wire.frame(wire.answer_bytes(ready.frame)) == ready.frame


async def test_says_how_long_an_answer_may_be_kept_and_for_which_state() -> None:
    desk = Desk(RECORDS)
    found, absent, not_here = await desk.ask(b"88.100/A", b"88.100/NO", b"88.200/NO")
    now = desk.clock.monotonic()
    assert (found.expires, absent.expires, not_here.expires) == (now + 3_600, now + 60, 0.0)
    epoch = desk.routes.scope(b"88.100").epoch
    for ready in (found, absent):
        assert (ready.epoch, ready.generation, ready.as_of) == (epoch, desk.routes.generation, desk.store.index)


async def test_what_is_read_while_routes_change_is_given_and_not_kept() -> None:
    """A load may have written below the prefix after the reading: no epoch would tell."""
    desk = Desk(RECORDS)

    class Changing(SmallStore):
        async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:
            fetched = await super().public(keys, confirmed=confirmed)
            desk.routes.touch([b"88.100"], 9)
            return fetched

    store = Changing(RECORDS, PREFIXES)
    lookup = Lookup(store, routes=desk.routes, speaker=Speaker(NODE), clock=desk.clock, settings=FreshnessSettings())
    answers = await lookup.resolve(Query(identifiers=(b"88.100/A", b"88.100/NO"), deadline=2_000))
    assert [(ready.outcome, ready.expires) for ready in answers] == [(FOUND, 0.0), (ABSENT, 0.0)]


async def test_a_changed_row_changes_what_is_said() -> None:
    """What is alike for a scope is made once, but not kept longer than the scope."""
    desk = Desk(RECORDS)
    await desk.ask(b"88.100/NO")
    desk.routes.put([Prefix("88.100", "somebody", hosting=Hosting.DELEGATED, epoch=9)])
    (ready,) = await desk.ask(b"88.100/NO")
    assert said(ready) == (Outcome.NOT_HERE, Standing.UNSPECIFIED, "somebody", "88.100")


async def test_what_is_alike_for_a_scope_is_made_once() -> None:
    one, two = await Desk(RECORDS).ask(b"88.100/NO", b"88.100/NEITHER")
    assert one.frame is two.frame
    assert one is not two


async def test_the_trace_tells_what_a_cache_in_front_of_the_store_answered() -> None:
    desk = Desk(RECORDS)

    class Shared(SmallStore):
        shared = 1

        async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:
            fetched = await super().public(keys, confirmed=confirmed)
            return Fetched(fetched.bodies, fetched.as_of, shared=self.shared)

    store = Shared(RECORDS, PREFIXES)
    lookup = Lookup(store, routes=desk.routes, speaker=Speaker(NODE), clock=desk.clock, settings=FreshnessSettings())
    steps = []
    for store.shared in (1, 2):
        trace = Trace(NODE, desk.clock)
        await lookup.resolve(Query(identifiers=(b"88.100/A", b"88.100/NO"), deadline=2_000, trace=trace))
        steps.append([(step.tier, step.verdict) for step in trace.steps])
    assert steps == [[("redis", "1 hit, 1 miss"), ("store", "1 held, 1 not held")], [("redis", "2 hit, 0 miss")]]


async def test_the_authoritys_own_word_is_asked_for_as_such() -> None:
    desk = Desk(RECORDS)
    asked: list[bool] = []

    class Confirming(SmallStore):
        async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:
            asked.append(confirmed)
            return await super().public(keys, confirmed=confirmed)

    store = Confirming(RECORDS, PREFIXES)
    lookup = Lookup(store, routes=desk.routes, speaker=Speaker(NODE), clock=desk.clock, settings=FreshnessSettings())
    for authoritative in (False, True):
        await lookup.resolve(Query(identifiers=(b"88.100/A",), deadline=2_000, authoritative=authoritative))
    assert asked == [False, True]


async def test_leaves_a_step_in_the_trace() -> None:
    desk = Desk(RECORDS)
    trace = Trace(NODE, desk.clock)
    await desk.ask(b"88.100/A", b"88.100/NO", trace=trace)
    assert [(step.tier, step.verdict) for step in trace.steps] == [("store", "1 held, 1 not held")]


async def test_raises_what_the_store_raises() -> None:
    desk = Desk(RECORDS)
    desk.store.fault = Fault(Reason.STORE_UNAVAILABLE)
    with pytest.raises(Fault) as caught:
        await desk.ask(b"88.100/A")
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
