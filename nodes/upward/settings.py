"""What can be set about the node above."""

from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from resolver.errors import Fault, Reason
from resolver.rpc.tls import ClientTls
from resolver.units import Duration

Pushed = Literal["routes", "copies"]

SHORTEST_BEAT: Final = 0.1


class UpwardSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which node is above this one, and what it is told."""

    registry: str = ""
    """Host and port at which the node above takes signed requests; empty: there is none, and nothing is told."""

    verifier_key: str = ""
    """The key of that node's journal ("NAME+HASH+BASE64"; there, `topnode journal key` shows it). Empty: that node is
    asked for it at each start, and believed."""

    key: Path | None = None
    """This node's private key (PEM), with which it signs there; not set: node.pem in the data folder, made at the
    first start."""

    organisation: str = ""
    """The legal entity in whose name this node applies there; needed where the node above does not know this one."""

    industry: str = ""
    """Its class by GB/T 4754, such as C3670."""

    parent: str = ""
    """The secondary node that an enterprise node belongs to; empty: the node above itself."""

    endpoints: tuple[str, ...] = ()
    """Where callers who are sent here by the node above find this node, such as
    "grpc://192.0.2.7:3641?priority=1&tls=node.example.cn"; none: serving.address."""

    push: tuple[Pushed, ...] = ("routes", "copies")
    """What is pushed: routes (the prefixes that are held here, and that they lead here), copies (what is registered
    below them, as everybody may read it)."""

    agreement: bool = False
    """What this node's application says: the node above may answer in its place, by itself, when it is down."""

    heartbeat_every: Duration = Duration(10)
    """How often the node above is told that this one lives, and how far its journal has come."""

    tls: ClientTls | None = None
    """Certificate files; without them the connection is neither encrypted nor proven. What is pushed is signed."""

    tls_name: str = ""
    """The name that the certificate of the node above must carry, where it is not the host's."""

    def __post_init__(self) -> None:
        if self.heartbeat_every < SHORTEST_BEAT:
            raise Fault(
                Reason.SETTING_INVALID, "A sign of life is given every 100ms at most.", field="heartbeat_every"
            )

    @property
    def is_set(self) -> bool:
        """Is there a node above?"""
        return bool(self.registry)
