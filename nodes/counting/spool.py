"""The spool of a resolver: counts that nobody takes just now, in a file that outlives it.

Whoever keeps counts on the machine adopts what a resolver has left that is not there any more. The file is replaced
whole, so that it is always one that was written to its end. The process that writes it holds a lock on it: while that
lives, though it may be stopped, nobody else takes its counts.
"""

import asyncio
import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from resolver.counting import Tally
from resolver.errors import Fault, Reason
from resolver.private_files import FOLDER_MODE, open_private

_NAME: Final = re.compile(r"[0-9a-f]{32}")


class NumberedTally(Struct, frozen=True):
    """What is handed on under a number, which goes up by one with each."""

    sequence: int
    tally: Tally


class Left(Struct, frozen=True, kw_only=True):
    """What a resolver had not handed on at a time (Unix, seconds). `has_ended`: it ended then, in order."""

    written: float
    has_ended: bool
    tallies: list[NumberedTally]


class Spool:
    """The file of one resolver, by the name of its life, in a folder that is made when there is something to keep.

    A failure costs what would have been kept if the process is killed then, and nothing else.
    """

    def __init__(self, folder: Path, boot: str) -> None:
        self.is_there = False
        """Is there a file, or is one being written?"""
        self._path = folder / boot
        self._locked: int | None = None
        # One thread: one thing after the other, also when who asked for the first did not wait for it.
        self._thread = ThreadPoolExecutor(1, "spool")

    async def write(self, written: float, tallies: Sequence[NumberedTally], *, has_ended: bool = False) -> None:
        """Put this in the place of what was there.

        Raises:
            Fault: FILE_UNREADABLE; then what was there is there still.
        """
        self.is_there = True
        octets = msgspec.msgpack.encode(Left(written=written, has_ended=has_ended, tallies=list(tallies)))
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, octets)

    async def clear(self) -> None:
        """Remove it.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        self.is_there = False
        await asyncio.get_running_loop().run_in_executor(self._thread, self._remove)

    def _write(self, octets: bytes) -> None:
        beside = self._path.with_suffix(".part")
        with _told(self._path):
            self._path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            made = open_private(beside, os.O_WRONLY | os.O_TRUNC)
            try:
                with open(made, "wb", closefd=False) as file:
                    file.write(octets)
                os.fsync(made)
                fcntl.flock(made, fcntl.LOCK_EX | fcntl.LOCK_NB)
                beside.replace(self._path)
            except OSError:
                os.close(made)
                with suppress(OSError):
                    beside.unlink()
                raise
        if self._locked is not None:
            os.close(self._locked)
        self._locked = made

    def _remove(self) -> None:
        with _told(self._path):
            self._path.unlink(missing_ok=True)
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None


def left_behind(folder: Path) -> list[str]:
    """Name those who have a spool in the folder, whether they are there or not."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(each.name for each in folder.iterdir() if _NAME.fullmatch(each.name))
    return []


@contextmanager
def adopted(folder: Path, boot: str) -> Iterator[Left | None]:
    """Give what one has left that is not there any more; the file is removed unless the context ends with a Fault.

    Nothing where there is no file, or where the process that wrote it lives.

    Raises:
        Fault: FILE_UNREADABLE; a file that is not whole is removed.
    """
    path = folder / boot
    with _told(path), suppress(FileNotFoundError), path.open("rb") as file:
        if _is_left(file.fileno(), path):
            octets = file.read()
            try:
                left = msgspec.msgpack.decode(octets, type=Left)
            except msgspec.DecodeError as error:
                path.unlink()
                raise Fault(Reason.FILE_UNREADABLE, f"{path} is not whole: {error}", field="data") from None
            yield left
            path.unlink(missing_ok=True)
            return
    yield None


def _is_left(descriptor: int, path: Path) -> bool:
    """Is the file locked by nobody, and not one that was just replaced?"""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_ino == path.stat().st_ino


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Fault(Reason.FILE_UNREADABLE, f"{path}: {error.strerror}.", field="data") from None
