"""What the supervisor and the processes that it starts say to each other, one line of JSON each.

An order goes in through standard input, which then stays open: its end means that the supervisor is gone. Reports
come back through standard output. Standard error is the log, and settings never stand in a command line.
"""

import msgspec
from msgspec import Struct

from nodes import layers
from nodes.settings import NodeSettings
from resolver.errors import Fault, Reason


class Order(Struct, frozen=True, kw_only=True):
    """What a process is to be: its name in the node, its Unix socket, and the settings.

    The address in the settings has the port that was really taken.
    """

    name: str
    socket: str
    settings: NodeSettings

    def to_line(self) -> bytes:
        return layers.encode(self) + b"\n"

    @staticmethod
    def from_line(line: bytes) -> "Order":
        return layers.decode(line, Order)


class Complaint(Struct, frozen=True, kw_only=True):
    """A Fault on its way between two interpreters."""

    reason: str
    detail: str
    field: str = ""
    variables: dict[str, str] = {}

    @classmethod
    def of(cls, fault: Fault) -> "Complaint":
        return cls(reason=fault.reason.name, detail=fault.detail, field=fault.field, variables=dict(fault.variables))

    def to_fault(self) -> Fault:
        return Fault(Reason[self.reason], self.detail, field=self.field, variables=self.variables)


class Report(Struct, frozen=True, kw_only=True):
    """What a process says once: that it serves, or why it cannot."""

    complaint: Complaint | None = None

    def to_line(self) -> bytes:
        return msgspec.json.encode(self) + b"\n"

    @staticmethod
    def from_line(line: bytes) -> "Report":
        return msgspec.json.decode(line, type=Report)
