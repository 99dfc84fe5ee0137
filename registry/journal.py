"""The journal: entries appended in groups, the Merkle tree over them, its signed head, and receipts.

What an entry says is decided elsewhere (`registry.entries`); where it is kept is the store's.
"""

from collections.abc import Sequence
from typing import Protocol, Self

from resolver.bounds import STATEMENT_BYTES
from resolver.errors import Fault, Reason
from resolver.store import Commit, Entry, StoreReader, StoreWriter
from resolver.trust.keys import PrivateKey
from resolver.trust.merkle import TILE_WIDTH, Tree, leaf_hash
from resolver.trust.notes import sign_checkpoint, verifier_key
from resolver.trust.receipts import Receipt


class Store(StoreReader, StoreWriter, Protocol):
    """The store of the process that writes: reads for planning, and the commit."""


class Journal:
    """The journal of one store, in the process that writes it; for one caller of `commit` at a time."""

    def __init__(self, store: Store, key: PrivateKey, origin: str, tree: Tree) -> None:
        self._store = store
        self._key = key
        self._origin = origin
        self._tree = tree
        self._is_sure = True
        self.checkpoint = self._sign(tree)
        self.verifier_key = verifier_key(origin, key.public)

    @classmethod
    async def open(cls, store: Store, key: PrivateKey, origin: str) -> Self:
        """Take up the journal where its last commit left it, or begin one.

        A head that was signed with another key is taken as it is, and signed with this one from now on.

        Raises:
            Fault: JOURNAL_DAMAGED when the tree over the entries is not the one whose head was signed.
        """
        tree = await _tree_of(store)
        journal = cls(store, key, origin, tree)
        _compare(tree, journal.checkpoint, await store.tree_head())
        return journal

    @property
    def size(self) -> int:
        """The journal index of the newest entry."""
        return self._tree.size

    async def commit(self, entries: Sequence[Entry]) -> int:
        """Append these entries with all that they change, durable when it returns; give the index of the last.

        Raises:
            Fault: as the store's `commit`. Where the store does not know whether it took place, that is found out
                before the next one (`be_sure`). INTERNAL for a statement of more than STATEMENT_BYTES.
        """
        longest = max((len(entry.statement) for entry in entries), default=0)
        if longest > STATEMENT_BYTES:
            raise Fault(Reason.INTERNAL, f"A statement has {longest} bytes; {STATEMENT_BYTES} are allowed.")
        await self.be_sure()
        self._is_sure = False
        growth = self._tree.grown([leaf_hash(entry.statement) for entry in entries])
        checkpoint = self._sign(growth.tree)
        index = await self._store.commit(Commit(entries=entries, tiles=growth.tiles, tree_head=checkpoint))
        if index != growth.tree.size:
            raise _damaged(f"The store wrote entry {index} where the journal has {growth.tree.size}.")
        self._tree = growth.tree
        self.checkpoint = checkpoint
        self._is_sure = True
        return index

    async def be_sure(self) -> None:
        """After a commit that failed: take up the journal where the store really is. Else nothing is done.

        Raises:
            Fault: as `open`. The journal is then as it was before, and not sure yet.
        """
        if self._is_sure:
            return
        tree = await _tree_of(self._store)
        checkpoint = self._sign(tree)
        _compare(tree, checkpoint, await self._store.tree_head())
        self._tree, self.checkpoint = tree, checkpoint
        self._is_sure = True

    async def receipt(self, index: int) -> Receipt:
        """Prove that an entry is in the journal as it is now.

        Raises:
            Fault: ENTRY_UNKNOWN; as the store does.
        """
        if not 0 < index <= self.size:
            raise Fault(
                Reason.ENTRY_UNKNOWN,
                f"The journal has the entries 1 to {self.size}.",
                field="index",
                variables={"index": str(index), "size": str(self.size)},
            )
        (statement,) = await self._store.statements(index - 1, 1)
        return await self.receipt_of(index, statement)

    async def receipt_of(self, index: int, statement: bytes) -> Receipt:
        """Prove the same of an entry whose statement is at hand."""
        # A proof may wait for tiles, and the tree grow meanwhile: all parts are of one tree.
        tree, checkpoint = self._tree, self.checkpoint
        return Receipt(
            index=index,
            statement=statement,
            leaf_hash=leaf_hash(statement),
            checkpoint=checkpoint,
            proof=await tree.proof(index - 1, self._store.tile),
        )

    def _sign(self, tree: Tree) -> bytes:
        return sign_checkpoint(self._origin, tree.size, tree.root, self._key)


async def _tree_of(store: Store) -> Tree:
    size = await store.head()
    behind = size // TILE_WIDTH * TILE_WIDTH
    return await Tree.load(size, store.tile, await store.statements(behind, TILE_WIDTH))


def _compare(tree: Tree, checkpoint: bytes, held: bytes) -> None:
    """Compare what the store has as the tree's head with what is signed over the tree itself."""
    if not held and not tree.size:
        return
    if _said(held) != _said(checkpoint):
        raise _damaged(
            f"The tree over {tree.size} entries is not the one whose head was signed: the store says "
            f"{_said(held)!r}, its entries {_said(checkpoint)!r}."
        )


def _said(note: bytes) -> str:
    """Give what a signed note says: everything before its signatures."""
    return note.partition(b"\n\n")[0].decode(errors="replace")


def _damaged(detail: str) -> Fault:
    return Fault(Reason.JOURNAL_DAMAGED, detail)
