"""Rows that the node above refused for good: a bounded file of JSON objects, one a line, for operators to read."""

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from prometheus_client import Counter

from resolver.errors import Fault
from resolver.private_files import open_private

FILE: Final = "upward-refused.ndjson"

BYTES_MAX: Final = 8 << 20
"""When the file has so many bytes it becomes FILE.1, in the place of the one before, and another begins."""

DETAIL_CHARACTERS: Final = 1_000

_log: Final = logging.getLogger(__name__)
_encoder: Final = msgspec.json.Encoder()


class Refused(Struct, frozen=True, kw_only=True):
    """One row: what it was about (an identifier, or a prefix), when it was refused (Unix seconds), and why."""

    at: int
    about: str
    op: str
    reason: str
    field: str
    detail: str

    @staticmethod
    def of(about: str, op: str, fault: Fault, at: float) -> "Refused":
        detail = fault.detail[:DETAIL_CHARACTERS]
        return Refused(at=int(at), about=about, op=op, reason=fault.reason.name, field=fault.field, detail=detail)


class RefusedFile:
    """Where they are noted. Fails open: that a note cannot be written holds up nothing, and is counted."""

    def __init__(self, folder: Path, dropped: Counter, *, bytes_max: int = BYTES_MAX) -> None:
        self._path = folder / FILE
        self._before = folder / f"{FILE}.1"
        self._dropped = dropped
        self._bytes_max = bytes_max

    async def add(self, rows: Sequence[Refused]) -> None:
        """Note them, and say so in the log: the first one of them."""
        if not rows:
            return
        first = rows[0]
        _log.warning(
            "refused by the node above",
            extra={"rows": len(rows), "about": first.about, "reason": first.reason, "detail": first.detail},
        )
        try:
            await asyncio.to_thread(self._write, b"".join(_encoder.encode(row) + b"\n" for row in rows))
        except OSError as error:
            self._dropped.inc(len(rows))
            _log.warning("refused rows were not noted", extra={"path": str(self._path), "cause": str(error)})

    def _write(self, lines: bytes) -> None:
        with os.fdopen(open_private(self._path, os.O_WRONLY | os.O_APPEND), "ab") as file:
            file.write(lines)
            is_full = file.tell() >= self._bytes_max
        if is_full:
            self._path.replace(self._before)
