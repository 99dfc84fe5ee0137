"""The ladder: each rung refuses once, in its order; and what a request is when it has climbed it."""

import json
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from registry.plans import Actor
from registry.state import State
from registry.verify import APPLY, ROTATE, UNPROVEN_BYTES, Verified, Verifier
from resolver.bounds import ENVELOPE_BYTES
from resolver.clock import SetClock
from resolver.errors import Fault, Reason
from resolver.store import Checkpoint
from resolver.trust.actors import Key, Node, NodeState, NodeTable, Tier
from resolver.trust.envelopes import Envelope, payload_type_of, seal
from resolver.trust.heads import LIFETIME, SKEW, body_digest
from resolver.trust.keys import Algorithm, PrivateKey
from resolver.trust.operators import Operators
from tests.signing import SUBMIT, Signing, registering
from tests.small_store import SmallStore

KIND = "identifiers.v1"
NODE, OTHER, OPERATOR, NEW, STRANGER = (PrivateKey.generate() for _ in range(5))
BODY = registering("88.111/a")


def row_of(
    name: str, *keys: PrivateKey, state: NodeState = NodeState.ENABLED, retired: tuple[PrivateKey, ...] = ()
) -> Node:
    held = [Key(key.public.key_id, key.public.spki, 1, 2 if key in retired else 0) for key in (*retired, *keys)]
    return Node(node=name, tier=Tier.SECONDARY, state=state, keys=tuple(held))


def spki(key: PrivateKey) -> str:
    return b64encode(key.public.spki).decode()


class Store(SmallStore):
    """A store as planning reads it."""

    async def checkpoint(self, name: str) -> Checkpoint:
        del name
        return Checkpoint()


class Ladder:
    """A verifier of the node `top`, whose nodes are 88.111 and 88.112, and those who sign."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.nodes = NodeTable()
        self.nodes.put([row_of("88.111", NODE), row_of("88.112", OTHER)])
        self.metrics = CollectorRegistry()
        self.verifier = Verifier(
            node="top",
            nodes=self.nodes,
            operators=Operators([("wang", OPERATOR.public)]),
            registry=self.metrics,
            kinds={KIND, APPLY, ROTATE},
        )
        self.state = State(Store(), own_name="top")
        self.signing = self.by("88.111", NODE)

    def by(self, actor: str, key: PrivateKey, **head: Any) -> Signing:
        return Signing(actor, key, now=self.clock.wall(), **head)

    def verify(self, octets: bytes) -> Verified:
        return self.verifier.verify(octets, SUBMIT)

    def refusal(self, octets: bytes) -> Fault:
        with pytest.raises(Fault) as caught:
            self.verify(octets)
        return caught.value

    def now(self, verified: Verified, *nodes: Node) -> Actor:
        """Ask again, in turn, when the nodes are these."""
        table = NodeTable()
        table.put(nodes)
        self.state.nodes.adopt(table)
        return self.verifier.still_allowed(verified, self.state)

    def later_refusal(self, verified: Verified, *nodes: Node) -> Reason:
        with pytest.raises(Fault) as caught:
            self.now(verified, *nodes)
        return caught.value.reason

    def counted(self, reason: Reason) -> float:
        counted = self.metrics.get_sample_value("topnode_registry_refused_total", {"reason": reason.name})
        return counted or 0.0


@pytest.fixture
def ladder() -> Ladder:
    return Ladder()


def forged(ladder: Ladder, **changes: Any) -> bytes:
    return replace(Envelope.from_bytes(ladder.signing.request(KIND, BODY)), **changes).to_bytes()


def unreadable(ladder: Ladder) -> bytes:
    del ladder
    return seal(payload_type_of(KIND), b'{"head":{},"body":{}}', [NODE]).to_bytes()


RUNGS: list[tuple[str, Reason, Callable[[Ladder], bytes]]] = [
    ("too large", Reason.REQUEST_TOO_LARGE, lambda _: bytes(ENVELOPE_BYTES + 1)),
    ("nothing", Reason.ENVELOPE_MALFORMED, lambda _: b""),
    ("truncated", Reason.ENVELOPE_MALFORMED, lambda to: to.signing.request(KIND, BODY)[:-1]),
    (
        "unknown kind",
        Reason.PAYLOAD_TYPE_UNKNOWN,
        lambda to: to.signing.request("identifiers.v2", BODY),
    ),
    (
        "other payload type",
        Reason.PAYLOAD_TYPE_UNKNOWN,
        lambda to: forged(to, payload_type="application/json"),
    ),
    ("unknown key", Reason.KEY_UNKNOWN, lambda to: to.by("88.111", STRANGER).request(KIND, BODY)),
    ("two signatures", Reason.ENVELOPE_MALFORMED, lambda to: to.signing.request(KIND, BODY, keys=[OTHER])),
    ("forged payload", Reason.SIGNATURE_INVALID, lambda to: forged(to, payload=b'{"head":{},"body":{}}')),
    ("unreadable head", Reason.PAYLOAD_MALFORMED, unreadable),
    ("another's key", Reason.ACTOR_MISMATCH, lambda to: to.by("88.111", OTHER).request(KIND, BODY)),
    ("as an operator", Reason.ACTOR_MISMATCH, lambda to: to.by("wang", NODE).request(KIND, BODY)),
    ("operator as a node", Reason.ACTOR_MISMATCH, lambda to: to.by("88.111", OPERATOR).request(KIND, BODY)),
    ("another node", Reason.AUDIENCE_WRONG, lambda to: to.by("88.111", NODE, node="other").request(KIND, BODY)),
    (
        "another method",
        Reason.AUDIENCE_WRONG,
        lambda to: to.by("88.111", NODE, method=SUBMIT.replace("Submit", "Import")).request(KIND, BODY),
    ),
]


@pytest.mark.parametrize(("reason", "made"), [pytest.param(*rest, id=name) for name, *rest in RUNGS])
def test_each_rung_refuses(ladder: Ladder, reason: Reason, made: Callable[[Ladder], bytes]) -> None:
    """With its own reason, which is counted."""
    assert ladder.counted(reason) == 0
    assert ladder.refusal(made(ladder)).reason is reason
    assert ladder.counted(reason) == 1


@pytest.mark.parametrize("state", [state for state in NodeState if state is not NodeState.ENABLED])
def test_only_enabled_nodes_sign(ladder: Ladder, state: NodeState) -> None:
    ladder.nodes.put([row_of("88.111", NODE, state=state)])
    assert ladder.refusal(ladder.signing.request(KIND, BODY)).reason is Reason.NODE_NOT_ENABLED


def test_a_replaced_key_does_not_sign(ladder: Ladder) -> None:
    ladder.nodes.put([row_of("88.111", NEW, retired=(NODE,))])
    assert ladder.refusal(ladder.signing.request(KIND, BODY)).reason is Reason.KEY_NOT_ALLOWED
    assert ladder.verify(ladder.by("88.111", NEW).request(KIND, BODY))


def test_the_cheaper_rung_refuses_first(ladder: Ladder) -> None:
    """What is wrong in several ways is told the first of them in the ladder's order, and nothing behind it."""
    octets = ladder.by("88.999", STRANGER, node="other", method="x").request("unknown.v1", b"not JSON")
    assert ladder.refusal(octets[:-1]).reason is Reason.ENVELOPE_MALFORMED
    assert ladder.refusal(octets).reason is Reason.PAYLOAD_TYPE_UNKNOWN
    octets = ladder.by("88.999", STRANGER, node="other", method="x").request(KIND, b"not JSON")
    assert ladder.refusal(octets).reason is Reason.KEY_UNKNOWN
    ladder.nodes.put([row_of("88.113", STRANGER, state=NodeState.SUSPENDED, retired=(STRANGER,))])
    assert ladder.refusal(octets).reason is Reason.KEY_NOT_ALLOWED
    ladder.nodes.put([row_of("88.113", STRANGER, state=NodeState.SUSPENDED)])
    assert ladder.refusal(octets).reason is Reason.NODE_NOT_ENABLED
    ladder.nodes.put([row_of("88.113", STRANGER)])
    broken = replace(Envelope.from_bytes(octets), payload=b"hello").to_bytes()
    assert ladder.refusal(broken).reason is Reason.SIGNATURE_INVALID
    assert ladder.refusal(octets).reason is Reason.PAYLOAD_MALFORMED
    octets = ladder.by("88.999", STRANGER, node="other", method="x").request(KIND, b"{}")
    assert ladder.refusal(octets).reason is Reason.ACTOR_MISMATCH
    octets = ladder.by("88.113", STRANGER, node="other", method="x").request(KIND, b"{}")
    assert ladder.refusal(octets).reason is Reason.AUDIENCE_WRONG


def test_a_signature_does_not_hold_for_another_kind(ladder: Ladder) -> None:
    """Though the other kind is known and the payload the same."""
    envelope = Envelope.from_bytes(ladder.signing.request(KIND, {"key": spki(NODE)}))
    octets = replace(envelope, payload_type=payload_type_of(APPLY)).to_bytes()
    assert ladder.refusal(octets).reason is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_what_has_climbed_is_a_request(ladder: Ladder, algorithm: Algorithm) -> None:
    """With the exact bytes of its body, whatever the key's algorithm."""
    key = PrivateKey.generate(algorithm)
    node = row_of("88.114", key)
    ladder.nodes.put([node])
    body = b'{ "rows" : [] }'
    octets = ladder.by("88.114", key).request(KIND, body, "request-1", nonce="ab" * 16)
    verified = ladder.verify(octets)
    request = verified.request
    assert (request.kind, request.body, request.at) == (KIND, body, 0)
    assert request.actor == Actor("88.114", node)
    assert request.key_ids == (key.public.key_id,)
    assert request.envelope_sha256 == sha256(octets).digest()
    assert verified.envelope == octets
    assert verified.body_sha256 == body_digest(KIND, body)
    assert verified.head.request_id == "request-1"
    assert verified.nonce.until > verified.head.expires_at + SKEW


def test_operators_are_actors_without_a_row(ladder: Ladder) -> None:
    verified = ladder.verify(ladder.by("wang", OPERATOR).request(KIND, BODY))
    assert verified.request.actor == Actor("wang")
    assert verified.request.actor.is_operator
    assert ladder.now(verified).is_operator


def test_a_retry_is_the_same_request_and_nothing_else_is(ladder: Ladder) -> None:
    """Signed anew, a request keeps its key and body hash, and has another nonce; of another actor it is another."""
    first = ladder.verify(ladder.signing.request(KIND, BODY, "r"))
    ladder.clock.advance(3_600)
    retry = ladder.verify(ladder.by("88.111", NODE).request(KIND, BODY, "r"))
    assert (retry.request_key, retry.body_sha256) == (first.request_key, first.body_sha256)
    assert retry.nonce.name != first.nonce.name
    others = [
        ladder.verify(ladder.signing.request(KIND, BODY, "s")),
        ladder.verify(ladder.by("88.112", OTHER).request(KIND, BODY, "r")),
    ]
    assert first.request_key not in {each.request_key for each in others}
    changed = ladder.verify(ladder.signing.request(KIND, registering("88.111/b"), "r"))
    assert changed.request_key == first.request_key
    assert changed.body_sha256 != first.body_sha256


def test_nonces_are_each_actors_own(ladder: Ladder) -> None:
    """Nobody can spend another's nonce."""
    mine = ladder.verify(ladder.signing.request(KIND, BODY, nonce="00" * 16)).nonce
    others = ladder.verify(ladder.by("88.112", OTHER).request(KIND, BODY, nonce="00" * 16)).nonce
    assert mine.name != others.name


def test_nobody_can_take_anothers_request_id(ladder: Ladder) -> None:
    """Neither by a name that an operator has too, nor by claiming a name in an application."""
    ladder.nodes.put([row_of("wang", NEW)])
    made = [
        ladder.by("wang", NEW).request(KIND, BODY, "r", nonce="00" * 16),
        ladder.by("wang", OPERATOR).request(KIND, BODY, "r", nonce="00" * 16),
        *(
            ladder.by("88.120", key).request(APPLY, application(key), "r", nonce="00" * 16)
            for key in (STRANGER, PrivateKey.generate())
        ),
    ]
    verified = [ladder.verify(octets) for octets in made]
    assert len({each.request_key for each in verified}) == len(made)
    assert len({each.nonce.name for each in verified}) == len(made)


def test_freshness_is_asked_in_turn(ladder: Ladder) -> None:
    """What is too old or from the future climbs the ladder: as a retry it may get its first answer."""
    verified = ladder.verify(ladder.signing.request(KIND, BODY))
    now = int(ladder.clock.wall())
    ladder.verifier.check_fresh(verified, now)
    for seconds, reason in (
        (LIFETIME + SKEW + 1, Reason.ENVELOPE_EXPIRED),
        (-SKEW - 1, Reason.ENVELOPE_NOT_YET_VALID),
    ):
        with pytest.raises(Fault) as caught:
            ladder.verifier.check_fresh(verified, now + seconds)
        assert caught.value.reason is reason
        assert caught.value.variables["server_time"] == str(now + seconds)
        assert ladder.counted(reason) == 1
    assert ladder.verify(ladder.signing.request(KIND, BODY, issued_at=0, expires_at=LIFETIME))


def test_what_is_revoked_in_flight_is_refused_in_turn(ladder: Ladder) -> None:
    """The actor is as it is now, with all that was planned before."""
    verified = ladder.verify(ladder.signing.request(KIND, BODY))
    changed = replace(row_of("88.111", NODE), organisation="changed meanwhile")
    assert ladder.now(verified, changed).node == changed
    suspended = row_of("88.111", NODE, state=NodeState.SUSPENDED)
    assert ladder.later_refusal(verified, suspended) is Reason.NODE_NOT_ENABLED
    assert ladder.counted(Reason.NODE_NOT_ENABLED) == 1
    replaced = row_of("88.111", NEW, retired=(NODE,))
    assert ladder.later_refusal(verified, replaced) is Reason.KEY_NOT_ALLOWED
    assert ladder.later_refusal(verified, row_of("88.111", NEW)) is Reason.KEY_NOT_ALLOWED
    assert ladder.later_refusal(verified) is Reason.KEY_UNKNOWN


# --- applications: the key stands in the body


def application(key: PrivateKey) -> dict[str, Any]:
    return {"node": "88.120", "tier": "secondary", "organisation": "A works", "key": spki(key)}


def test_an_applicant_proves_its_key(ladder: Ladder) -> None:
    """Nobody knows it yet. Until there is a row, the applicant is a node that may do nothing, and no operator."""
    verified = ladder.verify(ladder.by("88.120", STRANGER).request(APPLY, application(STRANGER)))
    assert verified.request.key_ids == (STRANGER.public.key_id,)
    for actor in (verified.request.actor, ladder.now(verified)):
        assert actor.name == "88.120"
        assert not actor.is_operator
        assert actor.node
        assert actor.node.state is NodeState.APPLIED
        assert actor.node.keys == ()


@pytest.mark.parametrize("state", list(NodeState))
def test_a_node_that_is_there_may_ask_again(ladder: Ladder, state: NodeState) -> None:
    """What its state allows is its planner's to say; a repetition gets its first answer, whatever came after.

    But the one who signs may be somebody else who claims the name, and so has none of the node's rights.
    """
    for key in (STRANGER, NEW):
        held = row_of("88.120", STRANGER, state=state)
        ladder.nodes.put([held])
        verified = ladder.verify(ladder.by("88.120", key).request(APPLY, application(key)))
        for actor in (verified.request.actor, ladder.now(verified, held)):
            assert actor.node
            assert actor.node.state is NodeState.APPLIED


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (application(NEW), Reason.SIGNATURE_INVALID),
        ({"node": "88.120"}, Reason.PAYLOAD_MALFORMED),
        ({"key": "*"}, Reason.PAYLOAD_MALFORMED),
        ({"key": 1}, Reason.PAYLOAD_MALFORMED),
        ({"key": "AAAA"}, Reason.KEY_INVALID),
        (b"not JSON", Reason.PAYLOAD_MALFORMED),
    ],
)
def test_who_cannot_prove_the_key_does_not_apply(
    ladder: Ladder, body: dict[str, Any] | bytes, reason: Reason
) -> None:
    assert ladder.refusal(ladder.by("88.120", STRANGER).request(APPLY, body)).reason is reason


def test_an_applicant_signs_under_the_name_of_the_key_that_is_brought(ladder: Ladder) -> None:
    """The signature holds, but names the key of somebody else."""
    envelope = Envelope.from_bytes(ladder.by("88.120", STRANGER).request(APPLY, application(STRANGER)))
    (signature,) = envelope.signatures
    renamed = replace(envelope, signatures=(replace(signature, key_id=NEW.public.key_id),))
    assert ladder.refusal(renamed.to_bytes()).reason is Reason.SIGNATURE_INVALID


def test_nobody_applies_with_anothers_key_or_an_operators_name(ladder: Ladder) -> None:
    for actor, key in (("88.120", NODE), ("88.120", OPERATOR), ("wang", STRANGER), ("local", STRANGER)):
        octets = ladder.by(actor, key).request(APPLY, application(key))
        assert ladder.refusal(octets).reason is Reason.ACTOR_MISMATCH


def test_little_is_read_of_what_nobody_has_proven(ladder: Ladder) -> None:
    octets = ladder.by("88.120", STRANGER).request(APPLY, {**application(STRANGER), "x": "y" * UNPROVEN_BYTES})
    assert ladder.refusal(octets).reason is Reason.ENVELOPE_MALFORMED


def test_an_application_has_one_signature(ladder: Ladder) -> None:
    octets = ladder.by("88.120", STRANGER).request(APPLY, application(STRANGER), keys=[NODE])
    assert ladder.refusal(octets).reason is Reason.ENVELOPE_MALFORMED


# --- a change of keys: both sign


def rotation(ladder: Ladder, old: PrivateKey, new: PrivateKey, *, actor: str = "88.111", brought: str = "") -> bytes:
    return ladder.by(actor, old).request(ROTATE, {"key": brought or spki(new)}, keys=[new])


def test_old_and_new_key_sign_a_change(ladder: Ladder) -> None:
    """In whichever order; who is who is told by the key in the body."""
    ids = (NODE.public.key_id, NEW.public.key_id)
    verified = ladder.verify(rotation(ladder, NODE, NEW))
    assert verified.request.key_ids == ids
    assert ladder.now(verified, row_of("88.111", NODE)).name == "88.111"
    envelope = Envelope.from_bytes(verified.envelope)
    turned = replace(envelope, signatures=envelope.signatures[::-1])
    assert ladder.verify(turned.to_bytes()).request.key_ids == ids


def test_one_of_the_keys_is_not_enough(ladder: Ladder) -> None:
    only_old = ladder.signing.request(ROTATE, {"key": spki(NEW)})
    only_new = ladder.by("88.111", NEW).request(ROTATE, {"key": spki(NEW)})
    for octets in (only_old, only_new):
        assert ladder.refusal(octets).reason is Reason.ENVELOPE_MALFORMED


@pytest.mark.parametrize("place", [0, 1])
def test_both_signatures_must_hold(ladder: Ladder, place: int) -> None:
    envelope = Envelope.from_bytes(rotation(ladder, NODE, NEW))
    signatures = list(envelope.signatures)
    signatures[place] = replace(signatures[place], sig=bytes(64))
    octets = replace(envelope, signatures=tuple(signatures)).to_bytes()
    assert ladder.refusal(octets).reason is Reason.SIGNATURE_INVALID


def test_strangers_and_others_change_no_key(ladder: Ladder) -> None:
    """Neither with keys that nobody knows, nor to another's key, nor for another, nor operators for a node."""
    cases = [
        (rotation(ladder, STRANGER, NEW), Reason.KEY_UNKNOWN),
        (rotation(ladder, NODE, NEW, brought=spki(STRANGER)), Reason.SIGNATURE_INVALID),
        (rotation(ladder, NODE, NEW, brought=spki(NODE)), Reason.KEY_UNKNOWN),
        (rotation(ladder, NODE, NEW, actor="88.112"), Reason.ACTOR_MISMATCH),
        (rotation(ladder, NODE, OTHER), Reason.ACTOR_MISMATCH),
        (rotation(ladder, NODE, OPERATOR), Reason.ACTOR_MISMATCH),
        (rotation(ladder, OPERATOR, NEW, actor="wang"), Reason.ACTOR_MISMATCH),
        (rotation(ladder, OPERATOR, NEW), Reason.ACTOR_MISMATCH),
        (rotation(ladder, NODE, NEW, brought="AAAA"), Reason.KEY_INVALID),
    ]
    assert [ladder.refusal(octets).reason for octets, _ in cases] == [reason for _, reason in cases]


def test_a_suspended_node_changes_no_key(ladder: Ladder) -> None:
    octets = rotation(ladder, NODE, NEW)
    verified = ladder.verify(octets)
    suspended = row_of("88.111", NODE, state=NodeState.SUSPENDED)
    ladder.nodes.put([suspended])
    assert ladder.refusal(octets).reason is Reason.NODE_NOT_ENABLED
    assert ladder.later_refusal(verified, suspended) is Reason.NODE_NOT_ENABLED


def test_a_change_that_was_made_can_be_repeated_for_its_answer(ladder: Ladder) -> None:
    """Whoever lost the answer has a key that signs no more; the planner takes no key that is registered."""
    octets = rotation(ladder, NODE, NEW)
    first = ladder.verify(octets)
    changed = row_of("88.111", NEW, retired=(NODE,))
    ladder.nodes.put([changed])
    again = ladder.verify(octets)
    assert (again.request.key_ids, again.request_key) == (first.request.key_ids, first.request_key)
    assert ladder.now(again, changed).node == changed


def test_a_stolen_old_key_changes_nothing_more(ladder: Ladder) -> None:
    """It is refused at once, and in turn where the change came in between."""
    octets = rotation(ladder, NODE, STRANGER)
    verified = ladder.verify(octets)
    changed = row_of("88.111", NEW, retired=(NODE,))
    assert ladder.later_refusal(verified, changed) is Reason.KEY_NOT_ALLOWED
    ladder.nodes.put([changed])
    assert ladder.refusal(octets).reason is Reason.KEY_NOT_ALLOWED


def test_the_refusals_of_others_are_counted_too(ladder: Ladder) -> None:
    """By whoever refuses further up the ladder; what is no refusal is not."""
    with pytest.raises(Fault), ladder.verifier.refusals:
        raise Fault(Reason.NONCE_SPENT)
    with pytest.raises(ZeroDivisionError), ladder.verifier.refusals:
        raise ZeroDivisionError
    with ladder.verifier.refusals:
        pass
    with pytest.raises(Fault), ladder.verifier.refusals:
        raise Fault(Reason.BATCH_TOO_LARGE)
    assert ladder.counted(Reason.NONCE_SPENT) == 1
    assert ladder.counted(Reason.BATCH_TOO_LARGE) == 1


def test_requests_as_other_libraries_write_them_climb_too(ladder: Ladder) -> None:
    head = ladder.signing.head()
    members = {name: getattr(head, name) for name in head.__struct_fields__}
    payload = json.dumps({"body": BODY, "head": members}).encode()
    verified = ladder.verify(seal(payload_type_of(KIND), payload, [NODE]).to_bytes())
    assert verified.request.body == json.dumps(BODY).encode()
