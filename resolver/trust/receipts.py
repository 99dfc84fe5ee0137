"""Receipts: the proof that a statement is in a journal, which can be checked without asking anybody.

What a statement says is the registry's to read; here it is bytes.
"""

from collections.abc import Sequence
from hashlib import sha256

from msgspec import Struct

from resolver.errors import Fault, Reason
from resolver.trust.merkle import HASH_BYTES, leaf_hash, root_from_proof
from resolver.trust.notes import TreeHead, open_checkpoint


class Receipt(Struct, frozen=True, kw_only=True):
    """That the entry `index` (from 1) says `statement`, in the tree of the checkpoint.

    `proof` goes from the leaf's sibling upwards; the leaf's number in the tree is one less than the index.
    """

    index: int
    statement: bytes
    leaf_hash: bytes
    checkpoint: bytes
    proof: Sequence[bytes]


def check_receipt(receipt: Receipt, verifier_key: str) -> TreeHead:
    """Check that the statement is in the journal whose key was given; give the head of the tree that says so.

    Whether the statement is about the envelope at hand is `check_envelope`'s: both are needed.

    Raises:
        Fault: RECEIPT_INVALID with the field that does not fit, KEY_INVALID (the verifier key cannot be read).
    """
    head = open_checkpoint(receipt.checkpoint, verifier_key)
    if leaf_hash(receipt.statement) != receipt.leaf_hash:
        raise _invalid("The leaf is not that of the statement.", "leaf_hash")
    if not 1 <= receipt.index <= head.size:
        raise _invalid(f"The checkpoint is over {head.size} entries.", "index")
    if any(len(each) != HASH_BYTES for each in receipt.proof):
        raise _invalid("The proof is not made of SHA-256 hashes.", "inclusion_proof")
    if root_from_proof(receipt.index - 1, head.size, receipt.leaf_hash, receipt.proof) != head.root:
        raise _invalid("The proof does not lead from the leaf to the checkpoint's root.", "inclusion_proof")
    return head


def check_envelope(envelope: bytes, envelope_sha256: bytes) -> None:
    """Check that the hash which a statement names is that of this envelope, exactly as it was sent.

    Raises:
        Fault: RECEIPT_INVALID with the field.
    """
    if sha256(envelope).digest() != envelope_sha256:
        raise _invalid("The statement is about another envelope.", "statement.envelope_sha256")


def _invalid(detail: str, field: str) -> Fault:
    return Fault(Reason.RECEIPT_INVALID, detail, field=field)
