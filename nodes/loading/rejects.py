"""Rows that were not taken, as the file of rejects tells them."""

from typing import Any, NamedTuple

from resolver.errors import Fault


class Reject(NamedTuple):
    """A row that was not taken: the number of its first line, why, and its bytes."""

    line: int
    fault: Fault
    row: bytes

    def plain(self) -> dict[str, Any]:
        """Give the object that stands for it in the file."""
        return {
            "line": self.line,
            "reason": self.fault.reason.name,
            "field": self.fault.field,
            "detail": self.fault.detail,
            "row": self.row.decode(errors="backslashreplace"),
        }
