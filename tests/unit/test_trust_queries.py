"""Signed queries, and whose key may sign."""

import pytest
from msgspec.structs import replace

from resolver.clock import SetClock
from resolver.errors import Fault, Reason
from resolver.trust.actors import Key, Node, NodeState, NodeTable, Tier
from resolver.trust.envelopes import Envelope, payload_type_of, seal
from resolver.trust.heads import LIFETIME, SKEW, Payload, new_head
from resolver.trust.keys import Algorithm, PrivateKey
from resolver.trust.operators import Operators
from resolver.trust.queries import QUERY_BYTES, QueryVerifier, sign_query
from resolver.trust.signers import Signers

METHOD = "topnode.resolver.v1.ResolverService/Resolve"
REQUEST = b"\x0a\x0b88.111/part"
NODE, OPERATOR, RETIRED = (PrivateKey.generate() for _ in range(3))


def row_of(key: PrivateKey, name: str = "88.111", state: NodeState = NodeState.ENABLED, until: int = 0) -> Node:
    keys = (Key(key.public.key_id, key.public.spki, 1, until),)
    return Node(node=name, tier=Tier.SECONDARY, state=state, keys=keys)


class Asking:
    """A node that verifies queries, and somebody who signs them."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.nodes = NodeTable()
        self.nodes.put([row_of(NODE)])
        self.verifier = QueryVerifier("top", self.nodes, Operators([("wang", OPERATOR.public)]), self.clock)

    def signed(self, actor: str = "88.111", key: PrivateKey = NODE, node: str = "top", method: str = METHOD) -> bytes:
        return sign_query(REQUEST, node=node, method=method, actor=actor, key=key, now=self.clock.wall())

    def refusal(self, octets: bytes, method: str = METHOD, request: bytes = REQUEST) -> Reason:
        with pytest.raises(Fault) as caught:
            self.verifier.identity(octets, method, request)
        return caught.value.reason


@pytest.fixture
def asking() -> Asking:
    return Asking()


def test_a_signed_query_tells_who_asks(asking: Asking) -> None:
    assert asking.verifier.identity(asking.signed(), METHOD, REQUEST) == "88.111"
    assert asking.verifier.identity(asking.signed("wang", OPERATOR), METHOD, REQUEST) == "wang"


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_keys_of_every_algorithm_sign_queries(asking: Asking, algorithm: Algorithm) -> None:
    """All of them fit into what gRPC takes as metadata."""
    key = PrivateKey.generate(algorithm)
    asking.nodes.put([row_of(key, "88.112")])
    octets = asking.signed("88.112", key)
    assert len(octets) < QUERY_BYTES
    assert asking.verifier.identity(octets, METHOD, REQUEST) == "88.112"


def test_a_query_may_be_sent_again_while_it_is_fresh(asking: Asking) -> None:
    """Reads change nothing, so nonces are not spent."""
    octets = asking.signed()
    for _ in range(3):
        assert asking.verifier.identity(octets, METHOD, REQUEST) == "88.111"
    asking.clock.advance(LIFETIME + SKEW + 1)
    assert asking.refusal(octets) is Reason.ENVELOPE_EXPIRED


def test_a_query_is_worth_nothing_elsewhere(asking: Asking) -> None:
    """For another request, another method, another node, by another actor."""
    assert asking.refusal(asking.signed(), request=REQUEST + b"s") is Reason.SIGNATURE_INVALID
    assert asking.refusal(asking.signed(), method="topnode.resolver.v1.ResolverService/ListHandles") is (
        Reason.AUDIENCE_WRONG
    )
    assert asking.refusal(asking.signed(node="other")) is Reason.AUDIENCE_WRONG
    assert asking.refusal(asking.signed(actor="88.112")) is Reason.ACTOR_MISMATCH
    assert asking.refusal(asking.signed(actor="wang")) is Reason.ACTOR_MISMATCH


def test_only_queries_are_queries(asking: Asking) -> None:
    """No signed request to register is taken as a query, nor a query with more or less than it says."""
    head = new_head(node="top", method=METHOD, actor="88.111", request_id="r", now=asking.clock.wall())

    def sealed(kind: str, body: bytes) -> bytes:
        return seal(payload_type_of(kind), Payload(head, body).to_bytes(), [NODE]).to_bytes()

    assert asking.refusal(sealed("identifiers.v1", b"{}")) is Reason.PAYLOAD_TYPE_UNKNOWN
    assert asking.refusal(sealed("query.v2", b"{}")) is Reason.PAYLOAD_TYPE_UNKNOWN
    assert asking.refusal(sealed("query.v1", b"{}")) is Reason.PAYLOAD_MALFORMED
    assert asking.refusal(sealed("query.v1", b'{"request_sha256":"00","x":1}')) is Reason.PAYLOAD_MALFORMED
    assert asking.refusal(sealed("query.v1", b'{"request_sha256":"00"}')) is Reason.SIGNATURE_INVALID
    assert asking.refusal(b"") is Reason.ENVELOPE_MALFORMED
    assert asking.refusal(sealed("query.v1", b" " * QUERY_BYTES)) is Reason.ENVELOPE_MALFORMED


def test_a_forged_query_is_refused(asking: Asking) -> None:
    envelope = Envelope.from_bytes(asking.signed())
    forged = replace(envelope, payload=envelope.payload.replace(b"88.111", b"88.112"))
    assert asking.refusal(forged.to_bytes()) is Reason.SIGNATURE_INVALID
    twice = replace(envelope, signatures=(*envelope.signatures, replace(envelope.signatures[0], key_id="0" * 64)))
    assert asking.refusal(twice.to_bytes()) is Reason.ENVELOPE_MALFORMED


def test_the_key_says_who_it_is(asking: Asking) -> None:
    """A node that has the name of an operator is no operator."""
    key = PrivateKey.generate()
    asking.nodes.put([row_of(key, "wang")])
    assert asking.verifier.signer(asking.signed("wang", key), METHOD, REQUEST).node is not None
    assert asking.verifier.signer(asking.signed("wang", OPERATOR), METHOD, REQUEST).node is None


@pytest.mark.parametrize("state", [state for state in NodeState if state is not NodeState.ENABLED])
def test_only_enabled_nodes_ask(asking: Asking, state: NodeState) -> None:
    octets = asking.signed()
    asking.nodes.put([row_of(NODE, state=state)])
    assert asking.refusal(octets) is Reason.NODE_NOT_ENABLED


def test_unknown_and_retired_keys_ask_nothing(asking: Asking) -> None:
    """A retired key stays retired, also when the clock was set back to before that."""
    assert asking.refusal(asking.signed(key=RETIRED)) is Reason.KEY_UNKNOWN
    asking.nodes.put([row_of(RETIRED, "88.113", until=2_000_000_000)])
    assert asking.refusal(asking.signed("88.113", RETIRED)) is Reason.KEY_NOT_ALLOWED
    asking.nodes.put([row_of(NODE, "88.113")])
    assert asking.refusal(asking.signed("88.113", RETIRED)) is Reason.KEY_UNKNOWN


def test_no_more_keys_are_kept_ready_than_allowed() -> None:
    """However many nodes sign, memory stays bounded; those that were let go are read again."""
    nodes = NodeTable()
    signers = Signers(nodes, Operators(), kept=3)
    keys = [PrivateKey.generate() for _ in range(8)]
    nodes.put([row_of(key, f"88.{number}") for number, key in enumerate(keys)])
    for key in keys * 2:
        assert signers.allowed(key.public.key_id).public == key.public
        assert len(signers._ready) <= 3
