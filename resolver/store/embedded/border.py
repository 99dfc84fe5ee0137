"""The border to LMDB and the file system: what they raise leaves the store as a Fault."""

import errno
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Final

import lmdb

from resolver.errors import Fault, Reason

DATA_FILE: Final = "data.mdb"

_RETRY_SECONDS: Final = 1.0
_FULL: Final = frozenset((errno.ENOSPC, errno.EFBIG, errno.EDQUOT))
_NOT_LET: Final = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG))
_ROOM: Final = 1 << 20


class Border:
    """`with border:` around whatever may raise lmdb.Error or OSError about the store in this folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, lmdb.Error | OSError):
            raise self.fault(error) from error

    def fault(self, error: lmdb.Error | OSError) -> Fault:
        """Give STORE_FULL, FILE_UNREADABLE, STORE_FORMAT_UNKNOWN or STORE_UNAVAILABLE."""
        # Errors that py-lmdb raises of itself, such as "closed", may have no code.
        code = error.errno if isinstance(error, OSError) else getattr(error, "code", 0)
        if code in _FULL or (code == errno.EIO and self._is_full()):
            return Fault(Reason.STORE_FULL)
        if code in _NOT_LET:
            return Fault(Reason.FILE_UNREADABLE, f"{error}.", variables={"path": str(self._path)})
        if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError):
            return Fault(Reason.STORE_FORMAT_UNKNOWN, f"{self._path / DATA_FILE} is not a store: {error}.")
        return Fault(Reason.STORE_UNAVAILABLE, f"The store does not answer: {error}.", retry_after=_RETRY_SECONDS)

    def _is_full(self) -> bool:
        """Ask the file system whether a file of the store's size could still grow.

        When only a part of a write found room, LMDB calls it an input/output error.
        """
        try:
            size = (self._path / DATA_FILE).stat().st_size
            with tempfile.TemporaryFile(dir=self._path, buffering=0) as probe:
                return os.pwrite(probe.fileno(), bytes(_ROOM), size) < _ROOM
        except OSError as error:
            return error.errno in _FULL
