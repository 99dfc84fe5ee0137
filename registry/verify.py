"""The ladder: what a request must be before anybody plans it, in this order, the cheapest first.

      1  its size                                             REQUEST_TOO_LARGE
      2  an envelope, in its one encoding                     ENVELOPE_MALFORMED
      3  of a kind that is known here                         PAYLOAD_TYPE_UNKNOWN
      4  signed by a key that is known                        KEY_UNKNOWN
      5  which may sign, for a node that may                  KEY_NOT_ALLOWED, NODE_NOT_ENABLED
      6  over exactly these bytes                             SIGNATURE_INVALID
      7  with a head that can be read                         PAYLOAD_MALFORMED
      8  naming the key's own actor                           ACTOR_MISMATCH
      9  meant for this node and this method                  AUDIENCE_WRONG

So far `verify`, without I/O, as many at once as there are. Then in turn, at the journal (`registry.desk`):

     10  not answered already: else it gets its first answer  REQUEST_ID_REUSED
     11  fresh (`check_fresh`)                                ENVELOPE_LIFETIME, ..._EXPIRED, ..._NOT_YET_VALID
     12  with a nonce that was not spent                      NONCE_SPENT
     13  still allowed (`still_allowed`): what was revoked    as 4 and 5
         while it waited is refused
     14  with a body that its planner can read                PAYLOAD_MALFORMED

Two kinds bring a key along in their body, and must prove that they have its secret: an application to be a node,
which only that key signs, and a change of keys, which the old one signs too.
"""

from collections.abc import Collection
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter

from registry.plans import Actor, Request
from registry.state import State
from resolver.errors import Fault, Reason
from resolver.store import Nonce
from resolver.trust.actors import Node, NodeState, NodeTable, Tier, check_node
from resolver.trust.envelopes import Envelope, kind_of
from resolver.trust.heads import SKEW, Head, Payload, body_digest, check_audience, check_times
from resolver.trust.keys import PublicKey
from resolver.trust.operators import Operators
from resolver.trust.signers import (
    Signers,
    check_actor,
    check_current,
    check_enabled,
    check_signature,
    key_of,
    only_signature,
    unknown,
)

APPLY: Final = "node-apply.v1"
"""An application to be a node: signed by the key that it brings along."""

ROTATE: Final = "node-rotate.v1"
"""A change of keys: signed by the old key and by the new one, which it brings along."""

UNPROVEN_BYTES: Final = 64 * 1024
"""Of an application so much is read before its signature can be verified, and no more."""


class Verified(Struct, frozen=True, kw_only=True):
    """A request that has climbed the ladder as far as it goes without the store.

    Until it is taken `request.at` is 0. `envelope` is the request exactly as it came. `body_sha256` is equal where
    the same is asked for (`heads.body_digest`); `request_key` names actor and request id. `nonce` must be remembered
    as spent, as long as the request could be fresh.
    """

    request: Request
    envelope: bytes
    head: Head
    body_sha256: bytes
    nonce: Nonce
    request_key: bytes


class Refusals:
    """Counts requests that were refused as a whole."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counter = Counter(
            "topnode_registry_refused_total",
            "Signed requests that were refused as a whole, by reason.",
            ("reason",),
            registry=registry,
        )
        self._children = {reason: self._counter.labels(reason.name) for reason in _CLIMBING}

    def __enter__(self) -> None:
        """Count the fault with which this context is left, if it is left with one."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Fault):
            self._child(error.reason).inc()

    def _child(self, reason: Reason) -> Counter:
        child = self._children.get(reason)
        if child is None:
            child = self._children[reason] = self._counter.labels(reason.name)
        return child


_CLIMBING: Final = (
    Reason.REQUEST_TOO_LARGE,
    Reason.ENVELOPE_MALFORMED,
    Reason.PAYLOAD_TYPE_UNKNOWN,
    Reason.KEY_UNKNOWN,
    Reason.KEY_NOT_ALLOWED,
    Reason.NODE_NOT_ENABLED,
    Reason.SIGNATURE_INVALID,
    Reason.PAYLOAD_MALFORMED,
    Reason.ACTOR_MISMATCH,
    Reason.AUDIENCE_WRONG,
    Reason.REQUEST_ID_REUSED,
    Reason.ENVELOPE_LIFETIME,
    Reason.ENVELOPE_EXPIRED,
    Reason.ENVELOPE_NOT_YET_VALID,
    Reason.NONCE_SPENT,
)
"""Reasons whose counts begin at zero: those of the ladder itself."""


class Verifier:
    """Climbs the ladder with each request.

    `kinds` are those that are known here. `nodes` may lag behind, or be ahead of, what is committed: in turn
    `still_allowed` asks the state against which requests are planned.
    `refusals` has counted what is refused here; whoever refuses requests for other reasons counts there too.
    """

    def __init__(
        self,
        *,
        node: str,
        nodes: NodeTable,
        operators: Operators,
        registry: CollectorRegistry,
        kinds: Collection[str],
    ) -> None:
        self.refusals = Refusals(registry)
        self._node = node
        self._operators = operators
        self._signers = Signers(nodes, operators)
        self._kinds = frozenset(kinds)

    def verify(self, octets: bytes, method: str) -> Verified:
        """Climb without the store: rungs 1 to 9.

        Raises:
            Fault: as the table above says.
        """
        with self.refusals:
            return self._climb(octets, method)

    def check_fresh(self, verified: Verified, at: float) -> None:
        """Check that the request may be taken at this time (Unix seconds): rung 11.

        Raises:
            Fault: ENVELOPE_LIFETIME, ENVELOPE_EXPIRED, ENVELOPE_NOT_YET_VALID.
        """
        with self.refusals:
            check_times(verified.head, at)

    def still_allowed(self, verified: Verified, state: State) -> Actor:
        """Give the actor as it is now, with all that is planned before this request: rung 13.

        Raises:
            Fault: KEY_UNKNOWN, KEY_NOT_ALLOWED, NODE_NOT_ENABLED.
        """
        with self.refusals:
            return self._actor_now(verified.head.actor, verified.request, state)

    def _climb(self, octets: bytes, method: str) -> Verified:
        envelope = Envelope.from_bytes(octets)
        kind = kind_of(envelope.payload_type)
        if kind not in self._kinds:
            raise Fault(Reason.PAYLOAD_TYPE_UNKNOWN, f"No payload of the kind {kind} is taken.", field="payload_type")
        payload, actor, key_ids = self._proven(kind, envelope)
        check_audience(payload.head, node=self._node, method=method)
        request = Request(
            kind=kind,
            actor=actor,
            body=payload.body,
            at=0,
            envelope_sha256=sha256(octets).digest(),
            key_ids=key_ids,
        )
        return _verified(octets, request, payload.head)

    def _actor_now(self, name: str, request: Request, state: State) -> Actor:
        if request.kind == APPLY:
            return request.actor
        node = state.node(name)
        if self._operators.name_of(request.key_ids[0]) == name:
            return Actor(name)
        if node is None:
            raise unknown(request.key_ids[0])
        if request.kind == ROTATE:
            _check_rotation(node, *request.key_ids)
        else:
            check_current(node, request.key_ids[0])
            check_enabled(node)
        return Actor(name, node)

    def _proven(self, kind: str, envelope: Envelope) -> tuple[Payload, Actor, tuple[str, ...]]:
        if kind == APPLY:
            return self._application(envelope)
        if kind == ROTATE:
            return self._rotation(envelope)
        payload, signer = self._signers.open(envelope)
        return payload, Actor(signer.name, signer.node), (signer.public.key_id,)

    def _application(self, envelope: Envelope) -> tuple[Payload, Actor, tuple[str, ...]]:
        """Take the key out of the body, since nobody knows it yet; a node that applies again may bring its own."""
        signature = only_signature(envelope)
        if len(envelope.payload) > UNPROVEN_BYTES:
            raise Fault(Reason.ENVELOPE_MALFORMED, f"An application has at most {UNPROVEN_BYTES} bytes.")
        payload = Payload.from_bytes(envelope.payload)
        check_signature(envelope, signature, _brought_key(payload))
        name = payload.head.actor
        check_node(name, field="head.actor")
        owner = self._signers.owner(signature.key_id)
        if name in self._operators.names or owner not in {None, name}:
            raise Fault(Reason.ACTOR_MISMATCH, field="head.actor", variables={"actor": name})
        return payload, Actor(name, _applicant(name)), (signature.key_id,)

    def _rotation(self, envelope: Envelope) -> tuple[Payload, Actor, tuple[str, ...]]:
        """Verify the signature of the key that is known, then that of the one in the body."""
        if len(envelope.signatures) != 2:
            raise Fault(Reason.ENVELOPE_MALFORMED, "The old and the new key must both sign.", field="signatures")
        known = [each for each in envelope.signatures if self._signers.owner(each.key_id) is not None]
        signers = [self._signers.known(each.key_id) for each in known or envelope.signatures]
        for signature, signer in zip(known, signers, strict=True):
            check_signature(envelope, signature, signer.public)
        payload = Payload.from_bytes(envelope.payload)
        new = _brought_key(payload)
        return self._turned(envelope, payload, new)

    def _turned(self, envelope: Envelope, payload: Payload, new: PublicKey) -> tuple[Payload, Actor, tuple[str, ...]]:
        first, second = envelope.signatures
        of_old, of_new = (first, second) if second.key_id == new.key_id else (second, first)
        check_signature(envelope, of_new, new)
        old = self._signers.known(of_old.key_id)
        check_actor(payload.head.actor, old)
        if old.node is None or self._signers.owner(new.key_id) not in {None, old.name}:
            raise Fault(Reason.ACTOR_MISMATCH, "A node changes its own key, to one that no other has.")
        _check_rotation(old.node, of_old.key_id, new.key_id)
        return payload, Actor(old.name, old.node), (of_old.key_id, new.key_id)


class _Bringing(Struct, frozen=True):
    """What of the body is read here, while nothing else of it is: the SubjectPublicKeyInfo in base64."""

    key: bytes


_bringing_decoder: Final = msgspec.json.Decoder(_Bringing)


def _brought_key(payload: Payload) -> PublicKey:
    """Read the key that a request brings along."""
    try:
        spki = _bringing_decoder.decode(payload.body).key
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Fault(Reason.PAYLOAD_MALFORMED, "The key is missing, or is not base64.", field="body.key") from None
    try:
        return PublicKey.from_spki(spki)
    except Fault as fault:
        raise fault.anew(field="body.key") from None


def _check_rotation(node: Node, old: str, new: str) -> None:
    """Check that the old key may sign, or that the new one took its place already.

    The latter is a repetition, which gets its first answer; one that was not answered is refused by its planner, who
    takes no key that is registered.
    """
    check_enabled(node)
    if key_of(node, new) is None:
        check_current(node, old)


def _applicant(name: str) -> Node:
    """Give the row of somebody who claims a name, and may do nothing but apply; without a row it were an operator.

    Not the row that has this name already: whoever signs may be somebody else.
    """
    return Node(node=name, tier=Tier.ENTERPRISE, state=NodeState.APPLIED, keys=())


def _verified(octets: bytes, request: Request, head: Head) -> Verified:
    scope = _scope(request)
    return Verified(
        request=request,
        envelope=octets,
        head=head,
        body_sha256=body_digest(request.kind, request.body),
        nonce=Nonce(scope + bytes.fromhex(head.nonce), head.expires_at + SKEW + 1),
        request_key=sha256(scope + head.request_id.encode()).digest(),
    )


def _scope(request: Request) -> bytes:
    """Name those who choose their request ids and nonces together, so that nobody can take another's.

    A name alone is not enough: a node may have that of an operator, and an applicant may claim any; his key is his
    own. Names hold no control characters, so a zero byte ends them.
    """
    name = request.actor.name.encode()
    if request.kind == APPLY:
        return b"%b\x00%b\x00" % (name, bytes.fromhex(request.key_ids[0]))
    return b"%b\x00%b" % (name, b"operator\x00" if request.actor.is_operator else b"\x00")
