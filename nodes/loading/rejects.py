"""The file of refused rows that a load leaves behind."""

from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from resolver.errors import Fault, Reason


class Reject(NamedTuple):
    """A row that was not taken: the number of its first line, why, and its bytes."""

    line: int
    fault: Fault
    row: bytes


class RejectsFile:
    """Refused rows, one JSON object a line. A load that goes on where it was interrupted adds to its file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def begin(self, *, goes_on: bool) -> int:
        """Open the file, afresh or to go on; gives how many rows stand in it already.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        try:
            self._file = self._path.open("a+b" if goes_on else "w+b")
            return _drop_cut_line(self._file)
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, rejects: list[Reject]) -> None:
        """Add rows; they survive the end of this process.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        if self._file is None or not rejects:
            return
        try:
            self._file.write(b"".join(map(_line, rejects)))
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _unwritable(self, error: OSError) -> Fault:
        return Fault(
            Reason.FILE_UNREADABLE,
            f"{self._path} cannot be written: {error.strerror}.",
            field="--rejects",
            variables={"path": str(self._path)},
        )


def _drop_cut_line(file: IO[bytes]) -> int:
    """Take away what a process wrote of a line before it was killed; gives the number of whole lines."""
    file.seek(0)
    count = end = 0
    for line in file:
        if line.endswith(b"\n"):
            count += 1
            end += len(line)
    file.truncate(end)
    return count


def _line(reject: Reject) -> bytes:
    fault = reject.fault
    said = {
        "line": reject.line,
        "reason": fault.reason.name,
        "field": fault.field,
        "detail": fault.detail,
        "row": reject.row.decode(errors="backslashreplace"),
    }
    return msgspec.json.encode(said) + b"\n"
