"""What is registered of nodes and prefixes, as nouns, out of what the node answers."""

from enum import IntEnum
from typing import TypeVar

from msgspec import Struct

from registry.v1 import registry_pb2 as pb
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState, Protocol
from resolver.trust.actors import Key, Node, NodeState, Tier


class LastHeard(Struct, frozen=True, kw_only=True):
    """The last sign of life of a node: when it was heard and when it was given, in Unix seconds, and what it said."""

    heard_at: float
    given_at: float
    applied_index: int
    software_version: str


class ListedNode(Struct, frozen=True):
    """A node as a registry lists it; `heard` is None where it has heard nothing from it since its process began."""

    node: Node
    heard: LastHeard | None


_Enumeration = TypeVar("_Enumeration", bound=IntEnum)


def node_from_message(message: pb.Node) -> Node:
    """Read the row of a node.

    Raises:
        Fault: ENUM_UNKNOWN where a newer node has a tier or a state that this version does not know.
    """
    return Node(
        node=message.node,
        tier=_known(Tier, message.tier, "node.tier"),
        state=_known(NodeState, message.state, "node.state"),
        keys=tuple(Key(key.keyid, key.spki, key.since, key.until) for key in message.keys),
        parent=message.parent,
        organisation=message.organisation,
        industry=message.industry,
        applied_at=message.applied_at,
        changed_at=message.changed_at,
        reason=message.reason,
        epoch=message.version,
        takeover=message.takeover,
        agreement=message.agreement,
        takeover_automatic=message.takeover_automatic,
        takeover_since=message.takeover_since,
        takeover_reason=message.takeover_reason,
    )


def listed_from_message(message: pb.Node) -> ListedNode:
    """Read the row of a node and its last sign of life.

    Raises:
        Fault: as `node_from_message`.
    """
    if not message.HasField("heartbeat"):
        return ListedNode(node_from_message(message), None)
    said = message.heartbeat
    heard = LastHeard(
        heard_at=said.heard_at / 1_000,
        given_at=said.given_at / 1_000,
        applied_index=said.applied_index,
        software_version=said.software_version,
    )
    return ListedNode(node_from_message(message), heard)


def prefix_from_message(message: pb.Prefix) -> Prefix:
    """Read the row of a prefix.

    Raises:
        Fault: ENUM_UNKNOWN where a newer node has a word that this version does not know.
    """
    return Prefix(
        text=message.prefix,
        holder=message.holder,
        state=_spelled(PrefixState, message.state, "prefix.state"),
        case=_spelled(CaseRule, message.case, "prefix.case"),
        hosting=_spelled(Hosting, message.hosting, "prefix.hosting"),
        expires_at=message.expires_at,
        endpoints=tuple(_endpoint(each) for each in message.endpoints),
        epoch=message.version,
    )


def _endpoint(message: pb.Endpoint) -> Endpoint:
    protocol = _spelled(Protocol, message.protocol, "prefix.endpoints.protocol")
    return Endpoint(protocol, message.address, message.port, message.priority, message.tls_name)


def _known(enumeration: type[_Enumeration], number: int, field: str) -> _Enumeration:
    try:
        return enumeration(number)
    except ValueError:
        raise _unknown(str(number), field) from None


def _spelled(enumeration: type[_Enumeration], word: str, field: str) -> _Enumeration:
    try:
        return enumeration[word.upper()]
    except KeyError:
        raise _unknown(word, field) from None


def _unknown(said: str, field: str) -> Fault:
    return Fault(Reason.ENUM_UNKNOWN, f"{said!r} is not known here.", field=field, variables={"said": said})
