"""What is told when a node serves."""

import os

from msgspec import Struct

from nodes.listening import Address
from nodes.settings import NodeSettings


class Started(Struct, frozen=True, kw_only=True):
    """A node that serves: who it is, where it listens and where its store is.

    `address` is for lookups, `streaming` for those that come as a stream, `registry` for signed requests. `tls` and
    `registry_tls` say whether those are secured. `native` says whether the native front serves at `address`.
    `pid` is the process to be told to stop; `workers` is 0 where everything runs in that one.
    """

    node: str
    tier: str
    address: str
    streaming: str
    registry: str
    admin: str
    data: str
    workers: int
    pid: int
    tls: bool
    registry_tls: bool
    native: bool

    @classmethod
    def of(cls, settings: NodeSettings, admin: Address, *, workers: int) -> "Started":
        """Tell of this process's node; addresses are those really taken."""
        return cls(
            node=settings.node,
            tier=settings.tier,
            address=settings.serving.address,
            streaming=settings.front.streaming,
            registry=settings.registry.address,
            admin=admin.to_text(),
            data=str(settings.data.absolute()),
            workers=workers,
            pid=os.getpid(),
            tls=settings.serving.tls is not None,
            registry_tls=settings.registry.tls is not None,
            native=settings.has_native,
        )

    @property
    def _front(self) -> str:
        return "native front" if self.native else "grpcio"

    def to_text(self) -> str:
        """Say it on one line."""
        resolvers = f"{self.workers} workers" if self.workers else "one process"
        return (
            f"{self.tier} node {self.node} serves at {self.address} ({_secured(self.tls)}, {self._front}), "
            f"streams at {self.streaming}, "
            f"registers at {self.registry} ({_secured(self.registry_tls)}), admin at http://{self.admin}, "
            f"data in {self.data}, {resolvers}, pid {self.pid}"
        )


def _secured(tls: bool) -> str:  # noqa: FBT001 - the one thing that it says
    return "TLS" if tls else "no TLS"
