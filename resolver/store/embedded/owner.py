"""Who writes: the lock that makes one process the writer of a store, and names it to everybody else.

Not LMDB's own lock, which lets writers wait for each other: here a second one is told who the first is.
"""

import fcntl
import os
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import msgspec
from msgspec import Struct

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.private_files import open_private

LOCK_FILE: Final = "owner.lock"

_WHOLE_FILE: Final = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid


class Owner(Struct, frozen=True, kw_only=True):
    """The process that may write to a store.

    `what` is a few words for people; `since` is Unix time in seconds; `socket` is where it takes writes from other
    processes, empty when it takes none.
    """

    pid: int
    what: str
    since: float
    socket: str = ""

    @classmethod
    def here(cls, what: str, *, clock: Clock, socket: str = "") -> Self:
        """Name this process, from now on."""
        return cls(pid=os.getpid(), what=what, since=clock.wall(), socket=socket)


class OwnerLock:
    """The held lock of a store's folder. The kernel frees it when the process ends, in whatever way it ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, folder: Path, owner: Owner) -> Self:
        """Become the owner.

        Raises:
            Fault: STORE_OWNED; `pid`, `what`, `since` and `socket` are its variables.
            OSError: the folder is missing or may not be written to.
        """
        descriptor = open_private(folder / LOCK_FILE, os.O_RDWR)
        try:
            _lock(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(owner), 0)
        except BlockingIOError:
            holder = _read(descriptor)
            os.close(descriptor)
            raise _owned(folder, holder) from None
        except OSError:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def release(self) -> None:
        """Let another process become the owner."""
        # The name stays behind; without the lock nobody reads it.
        os.close(self._descriptor)


def current_owner(path: Path) -> Owner | None:
    """Give the process that holds the store in this folder, None where nobody does. Takes no lock itself.

    Raises:
        Fault: FILE_UNREADABLE.
    """
    try:
        descriptor = os.open(path / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Fault(
            Reason.FILE_UNREADABLE, f"{error.filename}: {error.strerror}.", variables={"path": str(error.filename)}
        ) from None
    try:
        return _read(descriptor) if _is_locked(descriptor) else None
    finally:
        os.close(descriptor)


# Locks of the open file description: like those of flock they belong to the opened file and not to the process, so
# that a second open in the same process meets them too; unlike those they can be asked about without being taken,
# which could keep a writer out that starts at that moment.


def _lock(descriptor: int) -> None:
    wanted = _WHOLE_FILE.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)


def _is_locked(descriptor: int) -> bool:
    # A read lock conflicts with the owner's write lock, and may be asked about on a file opened for reading.
    wanted = _WHOLE_FILE.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
    found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, wanted)
    return bool(_WHOLE_FILE.unpack(found)[0] != fcntl.F_UNLCK)


def _read(descriptor: int) -> Owner:
    try:
        return msgspec.json.decode(os.pread(descriptor, 4_096, 0), type=Owner)
    except msgspec.DecodeError:
        # Between its locking and its writing, or a disk too full for a name.
        return Owner(pid=0, what="a process that has not named itself", since=0)


def _owned(folder: Path, owner: Owner) -> Fault:
    since = datetime.fromtimestamp(owner.since, UTC).isoformat(timespec="seconds")
    return Fault(
        Reason.STORE_OWNED,
        f"{owner.what} (process {owner.pid}) has been the writer of {folder} since {since}.",
        variables={"pid": str(owner.pid), "what": owner.what, "since": since, "socket": owner.socket},
    )
