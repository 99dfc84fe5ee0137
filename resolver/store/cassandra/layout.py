"""How things lie in Cassandra: parts, buckets and encodings. The tables stand in schema/, the CQL in `statements`.

records     one partition for each canonical key
listing     the keys below a prefix in buckets, by a hash of the key: each bucket is one partition
spans       which prefixes have a listing, and in how many buckets: a few partitions, each in the order of prefixes
prefixes    a few partitions, each in the order of keys; likewise nodes
journal     its entries, a thousand to a partition; likewise feed
artefacts   a partition for each entry, octets in parts; likewise redo and changes
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final

import msgspec
from cassandra.metadata import Murmur3Token
from msgspec import Struct

from resolver.routes import Prefix
from resolver.store import Change, Checkpoint, Entry, Nonce, Write
from resolver.trust.actors import Node

PARTS: Final = 16
"""Partitions over which the rows of prefixes, nodes and spans lie. Never changed: it is in the rows' keys."""

BUCKET_ENTRIES: Final = 1_000
"""Entries of the journal, and of the feed, in one partition. Never changed either."""

PART_BYTES: Final = 512 << 10
"""The most that one row holds of what may be large."""

CHANGE_BYTES: Final = 64 << 10
"""A change up to this size lies in its row of the feed, a larger one beside it, in parts."""

BUCKET_KEYS: Final = 100_000
"""Keys in one bucket of a listing, about, before it is worth having more buckets."""

BUCKETS_MAX: Final = 1 << 20

HASH_MAX: Final = (1 << 63) - 1

JOURNAL: Final = "journal"
"""The name of the one row in `head`, in `watermark`, and of the writers' rows in `beats`."""

SECRET_ROW: Final = "secret"  # noqa: S105 - the name of a row
FORMAT_ROW: Final = "format"

_SIGN: Final = 1 << 63


def hash_of(key: bytes) -> int:
    """Give 64 bits (signed) of a key: the token that Cassandra's Murmur3Partitioner gives it."""
    return int(Murmur3Token.hash_fn(key))


def part_of(key: bytes) -> int:
    """Give the part in which the row of a prefix, of a node or of a span lies."""
    return hash_of(key) % PARTS


def bucket_of(hashed: int, buckets: int) -> int:
    """Give the bucket of a listing in which the key with this hash lies, where there are so many (a power of two).

    The numbers of buckets begin at their count: 1; 2, 3; 4, 5, 6, 7; so that listings of two counts can lie side by
    side. Within a count buckets follow on each other as hashes do.
    """
    return buckets + ((hashed + _SIGN) * buckets >> 64)


def last_hash(number: int, buckets: int) -> int:
    """Give the highest hash that lies in the bucket with this number."""
    return ((number - buckets + 1) << 64) // buckets - 1 - _SIGN


def buckets_for(keys: int) -> int:
    """Give the number of buckets for a listing of about so many keys."""
    buckets = 1
    while buckets < BUCKETS_MAX and keys > buckets * BUCKET_KEYS:
        buckets *= 2
    return buckets


def entry_bucket(index: int) -> int:
    """Give the partition of `journal`, and of `feed`, in which this journal index lies."""
    return index // BUCKET_ENTRIES


def epoch_of(index: int, starts: Sequence[tuple[int, int]]) -> int:
    """Give the epoch whose writer committed this entry: the one with the largest start below the index.

    `starts` are pairs of start and epoch, sorted. Of two that begin at the same place the earlier committed nothing.
    """
    return starts[bisect_left(starts, (index,)) - 1][1]


def split(octets: bytes) -> list[bytes]:
    """Cut into parts of at most PART_BYTES; what is empty is one empty part."""
    return [octets[start : start + PART_BYTES] for start in range(0, len(octets), PART_BYTES)] or [b""]


def parts_in(size: int) -> int:
    """Give the number of parts that `split` makes of so many bytes."""
    return max(1, -(-size // PART_BYTES))


def version_field(body: bytes) -> bytes:
    """Give the field at the end of a body that holds its version: a tag and a varint."""
    # Bytes of a varint but the last have their highest bit set; a tag below 16 has not.
    start = len(body) - 1
    while body[start - 1] & 0x80:
        start -= 1
    return body[start - 1 :]


def has_version_of(full: bytes | None, public: bytes) -> bool:
    """Does this full body belong to this public one? One that a later entry left behind is void."""
    return full is not None and full.endswith(version_field(public))


def nonce_row(nonce: Nonce) -> bytes:
    """Give the key of a nonce."""
    return nonce.until.to_bytes(8, "big") + nonce.name


def import_row(name: str) -> bytes:
    """Give the key of how far the import of this name has come; a name may have bytes that are not UTF-8."""
    return name.encode(errors="surrogateescape")


def import_name(row: bytes) -> str:
    """Give the name of the import whose row has this key."""
    return row.decode(errors="surrogateescape")


class Redo(Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """Everything that one entry changes beside the journal itself, to be written once more whenever that is needed.

    `tiles`, `tree_head` and `buckets` are those of the commit: they stand in its last entry, and only there.
    New fields come last with a default: a new version may have to write what an old one left behind.
    """

    at: int
    request: bytes
    writes: tuple[tuple[bytes, bytes, bytes, bool], ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    nodes: tuple[Node, ...] = ()
    nonces: tuple[tuple[bytes, int], ...] = ()
    checkpoints: tuple[tuple[bytes, Checkpoint | None], ...] = ()
    tiles: tuple[tuple[bytes, bytes], ...] = ()
    tree_head: bytes = b""
    below: tuple[bytes, ...] = ()
    buckets: tuple[tuple[bytes, int], ...] = ()

    @classmethod
    def of(
        cls,
        entry: Entry,
        *,
        tiles: Sequence[tuple[bytes, bytes]] = (),
        tree_head: bytes = b"",
        buckets: Mapping[bytes, int] | None = None,
    ) -> "Redo":
        """Take it from an entry; rows of prefixes and nodes have no epoch yet. Names of imports are rows' keys.

        `buckets` are those of the listings that are there from this entry on: folded prefixes, and how many.
        """
        return cls(
            at=entry.at,
            request=entry.request,
            writes=tuple([(each.key, each.public, each.full, each.is_new) for each in entry.writes]),
            prefixes=tuple(entry.prefixes),
            nodes=tuple(entry.nodes),
            nonces=tuple((each.name, each.until) for each in entry.nonces),
            checkpoints=tuple((import_row(name), reached) for name, reached in entry.checkpoints),
            tiles=tuple(tiles),
            tree_head=tree_head,
            below=entry.below,
            buckets=tuple((buckets or {}).items()),
        )

    def hidden_from(self, index: int, before: int) -> int:
        """Tell from which entry on records are hidden behind this one, where they were from `before` on (0: none).

        A load around the servers hides its own from its first entry to its last, and nobody else writes meanwhile.
        """
        for _, reached in self.checkpoints:
            if reached is None:
                return 0
            if reached.offline is not None:
                return before or index
        return before

    @staticmethod
    def from_bytes(octets: bytes) -> "Redo":
        return _redo_decoder.decode(octets)

    def to_bytes(self) -> bytes:
        return _redo_encoder.encode(self)

    def all_writes(self) -> list[Write]:
        """Give the records as they were to be written."""
        return [Write(*each) for each in self.writes]

    def all_nonces(self) -> list[Nonce]:
        return [Nonce(*each) for each in self.nonces]


_redo_encoder = msgspec.msgpack.Encoder()
_redo_decoder = msgspec.msgpack.Decoder(Redo)
change_encoder = msgspec.msgpack.Encoder()
change_decoder = msgspec.msgpack.Decoder(Change)
checkpoint_encoder = msgspec.msgpack.Encoder()
checkpoint_decoder = msgspec.msgpack.Decoder(Checkpoint)


def joined(parts: Iterable[bytes], sizes: Sequence[int]) -> list[bytes]:
    """Put together what lies one behind the other in parts, by its sizes.

    Raises:
        ValueError: there is less, or more, than the sizes say.
    """
    octets = b"".join(parts)
    ends = list(accumulate(sizes, initial=0))
    if ends[-1] != len(octets):
        raise ValueError(f"{len(octets)} bytes instead of {ends[-1]}")
    return [octets[start:end] for start, end in pairwise(ends)]
