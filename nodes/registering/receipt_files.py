"""Files of receipts: one JSON object a line, each a proof that can be checked without asking anybody.

A line holds a `receipt` (`index`, `statement` in base64, `leaf_hash` and `inclusion_proof` in hexadecimal digits, the
`checkpoint` as text), the `envelope` in base64 where it was kept, and of a file that was registered also how many
`rows` those are and on which line the first one stands.
"""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Final

import msgspec
from msgspec import Struct

from nodes.client.receipts import statement_of
from nodes.loading.line_files import LineFile
from registry.v1 import registry_pb2 as pb
from resolver.errors import Fault, Reason
from resolver.trust.receipts import Receipt, check_envelope, check_receipt


class ReceiptRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receipt as it is written; hashes in hexadecimal digits."""

    index: int
    statement: bytes
    leaf_hash: str
    checkpoint: str
    inclusion_proof: list[str] = []

    @classmethod
    def of(cls, receipt: Receipt) -> "ReceiptRow":
        return cls(
            index=receipt.index,
            statement=receipt.statement,
            leaf_hash=receipt.leaf_hash.hex(),
            checkpoint=receipt.checkpoint.decode(),
            inclusion_proof=[each.hex() for each in receipt.proof],
        )

    def to_receipt(self) -> Receipt:
        """Build the receipt.

        Raises:
            Fault: RECEIPT_INVALID where a hash is not hexadecimal.
        """
        try:
            return Receipt(
                index=self.index,
                statement=self.statement,
                leaf_hash=bytes.fromhex(self.leaf_hash),
                checkpoint=self.checkpoint.encode(),
                proof=[bytes.fromhex(each) for each in self.inclusion_proof],
            )
        except ValueError:
            raise Fault(Reason.RECEIPT_INVALID, "A hash is not hexadecimal.", field="receipt") from None


class KeptReceipt(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A line: a receipt, the envelope that it is about where that was kept, and which rows of a file those were."""

    receipt: ReceiptRow
    envelope: bytes = b""
    rows: int = 0
    first_line: int = 0

    def said(self) -> pb.Statement:
        """Read what the receipt proves.

        Raises:
            Fault: RECEIPT_INVALID.
        """
        return statement_of(self.receipt.to_receipt())

    def check(self, verifier_key: str) -> None:
        """Check that the statement is in the journal of this key, and, where it was kept, about this envelope.

        Raises:
            Fault: RECEIPT_INVALID with the field, KEY_INVALID.
        """
        check_receipt(self.receipt.to_receipt(), verifier_key)
        if self.envelope:
            check_envelope(self.envelope, self.said().envelope_sha256)


_decoder: Final = msgspec.json.Decoder(KeptReceipt)


def keep_receipt(path: Path, receipt: Receipt, envelope: bytes) -> None:
    """Add a receipt and its envelope to a file.

    Raises:
        Fault: FILE_UNREADABLE.
    """
    with closing(LineFile(path, "--receipt")) as file:
        file.add()
        file.write([KeptReceipt(receipt=ReceiptRow.of(receipt), envelope=envelope)])


def read_receipts(file: IO[bytes]) -> Iterator[tuple[int, KeptReceipt | Fault]]:
    """Give each line's number, and the receipt, or why it is none."""
    for number, line in enumerate(file, 1):
        if line.isspace():
            continue
        try:
            yield number, _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            yield number, Fault(Reason.RECEIPT_INVALID, f"The line is no receipt: {error}.", field="receipt")
