"""What became of a request, as a noun, out of what the node answers."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from registry.plans import Outcome
from registry.v1 import registry_pb2 as pb
from resolver.errors import Fault, Reason
from resolver.rpc.errors import fault_of
from resolver.trust.receipts import Receipt

_OUTCOMES: Final = {int(outcome): outcome for outcome in Outcome}


class Submitted(Struct, frozen=True, kw_only=True):
    """What became of a request.

    `outcomes` are one for each row, in order; `refusals` say why, by the position of the row, for those that are
    REFUSED; `minted` are the identifiers that the node made up, by the position of the row. `receipt` proves it, and
    was checked; there is none where every row was refused, since nothing was written then. `envelope` is what was
    sent, byte by byte: keep it with the receipt, which names it by its SHA-256. `is_repeated`: an earlier sending of
    the same request was answered so, and the receipt may name its envelope.
    """

    request_id: str
    outcomes: tuple[Outcome, ...]
    refusals: Mapping[int, Fault]
    minted: Mapping[int, str]
    receipt: Receipt | None
    envelope: bytes
    is_repeated: bool = False

    def count(self, outcome: Outcome) -> int:
        """Count the rows of which this became."""
        return self.outcomes.count(outcome)

    def insist(self) -> None:
        """Make sure that something was taken.

        Raises:
            Fault: why not: that of the first row that was refused for itself; its place is in the field.
        """
        if self.receipt is not None:
            return
        culprits = {row: fault for row, fault in self.refusals.items() if fault.reason is not Reason.ROW_NOT_TAKEN}
        for row, fault in sorted((culprits or self.refusals).items()):
            field = f"rows[{row}].{fault.field}" if fault.field else f"rows[{row}]"
            raise fault.anew(field=field)


def outcomes_of(result: pb.Result) -> tuple[Outcome, ...]:
    """Read what became of the rows.

    Raises:
        Fault: ENUM_UNKNOWN where a newer node uses a number that this version does not know.
    """
    try:
        return tuple(map(_OUTCOMES.__getitem__, result.outcomes))
    except KeyError as error:
        raise Fault(
            Reason.ENUM_UNKNOWN,
            f"{error} is no outcome that is known.",
            field="result.outcomes",
            variables={"number": str(error)},
        ) from None


def refusals_of(result: pb.Result) -> dict[int, Fault]:
    """Read why rows were refused, by their positions."""
    return {refusal.row: fault_of(refusal.error) for refusal in result.refusals}
