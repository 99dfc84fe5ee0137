"""One state of a store, with all its databases, for as long as it takes to read it: for audits and rebuilding.

As long as a state is held, no page that it uses can be used again, and a store that is written to meanwhile grows.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from resolver.errors import Fault, Reason
from resolver.store import Kept
from resolver.store.embedded.border import Border
from resolver.store.embedded.counts import kept_rows
from resolver.store.embedded.layout import artefact_row, entry_decoder, is_shortened, number, span
from resolver.store.embedded.opening import Store, open_to_read
from resolver.store.embedded.reader import Reads

DATABASES: Final = tuple(field.name for field in fields(Store) if field.name != "environment")
"""All of them, by the names that `layout` explains."""


class Snapshot(Reads):
    """Reads one and the same state, until `renew`. Not for a process that has the store open otherwise."""

    databases = DATABASES

    def __init__(self, store: Store, border: Border) -> None:
        super().__init__(store, border)
        self._state = super()._begin()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the store in this folder, which others may read and write meanwhile.

        Raises:
            Fault: STORE_MISSING, STORE_FORMAT_UNKNOWN, FILE_UNREADABLE, STORE_UNAVAILABLE.
        """
        border = Border(path)
        with border:
            return cls(open_to_read(path), border)

    def close(self) -> None:
        """Let the state go and close the store."""
        self._state.abort()
        self._store.environment.close()

    async def renew(self) -> None:
        """Go on to the newest state."""
        with self._border:
            self._state.abort()
            self._state = super()._begin()

    async def last(self) -> int:
        """Give the index of the last entry that is there, whatever the head says."""
        with self._border, self._state.cursor(self._store.entries) as cursor:
            return int.from_bytes(cursor.key(), "big") if cursor.last() else 0

    async def kept(self, index: int) -> Kept:
        """Give one entry of the journal.

        Raises:
            Fault: JOURNAL_DAMAGED where it, or what stands beside it, is missing or cannot be read.
        """
        with self._border:
            row = self._state.get(number(index), None, self._store.entries)
            if row is None:
                raise _damaged(index, "The entry is missing")
            try:
                entry = entry_decoder.decode(row)
            except msgspec.MsgspecError:
                raise _damaged(index, "The entry cannot be read") from None
            artefacts = [self._artefact(index, place) for place in range(entry.artefacts)]
        return Kept(index, entry.statement, tuple(artefacts), entry.result)

    def counted(self) -> list[tuple[bytes, bytes]]:
        """Give what was counted beside the journal, as `EmbeddedCounts.take_over` takes it; not of the same state."""
        with self._border:
            return kept_rows(self._store.environment)

    def count(self, database: str) -> int:
        """Give the number of rows in a database."""
        with self._border:
            return int(self._state.stat(getattr(self._store, database))["entries"])

    def rows(self, database: str) -> Iterator[tuple[bytes, bytes]]:
        """Go through the rows of a database, in the order of their keys."""
        with self._border, self._state.cursor(getattr(self._store, database)) as cursor:
            yield from cursor.iternext()

    def held(self, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Go through the canonical keys and public bodies of all records, or of those below exactly this prefix."""
        first, end = (b"", None) if prefix is None else span(prefix, derived=False)
        beginning = b"" if prefix is None else prefix + b"/"
        with self._border, self._state.cursor(self._store.records) as cursor:
            if not (cursor.set_range(first) if first else cursor.first()):
                return
            for row, body in cursor:
                if end is not None and row >= end:
                    return
                key = self._state.get(row, row, self._store.long_keys) if is_shortened(row) else row
                if key.startswith(beginning):
                    yield key, body

    def _artefact(self, index: int, place: int) -> bytes:
        artefact = self._state.get(artefact_row(index, place), None, self._store.artefacts)
        if artefact is None:
            raise _damaged(index, "What stands beside the statement is missing")
        return artefact

    def _begin(self, *, buffers: bool = False) -> Any:  # noqa: ARG002 - bytes do for both
        return nullcontext(self._state)


def _damaged(index: int, what: str) -> Fault:
    return Fault(Reason.JOURNAL_DAMAGED, f"{what}.", variables={"index": str(index), "kind": "entry"})
