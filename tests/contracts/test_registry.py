"""What RegistryService does, over real sockets: every rung of the ladder, retries, rows, imports, receipts, nodes."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from msgspec.structs import replace

from registry.methods import IMPORT_METHOD, SERVICE
from registry.rows import PrefixRow
from registry.service import RegistryService
from registry.settings import RegistrySettings
from registry.v1 import registry_pb2 as pb
from resolver.bounds import CHUNK_BYTES
from resolver.clock import SetClock
from resolver.errors import Fault, Reason
from resolver.rpc.channels import ChannelSettings, open_channel
from resolver.rpc.errors import fault_of, fault_of_rpc_error
from resolver.rpc.serving import ServingSettings, build_server
from resolver.trust.envelopes import Envelope, Signature
from resolver.trust.heads import LIFETIME, SKEW
from resolver.trust.keys import PrivateKey
from resolver.trust.notes import open_checkpoint
from resolver.trust.queries import QUERY_KEY, sign_query
from resolver.trust.receipts import Receipt, check_envelope, check_receipt
from tests.gated_store import GatedStore
from tests.signing import SUBMIT, Signing, registering
from tests.small_registry import SmallRegistry, application, chunk_of, identifier_row, import_body, opened

NODE: Final = "88.111"
KIND: Final = "identifiers.v1"
PIECE: Final = 1 << 20


class Wire:
    """A connection to the service: bytes as they stand on the wire, faults as a client reads them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def call(self, method: str, octets: bytes, *metadata: tuple[str, bytes]) -> bytes:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(f"/{SERVICE}/{method}")
        try:
            answer: bytes = await call(octets, timeout=20, metadata=metadata or None)
        except grpc.aio.AioRpcError as error:
            raise fault_of_rpc_error(error) from None
        return answer

    async def submit(self, octets: bytes) -> pb.SubmitResponse:
        return pb.SubmitResponse.FromString(await self.call("Submit", octets))

    async def refusal(self, octets: bytes) -> Fault:
        """The fault with which a request is refused as a whole; one that is taken is a failed test."""
        with pytest.raises(Fault) as caught:
            await self.submit(octets)
        return caught.value

    async def send_import(self, *parts: pb.ImportRequest) -> pb.ImportResponse:
        async def requests() -> AsyncIterator[bytes]:
            for part in parts:
                yield part.SerializeToString()

        call: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = self._channel.stream_unary(f"/{SERVICE}/Import")
        try:
            response: bytes = await call(requests(), timeout=20)
        except grpc.aio.AioRpcError as error:
            raise fault_of_rpc_error(error) from None
        return pb.ImportResponse.FromString(response)

    def begin_import(self) -> "grpc.aio.StreamUnaryCall[Any, Any]":
        """Begin an import of which nothing is sent yet."""
        return self._channel.stream_unary(f"/{SERVICE}/Import")(timeout=20)


class Place:
    """A registry that serves at a TCP port and at a Unix socket, with the enabled node 88.111 and its prefix."""

    def __init__(self, small: SmallRegistry, clock: SetClock, outside: Wire, inside: Wire) -> None:
        self.small = small
        self.clock = clock
        self.wire = outside
        self.inside = inside

    def sample(self, name: str, **labels: str) -> float:
        """Read a metric."""
        return self.small.metrics.get_sample_value(name, labels) or 0.0

    @property
    def store(self) -> GatedStore:
        store = self.small.registry.store
        assert isinstance(store, GatedStore)
        return store

    def signed(self, kind: str, body: Any, request_id: str = "", *, actor: str = NODE, **more: Any) -> bytes:
        return self.small.signed(actor, kind, body, request_id, **more)

    def registering(self, *identifiers: str, **more: Any) -> bytes:
        return self.signed(KIND, registering(*identifiers), **more)

    def signing(self, actor: str = NODE, **head: Any) -> Signing:
        return Signing(actor, self.small.keys[actor], now=self.clock.wall(), **head)

    async def verifier_key(self) -> str:
        octets = await self.wire.call("GetCheckpoint", b"")
        return pb.GetCheckpointResponse.FromString(octets).verifier_key


@asynccontextmanager
async def place(data: Path, **settings: Any) -> AsyncIterator[Place]:
    """Serve a registry over the store in this folder; what is in it already is found again."""
    clock = SetClock()
    socket = f"unix:{data}/inside.sock"
    async with opened(data / "store", clock, store=GatedStore, **settings) as small:
        service = RegistryService(small.registry, RegistrySettings(**settings), clock, small.metrics)
        outside, inside = (build_server(ServingSettings(address=each)) for each in ("127.0.0.1:0", socket))
        for server in (outside, inside):
            service.add_to(server)
            await server.start()
        channels = [open_channel(each, ChannelSettings()) for each in (f"127.0.0.1:{outside.port}", socket)]
        try:
            if not small.registry.journal.size:
                await small.join(NODE)
            yield Place(small, clock, *(Wire(channel) for channel in channels))
        finally:
            for channel in channels:
                await channel.close()
            for server in (outside, inside):
                await server.stop()


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    async with place(tmp_path) as serving:
        yield serving


def receipt_of(message: pb.Receipt) -> Receipt:
    return Receipt(
        index=message.index,
        statement=message.statement,
        leaf_hash=message.leaf_hash,
        checkpoint=message.checkpoint,
        proof=tuple(message.inclusion_proof),
    )


def reasons(result: pb.Result) -> dict[int, str]:
    return {each.row: fault_of(each.error).reason.name for each in result.refusals}


def outcomes(result: pb.Result) -> list[str]:
    return [pb.Outcome.Name(each).removeprefix("OUTCOME_") for each in result.outcomes]


# --- what is taken -------------------------------------------------------------------------------------------------


async def test_a_request_is_answered_with_a_receipt_that_holds(here: Place) -> None:
    """It names the envelope, verifies against the node's key, and is given again in every later tree."""
    octets = here.registering("88.111/A")
    response = await here.wire.submit(octets)
    assert outcomes(response.result) == ["REGISTERED"]
    key = await here.verifier_key()
    await here.wire.submit(here.registering("88.111/B"))
    asked = pb.GetReceiptRequest(index=response.receipt.index).SerializeToString()
    again = pb.GetReceiptResponse.FromString(await here.wire.call("GetReceipt", asked)).receipt
    assert again.checkpoint != response.receipt.checkpoint
    for receipt in (response.receipt, again):
        check_receipt(receipt_of(receipt), key)
        statement = pb.Statement.FromString(receipt.statement)
        check_envelope(octets, statement.envelope_sha256)
        assert (statement.kind, statement.actor) == (KIND, NODE)
    head = pb.GetCheckpointResponse.FromString(await here.wire.call("GetCheckpoint", b""))
    assert open_checkpoint(head.checkpoint, key).size == response.receipt.index + 1


async def test_a_receipt_of_nothing_is_refused(here: Place) -> None:
    for index in (0, 1_000):
        with pytest.raises(Fault) as caught:
            await here.wire.call("GetReceipt", pb.GetReceiptRequest(index=index).SerializeToString())
        assert caught.value.reason is Reason.ENTRY_UNKNOWN


# --- the ladder ----------------------------------------------------------------------------------------------------


def _forged(octets: bytes) -> bytes:
    """The same signature, over another payload."""
    envelope = Envelope.from_bytes(octets)
    return replace(envelope, payload=envelope.payload.replace(b"88.111/A", b"88.111/B")).to_bytes()


def _by_another_key(octets: bytes) -> bytes:
    envelope = Envelope.from_bytes(octets)
    key = PrivateKey.generate()
    return replace(envelope, signatures=(Signature(key.public.key_id, key.sign(envelope.pae())),)).to_bytes()


def _reordered(octets: bytes) -> bytes:
    """The same message to any protobuf reader, with its first field last."""
    message = pb.SubmitRequest.FromString(octets)
    payload = pb.SubmitRequest(payload=message.payload).SerializeToString()
    message.ClearField("payload")
    return message.SerializeToString() + payload


RUNGS: Final[list[tuple[str, Reason, Callable[[Place], bytes]]]] = [
    ("too large", Reason.REQUEST_TOO_LARGE, lambda here: here.registering("88.111/" + "A" * (4 << 20))),
    ("empty", Reason.ENVELOPE_MALFORMED, lambda _here: b""),
    ("truncated", Reason.ENVELOPE_MALFORMED, lambda here: here.registering("88.111/A")[:-1]),
    ("re-ordered", Reason.ENVELOPE_MALFORMED, lambda here: _reordered(here.registering("88.111/A"))),
    ("a field more", Reason.ENVELOPE_MALFORMED, lambda here: here.registering("88.111/A") + b"\x22\x01x"),
    ("another kind", Reason.PAYLOAD_TYPE_UNKNOWN, lambda here: here.signed("identifiers.v2", {})),
    ("a query", Reason.PAYLOAD_TYPE_UNKNOWN, lambda here: here.signed("query.v1", {})),
    ("an unknown key", Reason.KEY_UNKNOWN, lambda here: _by_another_key(here.registering("88.111/A"))),
    ("forged", Reason.SIGNATURE_INVALID, lambda here: _forged(here.registering("88.111/A"))),
    ("no nonce", Reason.PAYLOAD_MALFORMED, lambda here: here.registering("88.111/A", nonce="")),
    ("another actor", Reason.ACTOR_MISMATCH, lambda here: here.signing().request(KIND, {}, actor="local")),
    ("another node", Reason.AUDIENCE_WRONG, lambda here: here.registering("88.111/A", node="bottom")),
    ("another method", Reason.AUDIENCE_WRONG, lambda here: here.registering("88.111/A", method=IMPORT_METHOD)),
    (
        "a long life",
        Reason.ENVELOPE_LIFETIME,
        lambda here: here.registering("88.111/A", expires_at=int(here.clock.wall()) + 301),
    ),
    ("no JSON", Reason.PAYLOAD_MALFORMED, lambda here: here.signed(KIND, b'{"rows":[}')),
    ("a field unknown", Reason.PAYLOAD_MALFORMED, lambda here: here.signed(KIND, {"rows": [], "all": True})),
]


@pytest.mark.parametrize(("reason", "make"), [each[1:] for each in RUNGS], ids=[each[0] for each in RUNGS])
async def test_each_rung_refuses(here: Place, reason: Reason, make: Callable[[Place], bytes]) -> None:
    """With its reason; nothing is written, and the next request is taken."""
    size = here.small.registry.journal.size
    assert (await here.wire.refusal(make(here))).reason is reason
    assert here.small.registry.journal.size == size
    assert outcomes((await here.wire.submit(here.registering("88.111/A"))).result) == ["REGISTERED"]


async def test_no_altered_byte_passes(here: Place) -> None:
    """Whatever byte is altered, or cut off behind: refused before anything is planned."""
    octets = here.registering("88.111/A")
    size = here.small.registry.journal.size
    altered = [octets[:at] + bytes((octets[at] ^ 1,)) + octets[at + 1 :] for at in range(0, len(octets), 7)]
    cut = [octets[:at] for at in range(1, len(octets), 11)]
    told = {(await here.wire.refusal(each)).reason for each in (*altered, *cut)}
    assert told <= {
        Reason.ENVELOPE_MALFORMED,
        Reason.PAYLOAD_TYPE_UNKNOWN,
        Reason.KEY_UNKNOWN,
        Reason.SIGNATURE_INVALID,
    }
    assert here.small.registry.journal.size == size


@pytest.mark.parametrize(("seconds", "reason"), [(331, "ENVELOPE_EXPIRED"), (-31, "ENVELOPE_NOT_YET_VALID")])
async def test_a_wrong_time_is_told_the_right_one(here: Place, seconds: int, reason: str) -> None:
    """Beyond 5 minutes and 30 seconds, or 30 seconds ahead; right before that it is taken."""
    octets = here.registering("88.111/A"), here.registering("88.111/B")
    here.clock.advance(seconds - (1 if seconds > 0 else -1))
    assert outcomes((await here.wire.submit(octets[0])).result) == ["REGISTERED"]
    here.clock.advance(1 if seconds > 0 else -1)
    fault = await here.wire.refusal(octets[1])
    assert (fault.reason.name, fault.variables["server_time"]) == (reason, str(int(here.clock.wall())))


async def test_a_replaced_key_and_a_suspended_node_are_refused(here: Place) -> None:
    """The new key signs; the old one does not any more, and nobody does for a suspended node until it is resumed."""
    old, new = here.small.keys[NODE], PrivateKey.generate()
    body = {"key": b64encode(new.public.spki).decode()}
    await here.wire.submit(here.signed("node-rotate.v1", body, keys=[new]))
    by_old = Signing(NODE, old, now=here.clock.wall()).request(KIND, registering("88.111/A"))
    assert (await here.wire.refusal(by_old)).reason is Reason.KEY_NOT_ALLOWED
    here.small.keys[NODE] = new
    await here.wire.submit(here.registering("88.111/A"))
    await here.wire.submit(here.signed("node-suspend.v1", {"node": NODE, "reason": "audit"}, actor="local"))
    assert (await here.wire.refusal(here.registering("88.111/B"))).reason is Reason.NODE_NOT_ENABLED
    await here.wire.submit(here.signed("node-resume.v1", {"node": NODE}, actor="local"))
    assert outcomes((await here.wire.submit(here.registering("88.111/B"))).result) == ["REGISTERED"]


async def test_what_is_revoked_while_a_request_waits_refuses_it(here: Place) -> None:
    """It was verified before; the revocation is planned before it, in the same group."""
    here.store.hold()
    first = asyncio.create_task(here.wire.submit(here.registering("88.111/A")))
    await here.store.committing.wait()
    revocation = asyncio.create_task(
        here.wire.submit(here.signed("node-revoke.v1", {"node": NODE, "reason": "gone"}, actor="local"))
    )
    await _until_waiting(here, 1)
    late = asyncio.create_task(here.wire.submit(here.registering("88.111/B")))
    await _until_waiting(here, 2)
    here.store.release()
    assert outcomes((await first).result) == ["REGISTERED"]
    await revocation
    with pytest.raises(Fault) as caught:
        await late
    assert caught.value.reason is Reason.NODE_NOT_ENABLED


async def _until_waiting(here: Place, count: int) -> None:
    while here.sample("topnode_registry_waiting_requests") < count:  # noqa: ASYNC110 - sockets are in between
        await asyncio.sleep(0.001)


async def test_a_nonce_is_spent_once_also_after_a_restart(tmp_path: Path) -> None:
    nonce = "0123456789abcdef" * 2
    async with place(tmp_path) as here:
        await here.wire.submit(here.registering("88.111/A", nonce=nonce))
        assert (await here.wire.refusal(here.registering("88.111/B", nonce=nonce))).reason is Reason.NONCE_SPENT
        key = here.small.keys[NODE]
    async with place(tmp_path) as here:
        here.small.keys[NODE] = key
        assert (await here.wire.refusal(here.registering("88.111/C", nonce=nonce))).reason is Reason.NONCE_SPENT


# --- retries -------------------------------------------------------------------------------------------------------


async def test_the_same_request_gets_its_first_answer_also_after_a_restart(tmp_path: Path) -> None:
    """Byte-identical or freshly signed, soon or late: the same result and entry; another body is refused."""
    async with place(tmp_path) as here:
        octets, body = here.registering("88.111/A", request_id="one"), registering("88.111/A")
        first = await here.wire.submit(octets)
        size = here.small.registry.journal.size
        key = here.small.keys[NODE]
        for each in (octets, here.signed(KIND, body, "one")):
            _check_again(first, await here.wire.submit(each), await here.verifier_key())
    async with place(tmp_path) as here:
        here.small.keys[NODE] = key
        here.clock.advance(86_400)
        for each in (octets, here.signed(KIND, body, "one")):
            _check_again(first, await here.wire.submit(each), await here.verifier_key())
        fault = await here.wire.refusal(here.registering("88.111/B", request_id="one"))
        assert fault.reason is Reason.REQUEST_ID_REUSED
        assert here.small.registry.journal.size == size


def _check_again(first: pb.SubmitResponse, again: pb.SubmitResponse, verifier_key: str) -> None:
    assert (first.repeated_answer, again.repeated_answer) == (False, True)
    assert again.result.SerializeToString() == first.result.SerializeToString()
    assert (again.receipt.index, again.receipt.statement) == (first.receipt.index, first.receipt.statement)
    check_receipt(receipt_of(again.receipt), verifier_key)


async def test_another_actor_has_request_ids_of_its_own(here: Place) -> None:
    await here.small.join("88.112")
    for actor in (NODE, "88.112"):
        response = await here.wire.submit(here.signed(KIND, registering(f"{actor}/A"), "one", actor=actor))
        assert outcomes(response.result) == ["REGISTERED"]


async def test_a_full_disk_refuses_and_nothing_is_half_done(here: Place) -> None:
    """The same bytes are taken when there is room again."""
    octets = here.registering("88.111/A")
    here.store.fault = Fault(Reason.STORE_FULL)
    assert (await here.wire.refusal(octets)).reason is Reason.STORE_FULL
    here.store.fault = None
    response = await here.wire.submit(octets)
    assert (response.repeated_answer, outcomes(response.result)) == (False, ["REGISTERED"])


# --- rows ----------------------------------------------------------------------------------------------------------


async def test_a_thousand_rows_and_not_one_more(here: Place) -> None:
    names = [f"88.111/{number}" for number in range(1_001)]
    fault = await here.wire.refusal(here.registering(*names))
    assert (fault.reason, fault.field) == (Reason.BATCH_TOO_LARGE, "rows")
    response = await here.wire.submit(here.registering(*names[:1_000]))
    assert outcomes(response.result) == ["REGISTERED"] * 1_000


MIXED: Final = ("88.111/A", "88.1110/B", "88.112/C", "88.111/D", "88.111/d")
"""One that can be taken; below a prefix that only looks like the node's; below one of another; twice the same."""


async def test_rows_that_can_be_taken_are_taken_where_that_was_asked_for(here: Place) -> None:
    await here.small.join("88.112")
    response = await here.wire.submit(here.signed(KIND, registering(*MIXED, partial=True)))
    assert outcomes(response.result) == ["REGISTERED", *["REFUSED"] * 4]
    assert reasons(response.result) == {
        1: "PREFIX_NOT_ALLOCATED",
        2: "PREFIX_NOT_HELD",
        3: "ROW_REPEATED",
        4: "ROW_REPEATED",
    }
    assert pb.Statement.FromString(response.receipt.statement).refused == bytes((0b11110,))


async def test_all_or_none_takes_none_and_is_no_entry(here: Place) -> None:
    """The culprits have their reasons; there is no receipt, and the same request id may be used again."""
    await here.small.join("88.112")
    size = here.small.registry.journal.size
    response = await here.wire.submit(here.registering(*MIXED, request_id="one"))
    assert outcomes(response.result) == ["REFUSED"] * 5
    assert reasons(response.result)[0] == "ROW_NOT_TAKEN"
    assert reasons(response.result)[2] == "PREFIX_NOT_HELD"
    assert not response.HasField("receipt")
    assert here.small.registry.journal.size == size
    assert outcomes((await here.wire.submit(here.registering("88.111/A", request_id="one"))).result) == ["REGISTERED"]


# --- imports -------------------------------------------------------------------------------------------------------


def _pieces(chunk: bytes) -> Iterator[pb.ImportRequest]:
    for first in range(0, len(chunk), PIECE):
        yield pb.ImportRequest(chunk=chunk[first : first + PIECE])


def _chunk(count: int = 10) -> bytes:
    identifiers = (identifier_row(f"88.200/{number}") for number in range(count - 1))
    return chunk_of(PrefixRow(prefix="88.200", holder="top"), *identifiers)


def _named(here: Place, chunk: bytes, rows: int, request_id: str = "", **more: Any) -> pb.ImportRequest:
    """The envelope of a chunk."""
    body = import_body(chunk, rows, **more)
    return pb.ImportRequest(envelope=here.small.signed("local", "import.v1", body, request_id))


async def test_a_chunk_is_one_entry_and_tells_how_far_its_import_has_come(here: Place) -> None:
    chunk = _chunk()
    size = here.small.registry.journal.size
    envelope = _named(here, chunk, 10, "one", is_last=False, rejected=2)
    response = await here.wire.send_import(envelope, *_pieces(chunk))
    assert (response.registered, response.replaced, response.unchanged) == (10, 0, 0)
    assert here.small.registry.journal.size == size + 1 == response.receipt.index
    check_receipt(receipt_of(response.receipt), await here.verifier_key())
    statement = pb.Statement.FromString(response.receipt.statement)
    assert (statement.kind, statement.envelope_sha256) == ("import.v1", sha256(envelope.envelope).digest())
    again = await here.wire.send_import(envelope, *_pieces(chunk))
    assert (again.registered, again.repeated_answer, again.receipt.index) == (10, True, size + 1)
    asked = pb.GetImportRequest(name="corpus").SerializeToString()
    reached = pb.GetImportResponse.FromString(await here.inside.call("GetImport", asked))
    assert (reached.chunks, reached.registered, reached.rejected) == (1, 10, 2)
    assert reached.manifest_sha256 == sha256(bytes(32) + sha256(chunk).digest()).digest()


async def test_an_import_that_need_not_come_is_told_so_before_its_chunk(here: Place) -> None:
    """One that was answered gets its first answer, and one that is not fresh is refused, as soon as it has begun."""
    chunk = _chunk()
    envelope = _named(here, chunk, 10, "one", is_last=False)
    await here.wire.send_import(envelope, *_pieces(chunk))
    again = await begun(here, envelope)
    assert (again.registered, again.repeated_answer) == (10, True)
    assert again.receipt.index == here.small.registry.journal.size
    with pytest.raises(Fault) as caught:
        await begun(here, _named(here, chunk, 10, "one", is_last=True))
    assert caught.value.reason is Reason.REQUEST_ID_REUSED
    late = _named(here, chunk, 10, "two")
    here.clock.advance(LIFETIME + SKEW + 1)
    with pytest.raises(Fault) as caught:
        await begun(here, late)
    assert caught.value.reason is Reason.ENVELOPE_EXPIRED
    assert (await begun(here, envelope)).repeated_answer


async def begun(here: Place, envelope: pb.ImportRequest) -> pb.ImportResponse:
    """Send the envelope of an import, and wait for the answer with the chunk held back."""
    call = here.wire.begin_import()
    await call.write(envelope.SerializeToString())
    try:
        octets: bytes = await call
    except grpc.aio.AioRpcError as error:
        raise fault_of_rpc_error(error) from None
    return pb.ImportResponse.FromString(octets)


async def test_an_import_that_is_not_one_is_refused(here: Place) -> None:
    """By its signature, its parts, or its bytes; nothing is written."""
    chunk = _chunk()
    size = here.small.registry.journal.size
    envelope = _named(here, chunk, 10)
    by_a_node = here.signing(method=IMPORT_METHOD).request("import.v1", import_body(chunk, 10))
    other_kind = here.signing(method=IMPORT_METHOD).request(KIND, registering("88.111/A"))
    wrong: list[tuple[Reason, list[pb.ImportRequest]]] = [
        (Reason.REQUEST_MALFORMED, []),
        (Reason.REQUEST_MALFORMED, list(_pieces(chunk))),
        (Reason.REQUEST_MALFORMED, [envelope]),
        (Reason.REQUEST_MALFORMED, [envelope, envelope]),
        (Reason.NOT_AUTHORISED, [pb.ImportRequest(envelope=by_a_node), *_pieces(chunk)]),
        (Reason.PAYLOAD_TYPE_UNKNOWN, [pb.ImportRequest(envelope=other_kind), *_pieces(chunk)]),
        (Reason.CHUNK_MISMATCH, [envelope, *_pieces(chunk[:-1])]),
        (Reason.CHUNK_MISMATCH, [envelope, *_pieces(_chunk(9))]),
        (Reason.CHUNK_MISMATCH, [envelope, *_pieces(bytes(CHUNK_BYTES + 1))]),
        (Reason.LOAD_OUT_OF_STEP, [_named(here, chunk, 10, number=2), *_pieces(chunk)]),
    ]
    for reason, parts in wrong:
        with pytest.raises(Fault) as caught:
            await here.wire.send_import(*parts)
        assert caught.value.reason is reason, parts
    submitted = here.small.signed("local", "import.v1", import_body(chunk, 10), method=SUBMIT)
    assert (await here.wire.refusal(submitted)).reason is Reason.PAYLOAD_TYPE_UNKNOWN
    assert here.small.registry.journal.size == size
    assert (await here.wire.send_import(envelope, *_pieces(chunk))).registered == 10


async def test_an_import_that_stands_still_lets_others_go_on(tmp_path: Path) -> None:
    """Its chunk must arrive in time; who waits for it meanwhile has its turn after that."""
    async with place(tmp_path, import_time=0.3) as here:
        chunk = _chunk()
        slow = here.wire.begin_import()
        await slow.write(_named(here, chunk, 10, name="slow").SerializeToString())
        await slow.write(pb.ImportRequest(chunk=chunk[:10]).SerializeToString())
        response = await here.wire.send_import(_named(here, chunk, 10), *_pieces(chunk))
        assert response.registered == 10
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await slow
        assert fault_of_rpc_error(caught.value).reason is Reason.DEADLINE_SPENT


# --- nodes ---------------------------------------------------------------------------------------------------------


async def test_a_node_is_told_to_everybody(here: Place) -> None:
    octets = await here.wire.call("GetNode", pb.GetNodeRequest(node=NODE).SerializeToString())
    node = pb.GetNodeResponse.FromString(octets).node
    key = here.small.keys[NODE].public
    assert (node.node, node.state, node.tier) == (NODE, pb.NODE_STATE_ENABLED, pb.TIER_SECONDARY)
    assert [(each.keyid, each.spki, each.until) for each in node.keys] == [(key.key_id, key.spki, 0)]
    assert (node.organisation, node.version) == (f"{NODE} Ltd", 2)
    with pytest.raises(Fault) as caught:
        await here.wire.call("GetNode", pb.GetNodeRequest(node="88.999").SerializeToString())
    assert caught.value.reason is Reason.NODE_UNKNOWN


async def test_a_takeover_is_in_the_journal_and_told_to_everybody(here: Place) -> None:
    """An automatic one where it was agreed on, by the operator whose key lies in the data folder."""
    asked = {"node": NODE, "takeover": True, "reason": "17 of 30 probes failed", "automatic": True}
    refused = await here.wire.refusal(here.signed("node-takeover.v1", asked, actor="local"))
    assert (refused.reason, refused.field) == (Reason.NOT_AUTHORISED, "automatic")
    await here.wire.submit(here.signed("node-agreement.v1", {"node": NODE, "agreement": True}))
    response = await here.wire.submit(here.signed("node-takeover.v1", asked, actor="local"))
    statement = pb.Statement.FromString(response.receipt.statement)
    assert (statement.kind, statement.actor) == ("node-takeover.v1", "local")
    octets = await here.wire.call("GetNode", pb.GetNodeRequest(node=NODE).SerializeToString())
    node = pb.GetNodeResponse.FromString(octets).node
    assert (node.takeover, node.takeover_automatic, node.agreement) == (True, True, True)
    assert (node.takeover_since, node.takeover_reason) == (int(here.clock.wall()), "17 of 30 probes failed")
    assert node.version == response.receipt.index


async def test_a_node_that_is_taken_over_writes_as_before(here: Place) -> None:
    """Its writes change the copies, out of which it is answered for meanwhile."""
    asked = {"node": NODE, "takeover": True, "reason": "it moves"}
    await here.wire.submit(here.signed("node-takeover.v1", asked, actor="local"))
    response = await here.wire.submit(here.signed(KIND, registering("88.111/MEANWHILE")))
    assert list(response.result.outcomes) == [pb.OUTCOME_REGISTERED]


async def test_what_is_not_committed_yet_is_not_told(here: Place) -> None:
    """Of nodes and of prefixes, to nobody."""
    here.small.keys["88.112"] = PrivateKey.generate()
    application_of = here.signed("node-apply.v1", application("88.112", here.small.keys["88.112"]), actor="88.112")
    rows = [{"prefix": "88.9", "holder": NODE}]
    allocation = here.signed("prefix-allocate.v1", {"rows": rows}, actor="local")
    asked = (
        ("GetNode", pb.GetNodeRequest(node="88.112").SerializeToString(), Reason.NODE_UNKNOWN),
        ("GetPrefix", pb.GetPrefixRequest(prefix="88.9").SerializeToString(), Reason.PREFIX_NOT_ALLOCATED),
    )
    here.store.hold()
    coming = [asyncio.create_task(here.wire.submit(each)) for each in (application_of, allocation)]
    await here.store.committing.wait()
    for method, octets, reason in asked:
        with pytest.raises(Fault) as caught:
            await here.wire.call(method, octets)
        assert caught.value.reason is reason
    here.store.release()
    await asyncio.gather(*coming)
    for method, octets, _ in asked:
        assert await here.wire.call(method, octets)


async def test_operators_page_through_the_nodes(here: Place) -> None:
    """By a signed query, or at the Unix socket; nobody else does."""
    for number in range(112, 117):
        await here.small.apply(f"88.{number}")
    found, after = list[str](), ""
    while True:
        request = pb.ListNodesRequest(page_size=2, after=after, states=[pb.NODE_STATE_APPLIED]).SerializeToString()
        page = pb.ListNodesResponse.FromString(await here.wire.call("ListNodes", request, _query(here, request)))
        found += [node.node for node in page.nodes]
        after = page.next_after
        if not after:
            break
    assert found == [f"88.{number}" for number in range(112, 117)]
    inside = pb.ListNodesResponse.FromString(await here.inside.call("ListNodes", b""))
    assert [node.node for node in inside.nodes] == [NODE, *found]


async def test_a_node_gives_signs_of_life_and_operators_see_them(here: Place) -> None:
    def request(**more: Any) -> bytes:
        said = {"node": NODE, "time": int(here.clock.wall() * 1_000), "applied_index": 7, "software_version": "1.2"}
        return pb.HeartbeatRequest(**{**said, **more}).SerializeToString()

    octets = request()
    answer = await here.wire.call("Heartbeat", octets, _query(here, octets, "Heartbeat", actor=NODE))
    heard = pb.HeartbeatResponse.FromString(answer)
    assert (heard.index, heard.time) == (here.small.registry.journal.size, int(here.clock.wall() * 1_000))
    page = pb.ListNodesResponse.FromString(await here.inside.call("ListNodes", b""))
    (node,) = page.nodes
    assert (node.heartbeat.heard_at, node.heartbeat.applied_index) == (heard.time, 7)
    assert node.heartbeat.software_version == "1.2"
    got = await here.wire.call("GetNode", pb.GetNodeRequest(node=NODE).SerializeToString())
    assert not pb.GetNodeResponse.FromString(got).node.HasField("heartbeat")
    early = request(time=heard.time - 3_600_000)
    other = request(node="88.112")
    for reason, sent, query in (
        (Reason.NOT_AUTHORISED, octets, None),
        (Reason.NOT_AUTHORISED, octets, _query(here, octets, "Heartbeat")),
        (Reason.AUDIENCE_WRONG, octets, _query(here, octets, actor=NODE)),
        (Reason.SIGNATURE_INVALID, early, _query(here, octets, "Heartbeat", actor=NODE)),
        (Reason.ENVELOPE_EXPIRED, early, _query(here, early, "Heartbeat", actor=NODE)),
        (Reason.ACTOR_MISMATCH, other, _query(here, other, "Heartbeat", actor=NODE)),
    ):
        with pytest.raises(Fault) as caught:
            await here.wire.call("Heartbeat", sent, *([query] if query else []))
        assert caught.value.reason is reason
    await here.wire.call("Submit", here.signed("node-suspend.v1", {"node": NODE, "reason": "x"}, actor="local"))
    with pytest.raises(Fault) as caught:
        await here.wire.call("Heartbeat", octets, _query(here, octets, "Heartbeat", actor=NODE))
    assert caught.value.reason is Reason.NODE_NOT_ENABLED


@pytest.mark.parametrize("method", ["ListNodes", "GetImport"])
async def test_what_is_for_operators_is_refused_to_others(here: Place, method: str) -> None:
    """Without a signature, with a node's, with one for another request or another method."""
    asked: list[tuple[Reason, list[tuple[str, bytes]]]] = [
        (Reason.NOT_AUTHORISED, []),
        (Reason.NOT_AUTHORISED, [_query(here, b"", method, actor=NODE)]),
        (Reason.SIGNATURE_INVALID, [_query(here, b"another", method)]),
        (Reason.AUDIENCE_WRONG, [_query(here, b"", "GetNode")]),
    ]
    for reason, metadata in asked:
        with pytest.raises(Fault) as caught:
            await here.wire.call(method, b"", *metadata)
        assert caught.value.reason is reason
    assert await here.inside.call(method, b"") is not None


def _query(here: Place, request: bytes, method: str = "ListNodes", *, actor: str = "local") -> tuple[str, bytes]:
    key = here.small.keys[actor]
    full = f"{SERVICE}/{method}"
    return QUERY_KEY, sign_query(request, node="top", method=full, actor=actor, key=key, now=here.clock.wall())


async def test_a_page_that_cannot_be_is_refused(here: Place) -> None:
    no_state: Any = 9
    asked = {
        Reason.FIELD_OUT_OF_RANGE: pb.ListNodesRequest(page_size=-1),
        Reason.ENUM_UNKNOWN: pb.ListNodesRequest(states=[no_state]),
    }
    for reason, request in asked.items():
        with pytest.raises(Fault) as caught:
            await here.inside.call("ListNodes", request.SerializeToString())
        assert caught.value.reason is reason


# --- counting ------------------------------------------------------------------------------------------------------


async def test_calls_and_refusals_are_counted_by_reason(here: Place) -> None:
    await here.wire.refusal(_forged(here.registering("88.111/A")))
    await here.wire.submit(here.registering("88.111/A"))
    for code in ("OK", "PERMISSION_DENIED"):
        assert here.sample("topnode_registry_calls_total", method="Submit", code=code) == 1
    assert here.sample("topnode_registry_refused_total", reason="SIGNATURE_INVALID") == 1
