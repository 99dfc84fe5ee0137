"""The client against a real front over a real socket; below the front stands a chain made for what is tested."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from nodes.client import Client, ClientSettings, Options, PlainClient, PrivateKey, Signer
from nodes.client.received import received
from nodes.client.retries import ATTEMPTS
from resolver import wire
from resolver.answer import FOUND, Answer, Failed, Outcome, Ready
from resolver.bounds import BATCH_IDENTIFIERS
from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.front.core import Core, FrontSettings, NodeCard
from resolver.front.grpc import GrpcFront
from resolver.front.listing import Listing
from resolver.front.paging import PageTokens
from resolver.handle import Handle
from resolver.holders import Holders
from resolver.query import Mode, Query
from resolver.record import Record, Value
from resolver.routes import Prefix, RouteTable
from resolver.rpc.channels import ChannelSettings
from resolver.rpc.serving import ServingSettings, build_server
from resolver.rpc.tls import ClientTls
from resolver.store import Fetched, Listed
from resolver.trust.actors import NodeTable
from resolver.trust.operators import Operators
from resolver.trust.queries import QueryVerifier
from resolver.units import Duration
from resolver.v1 import resolver_pb2 as pb

OPERATOR = Signer("alice", PrivateKey.generate())

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

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:  # noqa: ARG002 - no replicas
        return Fetched([None for _ in keys], 0)

    full = public

    async def holds_below(self, prefix: bytes) -> bool:
        del prefix
        return bool(self.listed)

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
    clock, routes, nodes = SystemClock(), RouteTable(), NodeTable()
    routes.put([Prefix("88", "88")])
    server = build_server(ServingSettings(address="127.0.0.1:0"))
    holders = Holders("top", nodes=nodes, routes=routes, is_current=lambda: True)
    registry = CollectorRegistry()
    core = Core(
        chain=below,
        listing=Listing(below, routes, PageTokens(b"s" * 32), holders),
        node=NodeCard(node="top", tier="top", software_version="1", answer_tiers=("store",)),
        applied_index=lambda: 7,
        settings=FrontSettings(),
        clock=clock,
        registry=registry,
    )
    signatures = QueryVerifier("top", nodes, Operators([(OPERATOR.actor, OPERATOR.key.public)]), clock)
    GrpcFront(core, signatures=signatures, clock=clock, registry=registry).add_to(server)
    await server.start()
    yield f"127.0.0.1:{server.port}"
    below.holds.set()
    await server.stop()


@pytest.fixture
async def client(address: str) -> AsyncIterator[Client]:
    async with Client(address, ClientSettings(timeout=Duration(10))) as made:
        yield made


@pytest.fixture
async def operator(address: str) -> AsyncIterator[Client]:
    """A client that signs what it asks: only then it may list."""
    async with Client(address, ClientSettings(timeout=Duration(10)), signer=OPERATOR) as made:
        yield made


def identifiers(count: int) -> list[str]:
    return [f"88.1/{number}" for number in range(count)]


def spelled(answers: Sequence[Answer | Fault]) -> list[str]:
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
async def test_a_listing_goes_through_all_pages(operator: Client, below: Below, page_size: int) -> None:
    below.listed = identifiers(23)
    listed = [identifier async for identifier in operator.list_handles("88", page_size=page_size)]
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
async def test_a_listing_that_cannot_be(operator: Client, more: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(Fault) as raised:
        await anext(operator.list_handles(**{"prefix": "88", **more}))
    assert raised.value.reason is reason


async def test_who_the_node_is(client: Client) -> None:
    told = await client.node_info()
    assert (told.node, told.tier, told.applied_index, told.answer_tiers) == ("top", "top", 7, ("store",))
    assert told.bounds["batch_identifiers"] == BATCH_IDENTIFIERS


# --- answers whose records are read later ---------------------------------------------------------------------------


async def test_an_answer_is_equal_to_what_it_says_before_and_after_its_record_was_read(client: Client) -> None:
    first, second = await client.resolve("88.1/a"), await client.resolve("88.1/a")
    said = Answer(outcome=Outcome.FOUND, record=Record(identifier=Handle("88.1", "a"), values=(VALUE,), version=3))
    assert said.record == second.record
    assert first == second
    assert first == said
    assert said == first
    assert hash(first) == hash(second) == hash(said)
    assert repr(first) == repr(said)
    assert first != await client.resolve("88.1/b")
    assert msgspec.structs.replace(await client.resolve("88.1/a"), stale=True).record == said.record


def test_a_record_that_cannot_be_read_is_a_fault_for_who_looks_at_it() -> None:
    message = pb.Answer(outcome=pb.OUTCOME_FOUND)
    message.record.identifier = "88.1/a"
    message.record.values.add(index=0, type="URL")
    answer = received(message)
    assert answer.outcome is Outcome.FOUND
    for _ in range(2):
        with pytest.raises(Fault) as raised:
            assert answer.record
        assert raised.value.reason is Reason.VALUE_INVALID


@pytest.mark.parametrize("field", ["outcome", "standing"])
def test_what_kind_of_answer_it_is_must_be_known(field: str) -> None:
    message = pb.Answer(outcome=pb.OUTCOME_FOUND)
    message.record.identifier = "88.1/a"
    setattr(message, field, 77)
    with pytest.raises(Fault) as raised:
        received(message)
    assert raised.value.reason is Reason.ENUM_UNKNOWN
    assert raised.value.field == f"answer.{field}"


# --- single lookups that run at the same time ----------------------------------------------------------------------


async def test_lookups_of_one_turn_travel_together(client: Client, below: Below) -> None:
    asked = identifiers(100)
    assert spelled(await asyncio.gather(*map(client.resolve, asked))) == asked
    assert [len(query.identifiers) for query in below.asked] == [100]
    assert client.counts.calls == 1


async def test_what_many_ask_for_is_asked_for_once(client: Client, below: Below) -> None:
    answers = await asyncio.gather(*(client.resolve("88.1/a") for _ in range(50)), client.resolve("88.1/b"))
    assert spelled(answers) == ["88.1/a"] * 50 + ["88.1/b"]
    assert [len(query.identifiers) for query in below.asked] == [2]


async def test_those_who_want_something_else_travel_apart(client: Client, below: Below) -> None:
    whole, some = Options(), Options(types=("URL",))
    await asyncio.gather(*(client.resolve(f"88.1/{number}", some if number % 2 else whole) for number in range(10)))
    assert sorted((query.types, len(query.identifiers)) for query in below.asked) == [((), 5), (("URL",), 5)]


async def test_more_than_a_batch_holds_is_several(client: Client, below: Below) -> None:
    asked = identifiers(3 * BATCH_IDENTIFIERS + 1)
    assert spelled(await asyncio.gather(*map(client.resolve, asked))) == asked
    assert sorted(len(query.identifiers) for query in below.asked) == [1, *[BATCH_IDENTIFIERS] * 3]


async def test_few_batches_are_in_flight_and_the_rest_gathers_meanwhile(client: Client, below: Below) -> None:
    below.holds.clear()
    asking = [asyncio.ensure_future(client.resolve("88.1/first"))]
    await below.is_busy.wait()
    for number in range(200):
        asking.append(asyncio.ensure_future(client.resolve(f"88.1/{number}")))
        await asyncio.sleep(0)
    below.holds.set()
    await asyncio.gather(*asking)
    assert below.most_at_once <= 4
    assert len(below.asked) < 20


async def test_each_gets_its_own_fault(client: Client, below: Below) -> None:
    results = await asyncio.gather(
        *map(client.resolve, ["88.1/a", "88.9/b", "88.1/\udcff", "88.0/c"]), return_exceptions=True
    )
    outcomes = [each.reason if isinstance(each, Fault) else isinstance(each, Answer) for each in results]
    assert outcomes == [True, Reason.PREFIX_DISABLED, Reason.IDENTIFIER_NOT_UTF8, True]
    below.faults = [Fault(Reason.INTERNAL)]
    failed = await asyncio.gather(*map(client.resolve, identifiers(3)), return_exceptions=True)
    assert len({id(fault) for fault in failed}) == 3
    assert [str(fault).partition(":")[0] for fault in failed] == ["INTERNAL"] * 3


async def test_who_goes_away_takes_nobody_along(client: Client, below: Below) -> None:
    below.holds.clear()
    staying, going = (asyncio.ensure_future(client.resolve(f"88.1/{name}")) for name in "ab")
    await below.is_busy.wait()
    going.cancel()
    below.holds.set()
    assert (await staying).outcome is Outcome.FOUND
    assert going.cancelled()


async def test_answers_that_do_not_fit_together_come_in_several(client: Client, below: Below) -> None:
    below.size = 60_000
    asked = identifiers(200)
    assert spelled(await asyncio.gather(*map(client.resolve, asked))) == asked
    assert 4 <= len(below.asked) <= 9


async def test_a_closed_client_leaves_nobody_waiting(address: str, below: Below) -> None:
    below.holds.clear()
    client = Client(address)
    asking = [asyncio.ensure_future(client.resolve(identifier)) for identifier in identifiers(5_000)]
    await below.is_busy.wait()
    await client.close()
    results = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(result) for result in results} == {asyncio.CancelledError}


# --- signed --------------------------------------------------------------------------------------------------------


async def test_a_signer_is_known_in_all_that_it_asks(operator: Client, below: Below) -> None:
    await operator.resolve("88.1/a")
    await operator.resolve_batch(identifiers(2))
    await operator.resolve_traced("88.1/a")
    assert [query.asker.identity for query in below.asked] == ["alice"] * 3


async def test_without_a_signer_nobody_is(client: Client, below: Below) -> None:
    await client.resolve("88.1/a")
    assert below.asked[0].asker.identity == ""
    with pytest.raises(Fault) as raised:
        await anext(client.list_handles("88"))
    assert raised.value.reason is Reason.LISTING_NOT_ALLOWED


async def test_a_clock_that_is_wrong_is_corrected_once(address: str, below: Below) -> None:
    async with Client(address, signer=OPERATOR, clock=SetClock(wall=SystemClock().wall() - 80_000)) as late:
        for _ in range(3):
            await late.resolve("88.1/a")
        assert late.counts.clock_corrections == 1
    assert [query.asker.identity for query in below.asked] == ["alice"] * 3


async def test_a_clock_that_is_days_away_is_told(address: str, below: Below) -> None:
    async with Client(address, signer=OPERATOR, clock=SetClock(wall=SystemClock().wall() - 90_000)) as late:
        with pytest.raises(Fault) as raised:
            await late.resolve("88.1/a")
    assert raised.value.reason is Reason.ENVELOPE_EXPIRED
    assert below.asked == []


async def test_a_signer_that_is_not_known_is_told_so(address: str) -> None:
    async with Client(address, signer=Signer("alice", PrivateKey.generate())) as stranger:
        with pytest.raises(Fault) as raised:
            await stranger.resolve("88.1/a")
    assert raised.value.reason is Reason.KEY_UNKNOWN


# --- plain ---------------------------------------------------------------------------------------------------------


async def test_the_plain_client_asks_the_same(address: str, below: Below) -> None:
    below.listed = identifiers(2_500)

    def ask() -> None:
        with PlainClient(address, signer=OPERATOR) as plain:
            assert plain.resolve("88.1/a").outcome is Outcome.FOUND
            assert spelled(plain.resolve_batch(identifiers(3))) == identifiers(3)
            assert list(plain.list_handles("88")) == below.listed
            assert next(plain.list_handles("88")) == below.listed[0]
            assert plain.node_info().node == "top"
            with pytest.raises(Fault) as raised:
                plain.resolve("88.9/a")
            assert raised.value.reason is Reason.PREFIX_DISABLED
        plain.close()

    # In a thread: the server runs in this loop, so nothing of this test may keep it waiting.
    await asyncio.to_thread(ask)


async def test_threads_that_share_a_plain_client_share_its_calls(address: str, below: Below) -> None:
    below.holds.clear()
    plain = await asyncio.to_thread(PlainClient, address)
    asking = asyncio.gather(*(asyncio.to_thread(plain.resolve, identifier) for identifier in identifiers(8)))
    await below.is_busy.wait()
    below.holds.set()
    assert spelled(await asking) == identifiers(8)
    await asyncio.to_thread(plain.close)
    assert below.most_at_once <= 4


def test_what_a_plain_client_cannot_be_made_of_is_told_and_leaves_no_thread() -> None:
    settings = ClientSettings(channel=ChannelSettings(tls=ClientTls(server_ca="/nowhere")))
    before = threading.active_count()
    with pytest.raises(Fault) as raised:
        PlainClient("127.0.0.1:1", settings)
    assert raised.value.reason is Reason.FILE_UNREADABLE
    assert threading.active_count() == before
