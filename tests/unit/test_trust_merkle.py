"""The tree over the journal, against RFC 6962 written down as it stands there."""

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resolver.errors import Fault, Reason
from resolver.trust.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    TILE_WIDTH,
    InnerNodes,
    Tree,
    leaf_hash,
    node_hash,
    root_from_proof,
    tile_name,
)


class Tiles(dict[bytes, bytes]):
    """A store of tiles that counts what is read."""

    reads = 0

    async def tile(self, name: bytes) -> bytes | None:
        self.reads += 1
        return self.get(name)


def split(size: int) -> int:
    """Give the largest power of two below a size."""
    return 1 << (size - 1).bit_length() - 1


def plain_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, over leaf hashes."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return sha256(b"\x01" + plain_root(leaves[:k]) + plain_root(leaves[k:])).digest()


def plain_proof(number: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1, over leaf hashes."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if number < k:
        return [*plain_proof(number, leaves[:k]), plain_root(leaves[k:])]
    return [*plain_proof(number - k, leaves[k:]), plain_root(leaves[:k])]


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(b"%d" % number) for number in range(size)]


def grown(tiles: Tiles, size: int, *, step: int | None = None) -> Tree:
    """Grow a tree of this size, in steps, and keep its tiles."""
    tree, leaves = Tree(), leaves_of(size)
    for start in range(0, size, step or size or 1):
        growth = tree.grown(leaves[start : start + (step or size)])
        tiles.update(growth.tiles)
        tree = growth.tree
    return tree


def test_the_empty_tree_is_that_of_rfc_6962() -> None:
    assert Tree().root == EMPTY_ROOT == plain_root([])
    assert Tree().grown([]).tree.root == EMPTY_ROOT


def test_leaves_and_nodes_are_hashed_apart() -> None:
    """No node can be passed off as a leaf (RFC 6962 section 2.1)."""
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(b"a") == sha256(b"\x00a").digest()
    assert node_hash(left, right) == sha256(b"\x01" + left + right).digest()
    assert leaf_hash(left + right) != node_hash(left, right)


@pytest.mark.parametrize("size", [*range(1, 10), 255, 256, 257, 511, 512, 513, 1000])
async def test_every_proof_is_that_of_rfc_6962(size: int) -> None:
    tiles = Tiles()
    tree = grown(tiles, size)
    leaves = leaves_of(size)
    assert tree.root == plain_root(leaves)
    for number in {0, 1, size // 3, size // 2, size - 2, size - 1} & set(range(size)):
        proof = await tree.proof(number, tiles.tile)
        assert proof == plain_proof(number, leaves)
        assert root_from_proof(number, size, leaves[number], proof) == tree.root


async def test_three_levels_of_tiles_give_the_same() -> None:
    """Beyond 65,536 leaves full tiles lie over full tiles."""
    size = TILE_WIDTH**2 + 3 * TILE_WIDTH + 5
    tiles = Tiles()
    tree = grown(tiles, size, step=10_007)
    leaves = leaves_of(size)
    assert tree.root == plain_root(leaves)
    assert tile_name(1, 0) in tiles
    for number in (0, 65_535, 65_536, size - 6, size - 1):
        proof = await tree.proof(number, tiles.tile)
        assert root_from_proof(number, size, leaves[number], proof) == tree.root
    assert await tree.proof(65_535, tiles.tile) == plain_proof(65_535, leaves)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=6), st.data())
async def test_however_it_grows_it_is_the_same(steps: list[int], data: st.DataObject) -> None:
    """Groups of any sizes come to the tree of all leaves at once, and a tree that was loaded goes on like it."""
    size = sum(steps)
    leaves = leaves_of(size)
    tree, tiles, held = Tree(), Tiles(), 0
    for step in steps:
        before = (tree.size, tree.root)
        growth = tree.grown(leaves[held : held + step])
        assert (tree.size, tree.root) == before
        tiles.update(growth.tiles)
        tree, held = growth.tree, held + step
    assert tree.size == size
    assert tree.root == plain_root(leaves)
    last = size - size % TILE_WIDTH
    loaded = await Tree.load(size, tiles.tile, [b"%d" % number for number in range(last, size)])
    assert loaded.root == tree.root
    more = leaves_of(size + 300)[size:]
    assert loaded.grown(more).tree.root == tree.grown(more).tree.root == plain_root(leaves_of(size + 300))
    if size:
        number = data.draw(st.integers(0, size - 1))
        assert await loaded.proof(number, tiles.tile) == plain_proof(number, leaves)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 600), st.data())
async def test_a_proof_proves_nothing_else(size: int, data: st.DataObject) -> None:
    """Altered anywhere, for another place or another size, a proof does not come to the root."""
    tiles = Tiles()
    tree, leaves = grown(tiles, size), leaves_of(size)
    number = data.draw(st.integers(0, size - 1))
    proof = await tree.proof(number, tiles.tile)

    def comes_out(number: int, size: int, leaf: bytes, proof: list[bytes]) -> bool:
        try:
            return root_from_proof(number, size, leaf, proof) == tree.root
        except Fault as fault:
            return fault.reason is not Reason.RECEIPT_INVALID

    assert comes_out(number, size, leaves[number], proof)
    assert not comes_out(number, size, leaf_hash(b"another"), proof)
    assert not comes_out(number, size, leaves[number], [*proof, EMPTY_ROOT])
    assert not comes_out(number + size, size, leaves[number], proof)
    assert not comes_out(-1, size, leaves[number], proof)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        assert not comes_out(number, size, leaves[number], [*proof[:at], EMPTY_ROOT, *proof[at + 1 :]])
        assert not comes_out(number, size, leaves[number], proof[:at] + proof[at + 1 :])
        assert not comes_out(number ^ 1, size, leaves[number], proof)


async def test_a_proof_is_for_one_size() -> None:
    """Hashed together it would come to the same root in a tree of another size, where it is too short."""
    tree, leaves = grown(Tiles(), 2), leaves_of(2)
    proof = await tree.proof(0, Tiles().tile)
    assert root_from_proof(0, 2, leaves[0], proof) == tree.root
    with pytest.raises(Fault) as caught:
        root_from_proof(0, 3, leaves[0], proof)
    assert (caught.value.reason, caught.value.field) == (Reason.RECEIPT_INVALID, "inclusion_proof")


async def test_proofs_at_the_right_edge_read_nothing() -> None:
    """Receipts of what was just written cost no reading, however large the journal is."""
    tiles = Tiles()
    tree = grown(tiles, 70_000, step=9_001)
    for number in range(69_999 // TILE_WIDTH * TILE_WIDTH, 70_000):
        await tree.proof(number, tiles.tile)
    assert tiles.reads == 0


async def test_a_tile_is_read_once_for_many_proofs() -> None:
    tiles = Tiles()
    tree = grown(tiles, 1_000)
    for number in range(TILE_WIDTH):
        await tree.proof(number, tiles.tile)
    await grown_by_one(tree).proof(0, tiles.tile)
    assert tiles.reads == 1


def grown_by_one(tree: Tree) -> Tree:
    return tree.grown([leaf_hash(b"one more")]).tree


async def test_no_more_inner_nodes_are_kept_than_allowed() -> None:
    """A scan of the journal does not fill the memory; what is still used stays."""
    tiles = Tiles()
    tree = Tree(inner=InnerNodes(2))
    growth = tree.grown(leaves_of(4 * TILE_WIDTH + 1))
    tree = growth.tree
    tiles.update(growth.tiles)
    for number in (0, TILE_WIDTH, 0, 2 * TILE_WIDTH, 0):
        await tree.proof(number, tiles.tile)
    assert tiles.reads == 3
    await tree.proof(TILE_WIDTH, tiles.tile)
    assert tiles.reads == 4


def test_only_full_tiles_are_given_and_each_once() -> None:
    tree, given_names = Tree(), list[bytes]()
    for _ in range(700):
        growth = tree.grown([EMPTY_ROOT])
        given_names += [name for name, _ in growth.tiles]
        assert all(len(tile) == TILE_WIDTH * HASH_BYTES for _, tile in growth.tiles)
        tree = growth.tree
    assert given_names == [tile_name(0, 0), tile_name(0, 1)]


def test_tiles_are_named_as_c2sp_tlog_tiles_has_it() -> None:
    assert tile_name(0, 0) == b"tile/0/000"
    assert tile_name(1, 999) == b"tile/1/999"
    assert tile_name(0, 1_000) == b"tile/0/x001/000"
    assert tile_name(2, 1_234_067) == b"tile/2/x001/x234/067"


async def test_an_entry_that_is_not_there_has_no_proof() -> None:
    tiles = Tiles()
    tree = grown(tiles, 5)
    for number in (-1, 5, 6):
        with pytest.raises(Fault) as caught:
            await tree.proof(number, tiles.tile)
        assert caught.value.reason is Reason.ENTRY_UNKNOWN


@pytest.mark.parametrize("kept", [None, b"", b"x" * (TILE_WIDTH * HASH_BYTES - 1)])
async def test_a_damaged_tile_is_named(kept: bytes | None) -> None:
    tiles = Tiles()
    tree = grown(tiles, 600)
    statements = [b"%d" % number for number in range(512, 600)]
    if kept is None:
        del tiles[tile_name(0, 1)]
    else:
        tiles[tile_name(0, 1)] = kept
    with pytest.raises(Fault) as caught:
        await tree.proof(300, tiles.tile)
    assert caught.value.reason is Reason.JOURNAL_DAMAGED
    assert "tile/0/001" in caught.value.detail
    with pytest.raises(Fault) as caught:
        await Tree.load(600, tiles.tile, statements)
    assert caught.value.reason is Reason.JOURNAL_DAMAGED


async def test_missing_statements_are_seen() -> None:
    with pytest.raises(Fault) as caught:
        await Tree.load(5, Tiles().tile, [b"0", b"1", b"2", b"3"])
    assert caught.value.reason is Reason.JOURNAL_DAMAGED


def test_the_roots_of_certificate_transparency() -> None:
    """The tree that the first implementation of RFC 6962 is tested with."""
    entries = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
    leaves = [leaf_hash(bytes.fromhex(each)) for each in entries]
    assert [Tree().grown(leaves[:size]).tree.root.hex() for size in (1, 2, 3, 8)] == [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
