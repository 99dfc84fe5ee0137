"""The registry of a real node: members apply, are enabled, and register, known to all resolvers within a second."""

import os
import signal
import time
from base64 import b64encode
from collections.abc import Callable
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
from tests.running_node import RunningNode, wait_until
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
    """Connections to all resolvers of a node."""

    def __init__(self, top: RunningNode) -> None:
        self._top = top
        self._channels = [top.channel() for _ in range(CONNECTIONS)]

    def say(self, identifier: str) -> set[str]:
        """What they say: outcomes, and reasons where they refuse."""
        return {self._said(identifier, channel) for channel in self._channels}

    def _said(self, identifier: str, channel: grpc.Channel) -> str:
        try:
            return resolver_pb2.Outcome.Name(self._top.resolve(identifier, channel).outcome)
        except Fault as fault:
            return fault.reason.name

    def close(self) -> None:
        for channel in self._channels:
            channel.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_node_joins_registers_and_is_suspended(top_node: TopNode, workers: int) -> None:
    """Each change is known to every resolver within a second of its answer, what they had cached notwithstanding."""
    top = top_node(workers=workers)
    everywhere = Everywhere(top)
    member = Member(top)
    wait_until(lambda: everywhere.say("88.111/A") == {"OUTCOME_ABSENT"}, 1)
    response = member.register("88.111/A", "88.111/B")
    assert list(response.result.outcomes) == [pb.OUTCOME_REGISTERED] * 2
    wait_until(lambda: everywhere.say("88.111/A") == {"OUTCOME_FOUND"}, 1)
    assert top.resolve("88.111/A").version == response.receipt.index

    member.operate("prefix-state.v1", {"prefix": NODE, "state": "disabled"})
    wait_until(lambda: everywhere.say("88.111/A") == {"PREFIX_DISABLED"}, 1)
    assert _refused(lambda: member.operate("identifiers.v1", registering("88.111/C"))) == {"PREFIX_DISABLED"}
    member.operate("prefix-state.v1", {"prefix": NODE, "state": "enabled"})
    wait_until(lambda: everywhere.say("88.111/A") == {"OUTCOME_FOUND"}, 1)

    member.operate("node-suspend.v1", {"node": NODE, "reason": "an audit"})
    with pytest.raises(Fault) as caught:
        member.register("88.111/C")
    assert caught.value.reason is Reason.NODE_NOT_ENABLED
    assert everywhere.say("88.111/A") == {"OUTCOME_FOUND"}, "what it registered goes on resolving"
    member.operate("node-resume.v1", {"node": NODE})
    member.register("88.111/C")
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
