"""Nodes, prefixes and what became of requests, as people and programs read them. Prints nothing."""

from typing import Any, Final

from nodes.asking.answers import safe, time_text
from nodes.client import Fault, Submitted
from nodes.client.registered import ListedNode
from nodes.registering.words import NEVER, endpoint_to_text
from resolver.routes import Prefix, PrefixState
from resolver.trust.actors import Node, NodeState
from resolver.trust.keys import PublicKey

STYLES: Final = {
    NodeState.ENABLED.name: "bold green",
    NodeState.APPLIED.name: "bold cyan",
    NodeState.REJECTED.name: "bold yellow",
    NodeState.SUSPENDED.name: "bold yellow",
    NodeState.REVOKED.name: "bold red",
    PrefixState.PENDING.name: "bold cyan",
    PrefixState.IN_REVIEW.name: "bold cyan",
    PrefixState.DISABLED.name: "bold red",
    PrefixState.TO_DELETE.name: "bold yellow",
}
"""How states are coloured, by their names."""


def plain_submitted(submitted: Submitted) -> dict[str, Any]:
    """Give what became of a request."""
    receipt = submitted.receipt
    return {
        "request_id": submitted.request_id,
        "index": receipt.index if receipt else None,
        "outcomes": [outcome.name.lower() for outcome in submitted.outcomes],
        "is_repeated": submitted.is_repeated,
    }


def plain_node(node: Node) -> dict[str, Any]:
    """Give what is registered of a node."""
    return {
        "node": node.node,
        "tier": node.tier.name.lower(),
        "state": node.state.name.lower(),
        "parent": node.parent,
        "organisation": node.organisation,
        "industry": node.industry,
        "keys": [
            {"key_id": key.key_id, "algorithm": _algorithm(key.spki), "since": key.since, "until": key.until}
            for key in node.keys
        ],
        "applied_at": node.applied_at,
        "changed_at": node.changed_at,
        "reason": node.reason,
        "version": node.epoch,
        "agreement": node.agreement,
        "takeover": node.takeover,
        "takeover_automatic": node.takeover_automatic,
        "takeover_since": node.takeover_since,
        "takeover_reason": node.takeover_reason,
    }


def plain_listed(listed: ListedNode) -> dict[str, Any]:
    """Give what is registered of a node, and its last sign of life: None where none was heard."""
    heard = listed.heard
    said = None
    if heard is not None:
        said = {
            "heard_at": heard.heard_at,
            "given_at": heard.given_at,
            "applied_index": heard.applied_index,
            "software_version": heard.software_version,
        }
    return {**plain_node(listed.node), "heartbeat": said}


def plain_prefix(prefix: Prefix) -> dict[str, Any]:
    """Give what is registered of a prefix."""
    return {
        "prefix": prefix.text,
        "holder": prefix.holder,
        "state": prefix.state.name.lower(),
        "case": prefix.case.name.lower(),
        "hosting": prefix.hosting.name.lower(),
        "expires_at": prefix.expires_at,
        "endpoints": [endpoint_to_text(endpoint) for endpoint in prefix.endpoints],
        "version": prefix.epoch,
    }


def node_lines(node: Node) -> list[tuple[str, str]]:
    """Give what is registered of a node, as the lines of a table; what is empty is left out."""
    lines = [
        ("tier", node.tier.name.lower()),
        ("parent", safe(node.parent)),
        ("organisation", safe(node.organisation)),
        ("industry", safe(node.industry)),
        ("applied", time_text(node.applied_at)),
        ("changed", f"{time_text(node.changed_at)}, version {node.epoch:,}"),
        ("reason", safe(node.reason)),
        ("when down", "taken over by itself, as agreed" if node.agreement else "taken over by an operator"),
        ("taken over", _takeover(node)),
    ]
    for key in node.keys:
        until = f" until {time_text(key.until)}" if key.until else ""
        lines.append(("key", f"{key.key_id} ({_algorithm(key.spki)}, since {time_text(key.since)}{until})"))
    return [line for line in lines if line[1]]


def prefix_lines(prefix: Prefix) -> list[tuple[str, str]]:
    """Give what is registered of a prefix, as the lines of a table."""
    return [
        ("holder", safe(prefix.holder)),
        ("hosted", prefix.hosting.name.lower()),
        ("case", prefix.case.name.lower()),
        ("term ends", time_text(prefix.expires_at) if prefix.expires_at else NEVER),
        *(("endpoint", safe(endpoint_to_text(endpoint))) for endpoint in prefix.endpoints),
        ("version", f"{prefix.epoch:,}"),
    ]


def _takeover(node: Node) -> str:
    if not node.takeover:
        return ""
    how = "by itself" if node.takeover_automatic else "by an operator"
    return f"since {time_text(node.takeover_since)}, {how}: {safe(node.takeover_reason)}"


def _algorithm(spki: bytes) -> str:
    try:
        return PublicKey.from_spki(spki).algorithm.value
    except Fault:
        return "of an unknown algorithm"
