"""Where the demo's files lie: one folder, with what is kept between runs and a folder for each run that goes on.

Kept are backups of stores that took long to fill. Everything else goes away at the end of its run; what a run that
was killed left behind goes away at the next.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from resolver.errors import Fault, Reason

_KEPT: Final = "kept"
_RUN: Final = "run-"
_STAYS: Final = "store-"
_LOCK: Final = "lock"


def usual_folder() -> Path:
    """Give the folder for what can be made again, by the XDG Base Directory Specification."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "topnode" / "demo"


class Place:
    """The demo's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def kept(self, name: str) -> Path:
        """Give the path under which something is kept, whether it is there or not."""
        return self.folder / _KEPT / name

    def keep_only(self, name: str) -> None:
        """Remove what was kept under other names: of an earlier version, or for another number of registrations."""
        for each in self.folder.glob(f"{_KEPT}/*"):
            if each.name != name:
                shutil.rmtree(each)

    @contextmanager
    def run(self, *, keep: bool) -> Iterator[Path]:
        """Make a folder for one run. It is removed at the end, unless it is to be kept until `clean`.

        Raises:
            Fault: FILE_UNREADABLE when it cannot be made.
        """
        self._remove(_RUN)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=_STAYS if keep else _RUN, dir=self.folder))
        except OSError as error:
            raise Fault(
                Reason.FILE_UNREADABLE, f"{error.filename} cannot be made: {error.strerror}.", field="--data"
            ) from None
        with (folder / _LOCK).open("w") as lock:
            # The kernel lets go of it when the process ends, however it ends.
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield folder
            finally:
                if not keep:
                    shutil.rmtree(folder)

    def clean(self) -> None:
        """Remove everything but the folders of runs that go on, and the folder itself where it is empty then."""
        self._remove(_RUN)
        self._remove(_STAYS)
        shutil.rmtree(self.folder / _KEPT, ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _remove(self, prefix: str) -> None:
        for folder in self.folder.glob(f"{prefix}*"):
            if not _is_in_use(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_in_use(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
