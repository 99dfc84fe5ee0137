"""How far the node above has taken what is registered here: a small file in the data folder.

The outbox itself is the node's own journal. Without the file, or with a damaged one, everything is pushed again,
which changes nothing above where it is there already.
"""

import asyncio
import logging
import os
import secrets
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from resolver.errors import Fault, Reason
from resolver.private_files import FOLDER_MODE, open_private

FILE: Final = "upward.json"

_log: Final = logging.getLogger(__name__)


class Owed(Struct, frozen=True, kw_only=True):
    """A prefix of which something was refused or not named: it is to be pushed when the node above takes it.

    First what the entries behind `since` named below it, deletions too; None: nothing of that (any more). Then, where
    it `lists`, everything that is registered below it; `after` is where the listing goes on. `serial` is another one
    whenever it begins anew, so that what was refused is another request the next time.
    """

    serial: int
    since: int | None = None
    lists: bool = False
    after: bytes | None = None

    @property
    def is_paid(self) -> bool:
        return self.since is None and not self.lists

    def with_(self, other: "Owed") -> "Owed":
        """Owe both, from the beginning."""
        known = [each.since for each in (self, other) if each.since is not None]
        return Owed(
            serial=max(self.serial, other.serial),
            since=min(known) if known else None,
            lists=self.lists or other.lists,
        )


class Watermark(Struct, frozen=True, kw_only=True):
    """Everything up to the entry `index` was taken by the node `parent`, but for what is owed, by folded prefix.

    `entry` is the SHA-256 of that entry's statement, by which it is seen that the journal is still the same one.
    `until` is the end of what is being pushed now: after a crash the same entries are pushed together again.
    `life` is chance, made with the file: it tells this file's requests from those of one that was lost. `serial`
    counts debts. `routes` names the endpoints with which all rows of prefixes were compared; empty: they are to be.
    `taken` is the newest entry in the journal of the parent that a receipt told of.
    """

    parent: str
    life: str
    index: int = 0
    entry: str = ""
    until: int = 0
    serial: int = 0
    routes: str = ""
    taken: int = 0
    owed: dict[str, Owed] = {}

    @staticmethod
    def begin(parent: str) -> "Watermark":
        """Begin with the first entry."""
        return Watermark(parent=parent, life=secrets.token_hex(8))

    def anew(self) -> "Watermark":
        """Begin again with the first entry, for this parent."""
        return Watermark.begin(self.parent)

    def owing(self, prefix: str, *, since: int | None = None, lists: bool = False) -> "Watermark":
        """Owe more below a prefix: what the entries behind `since` named, or everything that is registered."""
        serial = self.serial + 1
        debt = Owed(serial=serial, since=since, lists=lists)
        held = self.owed.get(prefix)
        return self._with(prefix, debt if held is None else held.with_(debt), serial=serial)

    def paid(self, prefix: str, left: Owed) -> "Watermark":
        """Note what is left of a debt."""
        return self._with(prefix, left, serial=self.serial)

    def under(self, above: str, prefix: str) -> "Watermark":
        """Owe below a prefix above what was owed below this one."""
        held = self.owed[prefix]
        others = {each: owed for each, owed in self.owed.items() if each != prefix}
        return replace(self, owed=others).owing(above, since=held.since, lists=held.lists)

    def _with(self, prefix: str, owed: Owed, *, serial: int) -> "Watermark":
        others = {each: held for each, held in self.owed.items() if each != prefix}
        return replace(self, serial=serial, owed=others if owed.is_paid else {**others, prefix: owed})


class WatermarkFile:
    """Where it is kept: written anew each time, whole or not at all, and on the disk before it is relied on."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._beside = self._path.with_name(f"{FILE}.new")

    async def read(self, parent: str) -> Watermark:
        """Give how far this parent is; where nothing is known of that, the beginning."""
        return await asyncio.to_thread(self._read, parent)

    async def write(self, mark: Watermark) -> None:
        """Keep it.

        Raises:
            Fault: STORE_FULL, FILE_UNREADABLE.
        """
        await asyncio.to_thread(self._write, mark)

    def _read(self, parent: str) -> Watermark:
        try:
            mark = msgspec.json.decode(self._path.read_bytes(), type=Watermark)
        except FileNotFoundError:
            return Watermark.begin(parent)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("unreadable; all is pushed again", extra={"path": str(self._path), "cause": str(error)})
            return Watermark.begin(parent)
        if mark.parent != parent:
            _log.warning("another node is above now; all is pushed to it", extra={"was": mark.parent, "is": parent})
            return Watermark.begin(parent)
        return mark

    def _write(self, mark: Watermark) -> None:
        try:
            self._path.parent.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            with os.fdopen(open_private(self._beside, os.O_WRONLY | os.O_TRUNC), "wb") as file:
                file.write(msgspec.json.encode(mark))
                file.flush()
                os.fsync(file.fileno())
            self._beside.replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as error:
            raise Fault(
                Reason.FILE_UNREADABLE,
                f"{self._path} cannot be written: {error.strerror}.",
                variables={"path": str(self._path)},
            ) from None


def _sync_folder(folder: Path) -> None:
    """Have the new name on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
