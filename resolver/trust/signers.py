"""Whose key this is, and whether it may sign now: of operators by settings, of nodes by their rows."""

from collections import OrderedDict
from typing import Final

from msgspec import Struct

from resolver.errors import Fault, Reason
from resolver.trust.actors import Key, Node, NodeState, NodeTable
from resolver.trust.envelopes import Envelope, Signature
from resolver.trust.heads import Payload
from resolver.trust.keys import PublicKey
from resolver.trust.operators import Operators

KEYS_KEPT: Final = 4_096
"""Keys that are kept ready for verifying; reading one costs as much as a signature."""


class Signer(Struct, frozen=True):
    """Who has a key, and the key: an operator (`node` is None), or a node by its row as it is now."""

    name: str
    public: PublicKey
    node: Node | None = None


class Signers:
    """Finds signers by the names of their keys."""

    def __init__(self, nodes: NodeTable, operators: Operators, *, kept: int = KEYS_KEPT) -> None:
        self.nodes = nodes
        self.operators = operators
        self._kept = kept
        self._ready: OrderedDict[str, PublicKey] = OrderedDict()

    def owner(self, key_id: str) -> str | None:
        """Give the name of whoever has, or had, this key."""
        operator = self.operators.name_of(key_id)
        node = None if operator is not None else self._holder(key_id)
        return node.node if node is not None else operator

    def known(self, key_id: str) -> Signer:
        """Give whoever has, or had, this key.

        Raises:
            Fault: KEY_UNKNOWN.
        """
        operator = self.operators.name_of(key_id)
        if operator is not None:
            return Signer(operator, self.operators.keys[key_id])
        node = self._holder(key_id)
        held = None if node is None else key_of(node, key_id)
        if node is None or held is None:
            raise unknown(key_id)
        return Signer(node.node, self._public(held), node)

    def allowed(self, key_id: str) -> Signer:
        """Give whoever may sign with this key now.

        Raises:
            Fault: KEY_UNKNOWN, KEY_NOT_ALLOWED, NODE_NOT_ENABLED.
        """
        signer = self.known(key_id)
        if signer.node is not None:
            check_current(signer.node, key_id)
            check_enabled(signer.node)
        return signer

    def open(self, envelope: Envelope) -> tuple[Payload, Signer]:
        """Verify an envelope that one key signs; give what is signed, and whoever signed it.

        Raises:
            Fault: ENVELOPE_MALFORMED, KEY_UNKNOWN, KEY_NOT_ALLOWED, NODE_NOT_ENABLED, SIGNATURE_INVALID,
                PAYLOAD_MALFORMED, ACTOR_MISMATCH.
        """
        signature = only_signature(envelope)
        signer = self.allowed(signature.key_id)
        check_signature(envelope, signature, signer.public)
        payload = Payload.from_bytes(envelope.payload)
        check_actor(payload.head.actor, signer)
        return payload, signer

    def _holder(self, key_id: str) -> Node | None:
        # The table remembers keys that rows have forgotten: an application that was followed by another.
        node = self.nodes.holder_of(key_id)
        return node if node is not None and key_of(node, key_id) is not None else None

    def _public(self, key: Key) -> PublicKey:
        """A key's name is the hash of its bytes, so what is kept under it can never be another key."""
        ready = self._ready.get(key.key_id)
        if ready is None:
            ready = self._ready[key.key_id] = PublicKey.from_spki(key.spki)
            if len(self._ready) > self._kept:
                self._ready.popitem(last=False)
        return ready


def unknown(key_id: str) -> Fault:
    """Say that nobody has this key."""
    return Fault(Reason.KEY_UNKNOWN, variables={"key_id": key_id})


def key_of(node: Node, key_id: str) -> Key | None:
    """Give the node's key of this name, whether it may still sign or not."""
    return next((key for key in node.keys if key.key_id == key_id), None)


def check_current(node: Node, key_id: str) -> None:
    """Check that the node has this key and may sign with it; a key that was replaced never may again.

    Raises:
        Fault: KEY_NOT_ALLOWED.
    """
    held = key_of(node, key_id)
    if held is None or held.until:
        raise Fault(Reason.KEY_NOT_ALLOWED, variables={"key_id": key_id})


def check_enabled(node: Node) -> None:
    """Check that the node may sign at all.

    Raises:
        Fault: NODE_NOT_ENABLED.
    """
    if node.state is not NodeState.ENABLED:
        raise Fault(Reason.NODE_NOT_ENABLED, variables={"state": node.state.name})


def only_signature(envelope: Envelope) -> Signature:
    """Give the one signature of an envelope; what is not verified is not taken either.

    Raises:
        Fault: ENVELOPE_MALFORMED.
    """
    if len(envelope.signatures) != 1:
        raise Fault(Reason.ENVELOPE_MALFORMED, "One signature is needed here.", field="signatures")
    return envelope.signatures[0]


def check_signature(envelope: Envelope, signature: Signature, public: PublicKey) -> None:
    """Check that this key made this signature over exactly these bytes and their type.

    Raises:
        Fault: SIGNATURE_INVALID.
    """
    if signature.key_id != public.key_id or not public.verify(signature.sig, envelope.pae()):
        raise Fault(Reason.SIGNATURE_INVALID, variables={"key_id": signature.key_id})


def check_actor(actor: str, signer: Signer) -> None:
    """Check that the head names whoever has the key.

    Raises:
        Fault: ACTOR_MISMATCH.
    """
    if actor != signer.name:
        raise Fault(Reason.ACTOR_MISMATCH, field="head.actor", variables={"actor": actor})
