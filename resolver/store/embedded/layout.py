"""How things lie in LMDB: the databases of a store and the keys in them. No transactions here.

    records     LMDB key -> public body with its version: a public read gives what it finds, untouched
    full        LMDB key -> full body with its version, of the records that have restricted values
    long_keys   LMDB key -> canonical key, where the two differ
    prefixes    LMDB key of the folded prefix -> its row
    feed        journal index -> Change
    meta        format, head, secret, and how far loads have come

Restricted values have a database of their own, so that no public read can come near them.
"""

from hashlib import sha256
from typing import Final

import msgspec

from resolver.store import Change, Checkpoint

KEY_MAX: Final = 511
"""Bytes of a key in LMDB as it is built everywhere."""

LEAD: Final = KEY_MAX - 1 - 32
"""Bytes of text at the beginning of a shortened key: behind it stand a zero and the SHA-256 of the whole."""

FORMAT_ROW: Final = b"format"
HEAD_ROW: Final = b"head"
SECRET_ROW: Final = b"secret"

change_encoder = msgspec.msgpack.Encoder()
change_decoder = msgspec.msgpack.Decoder(Change)
checkpoint_encoder = msgspec.msgpack.Encoder()
checkpoint_decoder = msgspec.msgpack.Decoder(Checkpoint)


def lmdb_key(key: bytes) -> bytes:
    """Give the key under which LMDB holds what has this canonical key.

    Canonical keys hold no control characters, so that none can look like a shortened one.
    """
    if len(key) <= KEY_MAX:
        return key
    return key[:LEAD] + b"\x00" + sha256(key).digest()


def is_shortened(key: bytes) -> bool:
    """Is this the LMDB key of a canonical key that is too long for LMDB?"""
    return len(key) == KEY_MAX and key[LEAD] == 0


def load_row(name: str) -> bytes:
    """Give the key in `meta` of how far the load of this name has come."""
    return lmdb_key(b"load/" + name.encode(errors="surrogateescape"))


def number(value: int) -> bytes:
    """Encode a number so that numbers sort as their encodings do."""
    return value.to_bytes(8, "big")


def prefix_of(key: bytes) -> bytes:
    """Give the folded prefix of a canonical key."""
    return key.partition(b"/")[0]


def span(prefix: bytes, *, derived: bool) -> tuple[bytes, bytes]:
    """Give the LMDB keys between which everything below a folded prefix lies: from the first to before the second.

    A dot sorts directly before a slash, so what is below derived prefixes and what is below the prefix itself are
    one range. Of a prefix longer than LEAD only the beginning shows, and others may lie in the same range.
    """
    if len(prefix) >= LEAD:
        return prefix[:LEAD], prefix[:LEAD] + b"\xff"
    return prefix + (b"." if derived else b"/"), prefix + b"0"
