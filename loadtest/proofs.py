"""What a receipt costs in a journal of ten million entries: making its proof, and checking it."""

import asyncio
import random
import statistics
import time
from hashlib import sha256
from typing import Final

from msgspec import Struct

from resolver.trust.keys import PrivateKey
from resolver.trust.merkle import Tree, leaf_hash
from resolver.trust.notes import origin_of, sign_checkpoint, verifier_key
from resolver.trust.receipts import Receipt, check_receipt

ENTRIES: Final = 10_000_000
PROVEN: Final = 1_000
_STEP: Final = 100_000


class Proven(Struct, frozen=True):
    """Medians, in seconds."""

    proof: float
    verification: float


def measure(entries: int = ENTRIES) -> Proven:
    """Prove entries all over the tree, tiles out of a dict, none of them looked at before, and check each receipt."""
    return asyncio.run(_measure(entries))


async def _measure(entries: int) -> Proven:
    tiles: dict[bytes, bytes] = {}
    tree = Tree()
    for first in range(0, entries, _STEP):
        grown = tree.grown([leaf_hash(_statement(number)) for number in range(first, min(first + _STEP, entries))])
        tree = grown.tree
        tiles.update(grown.tiles)

    async def read(name: bytes) -> bytes | None:
        return tiles.get(name)

    key, origin = PrivateKey.generate(), origin_of("top")
    checkpoint, verifier = sign_checkpoint(origin, tree.size, tree.root, key), verifier_key(origin, key.public)
    proofs, checks = [], []
    for number in random.Random(1).sample(range(entries), PROVEN):
        began = time.perf_counter()
        proof = await tree.proof(number, read)
        proofs.append(time.perf_counter() - began)
        statement = _statement(number)
        receipt = Receipt(
            index=number + 1,
            statement=statement,
            leaf_hash=leaf_hash(statement),
            checkpoint=checkpoint,
            proof=proof,
        )
        began = time.perf_counter()
        check_receipt(receipt, verifier)
        checks.append(time.perf_counter() - began)
    return Proven(statistics.median(proofs), statistics.median(checks))


def _statement(number: int) -> bytes:
    return sha256(b"%d" % number).digest() * 6
