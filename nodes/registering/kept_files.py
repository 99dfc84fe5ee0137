"""The files that the registration of a file leaves behind: refused rows, receipts, identifiers that were made up."""

from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

import msgspec
from msgspec.structs import replace

from nodes.client import Fault, Reason, Submitted
from nodes.loading.rejects import Reject, RejectsFile
from nodes.registering.pieces import Piece
from nodes.registering.receipt_files import KeptReceipt, ReceiptRow
from nodes.registering.resuming import Reached, StateFile

_encode: Final = msgspec.json.Encoder().encode


class KeptFiles:
    """All of them, with the state by which they are taken up again; those that nobody wants are None."""

    def __init__(
        self,
        *,
        state: StateFile | None,
        rejects: Path | None,
        receipts: Path | None,
        minted: Path | None,
        with_envelopes: bool,
    ) -> None:
        self._state = state
        self._rejects_path = rejects
        self._rejects = RejectsFile(rejects) if rejects else None
        self._receipts = _Lines(receipts) if receipts else None
        self._minted = _Lines(minted) if minted else None
        self._with_envelopes = with_envelopes

    def begin(self, reached: Reached) -> None:
        """Open them, to go on behind what this state knows of: what was written later is going to be written again.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        if self._state:
            self._state.write(reached)
        if self._rejects and self._rejects_path:
            _cut(self._rejects_path, reached.rejects_bytes)
            self._rejects.begin(goes_on=reached.rejects_bytes > 0)
        if self._receipts:
            self._receipts.begin(reached.receipts_bytes)
        if self._minted:
            self._minted.begin(reached.minted_bytes)

    def take(self, reached: Reached, piece: Piece, submitted: Submitted | None, rejects: list[Reject]) -> Reached:
        """Write down what became of a piece, and last of all how far that is.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        if self._rejects:
            self._rejects.write(rejects)
        if self._receipts and submitted and submitted.receipt:
            self._receipts.write([self._receipt(piece, submitted, ReceiptRow.of(submitted.receipt))])
        if self._minted and submitted:
            minted = sorted(submitted.minted.items())
            self._minted.write({"line": piece.lines[row], "identifier": each} for row, each in minted)
        reached = replace(
            reached,
            rejects_bytes=self._rejects_path.stat().st_size if self._rejects_path else 0,
            receipts_bytes=self._receipts.size if self._receipts else 0,
            minted_bytes=self._minted.size if self._minted else 0,
        )
        if self._state:
            self._state.write(reached)
        return reached

    def close(self, *, is_done: bool) -> None:
        """Close them; of what is done, no state is kept."""
        for file in (self._rejects, self._receipts, self._minted):
            if file:
                file.close()
        if self._state and is_done:
            self._state.remove()

    def _receipt(self, piece: Piece, submitted: Submitted, row: ReceiptRow) -> KeptReceipt:
        envelope = submitted.envelope if self._with_envelopes else b""
        return KeptReceipt(receipt=row, envelope=envelope, rows=len(piece.rows), first_line=piece.lines[0])


class _Lines:
    """A file of JSON objects, one a line."""

    def __init__(self, path: Path) -> None:
        self.size = 0
        self._path = path
        self._file: IO[bytes] | None = None

    def begin(self, size: int) -> None:
        _cut(self._path, size)
        self._file = self._path.open("ab")
        self.size = size

    def write(self, objects: Iterable[object]) -> None:
        octets = b"".join(_encode(each) + b"\n" for each in objects)
        if self._file is None or not octets:
            return
        try:
            self._file.write(octets)
            self._file.flush()
        except OSError as error:
            raise _unwritable(self._path, error) from None
        self.size += len(octets)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _cut(path: Path, size: int) -> None:
    try:
        with path.open("ab") as file:
            file.truncate(size)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> Fault:
    return Fault(
        Reason.FILE_UNREADABLE, f"{path} cannot be written: {error.strerror}.", variables={"path": str(path)}
    )
