"""The client against a real front over a real socket; below the front stands a chain made for what is tested."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from nodes.asking.retries import ATTEMPTS
from nodes.client import Client, ClientSettings, Options
from resolver import wire
from resolver.answer import FOUND, Answer, Failed, Outcome, Ready
from resolver.bounds import BATCH_IDENTIFIERS
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.front.grpc import FrontSettings, NodeCard, ResolverFront
from resolver.front.listing import ListingSettings
from resolver.handle import Handle
from resolver.query import Mode, Query
from resolver.record import Record, Value
from resolver.routes import Prefix, RouteTable
from resolver.rpc.serving import ServingSettings, build_server
from resolver.store import Fetched, Listed
from resolver.units import Duration

VALUE = Value(index=1, type="URL", data=b"x", timestamp=5)


class Below:
    """What stands below the front: answers every identifier with a record of so many bytes, and can fail on purpose.

    Under `88.0` nothing is registered, `88.9` is disabled. `listed` is what a listing gives.
    """

    def __init__(self) -> None:
        self.size = 0
        self.faults: list[Fault] = []
        self.asked: list[Query] = []
        self.at_once = 0
        self.most_at_once = 0
        self.listed: list[str] = []
        self.holds = asyncio.Event()
        self.holds.set()
        self.is_busy = asyncio.Event()
        self.is_idle = asyncio.Event()

    async def resolve(self, query: Query) -> Sequence[Ready]:
        self.asked.append(query)
        self.at_once += 1
        self.is_busy.set()
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await self.holds.wait()
            await asyncio.sleep(0.001)
        finally:
            self.at_once -= 1
            if not self.at_once:
                self.is_idle.set()
        if query.trace:
            query.trace.step("store", "read")
        if self.faults:
            raise self.faults.pop(0)
        return [self._answer(identifier) for identifier in query.identifiers]

    def _answer(self, identifier: bytes) -> Ready:
        if identifier.startswith(b"88.0/"):
            return Ready(wire.frame(wire.bare_body(Outcome.ABSENT)), int(Outcome.ABSENT))
        if identifier.startswith(b"88.9/"):
            return Failed(fault=Fault(Reason.PREFIX_DISABLED))
        big = Value(index=1, type="URL", data=b"x" * self.size) if self.size else VALUE
        record = Record(identifier=Handle.from_bytes(identifier), values=(big,))
        return Ready(wire.frame(wire.record_body(record, public=True) + wire.version_field(3)), FOUND)

    async def public(self, keys: Sequence[bytes]) -> Fetched:
        return Fetched([None for _ in keys], 0)

    full = public

    async def identifiers(self, prefix: bytes, *, derived: bool, after: bytes | None, limit: int) -> Listed:
        del prefix, derived
        first = int(after or 0)
        following = first + limit
        return Listed(self.listed[first:following], b"%d" % following if following < len(self.listed) else None)


@pytest.fixture
def below() -> Below:
    return Below()


@pytest.fixture
async def address(below: Below) -> AsyncIterator[str]:
    clock, routes = SystemClock(), RouteTable()
    routes.put([Prefix("88", "88")])
    server = build_server(ServingSettings(address="127.0.0.1:0"))
    ResolverFront(
        chain=below,
        records=below,
        routes=routes,
        node=NodeCard(node="top", tier="top", software_version="1", answer_tiers=("store",)),
        applied_index=lambda: 7,
        settings=FrontSettings(listing=ListingSettings(public=True)),
        secret=b"s" * 32,
        clock=clock,
        registry=CollectorRegistry(),
    ).add_to(server)
    await server.start()
    yield f"127.0.0.1:{server.port}"
    below.holds.set()
    await server.stop()


@pytest.fixture
async def client(address: str) -> AsyncIterator[Client]:
    async with Client(address, ClientSettings(timeout=Duration(10))) as made:
        yield made


def identifiers(count: int) -> list[str]:
    return [f"88.1/{number}" for number in range(count)]


def spelled(answers: list[Answer | Fault]) -> list[str]:
    """The registered spellings in found answers."""
    found = []
    for answer in answers:
        assert isinstance(answer, Answer), answer
        assert answer.record
        found.append(answer.record.identifier.to_text())
    return found


async def test_one_identifier(client: Client) -> None:
    answer = await client.resolve("88.1/a")
    assert answer.outcome is Outcome.FOUND
    assert answer.record == Record(identifier=Handle("88.1", "a"), values=(VALUE,), version=3)
    assert (await client.resolve("88.0/a")).outcome is Outcome.ABSENT
    with pytest.raises(Fault) as raised:
        await client.resolve("88.9/a")
    assert raised.value.reason is Reason.PREFIX_DISABLED


async def test_everything_that_is_wanted_arrives(client: Client, below: Below) -> None:
    options = Options(types=("T.", "URL"), indexes=(1, 5), mode=Mode.REFERRAL, authoritative=True, with_copy=True)
    await client.resolve("88.1/a", options)
    await client.resolve_batch(["88.1/a"], options)
    for query in below.asked:
        wanted = (query.types, query.indexes, query.mode, query.authoritative, query.with_copy)
        assert wanted == (("T.", "URL"), (1, 5), Mode.REFERRAL, True, True)


@pytest.mark.parametrize("options", [Options(indexes=(-1,)), Options(indexes=(2**40,)), Options(types=("\udcff",))])
async def test_what_no_request_can_carry_is_a_fault(client: Client, options: Options) -> None:
    with pytest.raises(Fault) as raised:
        await client.resolve("88.1/a", options)
    assert raised.value.reason is Reason.FIELD_OUT_OF_RANGE


@pytest.mark.parametrize("count", [0, 1, BATCH_IDENTIFIERS, 5 * BATCH_IDENTIFIERS + 1])
async def test_any_number_is_split_and_answered_in_order(client: Client, below: Below, count: int) -> None:
    asked = identifiers(count)
    assert spelled(await client.resolve_batch(asked)) == asked
    assert len(below.asked) == -(-count // BATCH_IDENTIFIERS)
    assert max((len(query.identifiers) for query in below.asked), default=0) <= BATCH_IDENTIFIERS
    assert below.most_at_once <= 4


async def test_an_answer_or_a_fault_for_each(client: Client) -> None:
    answers = await client.resolve_batch(
        ["88.1/a", "88.9/b", "88.0/c", "88.1/\udcff", "88.1/" + "x" * 5_000, "88.1/d"]
    )
    assert isinstance(answers[0], Answer)
    assert isinstance(answers[2], Answer)
    assert answers[2].outcome is Outcome.ABSENT
    assert isinstance(answers[5], Answer)
    reasons = [answer.reason for answer in answers if isinstance(answer, Fault)]
    assert reasons == [Reason.PREFIX_DISABLED, Reason.IDENTIFIER_NOT_UTF8, Reason.IDENTIFIER_TOO_LONG]


async def test_a_batch_of_what_cannot_be_sent_asks_nothing(client: Client, below: Below) -> None:
    (answer,) = await client.resolve_batch(["\udcff"])
    assert isinstance(answer, Fault)
    assert below.asked == []


async def test_answers_that_do_not_fit_are_asked_for_again_in_smaller_batches(client: Client, below: Below) -> None:
    below.size = 60_000
    asked = identifiers(200)
    assert spelled(await client.resolve_batch(asked)) == asked
    # 61 fit into an answer.
    assert len(below.asked[0].identifiers) == 200
    assert 4 <= len(below.asked) <= 9


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Reason.STORE_UNAVAILABLE, retry_after=0.001),
        Fault(Reason.RATE_LIMITED, retry_after=0.001),
        Fault(Reason.TOO_MANY_IN_FLIGHT, retry_after=0.001),
    ],
)
async def test_what_passes_is_tried_again(client: Client, below: Below, fault: Fault) -> None:
    below.faults = [fault, fault]
    assert (await client.resolve("88.1/a")).outcome is Outcome.FOUND
    assert len(below.asked) == 3
    below.faults = [fault]
    assert spelled(await client.resolve_batch(["88.1/a"])) == ["88.1/a"]


async def test_but_not_for_ever(client: Client, below: Below) -> None:
    below.faults = [Fault(Reason.STORE_UNAVAILABLE, retry_after=0.001) for _ in range(9)]
    with pytest.raises(Fault) as raised:
        await client.resolve("88.1/a")
    assert raised.value.reason is Reason.STORE_UNAVAILABLE
    assert len(below.asked) == ATTEMPTS


async def test_what_stays_so_is_not_tried_again(client: Client, below: Below) -> None:
    below.faults = [Fault(Reason.BATCH_EMPTY)]
    with pytest.raises(Fault):
        await client.resolve("88.1/a")
    assert len(below.asked) == 1


async def test_a_batch_that_fails_altogether_is_the_fault_of_each_of_its_own(client: Client, below: Below) -> None:
    below.faults = [Fault(Reason.INTERNAL)]
    answers = await client.resolve_batch(identifiers(BATCH_IDENTIFIERS + 3))
    failed = [answer for answer in answers if isinstance(answer, Fault)]
    assert len(failed) in (BATCH_IDENTIFIERS, 3)
    assert {fault.reason for fault in failed} == {Reason.INTERNAL}


async def test_the_deadline_ends_a_call(address: str, below: Below) -> None:
    below.holds.clear()
    async with Client(address, ClientSettings(timeout=Duration(0.2))) as hasty:
        with pytest.raises(Fault) as raised:
            await hasty.resolve("88.1/a")
        (answer,) = await hasty.resolve_batch(["88.1/a"])
    assert raised.value.reason is Reason.DEADLINE_SPENT
    assert isinstance(answer, Fault)
    assert answer.reason is Reason.DEADLINE_SPENT


async def test_a_node_that_is_not_there() -> None:
    async with Client("127.0.0.1:1", ClientSettings(timeout=Duration(5))) as lost:
        with pytest.raises(Fault) as raised:
            await lost.resolve("88.1/a")
        traced = await lost.resolve_traced("88.1/a")
    assert raised.value.reason is Reason.NODE_UNREACHABLE
    assert isinstance(traced.answer, Fault)
    assert traced.steps == []


async def test_a_cancelled_batch_leaves_nothing_running(client: Client, below: Below) -> None:
    below.holds.clear()
    asking = asyncio.ensure_future(client.resolve_batch(identifiers(8 * BATCH_IDENTIFIERS)))
    await below.is_busy.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await below.is_idle.wait()
    assert len(below.asked) <= 4


@pytest.mark.parametrize("identifier", ["88.1/a", "88.9/a"])
async def test_the_way_of_an_answer(client: Client, identifier: str) -> None:
    """Also of one that is refused."""
    traced = await client.resolve_traced(identifier)
    assert [(step.node, step.tier, step.verdict) for step in traced.steps] == [("top", "store", "read")]
    assert 0 < traced.steps[0].microseconds / 1e6 <= traced.seconds
    assert isinstance(traced.answer, Fault) is identifier.startswith("88.9")


@pytest.mark.parametrize("page_size", [0, 1, 7, 1_000])
async def test_a_listing_goes_through_all_pages(client: Client, below: Below, page_size: int) -> None:
    below.listed = identifiers(23)
    listed = [identifier async for identifier in client.list_handles("88", page_size=page_size)]
    assert listed == below.listed


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"prefix": "89"}, Reason.PREFIX_NOT_ALLOCATED),
        ({"prefix": "\udcff"}, Reason.IDENTIFIER_NOT_UTF8),
        ({"page_size": -1}, Reason.FIELD_OUT_OF_RANGE),
        ({"page_size": 2**40}, Reason.FIELD_OUT_OF_RANGE),
    ],
)
async def test_a_listing_that_cannot_be(client: Client, more: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(Fault) as raised:
        await anext(client.list_handles(**{"prefix": "88", **more}))
    assert raised.value.reason is reason


async def test_who_the_node_is(client: Client) -> None:
    told = await client.node_info()
    assert (told.node, told.tier, told.applied_index, told.answer_tiers) == ("top", "top", 7, ("store",))
    assert told.bounds["batch_identifiers"] == BATCH_IDENTIFIERS
