"""The client that registers, against a real registry over a real socket that fails on purpose."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from msgspec.structs import replace

from nodes.client import (
    Draft,
    Fault,
    Outcome,
    PlainRegistryClient,
    PrivateKey,
    Reason,
    RegistryClient,
    RegistryClientSettings,
    Row,
    Signer,
    Value,
    identifiers,
)
from nodes.client.bulk import cut, in_order
from nodes.client.receipts import check_statement, node_of, statement_of
from nodes.client.sending import SIGNINGS
from nodes.client.signing import CORRECTION_MAX
from registry.rows import PrefixRow
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.v1 import registry_pb2 as pb
from resolver.bounds import ENVELOPE_ROWS
from resolver.clock import SetClock, SystemClock
from resolver.handle import CaseRule
from resolver.routes import Endpoint, Hosting, PrefixState, Protocol
from resolver.rpc.calls import Context
from resolver.rpc.serving import ServingSettings, build_server
from resolver.trust.actors import NodeState, Tier
from resolver.trust.heads import LIFETIME, SKEW
from resolver.trust.keys import Algorithm
from resolver.trust.notes import origin_of, verifier_key
from resolver.trust.receipts import check_envelope, check_receipt
from resolver.units import Duration
from tests.small_registry import SmallRegistry, opened

NODE: Final = "88.111"
ROWS: Final = [Row(identifier=f"88.111/{name}", values=[Value(index=1, type="URL", data="x")]) for name in "abc"]


class Unsteady(RegistryService):
    """A registry that fails as a network does: before it takes a request, or after it took it.

    `turned` changes an answer on its way back. `envelopes` are all that came. `asked` is called when somebody asks
    for the checkpoint.
    """

    before: list[Fault]
    after: list[Fault]
    envelopes: list[bytes]
    turned: Callable[[pb.SubmitResponse], None] | None = None
    asked: Callable[[], None] | None = None

    async def _get_checkpoint(self, octets: bytes, context: Context) -> bytes:
        if self.asked:
            self.asked()
        return await super()._get_checkpoint(octets, context)

    async def _list_nodes(self, octets: bytes, context: Context) -> bytes:
        self.envelopes.append(octets)
        if self.before:
            raise self.before.pop(0)
        return await super()._list_nodes(octets, context)

    async def _submit(self, octets: bytes, context: Context) -> bytes:
        self.envelopes.append(octets)
        if self.before:
            raise self.before.pop(0)
        answer = await super()._submit(octets, context)
        if self.after:
            raise self.after.pop(0)
        if self.turned:
            response = pb.SubmitResponse.FromString(answer)
            self.turned(response)
            return response.SerializeToString()
        return answer


class Place:
    """A registry with the enabled node 88.111, which holds the prefix of that name."""

    def __init__(self, small: SmallRegistry, clock: SetClock, service: Unsteady, address: str) -> None:
        self.small = small
        self.clock = clock
        self.service = service
        self.address = address

    def client(self, actor: str = NODE, *, clock: SetClock | None = None, **settings: Any) -> RegistryClient:
        """Make a client that knows this node's time, unless it is given a clock."""
        return RegistryClient(
            self.address,
            Signer(actor, self.small.keys[actor]),
            RegistryClientSettings(**settings),
            clock=clock or self.clock,
        )

    @property
    def entries(self) -> int:
        return self.small.registry.journal.size


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    # Now, because the plain client has no clock but the machine's.
    clock = SetClock(wall=SystemClock().wall())
    async with opened(tmp_path, clock) as small:
        service = Unsteady(small.registry, RegistrySettings(), small.clock, small.metrics)
        service.before, service.after, service.envelopes = [], [], []
        server = build_server(ServingSettings(address="127.0.0.1:0"))
        service.add_to(server)
        await server.start()
        try:
            await small.join(NODE)
            yield Place(small, clock, service, f"127.0.0.1:{server.port}")
        finally:
            await server.stop()


@pytest.fixture
async def client(place: Place) -> AsyncIterator[RegistryClient]:
    async with place.client() as made:
        yield made


@pytest.fixture
async def operator(place: Place) -> AsyncIterator[RegistryClient]:
    async with place.client("local") as made:
        yield made


def fails(count: int = 1, reason: Reason = Reason.NODE_DRAINING) -> list[Fault]:
    return [Fault(reason, retry_after=0.001) for _ in range(count)]


# --- identifiers ---------------------------------------------------------------------------------------------------


async def test_what_is_registered_is_proven(client: RegistryClient, place: Place) -> None:
    submitted = await client.register(ROWS)
    assert submitted.outcomes == (Outcome.REGISTERED,) * 3
    assert submitted.count(Outcome.REGISTERED) == 3
    assert not submitted.is_repeated
    assert submitted.receipt
    assert submitted.receipt.index == place.entries
    check_receipt(submitted.receipt, place.small.registry.journal.verifier_key)
    check_envelope(submitted.envelope, statement_of(submitted.receipt).envelope_sha256)
    assert submitted.envelope == place.service.envelopes[-1]


async def test_rows_may_be_structs_mappings_or_json(client: RegistryClient) -> None:
    rows: list[Any] = [
        ROWS[0],
        {"identifier": "88.111/m", "values": []},
        msgspec.Raw(b'{"identifier":"88.111/r","values":[]}'),
        {"mint": NODE, "values": []},
    ]
    submitted = await client.register(rows)
    assert submitted.count(Outcome.REGISTERED) == 4
    assert submitted.minted[3].startswith("88.111/")
    changed = await client.register([Row(identifier="88.111/m", op="delete", reason="scrapped")])
    assert changed.outcomes == (Outcome.DELETED,)


async def test_all_or_none_raises_why_and_takes_nothing(client: RegistryClient, place: Place) -> None:
    before = place.entries
    rows = [*ROWS, Row(identifier="88.9/x", values=[])]
    with pytest.raises(Fault) as raised:
        await client.register(rows)
    assert raised.value.reason is Reason.PREFIX_NOT_ALLOCATED
    assert raised.value.field == "rows[3].identifier"
    assert place.entries == before
    told = await client.send(identifiers(rows, partial=False))
    assert told.receipt is None
    assert [fault.reason for _, fault in sorted(told.refusals.items())] == [
        *[Reason.ROW_NOT_TAKEN] * 3,
        Reason.PREFIX_NOT_ALLOCATED,
    ]


async def test_partial_takes_what_can_be_taken_and_tells_the_rest(client: RegistryClient) -> None:
    submitted = await client.register([Row(identifier="88.9/x", values=[]), *ROWS], partial=True)
    assert submitted.outcomes == (Outcome.REFUSED, *[Outcome.REGISTERED] * 3)
    assert submitted.refusals[0].reason is Reason.PREFIX_NOT_ALLOCATED
    assert submitted.receipt


async def test_any_number_is_registered_in_order(client: RegistryClient, place: Place) -> None:
    rows = [{"identifier": f"88.111/{number}", "values": []} for number in range(4_345)]
    gotten = [submitted async for submitted in client.register_all(rows, at_once=3)]
    assert [len(submitted.outcomes) for submitted in gotten] == [*[1_000] * 4, 345]
    assert sum(submitted.count(Outcome.REGISTERED) for submitted in gotten) == 4_345
    firsts = [msgspec.json.decode(statement_body(each.envelope))["rows"][0]["identifier"] for each in gotten]
    assert firsts == [f"88.111/{number}" for number in range(0, 4_345, 1_000)]
    assert len(place.service.envelopes) == 5


def statement_body(envelope: bytes) -> bytes:
    payload = pb.SubmitRequest.FromString(envelope).payload
    return bytes(msgspec.json.decode(payload, type=dict[str, msgspec.Raw])["body"])


async def test_1001_rows_are_refused(client: RegistryClient) -> None:
    with pytest.raises(Fault) as raised:
        await client.register([{"identifier": f"88.111/{number}", "values": []} for number in range(1_001)])
    assert raised.value.reason is Reason.BATCH_TOO_LARGE


def test_rows_are_cut_by_number_and_by_size() -> None:
    small = [{"identifier": "88.1/x"}] * (ENVELOPE_ROWS + 1)
    assert [len(piece) for piece in cut(small)] == [ENVELOPE_ROWS, 1]
    large = [{"identifier": "88.1/x", "values": "v" * 1_000_000}] * 10
    pieces = list(cut(large))
    assert sum(map(len, pieces)) == 10
    assert max(sum(map(len, piece)) for piece in pieces) < 4 * 1024 * 1024
    assert list(cut([])) == []


async def test_work_in_order_ends_with_the_first_failure() -> None:
    running = 0

    async def work(number: int) -> int:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(0 if number != 3 else 0.001)
            if number == 3:
                raise Fault(Reason.INTERNAL)
            return number
        finally:
            running -= 1

    gotten = []

    async def collect() -> None:
        async for result in in_order((work(number) for number in range(9)), 2):
            gotten.append(result)
            assert running <= 2

    with pytest.raises(Fault):
        await collect()
    assert gotten == [0, 1, 2]
    assert running == 0


# --- retries -------------------------------------------------------------------------------------------------------


async def test_what_passes_is_sent_again_byte_by_byte(client: RegistryClient, place: Place) -> None:
    place.service.before = [*fails(1), Fault(Reason.TOO_MANY_IN_FLIGHT, retry_after=0.001), *fails(4)]
    submitted = await client.register(ROWS)
    assert submitted.count(Outcome.REGISTERED) == 3
    assert len(place.service.envelopes) == 7
    assert len(set(place.service.envelopes)) == 1
    assert client.counts.retries == 6
    assert client.counts.signed_anew == 0


async def test_an_answer_that_was_lost_is_given_again_and_nothing_is_done_twice(
    client: RegistryClient, place: Place
) -> None:
    before = place.entries
    place.service.after = fails(2)
    submitted = await client.register([{"mint": NODE, "values": []}])
    assert submitted.is_repeated
    assert submitted.outcomes == (Outcome.REGISTERED,)
    assert submitted.minted
    assert place.entries == before + 1


async def test_a_sending_that_is_not_answered_is_sent_again(place: Place) -> None:
    """Each sending has a time of its own, shorter than the whole."""
    place.service.before = [Fault(Reason.DEADLINE_SPENT)]
    async with place.client(timeout=Duration(20), call_timeout=Duration(5)) as client:
        assert (await client.register(ROWS)).count(Outcome.REGISTERED) == 3
    assert len(place.service.envelopes) == 2


@pytest.mark.parametrize("reason", [Reason.STORE_FULL, Reason.NODE_NOT_ENABLED, Reason.INTERNAL])
async def test_what_stays_so_is_raised(client: RegistryClient, place: Place, reason: Reason) -> None:
    place.service.before = [Fault(reason)]
    with pytest.raises(Fault) as raised:
        await client.register(ROWS)
    assert raised.value.reason is reason
    assert len(place.service.envelopes) == 1


async def test_a_draft_sent_again_from_an_outbox_gets_its_first_answer(place: Place) -> None:
    """Also an hour later, by a client that knows nothing of the first one."""
    draft = identifiers([{"mint": NODE, "values": []}], partial=False)
    async with place.client() as client:
        first = await client.send(draft)
    place.clock.advance(3_600)
    async with place.client() as client:
        again = await client.send(Draft(draft.kind, draft.body, draft.request_id))
    assert again.is_repeated
    assert again.minted == first.minted
    assert again.receipt
    assert first.receipt
    assert again.receipt.index == first.receipt.index


async def test_another_request_under_the_same_id_is_refused(client: RegistryClient) -> None:
    await client.register(ROWS[:1], request_id="mine")
    assert (await client.register(ROWS[:1], request_id="mine")).is_repeated
    with pytest.raises(Fault) as raised:
        await client.register(ROWS[1:], request_id="mine")
    assert raised.value.reason is Reason.REQUEST_ID_REUSED


# --- the time that a request may take ------------------------------------------------------------------------------


async def test_asking_who_the_node_is_takes_of_the_time_of_the_request(place: Place) -> None:
    """When that took nearly all of it, there is none left to be sent again in."""
    place.service.asked = lambda: place.clock.advance(29.5)
    place.service.before = [Fault(Reason.NODE_DRAINING, retry_after=1.0)]
    async with place.client(timeout=Duration(30), call_timeout=Duration(20)) as client:
        with pytest.raises(Fault) as raised:
            await client.register(ROWS)
    assert raised.value.reason is Reason.NODE_DRAINING
    assert len(place.service.envelopes) == 1


async def test_asking_for_the_key_of_the_receipt_takes_of_it_too(place: Place) -> None:
    """Where nobody had to ask who the node is; the request itself took all of the time."""

    def slow(_: pb.SubmitResponse) -> None:
        place.clock.advance(31.0)

    place.service.turned = slow
    async with place.client(timeout=Duration(30), node="top") as client:
        with pytest.raises(Fault) as raised:
            await client.register(ROWS)
    assert raised.value.reason is Reason.DEADLINE_SPENT


async def test_a_question_signed_anew_takes_no_more_time(place: Place) -> None:
    """Who the node is, the question, and the question once more by its time: all of it takes that of one call."""

    class Slow(list[Fault]):
        def pop(self, index: Any = -1) -> Fault:
            place.clock.advance(14.75)
            return super().pop(index)

    told = {"server_time": f"{place.clock.wall() + 100:.0f}"}
    place.service.asked = lambda: place.clock.advance(14.75)
    place.service.before = Slow([Fault(Reason.ENVELOPE_EXPIRED, variables=told), *fails(1, Reason.NODE_DRAINING)])
    async with place.client("local", timeout=Duration(30)) as operator:
        with pytest.raises(Fault) as raised:
            await anext(operator.nodes())
    assert raised.value.reason is Reason.NODE_DRAINING
    assert len(place.service.envelopes) == 2


# --- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [-86_000.0, -(LIFETIME + SKEW + 60.0), SKEW + 60.0, 86_000.0])
async def test_a_clock_that_is_wrong_is_corrected_once_and_counted(place: Place, wrong: float) -> None:
    clock = SetClock(wall=place.clock.wall() + wrong)
    async with place.client(clock=clock) as client:
        assert (await client.register(ROWS[:1])).count(Outcome.REGISTERED) == 1
        assert client.counts.clock_corrections == 1
        assert client.counts.signed_anew == 1
        assert client.clock_offset == pytest.approx(-wrong, abs=1.0)
        await client.register(ROWS[1:])
        assert client.counts.clock_corrections == 1


@pytest.mark.parametrize("wrong", [-CORRECTION_MAX - 60.0, CORRECTION_MAX + 60.0])
async def test_a_time_that_is_days_away_is_not_believed(place: Place, wrong: float) -> None:
    """Nobody signed for it: requests that are signed for another day could be kept until that comes."""
    clock = SetClock(wall=place.clock.wall() + wrong)
    async with place.client(clock=clock) as client:
        with pytest.raises(Fault) as raised:
            await client.register(ROWS)
        assert raised.value.reason in {Reason.ENVELOPE_EXPIRED, Reason.ENVELOPE_NOT_YET_VALID}
        assert (client.clock_offset, client.counts.clock_corrections) == (0.0, 0)
    assert len(place.service.envelopes) == 1


async def test_a_clock_that_jumps_is_followed(place: Place) -> None:
    clock = SetClock(wall=place.clock.wall())
    async with place.client(clock=clock) as client:
        for number, jump in enumerate((10_000.0, -30_000.0, 20_000.0)):
            clock.advance(jump)
            await client.register([{"identifier": f"88.111/{number}", "values": []}])
        assert client.counts.clock_corrections == 3


async def test_an_envelope_that_expired_while_it_was_retried_is_signed_anew(place: Place) -> None:
    """Under the same request id, with a nonce of its own."""
    clock = place.clock

    class Slow(list[Fault]):
        def pop(self, index: Any = -1) -> Fault:
            clock.advance(LIFETIME + SKEW + 1)
            return super().pop(index)

    place.service.before = Slow(fails(1))
    async with place.client(timeout=Duration(3_600)) as client:
        submitted = await client.register(ROWS)
    first, second = place.service.envelopes
    assert first != second
    assert submitted.envelope == second
    assert statement_body(first) == statement_body(second)
    assert client.counts.signed_anew == 1
    assert client.counts.clock_corrections == 0


async def test_a_node_that_is_never_content_with_the_time_is_given_up(client: RegistryClient, place: Place) -> None:
    told = {"server_time": f"{place.clock.wall() + 9_000:.0f}"}
    place.service.before = [Fault(Reason.ENVELOPE_EXPIRED, variables=told) for _ in range(100)]
    with pytest.raises(Fault) as raised:
        await client.register(ROWS)
    assert raised.value.reason is Reason.ENVELOPE_EXPIRED
    assert len(place.service.envelopes) == SIGNINGS + 1


@pytest.mark.parametrize("told", [{}, {"server_time": "now"}, {"server_time": "9" * 5_000}])
async def test_a_fault_about_times_without_a_time_is_final(
    client: RegistryClient, place: Place, told: dict[str, str]
) -> None:
    place.service.before = [Fault(Reason.ENVELOPE_EXPIRED, variables=told)]
    with pytest.raises(Fault):
        await client.register(ROWS)
    assert len(place.service.envelopes) == 1


async def test_a_nonce_that_was_spent_is_replaced(client: RegistryClient, place: Place) -> None:
    place.service.before = [Fault(Reason.NONCE_SPENT)]
    await client.register(ROWS)
    assert client.counts.signed_anew == 1


# --- receipts ------------------------------------------------------------------------------------------------------


def _another_outcome(response: pb.SubmitResponse) -> None:
    response.result.outcomes[0] = pb.OUTCOME_REFUSED


def _no_receipt(response: pb.SubmitResponse) -> None:
    response.ClearField("receipt")


def _another_statement(response: pb.SubmitResponse) -> None:
    response.receipt.statement += b"\x08"


def _another_proof(response: pb.SubmitResponse) -> None:
    response.receipt.inclusion_proof[0] = bytes(32)


def _another_checkpoint(response: pb.SubmitResponse) -> None:
    response.receipt.checkpoint = response.receipt.checkpoint.replace(b"topnode", b"bottomnode", 1)


def _unknown_outcome(response: pb.SubmitResponse) -> None:
    response.result.outcomes[0] = 77  # type: ignore[call-overload] # what a newer node may say


@pytest.mark.parametrize(
    ("turned", "reason"),
    [
        (_another_outcome, Reason.RECEIPT_INVALID),
        (_no_receipt, Reason.RECEIPT_INVALID),
        (_another_statement, Reason.RECEIPT_INVALID),
        (_another_proof, Reason.RECEIPT_INVALID),
        (_another_checkpoint, Reason.RECEIPT_INVALID),
        (_unknown_outcome, Reason.ENUM_UNKNOWN),
    ],
)
async def test_an_answer_that_proves_nothing_is_a_fault(
    client: RegistryClient, place: Place, turned: Callable[[pb.SubmitResponse], None], reason: Reason
) -> None:
    place.service.turned = turned
    with pytest.raises(Fault) as raised:
        await client.register(ROWS)
    assert raised.value.reason is reason


async def test_the_receipt_of_another_request_is_a_fault(client: RegistryClient, place: Place) -> None:
    first = await client.register(ROWS[:1])
    assert first.receipt
    kept: list[pb.Receipt] = []

    def exchange(response: pb.SubmitResponse) -> None:
        kept.append(pb.Receipt.FromString(response.receipt.SerializeToString()))
        if len(kept) > 1:
            response.receipt.CopyFrom(kept[0])

    place.service.turned = exchange
    await client.register(ROWS[1:2])
    with pytest.raises(Fault) as raised:
        await client.register(ROWS[2:])
    assert raised.value.reason is Reason.RECEIPT_INVALID
    assert raised.value.field.startswith("statement.")


async def test_a_first_answer_about_another_envelope_is_a_fault(place: Place) -> None:
    """Only one that is told to be repeated may name an envelope that was sent by somebody else."""
    draft = identifiers(ROWS, partial=False)
    async with place.client() as client:
        await client.send(draft)

    def deny(response: pb.SubmitResponse) -> None:
        response.repeated_answer = False

    place.service.turned = deny
    async with place.client() as client:
        with pytest.raises(Fault) as raised:
            await client.send(draft)
    assert (raised.value.reason, raised.value.field) == (Reason.RECEIPT_INVALID, "statement.envelope_sha256")


@pytest.mark.parametrize("field", ["kind", "actor", "request_id", "refused"])
def test_each_field_of_a_statement_is_compared(field: str) -> None:
    draft = Draft("identifiers.v1", b"{}", "r")
    right = pb.Statement(kind=draft.kind, actor=NODE, request_id="r", refused=b"\x02")
    outcomes = (Outcome.REGISTERED, Outcome.REFUSED)
    check_statement(right, draft, NODE, outcomes)
    setattr(right, field, b"x" if isinstance(getattr(right, field), bytes) else "x")
    with pytest.raises(Fault) as raised:
        check_statement(right, draft, NODE, outcomes)
    assert raised.value.field == f"statement.{field}"


async def test_a_pinned_key_is_believed_and_no_other(place: Place) -> None:
    key = place.small.registry.journal.verifier_key
    async with place.client(verifier_key=key) as client:
        await client.register(ROWS)
        assert client.counts.calls == 1
    another = verifier_key(origin_of("top"), PrivateKey.generate().public)
    async with place.client(verifier_key=another) as client:
        with pytest.raises(Fault) as raised:
            await client.register(ROWS)
        assert raised.value.reason is Reason.RECEIPT_INVALID


async def test_a_receipt_is_fetched_and_checked(client: RegistryClient) -> None:
    submitted = await client.register(ROWS)
    assert submitted.receipt
    await client.register([{"identifier": "88.111/later", "values": []}])
    later = await client.receipt(submitted.receipt.index)
    assert later.statement == submitted.receipt.statement
    assert later.checkpoint != submitted.receipt.checkpoint
    with pytest.raises(Fault) as raised:
        await client.receipt(10_000)
    assert raised.value.reason is Reason.ENTRY_UNKNOWN


async def test_whose_journal_it_is_stands_in_its_key(client: RegistryClient) -> None:
    checkpoint = await client.checkpoint()
    assert checkpoint.node == "top"
    assert checkpoint.note.startswith(b"topnode/top\n")
    assert node_of("topnode/%E5%8C%97%20x+abc+def+ghi") == "北 x"


async def test_a_request_for_another_node_is_refused(place: Place) -> None:
    async with place.client(node="other") as client:
        with pytest.raises(Fault) as raised:
            await client.register(ROWS)
    assert raised.value.reason is Reason.AUDIENCE_WRONG


# --- nodes and prefixes --------------------------------------------------------------------------------------------


async def test_a_node_from_its_application_to_its_end(place: Place, operator: RegistryClient) -> None:
    key = PrivateKey.generate(Algorithm.ECDSA_P256)
    place.small.keys["88.112"] = key
    async with place.client("88.112") as node:
        await node.apply(tier=Tier.SECONDARY, organisation="武汉", industry="C36")
        assert (await node.node("88.112")).state is NodeState.APPLIED
        await operator.review("88.112", enable=False, reason="no licence")
        assert (await node.node("88.112")).reason == "no licence"
        await node.apply(tier=Tier.SECONDARY, organisation="武汉")
        await operator.review("88.112")
        new = PrivateKey.generate(Algorithm.ML_DSA_65)
        await node.rotate(new)
        row = await node.node("88.112")
        assert [bool(each.until) for each in row.keys] == [True, False]
        assert row.keys[1].spki == new.public.spki
        await node.apply_for_prefix("88.112")  # signed with the new key
        await operator.suspend("88.112", "audit")
        with pytest.raises(Fault) as raised:
            await node.apply_for_prefix("88.113")
        assert raised.value.reason is Reason.NODE_NOT_ENABLED
        await operator.resume("88.112")
        await operator.revoke("88.112", "gone")
        assert (await node.node("88.112")).state is NodeState.REVOKED


async def test_nodes_are_listed_for_operators(place: Place, client: RegistryClient, operator: RegistryClient) -> None:
    for number in range(3):
        await place.small.apply(f"88.2{number}")
    assert [node.node async for node in operator.nodes()] == [NODE, "88.20", "88.21", "88.22"]
    assert [node.node async for node in operator.nodes([NodeState.ENABLED])] == [NODE]
    with pytest.raises(Fault) as raised:
        await anext(client.nodes())
    assert raised.value.reason is Reason.NOT_AUTHORISED


async def test_a_prefix_from_its_application_to_its_end(
    place: Place, client: RegistryClient, operator: RegistryClient
) -> None:
    ends = int(place.clock.wall()) + 1_000
    endpoint = Endpoint(Protocol.HANDLE_TCP, "192.0.2.1", 2641, 3, "node.example.cn")
    await client.apply_for_prefix(
        "88.115", hosting=Hosting.DELEGATED, case=CaseRule.SENSITIVE, expires_at=ends, endpoints=[endpoint]
    )
    row = await client.prefix("88.115")
    assert (row.holder, row.state, row.hosting, row.case) == (
        NODE,
        PrefixState.PENDING,
        Hosting.DELEGATED,
        CaseRule.SENSITIVE,
    )
    assert row.endpoints == (endpoint,)
    await operator.set_prefix_state("88.115", PrefixState.ENABLED)
    await operator.renew_prefix("88.115", 0)
    await client.set_route("88.115", hosting=Hosting.HERE)
    row = await client.prefix("88.115")
    assert (row.state, row.expires_at, row.hosting, row.endpoints) == (PrefixState.ENABLED, 0, Hosting.HERE, ())
    await client.allocate([PrefixRow(prefix="88.115.1", holder=NODE), PrefixRow(prefix="88.115.2", holder=NODE)])
    with pytest.raises(Fault) as raised:
        await client.allocate([PrefixRow(prefix="88.115.3", holder=NODE), PrefixRow(prefix="88.115.1", holder="x")])
    assert raised.value.field.startswith("rows[1]")
    with pytest.raises(Fault) as raised:
        await client.prefix("88.115.3")
    assert raised.value.reason is Reason.PREFIX_NOT_ALLOCATED


# --- without a signer, and plain -----------------------------------------------------------------------------------


async def test_who_has_no_key_reads_what_everybody_may_read(place: Place) -> None:
    async with RegistryClient(place.address, clock=place.clock) as reader:
        assert (await reader.node(NODE)).state is NodeState.ENABLED
        assert (await reader.receipt(1)).index == 1
        with pytest.raises(Fault) as raised:
            await reader.register(ROWS)
        assert raised.value.reason is Reason.KEY_INVALID


class Ticking(SetClock):
    """A clock on which ten seconds pass whenever somebody looks: a client that waits for them does so in no time."""

    def monotonic(self) -> float:
        self.advance(10.0)
        return super().monotonic()


async def test_a_registry_that_is_not_there_is_told_in_time(place: Place) -> None:
    """Not at once, since it may be starting: as often as there is time, and no longer."""
    clock, signer = Ticking(), Signer(NODE, place.small.keys[NODE])
    # With 5 s left the last sending still finds out that nobody listens; with none it would be over before.
    settings = RegistryClientSettings(timeout=Duration(105), node="top", verifier_key="x")
    async with RegistryClient("127.0.0.1:1", signer, settings, clock=clock) as lost:
        began = clock.wall()
        with pytest.raises(Fault) as raised:
            await lost.register(ROWS)
        assert lost.counts.calls > 2
    assert raised.value.reason is Reason.NODE_UNREACHABLE
    assert 50 < clock.wall() - began <= 120


async def test_the_plain_client_does_the_same(place: Place) -> None:
    signer = Signer(NODE, place.small.keys[NODE])

    def register() -> None:
        with PlainRegistryClient(place.address, signer) as plain:
            assert plain.register(ROWS).count(Outcome.REGISTERED) == 3
            rows = [{"identifier": f"88.111/{number}", "values": []} for number in range(2_500)]
            gotten = list(plain.register_all(rows))
            assert [len(each.outcomes) for each in gotten] == [1_000, 1_000, 500]
            some = plain.register_all(rows)
            assert next(some).outcomes == (Outcome.UNCHANGED,) * 1_000
            with pytest.raises(Fault):
                plain.register([Row(identifier="88.9/x", values=[])])

    # In a thread: the registry runs in this loop.
    await asyncio.to_thread(register)


def test_a_draft_keeps_its_request_id() -> None:
    first, second = Draft.of("a.v1", {"x": 1}), Draft.of("a.v1", {"x": 1})
    assert first.body == second.body == b'{"x":1}'
    assert first.request_id != second.request_id
    assert replace(first, request_id="r") == Draft.of("a.v1", {"x": 1}, "r")
