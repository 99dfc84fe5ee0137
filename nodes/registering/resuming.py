"""How far the registration of a file has come, kept in a file beside it, so that an interrupted one goes on there."""

import os
import secrets
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from nodes.client import Draft, Fault, Reason
from nodes.client.bulk import draft_of
from nodes.registering.envelope_rows import EnvelopeRows
from resolver.private_files import open_private

SUFFIX: Final = ".registering"
"""What the name of the state file has behind that of the input."""


class Reached(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a registration has come: everything up to `offset` and `lines` of its input is told.

    `run` is chance, made once: it names the requests, so that an envelope that is made again is the same request.
    `source` tells the input from others. `index` is the newest journal index that was told. `files` are the sizes in
    bytes, by their paths, of the files that were written along with it.
    """

    run: str
    source: str
    envelopes: int = 0
    offset: int = 0
    lines: int = 0
    registered: int = 0
    replaced: int = 0
    unchanged: int = 0
    deleted: int = 0
    rejected: int = 0
    index: int = 0
    files: dict[str, int] = {}

    @staticmethod
    def begin(source: str) -> "Reached":
        """Begin at the first row."""
        return Reached(run=secrets.token_hex(8), source=source)

    def draft(self, rows: EnvelopeRows) -> Draft:
        """Make the request of these rows: the same one in each run."""
        return draft_of(rows.encoded, partial=True, request_id=f"{self.run}-{rows.number}")


class StateFile:
    """Where it is kept; written anew after each envelope, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._beside = path.with_name(f"{path.name}.new")

    def read(self, source: str) -> Reached | None:
        """Give how far the registration of this input has come, None where none was begun.

        Raises:
            Fault: FILE_UNREADABLE; INPUT_CHANGED where another input was being registered, or this one has changed.
        """
        try:
            reached = msgspec.json.decode(self.path.read_bytes(), type=Reached)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise Fault(Reason.FILE_UNREADABLE, f"{self.path} is no state of a registration: {error}.") from None
        if reached.source != source:
            raise Fault(
                Reason.INPUT_CHANGED,
                f"{self.path} is about another input, or about this one before it changed; --restart begins anew.",
                field="--state",
            )
        return reached

    def write(self, reached: Reached) -> None:
        """Keep it.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        try:
            with os.fdopen(open_private(self._beside, os.O_WRONLY | os.O_TRUNC), "wb") as file:
                file.write(msgspec.json.encode(reached))
            self._beside.replace(self.path)
        except OSError as error:
            raise Fault(Reason.FILE_UNREADABLE, f"{self.path} cannot be written: {error.strerror}.") from None

    def remove(self) -> None:
        """Forget it: all is told."""
        self.path.unlink(missing_ok=True)
