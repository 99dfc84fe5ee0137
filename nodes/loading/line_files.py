"""Files that a command leaves behind: one JSON object a line, added at the end, and no whole line lost on the way."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from resolver.errors import Fault, Reason
from resolver.private_files import open_private

_BLOCK: Final = 64 * 1024
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class LineFile:
    """One such file, which an option of the command names. It is opened in one of three ways."""

    def __init__(self, path: Path, option: str) -> None:
        self.path = path
        self._option = option
        self._file: IO[bytes] | None = None
        self._there: set[bytes] = set()

    def begin(self) -> None:
        """Open it, emptied.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        try:
            self._file = self._open(os.O_TRUNC)
        except OSError as error:
            raise self._unwritable(error) from None

    def add(self) -> None:
        """Open it to add to whatever is there.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        try:
            self._file = self._open(os.O_APPEND)
            if not _is_ended(self._file):
                self._file.write(b"\n")
                self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def go_on(self, behind: int | None = None) -> None:
        """Open it to go on where an interrupted run stopped; `behind` are the bytes that were told (None: unknown).

        A line that the interruption cut through is taken away. Whole lines behind those bytes stay, whoever wrote
        them; what would be written is not written again where it is one of them.

        Raises:
            Fault: FILE_UNREADABLE, also where the file is shorter.
        """
        try:
            self._check_length(behind or 0)
            self._file = self._open(os.O_APPEND)
            _end_last_line(self._file)
            if behind is not None:
                self._file.seek(behind)
                self._there = set(self._file)
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, objects: Iterable[object]) -> None:
        """Add objects; they survive the end of this process.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        lines = [line for line in (_encode(each) + b"\n" for each in objects) if line not in self._there]
        if self._file is None or not lines:
            return
        try:
            self._file.write(b"".join(lines))
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def size(self) -> int:
        """Give the bytes of the open file, what others added included."""
        return os.fstat(self._file.fileno()).st_size if self._file else 0

    def count(self) -> int:
        """Count the lines of the open file."""
        if self._file is None:
            return 0
        self._file.seek(0)
        return sum(1 for _ in self._file)

    def close(self) -> None:
        if self._file is not None:
            # What could not be written has been told, and would be tried once more here.
            with suppress(OSError):
                self._file.close()

    def _open(self, flags: int) -> IO[bytes]:
        # For its owner alone: what is in it may hold values that not everybody may read.
        mode = "a+b" if flags & os.O_APPEND else "r+b"
        return os.fdopen(open_private(self.path, os.O_RDWR | flags), mode)

    def _check_length(self, behind: int) -> None:
        size = self.path.stat().st_size if self.path.exists() else 0
        if size < behind:
            raise self._fault(
                f"{self.path} has {size:,} bytes, and had {behind:,} at the interruption: put it back as it was, or "
                "name another file."
            )

    def _unwritable(self, error: OSError) -> Fault:
        return self._fault(f"{self.path} cannot be written: {error.strerror}.")

    def _fault(self, detail: str) -> Fault:
        return Fault(Reason.FILE_UNREADABLE, detail, field=self._option, variables={"path": os.fspath(self.path)})


def _is_ended(file: IO[bytes]) -> bool:
    """Does its last line have its end?"""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return True
    file.seek(size - 1)
    return file.read(1) == b"\n"


def _end_last_line(file: IO[bytes]) -> None:
    """Give the last line its end where only that is missing; else take away what there is of it."""
    end = _last_end(file)
    file.seek(end)
    tail = file.read()
    if tail and _is_whole(tail):
        file.write(b"\n")
        file.flush()
    elif tail:
        file.truncate(end)


def _is_whole(line: bytes) -> bool:
    try:
        _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _last_end(file: IO[bytes]) -> int:
    """Give the place behind the last end of a line, 0 where there is none."""
    place = file.seek(0, os.SEEK_END)
    while place:
        before = max(0, place - _BLOCK)
        file.seek(before)
        found = file.read(place - before).rfind(b"\n")
        if found >= 0:
            return before + found + 1
        place = before
    return 0
