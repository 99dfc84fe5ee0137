"""The drivers for nodes of this project over real connections: what is sent, what comes back, how failures are told.

Each test holds for each of them: over grpcio in long calls, over grpcio where the child knows none, and over the
native client.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Any

import grpc
import pytest
from msgspec.structs import replace

from resolver.errors import Fault, Reason
from resolver.federation.driver import Driver
from resolver.federation.grpc_driver import GrpcDriver
from resolver.federation.messages import NONCE_BYTES
from resolver.federation.native_driver import NativeDriver
from resolver.routes import Endpoint, Protocol
from resolver.rpc.errors import status_of
from resolver.rpc.tls import ClientTls, ServerTls, server_credentials
from resolver.trace import Step
from resolver.trust.actors import Key, Node, NodeState, NodeTable, Tier
from resolver.trust.answers import ANSWER_KEY, AnswerSigner, AnswerVerifier
from resolver.trust.keys import PrivateKey
from resolver.trust.verdicts import Trust
from resolver.v1 import resolver_pb2 as pb
from resolver.wire import trace_message
from tests.asked_children import CLOCK, SERVICE, Answering, child, question, reason_of
from tests.certificates import Authority
from tests.services.ports import free_ports


class Kind:
    """One way of asking a child: `name` says which."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def is_by_long_calls(self) -> bool:
        return self.name == "long calls"

    def child(
        self, answering: Answering, credentials: grpc.ServerCredentials | None = None, *, port: int = 0
    ) -> AbstractAsyncContextManager[int]:
        return child(answering, credentials, port=port, knows_long_calls=self.is_by_long_calls)

    def open(
        self,
        endpoint: Endpoint,
        tls: ClientTls | None = None,
        verifier: AnswerVerifier | None = None,
    ) -> Driver:
        made = NativeDriver if self.name == "native" else GrpcDriver
        return made(endpoint, tls, CLOCK, verifier)

    @asynccontextmanager
    async def driver(
        self, port: int, *, tls_name: str = "", tls: ClientTls | None = None, verifier: AnswerVerifier | None = None
    ) -> AsyncIterator[Driver]:
        opened = self.open(Endpoint(Protocol.GRPC, "localhost", port, 0, tls_name), tls, verifier)
        try:
            yield opened
        finally:
            await opened.close()


NATIVE = pytest.param("native", marks=pytest.mark.needs("native-front"))


@pytest.fixture(params=["long calls", "calls", NATIVE])
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


async def silent(_octets: bytes, _context: Any) -> bytes:
    return b""


async def late(_octets: bytes, _context: Any) -> bytes:
    await asyncio.sleep(5)
    return b""


async def test_asks_for_recursion_with_the_path_and_leaves_answers_encoded(kind: Kind) -> None:
    requests = []
    answer = pb.Answer(outcome=pb.OUTCOME_FOUND, version=7)

    async def answering(octets: bytes, _context: Any) -> bytes:
        requests.append(pb.BatchResolveRequest.FromString(octets))
        response = pb.BatchResolveResponse()
        response.results.add().answer.CopyFrom(answer)
        response.results.add().error.CopyFrom(status_of(Fault(Reason.HOP_LIMIT, "too far")))
        return response.SerializeToString()

    async with kind.child(answering) as port, kind.driver(port) as asked:
        reply = await asked.ask(question(b"88.1/A", b"88.1/B"))
    (request,) = requests
    assert list(request.identifiers) == ["88.1/A", "88.1/B"]
    options = request.options
    assert (options.mode, options.authoritative, options.trace) == (pb.MODE_RECURSIVE, True, False)
    assert (list(options.path.visited), options.path.hops_left) == (["top"], 3)
    given, refused = reply.results
    assert given == answer.SerializeToString()
    assert isinstance(refused, Fault)
    assert (refused.reason, refused.detail) == (Reason.HOP_LIMIT, "too far")
    assert (reply.protocol, list(reply.steps)) == (Protocol.GRPC, [])


@pytest.mark.parametrize("is_sound", [True, False])
async def test_the_childs_trace_comes_with_the_reply_where_it_can_be_read(kind: Kind, *, is_sound: bool) -> None:
    steps = [Step("88.1", "store", "1 held, 0 not held", 12)]

    async def answering(_octets: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("topnode-trace-bin", trace_message(steps) if is_sound else b"\xff\xff"),))
        return b""

    async with kind.child(answering) as port, kind.driver(port) as asked:
        reply = await asked.ask(question(b"88.1/A", trace=True))
    assert list(reply.steps) == (steps if is_sound else [])


@pytest.mark.parametrize(
    ("signing", "trust"), [("fits", Trust.TRUSTED), ("none", Trust.UNKNOWN), ("another", Trust.NOT_TRUSTED)]
)
async def test_a_signature_is_wanted_and_judged(kind: Kind, signing: str, trust: Trust) -> None:
    key, nodes = PrivateKey.generate(), NodeTable()
    held = (Key(key.public.key_id, key.public.spki, 1),)
    nodes.put([Node(node="88.1", tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=held)])
    signer = AnswerSigner("88.1", lambda: key, CLOCK)
    method = "StreamResolve" if kind.is_by_long_calls else "BatchResolve"
    wanted, nonces = [], set()

    async def answering(octets: bytes, context: Any) -> bytes:
        options = pb.BatchResolveRequest.FromString(octets).options
        wanted.append((options.signed, len(options.nonce)))
        nonces.add(options.nonce)
        if signing != "none":
            said = b"" if signing == "fits" else b"something else"
            context.set_trailing_metadata(((ANSWER_KEY, signer.sign(f"{SERVICE}/{method}", octets, said)),))
        return b""

    async with kind.child(answering) as port, kind.driver(port, verifier=AnswerVerifier(nodes)) as asked:
        reply = await asked.ask(replace(question(b"88.1/A"), signer="88.1"))
        unasked = await asked.ask(question(b"88.1/A"))
        await asked.ask(replace(question(b"88.1/A"), signer="88.1"))
    assert wanted == [(True, NONCE_BYTES), (False, 0), (True, NONCE_BYTES)]
    assert len(nonces) == 3
    assert (reply.trust, unasked.trust) == (trust, Trust.UNKNOWN)


async def test_what_cannot_be_read_is_refused(kind: Kind) -> None:
    async def answering(_octets: bytes, _context: Any) -> bytes:
        return b"\xff\xff\xff"

    async with kind.child(answering) as port, kind.driver(port) as asked:
        assert await reason_of(asked.ask(question(b"88.1/A"))) is Reason.CHILD_ANSWER_REFUSED


async def test_a_child_that_is_late_or_not_there(kind: Kind) -> None:
    async with kind.child(late) as port, kind.driver(port) as asked:
        assert await reason_of(asked.ask(question(b"88.1/A", seconds=0.1))) is Reason.DEADLINE_SPENT
        assert await reason_of(asked.ask(question(b"88.1/A", seconds=-1))) is Reason.DEADLINE_SPENT
        assert await reason_of(asked.probe(0.1)) is Reason.DEADLINE_SPENT
    (nobody,) = free_ports(1)
    async with kind.driver(nobody) as asked:
        assert await reason_of(asked.ask(question(b"88.1/A"))) is Reason.NODE_UNREACHABLE
        assert await reason_of(asked.probe(1)) is Reason.NODE_UNREACHABLE


async def test_a_connection_that_is_closed_fails_its_calls_and_cancels_nobody(kind: Kind) -> None:
    async with kind.child(late) as port, kind.driver(port) as asked:
        waiting = asyncio.ensure_future(asked.ask(question(b"88.1/A")))
        await asyncio.sleep(0.1)
        await asked.close()
        assert await reason_of(waiting) is Reason.NODE_UNREACHABLE


async def test_a_caller_that_is_cancelled_stays_cancelled(kind: Kind) -> None:
    async with kind.child(late) as port, kind.driver(port) as asked:
        waiting = asyncio.ensure_future(asked.ask(question(b"88.1/A")))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_place_where_nobody_speaks_is_told_by_the_deadline(kind: Kind) -> None:
    """While the connection is being made, too: there gRPC itself forgets who waits."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with kind.driver(port) as asked, asyncio.timeout(3):
            told = [await reason_of(asked.ask(question(b"88.1/A", seconds=0.1))) for _ in range(3)]
    assert told[0] is Reason.DEADLINE_SPENT
    assert set(told) <= {Reason.DEADLINE_SPENT, Reason.NODE_UNREACHABLE}


async def test_a_child_that_is_gone_is_told_of_at_once_and_asked_again_when_it_is_back(kind: Kind) -> None:
    (port,) = free_ports(1)
    async with kind.driver(port) as asked:
        async with kind.child(silent, port=port):
            await asked.ask(question(b"88.1/A"))
        assert await reason_of(asked.ask(question(b"88.1/B"))) is Reason.NODE_UNREACHABLE
        async with kind.child(silent, port=port), asyncio.timeout(10):
            for _ in range(100):
                try:
                    await asked.ask(question(b"88.1/C"))
                except Fault:
                    await asyncio.sleep(0.05)
                else:
                    break
            else:
                pytest.fail("it is not asked again")


async def test_many_questions_at_once_get_each_its_own_answer(kind: Kind) -> None:
    """Of a mebibyte and a half in all, and as much in one of them."""

    async def answering(octets: bytes, _context: Any) -> bytes:
        response = pb.BatchResolveResponse()
        for key in pb.BatchResolveRequest.FromString(octets).identifiers:
            answer = response.results.add().answer
            answer.record.identifier = key
            answer.record.values.add(data=b"x" * (1_500_000 if key == "88.1/0" else 10_000))
        return response.SerializeToString()

    async with kind.child(answering) as port, kind.driver(port) as asked:
        replies = await asyncio.gather(*(asked.ask(question(b"88.1/%d" % number)) for number in range(150)))
    told = [
        pb.Answer.FromString(each).record for reply in replies for each in reply.results if isinstance(each, bytes)
    ]
    assert [record.identifier for record in told] == [f"88.1/{number}" for number in range(150)]
    assert [len(record.values[0].data) for record in told] == [1_500_000] + [10_000] * 149


async def test_an_endpoint_with_a_tls_name_must_prove_it(kind: Kind, tmp_path: FilePath) -> None:
    ours, theirs = Authority(tmp_path), Authority(tmp_path, "stranger")
    files = ours.issue("child", alternatives=("child.example.org",))
    credentials = server_credentials(ServerTls(certificate=files.certificate, key=files.key))
    async with kind.child(silent, credentials) as port:
        known = ClientTls(server_ca=ours.path)
        async with kind.driver(port, tls_name="child.example.org", tls=known) as asked:
            await asked.probe(5)
        async with kind.driver(port, tls_name="other.example.org", tls=known) as asked:
            assert await reason_of(asked.probe(5)) is Reason.NODE_UNREACHABLE
        async with kind.driver(port, tls_name="child.example.org", tls=ClientTls(server_ca=theirs.path)) as asked:
            assert await reason_of(asked.probe(5)) is Reason.NODE_UNREACHABLE
    with pytest.raises(Fault) as unreadable:
        kind.open(Endpoint(Protocol.GRPC, "::1", 1, 0, "x"), ClientTls(server_ca=str(tmp_path / "no.pem")))
    assert unreadable.value.reason is Reason.FILE_UNREADABLE


async def test_an_expired_certificate_is_refused_by_its_name(kind: Kind, tmp_path: FilePath) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("child", alternatives=("child.example.org",), end=datetime(2021, 1, 1, tzinfo=UTC))
    credentials = server_credentials(ServerTls(certificate=files.certificate, key=files.key))
    known = ClientTls(server_ca=authority.path)
    async with (
        kind.child(silent, credentials) as port,
        kind.driver(port, tls_name="child.example.org", tls=known) as asked,
    ):
        with pytest.raises(Fault) as refused:
            await asked.probe(5)
    assert refused.value.reason is Reason.NODE_UNREACHABLE
    assert "certificate has expired" in refused.value.detail


async def test_a_driver_proves_itself_where_it_has_a_certificate(kind: Kind, tmp_path: FilePath) -> None:
    authority = Authority(tmp_path)
    files, own = authority.issue("child", alternatives=("child.example.org",)), authority.issue("top")
    credentials = server_credentials(
        ServerTls(certificate=files.certificate, key=files.key, client_ca=authority.path)
    )
    named = []

    async def answering(_octets: bytes, context: Any) -> bytes:
        named.append(context.auth_context()["x509_common_name"])
        return b""

    bare = ClientTls(server_ca=authority.path)
    proven = replace(bare, certificate=own.certificate, key=own.key)
    async with kind.child(answering, credentials) as port:
        async with kind.driver(port, tls_name="child.example.org", tls=proven) as asked:
            await asked.probe(5)
        async with kind.driver(port, tls_name="child.example.org", tls=bare) as asked:
            assert await reason_of(asked.probe(5)) is Reason.NODE_UNREACHABLE
    assert named == [[b"top"]]
