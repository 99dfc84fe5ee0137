"""Those who sign: nodes, the states they are in, and their keys. Rows as stores keep them, and the table of all.

What a state allows and how states follow on each other is the registry's (`registry.membership`).
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

import msgspec
from msgspec import Struct

from resolver.errors import Fault, Reason

NODE_BYTES: Final = 128
"""A node's identifier in UTF-8."""


class Tier(IntEnum):
    """What a node is; operators of this top-level node are actors too, but no nodes: they stand in its settings."""

    SECONDARY = 1
    ENTERPRISE = 2


class NodeState(IntEnum):
    """The states of a node."""

    APPLIED = 1
    REJECTED = 2
    ENABLED = 3
    SUSPENDED = 4
    REVOKED = 5


class Key(Struct, frozen=True, array_like=True):
    """A public key: what names it in envelopes, and its SubjectPublicKeyInfo (DER), which says the algorithm.

    `since` and `until` are Unix seconds; `until` is 0 while it may sign.
    """

    key_id: str
    spki: bytes
    since: int
    until: int = 0


class Node(Struct, frozen=True, array_like=True, kw_only=True):
    """The row of one node. New fields come last with a default, none is moved: rows are kept for years.

    `parent` is the secondary node that an enterprise node belongs to; empty for those directly below this node.
    `organisation` is the legal entity; `industry` its class by GB/T 4754 (may be empty). `reason` is what an operator
    said at the last change of state. `epoch` is the journal index of the last change. `takeover`: it is down, and its
    copies answer in its place. `agreement`: that may be so without an operator's signature. `takeover_automatic`: it
    is so without one; `takeover_since`: since when (Unix seconds, 0: it is not); `takeover_reason`: why the last
    takeover was begun or ended.
    """

    node: str
    tier: Tier
    state: NodeState
    keys: tuple[Key, ...]
    parent: str = ""
    organisation: str = ""
    industry: str = ""
    applied_at: int = 0
    changed_at: int = 0
    reason: str = ""
    epoch: int = 0
    takeover: bool = False
    agreement: bool = False
    takeover_automatic: bool = False
    takeover_since: int = 0
    takeover_reason: str = ""

    def __post_init__(self) -> None:
        check_node(self.node, field="node")
        if self.parent:
            check_node(self.parent, field="parent")

    def to_bytes(self) -> bytes:
        return _encoder.encode(self)

    @staticmethod
    def from_bytes(row: bytes) -> "Node":
        return _decoder.decode(row)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Node)


def check_node(name: str, *, field: str) -> None:
    """Check that this can be a node's identifier.

    Raises:
        Fault: FIELD_OUT_OF_RANGE.
    """
    if not name or not name.isprintable() or len(name.encode(errors="replace")) > NODE_BYTES:
        raise Fault(
            Reason.FIELD_OUT_OF_RANGE,
            f"A node's identifier is printable text of 1 to {NODE_BYTES} bytes.",
            field=field,
        )


class NodeTable:
    """All nodes, by identifier and by key: packed rows, so that hundreds of thousands fit.

    `applied` counts those that wait for their review.
    """

    def __init__(self) -> None:
        self.applied = 0
        self._rows: dict[str, bytes] = {}
        self._by_key: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def put(self, nodes: Iterable[Node]) -> None:
        """Take new or changed rows; an older epoch than the held one is passed over."""
        for node in nodes:
            held = self.node(node.node)
            if held is not None and held.epoch > node.epoch:
                continue
            waited = held is not None and held.state is NodeState.APPLIED
            self.applied += (node.state is NodeState.APPLIED) - waited
            self._rows[node.node] = node.to_bytes()
            self._by_key.update(dict.fromkeys((key.key_id for key in node.keys), node.node))

    def adopt(self, other: "NodeTable") -> None:
        """Start afresh with what another table holds, which is not used any more: it was filled piece by piece."""
        self.applied = other.applied
        self._rows, self._by_key = other._rows, other._by_key  # noqa: SLF001 - the same class

    def node(self, name: str) -> Node | None:
        """Give the node with this identifier."""
        row = self._rows.get(name)
        return None if row is None else Node.from_bytes(row)

    def holder_of(self, key_id: str) -> Node | None:
        """Give the node that has, or had, the key of this name."""
        name = self._by_key.get(key_id)
        return None if name is None else self.node(name)
