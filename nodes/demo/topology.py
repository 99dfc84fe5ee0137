"""Which nodes below the demo's node run as processes, with what settings, and how many share a process: pure."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from nodes.demo.wuhan import Enterprise, Secondary
from resolver.routes import Protocol

Tier = Literal["secondary", "enterprise"]

HOSTS_MAX: Final = 8
"""Processes that share the enterprise nodes, at most."""


LOOPBACK: Final = "127.0.0.1"


class NodeFiles(Struct, frozen=True, kw_only=True):
    """One node: who it is, and the folder with its settings, its store and its log."""

    name: str
    tier: Tier
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "node.toml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "node.log"


def has_own_node(enterprise: Enterprise) -> bool:
    """Does it run a node that speaks our protocol? Others have none, or one of the Handle System or of HTTP."""
    return bool(enterprise.address) and enterprise.protocol is Protocol.GRPC


def own_nodes(node: Secondary) -> list[Enterprise]:
    """Give the enterprises below a secondary node that run nodes of their own."""
    return [enterprise for enterprise in node.enterprises if has_own_node(enterprise)]


def moved(node: Secondary) -> Secondary:
    """Give a secondary node as it is once each enterprise below it runs a node that speaks our protocol."""
    enterprises = (
        replace(each, address=each.address or LOOPBACK, protocol=Protocol.GRPC) for each in node.enterprises
    )
    return replace(node, enterprises=tuple(enterprises))


def settings_text(files: NodeFiles, *, registry: str, key: Path, organisation: str, push: Sequence[str]) -> str:
    """Write a node's file of settings. `registry` is where the node above takes signed requests."""
    lines = [
        f"# Made by `topnode demo`: topnode serve {files.tier} --config {files.config}",
        f"node = {_quoted(files.name)}",
        f"data = {_quoted(str(files.data))}",
        "workers = 0",
        f'admin = "{LOOPBACK}:0"',
        "",
        "[serving]",
        f'address = "{LOOPBACK}:0"',
        "",
        "[front]",
        f'streaming = "{LOOPBACK}:0"',
        "",
        "[registry]",
        f'address = "{LOOPBACK}:0"',
        "",
        "[upward]",
        f"registry = {_quoted(registry)}",
        f"key = {_quoted(str(key))}",
        f"organisation = {_quoted(organisation)}",
        f"push = [{', '.join(map(_quoted, push))}]",
        'heartbeat_every = "1s"',
    ]
    return "\n".join(lines) + "\n"


def shared_out(nodes: Sequence[NodeFiles], cores: int) -> list[list[NodeFiles]]:
    """Share nodes out among as many processes as the machine has cores, so that none of them is empty."""
    hosts = min(len(nodes), max(1, cores), HOSTS_MAX)
    return [list(nodes[place::hosts]) for place in range(hosts)]


def _quoted(text: str) -> str:
    """Write a string as TOML does, which is as JSON does."""
    return json.dumps(text, ensure_ascii=False)
