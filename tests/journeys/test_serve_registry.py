"""The registry of a real node: members apply, are enabled, and register, known to all resolvers within a second."""

import os
import signal
import time
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from registry.v1 import registry_pb2 as pb
from resolver.errors import Fault, Reason
from resolver.rpc.errors import fault_of
from resolver.trust.keys import PrivateKey
from resolver.trust.notes import open_checkpoint
from resolver.trust.receipts import Receipt, check_receipt
from resolver.v1 import resolver_pb2
from tests.certificates import Authority
from tests.running_node import RunningNode, wait_until, within_a_second
from tests.signing import Signing, registering

TopNode = Callable[..., RunningNode]

NODE = "88.111"
CONNECTIONS = 12
"""The kernel spreads them over the resolvers: with so many each has one, but for once in thousands of runs."""


class Member:
    """The node 88.111, enabled, with its prefix."""

    def __init__(self, top: RunningNode) -> None:
        self.top = top
        self.key = PrivateKey.generate()
        spki = b64encode(self.key.public.spki).decode()
        self.submit("node-apply.v1", {"node": NODE, "tier": "secondary", "organisation": "A works", "key": spki})
        self.operate("node-review.v1", {"node": NODE, "decision": "enable"})
        self.operate("prefix-allocate.v1", {"rows": [{"prefix": NODE, "holder": NODE}]})

    def signed(self, kind: str, body: dict[str, Any], request_id: str = "") -> bytes:
        return Signing(NODE, self.key, now=time.time()).request(kind, body, request_id)

    def submit(self, kind: str, body: dict[str, Any], request_id: str = "") -> pb.SubmitResponse:
        return self.top.submit(self.signed(kind, body, request_id))

    def register(self, *identifiers: str, request_id: str = "") -> pb.SubmitResponse:
        return self.submit("identifiers.v1", registering(*identifiers), request_id)

    def operate(self, kind: str, body: dict[str, Any]) -> pb.SubmitResponse:
        """Have the operator sign, whose key is in the data folder."""
        return self.top.submit(self.top.operator().request(kind, body))


class Everywhere:
    """Connections to all resolvers of a node, which are open before anything is asked."""

    def __init__(self, top: RunningNode) -> None:
        self._top = top
        self._channels = [top.channel() for _ in range(CONNECTIONS)]
        for channel in self._channels:
            grpc.channel_ready_future(channel).result(timeout=30)

    def say(self, identifier: str) -> set[str]:
        """What they say: outcomes, and reasons where they refuse."""
        return {self._said(identifier, channel) for channel in self._channels}

    def soon_say(self, expected: str, identifier: str) -> None:
        """Insist that each says so of an identifier, to every call that begins a second from now or later."""
        now = time.monotonic()
        for channel in self._channels:
            within_a_second(partial(self._says, expected, identifier, channel), since=now, what=expected)
        assert self.say(identifier) == {expected}

    def soon_refer(self, expected: resolver_pb2.Referral, identifier: str) -> None:
        """Insist likewise that each refers whoever wants to be referred."""
        now = time.monotonic()
        for channel in self._channels:
            within_a_second(partial(self._refers, expected, identifier, channel), since=now, what=str(expected))

    def _says(self, expected: str, identifier: str, channel: grpc.Channel) -> bool:
        return self._said(identifier, channel) == expected

    def _said(self, identifier: str, channel: grpc.Channel) -> str:
        try:
            return resolver_pb2.Outcome.Name(self._top.resolve(identifier, channel).outcome)
        except Fault as fault:
            return fault.reason.name

    @staticmethod
    def _refers(expected: resolver_pb2.Referral, identifier: str, channel: grpc.Channel) -> bool:
        options = resolver_pb2.Options(mode=resolver_pb2.MODE_REFERRAL)
        request = resolver_pb2.ResolveRequest(identifier=identifier, options=options)
        call: grpc.UnaryUnaryMultiCallable[bytes, resolver_pb2.ResolveResponse] = channel.unary_unary(
            "/topnode.resolver.v1.ResolverService/Resolve",
            response_deserializer=resolver_pb2.ResolveResponse.FromString,
        )
        answer = call(request.SerializeToString(), timeout=10).answer
        return answer.outcome == resolver_pb2.OUTCOME_REFERRAL and answer.referral == expected

    def close(self) -> None:
        for channel in self._channels:
            channel.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_node_joins_registers_and_is_suspended(top_node: TopNode, workers: int) -> None:
    """Each change is known to every resolver within a second of its answer, what they had cached notwithstanding."""
    top = top_node(workers=workers)
    everywhere = Everywhere(top)
    member = Member(top)
    everywhere.soon_say("OUTCOME_ABSENT", "88.111/A")
    response = member.register("88.111/A", "88.111/B")
    assert list(response.result.outcomes) == [pb.OUTCOME_REGISTERED] * 2
    everywhere.soon_say("OUTCOME_FOUND", "88.111/A")
    assert top.resolve("88.111/A").version == response.receipt.index

    member.operate("prefix-state.v1", {"prefix": NODE, "state": "disabled"})
    everywhere.soon_say("PREFIX_DISABLED", "88.111/A")
    assert _refused(lambda: member.operate("identifiers.v1", registering("88.111/C"))) == {"PREFIX_DISABLED"}
    member.operate("prefix-state.v1", {"prefix": NODE, "state": "enabled"})
    everywhere.soon_say("OUTCOME_FOUND", "88.111/A")

    member.operate("node-suspend.v1", {"node": NODE, "reason": "an audit"})
    with pytest.raises(Fault) as caught:
        member.register("88.111/C")
    assert caught.value.reason is Reason.NODE_NOT_ENABLED
    assert everywhere.say("88.111/A") == {"OUTCOME_FOUND"}, "what it registered goes on resolving"
    member.operate("node-resume.v1", {"node": NODE})
    member.register("88.111/C")
    everywhere.close()


def test_a_delegated_prefix_is_referred_by_every_resolver_within_a_second(top_node: TopNode) -> None:
    """With all that its holder said of its endpoints; what it had registered stays as a copy, until it comes back."""
    top = top_node(workers=2)
    everywhere, member = Everywhere(top), Member(top)
    member.register("88.111/A")
    everywhere.soon_say("OUTCOME_FOUND", "88.111/A")
    everywhere.soon_say("OUTCOME_ABSENT", "88.111/B")
    near = {"protocol": "grpc", "address": "node.example.cn", "port": 3641, "priority": 1, "tls_name": "88.111.test"}
    far = {"protocol": "handle_tcp", "address": "192.0.2.7", "port": 2641, "priority": 20}
    member.submit("route.v1", {"prefix": NODE, "hosting": "delegated", "endpoints": [far, near]})
    expected = resolver_pb2.Referral(prefix=NODE, holder=NODE)
    expected.endpoints.add(
        protocol=resolver_pb2.PROTOCOL_HANDLE_TCP, address="192.0.2.7", port=2641, priority=20, tls_name=""
    )
    expected.endpoints.add(
        protocol=resolver_pb2.PROTOCOL_GRPC,
        address="node.example.cn",
        port=3641,
        priority=1,
        tls_name="88.111.test",
    )
    everywhere.soon_refer(expected, "88.111/A")
    # Known with the same look at the feed, what they had cached notwithstanding.
    assert everywhere.say("88.111/B") == {"OUTCOME_NOT_HERE"}
    assert top.resolve("88.111/A").standing == resolver_pb2.STANDING_REGISTERED_COPY
    member.submit("route.v1", {"prefix": NODE, "hosting": "here"})
    everywhere.soon_say("OUTCOME_ABSENT", "88.111/B")
    assert top.resolve("88.111/A").standing == resolver_pb2.STANDING_AUTHORITATIVE
    everywhere.close()


def _refused(submit: Callable[[], pb.SubmitResponse]) -> set[str]:
    """The reasons for which rows were refused."""
    return {fault_of(each.error).reason.name for each in submit().result.refusals}


@pytest.mark.parametrize("workers", [0, 1])
def test_what_was_answered_holds_after_a_restart(top_node: TopNode, workers: int) -> None:
    """The same request gets its first answer, the same key proves it, and nobody else can read the keys."""
    top = top_node(workers=workers)
    member = Member(top)
    octets = member.signed("identifiers.v1", registering("88.111/A"), "one")
    first = top.submit(octets)
    verifier_key = _verifier_key(top)
    for name in ("operator.pem", "journal.pem"):
        assert (top.data / name).stat().st_mode & 0o777 == 0o600
    assert top.stop() == 0

    member.top = again = top_node(workers=workers)
    assert _verifier_key(again) == verifier_key
    for repeated in (again.submit(octets), member.register("88.111/A", request_id="one")):
        assert repeated.repeated_answer
        assert repeated.result == first.result
        assert _checked(repeated.receipt, verifier_key) == first.receipt.index


def test_a_killed_owner_comes_back_with_all_that_it_answered(top_node: TopNode) -> None:
    """At the same address; what it had answered is there, and what it had not can be sent again as it is."""
    top = top_node(workers=1)
    member = Member(top)
    answered = [member.signed("identifiers.v1", registering(f"88.111/{each}")) for each in range(20)]
    for octets in answered:
        top.submit(octets)
    killed = top.pids()["owner"]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: top.pids()["owner"] not in (0, killed) and top.conditions()["owner"] == "serving")
    for octets in answered:
        assert top.submit(octets).repeated_answer
    assert list(member.register("88.111/NEW").result.outcomes) == [pb.OUTCOME_REGISTERED]


def test_the_registry_may_have_tls_of_its_own(top_node: TopNode, tmp_path: Path) -> None:
    """It is told so when the node serves, and callers need it."""
    authority = Authority(tmp_path)
    files = authority.issue("registry", alternatives=("registry.test",))
    tls = {"TOPNODE_REGISTRY__TLS__CERTIFICATE": files.certificate, "TOPNODE_REGISTRY__TLS__KEY": files.key}
    top = top_node(workers=1, **tls)
    assert (top.started.tls, top.started.registry_tls) == (False, True)
    octets = top.operator().request("prefix-allocate.v1", {"rows": [{"prefix": "88.1", "holder": "top"}]})
    with pytest.raises(Fault) as caught:
        top.submit(octets)
    assert caught.value.reason is Reason.NODE_UNREACHABLE
    credentials = grpc.ssl_channel_credentials(Path(authority.path).read_bytes())
    with top.registry_channel(credentials, "registry.test") as channel:
        assert list(top.submit(octets, channel).result.outcomes) == [pb.OUTCOME_REGISTERED]


def test_operators_stand_in_the_settings(top_node: TopNode, tmp_path: Path) -> None:
    """Each with a name and the file of a public key; a file that is missing ends the start."""
    key = PrivateKey.generate()
    (tmp_path / "wang.pem").write_text(key.public.to_pem())
    config = tmp_path / "node.toml"
    config.write_text(f"[[registry.operators]]\nname = 'wang'\nkey = '{tmp_path}/wang.pem'\n")
    top = top_node("--config", str(config), workers=1)
    wang = Signing("wang", key, now=time.time())
    response = top.submit(wang.request("prefix-allocate.v1", {"rows": [{"prefix": "88.1", "holder": "top"}]}))
    assert pb.Statement.FromString(response.receipt.statement).actor == "wang"
    (tmp_path / "wang.pem").unlink()
    absent = top_node("--config", str(config), workers=1, data=tmp_path / "other", ready=False)
    assert absent.wait_ended() == 1
    assert "wang.pem" in absent.log.read_text()


def test_what_the_registry_does_is_counted(top_node: TopNode) -> None:
    top = top_node(workers=1)
    Member(top).register("88.111/A", "88.111/B")
    exposed = top.get("/metrics")[1]
    assert 'topnode_registry_entries_total{kind="identifiers.v1",worker="owner"} 1.0' in exposed
    assert 'topnode_registry_rows_total{outcome="registered",worker="owner"}' in exposed


def _verifier_key(top: RunningNode) -> str:
    with top.registry_channel() as channel:
        call = channel.unary_unary(
            "/topnode.registry.v1.RegistryService/GetCheckpoint",
            pb.GetCheckpointRequest.SerializeToString,
            pb.GetCheckpointResponse.FromString,
        )
        response: pb.GetCheckpointResponse = call(pb.GetCheckpointRequest(), timeout=10)
    open_checkpoint(response.checkpoint, response.verifier_key)
    return response.verifier_key


def _checked(message: pb.Receipt, verifier_key: str) -> int:
    receipt = Receipt(
        index=message.index,
        statement=message.statement,
        leaf_hash=message.leaf_hash,
        checkpoint=message.checkpoint,
        proof=tuple(message.inclusion_proof),
    )
    check_receipt(receipt, verifier_key)
    return receipt.index
