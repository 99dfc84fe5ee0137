"""Receipts as a client gets and checks them. How a proof is checked is in `resolver.trust.receipts`."""

from collections.abc import Sequence
from urllib.parse import unquote

from google.protobuf.message import DecodeError
from msgspec import Struct

from nodes.client.signing import Draft
from registry.plans import Outcome, refused_bits
from registry.v1 import registry_pb2 as pb
from resolver.errors import Fault, Reason
from resolver.trust.receipts import Receipt

_ORIGIN = "topnode/"


class Checkpoint(Struct, frozen=True):
    """The signed head of a journal's tree (a C2SP signed note), and the verifier key of whoever signed it."""

    note: bytes
    verifier_key: str

    @property
    def node(self) -> str:
        """The node's identifier, as it stands in the name of its journal."""
        return node_of(self.verifier_key)


def node_of(verifier_key: str) -> str:
    """Give the identifier of the node whose journal's key this is."""
    return unquote(verifier_key.partition("+")[0].removeprefix(_ORIGIN))


def statement_of(receipt: Receipt) -> pb.Statement:
    """Read what a receipt proves; whether it does is to be checked apart.

    Raises:
        Fault: RECEIPT_INVALID.
    """
    try:
        return pb.Statement.FromString(receipt.statement)
    except DecodeError:
        raise Fault(Reason.RECEIPT_INVALID, "The entry is no statement.", field="statement") from None


def receipt_from_message(message: pb.Receipt) -> Receipt:
    return Receipt(
        index=message.index,
        statement=message.statement,
        leaf_hash=message.leaf_hash,
        checkpoint=message.checkpoint,
        proof=tuple(message.inclusion_proof),
    )


def check_statement(statement: pb.Statement, draft: Draft, actor: str, outcomes: Sequence[Outcome]) -> None:
    """Check that an entry says what was asked for, and what was answered; which envelope it names is not looked at.

    Raises:
        Fault: RECEIPT_INVALID with the field.
    """
    said = {
        "kind": statement.kind == draft.kind,
        "actor": statement.actor == actor,
        "request_id": statement.request_id == draft.request_id,
        "refused": statement.refused == refused_bits(outcomes),
    }
    for field, fits in said.items():
        if not fits:
            raise Fault(
                Reason.RECEIPT_INVALID,
                "The journal's entry does not say what was asked for and answered.",
                field=f"statement.{field}",
            )
