"""What a command reads rows or identifiers from: a file, or standard input. Never blocks the event loop on a pipe."""

import asyncio
import hashlib
import os
import stat
import sys
from pathlib import Path
from typing import Final, Self

from resolver.errors import Fault, Reason

CHUNK: Final = 1024 * 1024
"""Bytes read at once, and bytes of a file by which it is known again."""


class Input:
    """An open file or standard input ("-"). `size` is in bytes, None where nobody knows."""

    def __init__(self, name: str, descriptor: int, *, is_ours: bool = True) -> None:
        status = os.fstat(descriptor)
        self.name = name
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else None
        self._modified = status.st_mtime_ns
        self._place = status.st_dev, status.st_ino
        self._descriptor = descriptor
        self._is_ours = is_ours

    @classmethod
    def open(cls, path: str) -> Self:
        """Open it.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        if path == "-":
            return cls("standard input", sys.stdin.fileno(), is_ours=False)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise IsADirectoryError(21, "it is a folder", path)
        except OSError as error:
            raise _unreadable(path, error) from None
        return cls(path, descriptor)

    async def read(self) -> bytes:
        """Give the next bytes, none at the end.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        if self.size is None:
            await _until_readable(self._descriptor)
        try:
            return os.read(self._descriptor, CHUNK)
        except OSError as error:
            raise _unreadable(self.name, error) from None

    async def skip(self, count: int) -> None:
        """Leave out this many bytes.

        Raises:
            Fault: LOAD_OUT_OF_STEP when there are fewer.
        """
        if self.size is not None:
            position = os.lseek(self._descriptor, count, os.SEEK_CUR)
            missing = position - self.size
        else:
            missing = count
            while missing > 0 and (octets := await self._read_up_to(missing)):
                missing -= len(octets)
        if missing > 0:
            raise Fault(
                Reason.LOAD_OUT_OF_STEP,
                f"The load of this name has come {missing} bytes further than {self.name} is long.",
                variables={"missing": str(missing)},
            )

    def check_unchanged(self) -> None:
        """Check that a file is what it was when it was opened, and still stands where it was found.

        Raises:
            Fault: INPUT_CHANGED.
        """
        if self.size is None:
            return
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.size, self._modified) or self._is_replaced():
            raise Fault(
                Reason.INPUT_CHANGED, f"{self.name} changed while it was read.", variables={"path": self.name}
            )

    def _is_replaced(self) -> bool:
        """Does another file have its name now? One that nobody names any more cannot change behind our back."""
        try:
            status = Path(self.name).stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) != self._place

    def fingerprint(self) -> str | None:
        """Give what tells this file, as it is now, from every other; None where that cannot be known."""
        if self.size is None:
            return None
        digest = hashlib.sha256(os.pread(self._descriptor, CHUNK, 0))
        digest.update(
            f"\n{Path(self.name).absolute()}\n{self.size}\n{self._modified}".encode(errors="surrogateescape")
        )
        return digest.hexdigest()

    def close(self) -> None:
        """Close a file; standard input is not ours to close."""
        if self._is_ours:
            os.close(self._descriptor)

    async def _read_up_to(self, count: int) -> bytes:
        await _until_readable(self._descriptor)
        return os.read(self._descriptor, min(count, CHUNK))


async def _until_readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    is_readable = loop.create_future()
    try:
        loop.add_reader(descriptor, is_readable.set_result, None)
    except PermissionError:
        return  # not a thing that one waits for: it is always readable
    try:
        await is_readable
    finally:
        loop.remove_reader(descriptor)


def _unreadable(path: str, error: OSError) -> Fault:
    return Fault(Reason.FILE_UNREADABLE, f"{path} cannot be read: {error.strerror}.", variables={"path": path})
