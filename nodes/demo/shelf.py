"""A store that took long to fill, kept as a backup for the next time; its checksum is compared when it is used.

The key that signs its journal is kept beside it: receipts of the one demo are good in the next. So are the keys of
the nodes that registered, with which they connect again.
"""

import shutil
from pathlib import Path
from typing import Final

from nodes.demo.corpus import VERSION
from nodes.demo.place import Place
from registry.keyring import JOURNAL_FILE
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.store import FORMAT
from resolver.store.embedded import backup, restore

KEYS: Final = "keys"
"""The folder in the store's folder with the keys of the nodes that registered."""


class Shelf:
    """The backup of a store that holds so many registrations of the corpus, and nothing else."""

    def __init__(self, place: Place, registrations: int, clock: Clock) -> None:
        self._place = place
        self._name = f"corpus-{VERSION}-{registrations}-format-{FORMAT}-keys"
        self._clock = clock

    @property
    def path(self) -> Path:
        """Where it is, or would be."""
        return self._place.kept(self._name)

    def take(self, data: Path) -> bool:
        """Put the store into this folder; False where there is none, or none that is whole.

        Raises:
            Fault: STORE_FULL and others of `restore`.
        """
        if not self.path.exists():
            return False
        try:
            restore(self.path, data, progress=_silent)
        except Fault as fault:
            if fault.reason is not Reason.BACKUP_DAMAGED:
                raise
            shutil.rmtree(self.path)
            return False
        _copy_keys(self.path, data)
        return True

    def put(self, data: Path) -> None:
        """Keep the store that is in this folder, in place of whatever was kept.

        Raises:
            Fault: STORE_FULL and others of `backup`; nothing is kept then.
        """
        unfinished = self._place.kept("unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        backup(data, unfinished, clock=self._clock, progress=_silent)
        _copy_keys(data, unfinished)
        unfinished.rename(self.path)
        self._place.keep_only(self._name)


def _copy_keys(source: Path, target: Path) -> None:
    shutil.copy2(source / JOURNAL_FILE, target / JOURNAL_FILE)
    shutil.copytree(source / KEYS, target / KEYS)


def _silent(_done: int, _expected: int) -> None:
    """Seconds: nobody needs to be told."""
