"""The tree over the journal (RFC 6962 section 2.1), kept in tiles of 256 hashes (C2SP tlog-tiles).

A tile of level L holds the roots of 256 neighbouring subtrees of 256**L leaves. Only full tiles are stored, once and
for ever. The right edge, of at most 255 hashes a level, is in memory, with the inner nodes above them, so that the
newest entries, whose proofs are asked for most, cost no reading.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from hashlib import sha256
from typing import Final

from msgspec import Struct

from resolver.errors import Fault, Reason

HASH_BYTES: Final = 32
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
"""Hashes in a full tile."""

TILES_KEPT: Final = 1_024
"""Tiles of which the inner nodes are kept between proofs: 16 KiB each."""

EMPTY_ROOT: Final = sha256().digest()
"""The root of the tree without leaves."""

ReadTile = Callable[[bytes], Awaitable[bytes | None]]
"""Gives the bytes of a stored tile by its name."""

_Rows = tuple[bytes, ...]
"""The nodes of a tile: row r holds those of height r above its hashes, as far as their subtrees are complete."""

_NO_ROWS: Final[_Rows] = (b"",) * TILE_HEIGHT


def leaf_hash(entry: bytes) -> bytes:
    """Hash an entry of the journal into a leaf."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbours into the node above them."""
    return sha256(b"\x01" + left + right).digest()


def tile_name(level: int, number: int) -> bytes:
    """Name a full tile: its path in C2SP tlog-tiles, `tile/0/x001/234`."""
    groups = []
    while True:
        number, group = divmod(number, 1_000)
        groups.append(b"%03d" % group)
        if not number:
            break
    path = b"/".join(b"x" + group for group in reversed(groups[1:]))
    return b"tile/%d/%b" % (level, path + b"/" + groups[0] if path else groups[0])


class Growth(Struct, frozen=True):
    """A larger tree, and the tiles that are full now, by name."""

    tree: "Tree"
    tiles: tuple[tuple[bytes, bytes], ...]


class Tree:
    """The tree over the first `size` entries. It never changes: a larger one is another one.

    A new tree is empty. `inner` is where the nodes of tiles that were read are kept, by all that it grows into.
    """

    __slots__ = ("_edge", "_folds", "_inner", "root", "size")

    def __init__(self, size: int = 0, edge: Sequence[_Rows] = (), inner: "InnerNodes | None" = None) -> None:
        self.size = size
        self._edge = tuple(edge)
        self._inner = inner or InnerNodes(TILES_KEPT)
        self._folds = _folded(self._peaks())
        self.root = self._folds[-1] if self._folds else EMPTY_ROOT

    @classmethod
    async def load(cls, size: int, read_tile: ReadTile, statements: Sequence[bytes]) -> "Tree":
        """Read what is needed to go on: `statements` are those behind the last full tile, `size` modulo 256.

        Raises:
            Fault: JOURNAL_DAMAGED, where a tile is missing or not whole, or statements are missing.
        """
        if len(statements) != size % TILE_WIDTH:
            raise Fault(Reason.JOURNAL_DAMAGED, f"The tree of {size} entries lacks statements at its end.")
        inner = InnerNodes(TILES_KEPT)
        edge = [_grown_rows(_NO_ROWS, [leaf_hash(each) for each in statements])]
        level = 1
        while width := size >> (TILE_HEIGHT * level):
            first = width - width % TILE_WIDTH
            below = [await _read(read_tile, level - 1, number) for number in range(first, width)]
            edge.append(_grown_rows(_NO_ROWS, [_tile_root(tile) for tile in below]))
            level += 1
        return cls(size, edge, inner)

    def grown(self, leaf_hashes: Sequence[bytes]) -> Growth:
        """Append leaves. This tree stays as it is."""
        edge, tiles = list(self._edge), list[tuple[bytes, bytes]]()
        hashes, level, before = list(leaf_hashes), 0, self.size
        while hashes:
            if level == len(edge):
                edge.append(_NO_ROWS)
            number = before >> TILE_HEIGHT
            edge[level], full = _filled(edge[level], hashes)
            tiles += ((tile_name(level, number + at), tile) for at, (tile, _) in enumerate(full))
            hashes, before, level = [root for _, root in full], number, level + 1
        return Growth(Tree(self.size + len(leaf_hashes), edge, self._inner), tuple(tiles))

    async def proof(self, leaf_number: int, read_tile: ReadTile) -> list[bytes]:
        """Give the inclusion proof (RFC 6962 section 2.1.1) of a leaf, counted from 0.

        Raises:
            Fault: ENTRY_UNKNOWN, JOURNAL_DAMAGED.
        """
        if not 0 <= leaf_number < self.size:
            raise Fault(Reason.ENTRY_UNKNOWN, f"The tree has {self.size} entries.", field="index")
        height = (leaf_number ^ self.size).bit_length() - 1
        proof = []
        for level in range((height + TILE_HEIGHT - 1) // TILE_HEIGHT):
            at = leaf_number >> (TILE_HEIGHT * level)
            rows = await self._rows(level, at >> TILE_HEIGHT, read_tile)
            at %= TILE_WIDTH
            for row in range(min(TILE_HEIGHT, height - TILE_HEIGHT * level)):
                start = ((at >> row) ^ 1) * HASH_BYTES
                proof.append(rows[row][start : start + HASH_BYTES])
        return proof + self._beside(height)

    def _beside(self, height: int) -> list[bytes]:
        """Give the proof above the complete subtree of this height: what is right of it in one, then each left."""
        position = (self.size & ((1 << height) - 1)).bit_count()
        right = [self._folds[position - 1]] if position else []
        return right + list(self._peaks())[position + 1 :]

    def _peaks(self) -> Iterator[bytes]:
        """Give the roots of the complete subtrees side by side of which the tree consists, the smallest first."""
        for rows in self._edge:
            for row in rows:
                if len(row) // HASH_BYTES & 1:
                    yield row[-HASH_BYTES:]

    async def _rows(self, level: int, number: int, read_tile: ReadTile) -> _Rows:
        if number == self.size >> (TILE_HEIGHT * (level + 1)):
            return self._edge[level]
        held = self._inner.get(level, number)
        if held is None:
            held = _all_rows(await _read(read_tile, level, number))
            self._inner.put(level, number, held)
        return held


def root_from_proof(leaf_number: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """Compute the root that a leaf and its proof come to (RFC 9162 section 2.1.3.2).

    Raises:
        Fault: RECEIPT_INVALID, where the proof has not the length that it must have.
    """
    if not 0 <= leaf_number < size or len(proof) != _proof_length(leaf_number, size):
        raise Fault(
            Reason.RECEIPT_INVALID, "The proof does not have the length that it must.", field="inclusion_proof"
        )
    number, last, root = leaf_number, size - 1, leaf
    for each in proof:
        if number & 1 or number == last:
            root = node_hash(each, root)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            root = node_hash(root, each)
        number, last = number >> 1, last >> 1
    return root


def _proof_length(leaf_number: int, size: int) -> int:
    """Below where the paths to this leaf and to the last one part each level has a node, above only those left."""
    inner = (leaf_number ^ (size - 1)).bit_length()
    return inner + (leaf_number >> inner).bit_count()


class InnerNodes:
    """The nodes of tiles that were read; the least recently used are forgotten beyond `limit` tiles."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: OrderedDict[tuple[int, int], _Rows] = OrderedDict()

    def get(self, level: int, number: int) -> _Rows | None:
        held = self._rows.get((level, number))
        if held is not None:
            self._rows.move_to_end((level, number))
        return held

    def put(self, level: int, number: int, rows: _Rows) -> None:
        self._rows[level, number] = rows
        if len(self._rows) > self._limit:
            self._rows.popitem(last=False)


def _folded(peaks: Iterator[bytes]) -> tuple[bytes, ...]:
    """Hash complete subtrees together from the right: the last is the root of all."""
    folds = list[bytes]()
    for peak in peaks:
        folds.append(node_hash(peak, folds[-1]) if folds else peak)
    return tuple(folds)


def _filled(rows: _Rows, hashes: Sequence[bytes]) -> tuple[_Rows, list[tuple[bytes, bytes]]]:
    """Put hashes into the tile at the edge and into those after it; give the new edge, and full tiles with roots."""
    full, start = list[tuple[bytes, bytes]](), 0
    while start < len(hashes):
        end = start + TILE_WIDTH - len(rows[0]) // HASH_BYTES
        rows = _grown_rows(rows, hashes[start:end])
        start = end
        if len(rows[0]) == TILE_WIDTH * HASH_BYTES:
            full.append((rows[0], node_hash(rows[-1][:HASH_BYTES], rows[-1][HASH_BYTES:])))
            rows = _NO_ROWS
    return rows, full


def _grown_rows(rows: _Rows, hashes: Sequence[bytes]) -> _Rows:
    """Append hashes to the lowest row, and to those above it what is complete now. They must fit into the tile."""
    grown = [rows[0] + b"".join(hashes)]
    for above in rows[1:]:
        below = grown[-1]
        pairs = range(2 * len(above), len(below) - 2 * HASH_BYTES + 1, 2 * HASH_BYTES)
        grown.append(above + b"".join(_pair(below, at) for at in pairs))
    return tuple(grown)


def _pair(row: bytes, at: int) -> bytes:
    return sha256(b"\x01" + row[at : at + 2 * HASH_BYTES]).digest()


def _all_rows(tile: bytes) -> _Rows:
    return _grown_rows(_NO_ROWS, [tile])


def _tile_root(tile: bytes) -> bytes:
    return _pair(_all_rows(tile)[-1], 0)


async def _read(read_tile: ReadTile, level: int, number: int) -> bytes:
    name = tile_name(level, number)
    tile = await read_tile(name)
    if tile is None or len(tile) != TILE_WIDTH * HASH_BYTES:
        what = "is missing" if tile is None else "is not whole"
        raise Fault(Reason.JOURNAL_DAMAGED, f"A piece of the tree {what}: {name.decode()}.")
    return tile
