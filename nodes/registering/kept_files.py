"""The files that the registration of a file leaves behind: refused rows, receipts, identifiers that were made up."""

import os
from pathlib import Path

from msgspec.structs import replace

from nodes.client import Submitted
from nodes.loading.line_files import LineFile
from nodes.loading.rejects import Reject
from nodes.registering.envelope_rows import EnvelopeRows
from nodes.registering.receipt_files import KeptReceipt, ReceiptRow
from nodes.registering.resuming import Reached, StateFile


class KeptFiles:
    """All of them, with the state by which they are taken up again; those that nobody wants are None.

    Receipts and made-up identifiers are added to what is in their files: nothing of it is ever taken away. The file
    of refused rows begins afresh with each registration.
    """

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
        self._rejects = LineFile(rejects, "--rejects") if rejects else None
        self._receipts = LineFile(receipts, "--receipts") if receipts else None
        self._minted = LineFile(minted, "--minted") if minted else None
        self._wanted = [file for file in (self._rejects, self._receipts, self._minted) if file]
        self._with_envelopes = with_envelopes

    def begin(self, reached: Reached) -> None:
        """Open them, to go on behind what this state knows of.

        Raises:
            Fault: FILE_UNREADABLE, also where a file is shorter than this state says.
        """
        for file in self._wanted:
            behind = reached.files.get(_name(file))
            if file is self._rejects and not reached.envelopes:
                file.begin()
            elif behind is None:
                file.add()
            else:
                file.go_on(behind)
        self._keep(reached)

    def take(
        self, reached: Reached, rows: EnvelopeRows, submitted: Submitted | None, rejects: list[Reject]
    ) -> Reached:
        """Write down what became of an envelope, and last of all how far that is.

        Raises:
            Fault: FILE_UNREADABLE.
        """
        if self._rejects:
            self._rejects.write(reject.plain() for reject in rejects)
        if self._receipts and submitted and submitted.receipt:
            self._receipts.write([self._receipt(rows, submitted, ReceiptRow.of(submitted.receipt))])
        if self._minted and submitted:
            minted = sorted(submitted.minted.items())
            self._minted.write({"line": rows.lines[row], "identifier": each} for row, each in minted)
        return self._keep(reached)

    def close(self, *, is_done: bool) -> None:
        """Close them; of what is done, no state is kept."""
        for file in self._wanted:
            file.close()
        if self._state and is_done:
            self._state.remove()

    def _keep(self, reached: Reached) -> Reached:
        """Keep the state; of files that this run does not write it says what it said."""
        reached = replace(reached, files={**reached.files, **{_name(file): file.size() for file in self._wanted}})
        if self._state:
            self._state.write(reached)
        return reached

    def _receipt(self, rows: EnvelopeRows, submitted: Submitted, row: ReceiptRow) -> KeptReceipt:
        envelope = submitted.envelope if self._with_envelopes else b""
        return KeptReceipt(receipt=row, envelope=envelope, rows=len(rows.encoded), first_line=rows.lines[0])


def _name(file: LineFile) -> str:
    """Name a file in the state: by its path, also one that is not UTF-8."""
    return os.fsencode(file.path.absolute()).decode(errors="backslashreplace")
