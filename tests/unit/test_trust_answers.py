"""Signed answers: whose they are, and what a signature is worth that does not fit."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from resolver.clock import SetClock
from resolver.errors import Fault, Reason
from resolver.trust.actors import Key, Node, NodeState, NodeTable, Tier
from resolver.trust.answers import AnswerSigner, AnswerVerifier
from resolver.trust.keys import PrivateKey
from resolver.trust.verdicts import Trust

METHOD = "topnode.resolver.v1.ResolverService/BatchResolve"
KEY, OTHER_KEY, STRANGE_KEY = (PrivateKey.generate() for _ in range(3))
NOW = 1_700_000_000


def row(name: str, *keys: PrivateKey, until: int = 0) -> Node:
    held = tuple(Key(key.public.key_id, key.public.spki, NOW, until) for key in keys)
    return Node(node=name, tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=held)


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
def nodes() -> NodeTable:
    table = NodeTable()
    table.put([row("88.1", KEY), row("88.2", OTHER_KEY)])
    return table


Judge = Callable[..., Trust]


@pytest.fixture
def judge(nodes: NodeTable) -> Judge:
    verifier = AnswerVerifier(nodes)

    def judged(octets: bytes, node: str = "88.1", method: str = METHOD, response: bytes = b"said") -> Trust:
        return verifier.verdict(octets, node=node, method=method, request=b"asked", response=response)

    return judged


def signed(clock: SetClock, key: PrivateKey = KEY, *, node: str = "88.1", request: bytes = b"asked") -> bytes:
    return AnswerSigner(node, lambda: key, clock).sign(METHOD, request, b"said")


def test_what_the_node_itself_signed_is_trusted(judge: Judge, clock: SetClock) -> None:
    assert judge(signed(clock)) is Trust.TRUSTED


def test_what_is_not_signed_or_by_nobody_s_key_is_unknown(judge: Judge, clock: SetClock) -> None:
    assert judge(b"") is Trust.UNKNOWN
    assert judge(signed(clock, STRANGE_KEY)) is Trust.UNKNOWN


def test_what_does_not_fit_is_not_trusted(judge: Judge, clock: SetClock) -> None:
    fitting = signed(clock)
    assert judge(fitting, response=b"not said") is Trust.NOT_TRUSTED
    assert judge(fitting, method="another.Service/Method") is Trust.NOT_TRUSTED
    assert judge(signed(clock, request=b"not asked")) is Trust.NOT_TRUSTED
    assert judge(signed(clock, OTHER_KEY)) is Trust.NOT_TRUSTED
    assert judge(signed(clock, node="88.3")) is Trust.NOT_TRUSTED
    assert judge(fitting, node="88.2") is Trust.NOT_TRUSTED
    assert judge(fitting[:-1]) is Trust.NOT_TRUSTED
    assert judge(b"x" * 5_000) is Trust.NOT_TRUSTED


def test_a_clock_that_is_wrong_by_an_hour_makes_nobody_a_liar(judge: Judge, clock: SetClock) -> None:
    clock.advance(3_600)
    assert judge(signed(clock)) is Trust.TRUSTED


def test_a_key_that_was_replaced_is_not_trusted(judge: Judge, nodes: NodeTable, clock: SetClock) -> None:
    octets = signed(clock)
    assert judge(octets) is Trust.TRUSTED
    before = row("88.1", KEY, until=NOW)
    nodes.put([replace(before, keys=(*before.keys, *row("88.1", STRANGE_KEY).keys))])
    assert judge(octets) is Trust.NOT_TRUSTED
    assert judge(signed(clock, STRANGE_KEY)) is Trust.TRUSTED


def test_without_a_key_nothing_is_signed_until_there_is_one(tmp_path: Path, clock: SetClock, judge: Judge) -> None:
    path = tmp_path / "node.pem"
    signer = AnswerSigner("88.1", lambda: PrivateKey.from_file(path), clock)
    assert signer.sign(METHOD, b"asked", b"said") == b""
    with pytest.raises(Fault) as caught:
        PrivateKey.from_file(path)
    assert caught.value.reason is Reason.FILE_UNREADABLE
    KEY.to_file(path)
    assert judge(signer.sign(METHOD, b"asked", b"said")) is Trust.TRUSTED
