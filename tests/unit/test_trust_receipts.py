"""Receipts of a large journal: the proof leads from any entry to the head that was signed."""

import pytest

from resolver.errors import Fault, Reason
from resolver.trust.keys import PrivateKey
from resolver.trust.merkle import Tree, leaf_hash
from resolver.trust.notes import sign_checkpoint, verifier_key
from resolver.trust.receipts import Receipt, check_receipt

KEY = PrivateKey.generate()
ORIGIN = "topnode/top"
VERIFIER = verifier_key(ORIGIN, KEY.public)
SIZE = 1_000


async def receipts() -> list[Receipt]:
    """Make a receipt for each entry of a journal."""
    statements = [b"statement %d" % number for number in range(SIZE)]
    growth = Tree().grown([leaf_hash(statement) for statement in statements])
    tree, tiles = growth.tree, dict(growth.tiles)
    checkpoint = sign_checkpoint(ORIGIN, tree.size, tree.root, KEY)

    async def read_tile(name: bytes) -> bytes | None:
        return tiles.get(name)

    return [
        Receipt(
            index=number + 1,
            statement=statement,
            leaf_hash=leaf_hash(statement),
            checkpoint=checkpoint,
            proof=await tree.proof(number, read_tile),
        )
        for number, statement in enumerate(statements)
    ]


async def test_every_entry_has_a_receipt_that_holds() -> None:
    for receipt in await receipts():
        assert check_receipt(receipt, VERIFIER).size == SIZE


async def test_another_journals_key_proves_nothing() -> None:
    receipt = (await receipts())[0]
    other = PrivateKey.generate()
    for verifier in (verifier_key(ORIGIN, other.public), verifier_key("topnode/other", KEY.public)):
        with pytest.raises(Fault) as caught:
            check_receipt(receipt, verifier)
        assert (caught.value.reason, caught.value.field) == (Reason.RECEIPT_INVALID, "checkpoint")


async def test_a_verifier_key_that_cannot_be_read_is_told() -> None:
    with pytest.raises(Fault) as caught:
        check_receipt((await receipts())[0], "topnode/top")
    assert caught.value.reason is Reason.KEY_INVALID
