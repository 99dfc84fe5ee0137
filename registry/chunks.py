"""The chunks of an import: rows of all formats alike, compressed, as they are kept beside the journal for ever.

A chunk is one Zstandard frame (RFC 8878) that tells its content's size. The content is MessagePack: an array of
blocks, each a byte string that holds the MessagePack array

    [lines, prefixes, identifiers]

of the numbers of the rows' first lines in the input (those of prefixes first), rows of prefixes, and rows of
identifiers. A row is a map with the fields of the JSON object that `topnode load` reads (`registry.rows`), binary
data as byte strings. Rows are taken in their order, in each block prefixes before identifiers. Outcomes and refusals
name a row by its position in the chunk.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final

import msgspec
import zstandard
from msgspec import Struct

from registry.rows import IdentifierRow, PrefixRow
from resolver.bounds import CHUNK_BYTES
from resolver.errors import Fault, Reason

BLOCK_ROWS: Final = 128
"""Rows in a block, at most: what is taken between two turns of the event loop. With more of them at once their
objects outgrow the core's cache, and a row takes a tenth longer."""

LEVEL: Final = 1
"""Of compression."""

NO_CHUNKS: Final = bytes(32)
"""The manifest of an import before its first chunk."""


class Block(Struct, frozen=True, array_like=True, gc=False):
    """Rows that are taken together. `lines` are those at which they begin in the input."""

    lines: Sequence[int]
    prefixes: Sequence[PrefixRow]
    identifiers: Sequence[IdentifierRow]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_blocks: Final = msgspec.msgpack.Decoder(list[bytes]).decode
_decode_block: Final = msgspec.msgpack.Decoder(Block).decode


def manifest_with(manifest: bytes, chunk_sha256: bytes) -> bytes:
    """Give the manifest of an import with one more chunk: a hash over the hashes of its chunks, in their order."""
    return sha256(manifest + chunk_sha256).digest()


class ChunkWriter:
    """Takes the rows of one chunk, one after another."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._lines: list[int] = []
        self._prefixes: list[PrefixRow] = []
        self._identifiers: list[IdentifierRow] = []

    def add(self, line: int, row: PrefixRow | IdentifierRow) -> None:
        """Take a row, which begins at this line."""
        if len(self._lines) >= BLOCK_ROWS:
            self._end_block()
        if isinstance(row, IdentifierRow):
            self._identifiers.append(row)
        else:
            if self._identifiers:
                self._end_block()
            self._prefixes.append(row)
        self._lines.append(line)

    def finish(self) -> bytes:
        """Give the chunk."""
        if self._lines:
            self._end_block()
        return zstandard.ZstdCompressor(level=LEVEL).compress(_encode(self._blocks))

    def _end_block(self) -> None:
        self._blocks.append(_encode(Block(self._lines, self._prefixes, self._identifiers)))
        self._lines, self._prefixes, self._identifiers = [], [], []


class Chunk:
    """A chunk that was opened: its blocks are read one by one, when their turn comes."""

    def __init__(self, blocks: Sequence[bytes], rows: int) -> None:
        self._blocks = blocks
        self._rows = rows

    @classmethod
    def open(cls, octets: bytes, *, digest: str, size: int, rows: int) -> "Chunk":
        """Open what should be the chunk with this SHA-256 (hex), of so many bytes, and so many rows.

        Raises:
            Fault: CHUNK_MISMATCH.
        """
        if len(octets) != size or sha256(octets).hexdigest() != digest:
            raise _mismatch("Its size or its SHA-256 is another one.")
        try:
            if not 0 <= zstandard.frame_content_size(octets) <= CHUNK_BYTES:
                raise _mismatch(f"What is compressed has to have a known size of at most {CHUNK_BYTES} bytes.")
            content = zstandard.ZstdDecompressor().decompress(octets, allow_extra_data=False)
            return cls(_decode_blocks(content), rows)
        except (zstandard.ZstdError, msgspec.DecodeError) as error:
            raise _mismatch(f"It cannot be read: {error}.") from None

    def blocks(self) -> Iterator[Block]:
        """Give the blocks.

        Raises:
            Fault: CHUNK_MISMATCH when one cannot be read, or rows are missing or too many: at the latest at the end.
        """
        left = self._rows
        for octets in self._blocks:
            block = _read(octets)
            left -= len(block.lines)
            yield block
        if left:
            raise _mismatch(f"It has {self._rows - left} rows; the envelope says {self._rows}.")


def _read(octets: bytes) -> Block:
    try:
        block = _decode_block(octets)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _mismatch(f"A block cannot be read: {error}.") from None
    if not 0 < len(block.lines) == len(block.prefixes) + len(block.identifiers) <= BLOCK_ROWS:
        raise _mismatch(f"A block has 1 to {BLOCK_ROWS} rows, and as many numbers of lines.")
    return block


def _mismatch(detail: str) -> Fault:
    return Fault(Reason.CHUNK_MISMATCH, f"This is not the chunk that the envelope names. {detail}", field="chunk")
