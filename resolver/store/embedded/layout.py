"""How things lie in LMDB: the databases of a store and the keys in them. No transactions here.

    records     LMDB key -> public body with its version: a public read gives what it finds, untouched
    full        LMDB key -> full body with its version, of the records that have restricted values
    long_keys   LMDB key -> canonical key, where the two differ
    prefixes    LMDB key of the folded prefix -> its row
    nodes       node identifier -> its row
    feed        journal index -> Change, of the newest entries
    entries     journal index -> EntryRow
    artefacts   journal index and place -> what stands beside the statement: the envelope, the chunk
    tiles       name -> piece of the tree over the statements
    answered    request -> journal index of the entry that answered it first
    answers     journal index -> AnswerRow: the order in which answers are forgotten
    nonces      until when, and the nonce -> nothing
    meta        format, head, head of the tree, secret, and how far imports have come

Restricted values have a database of their own, so that no public read can come near them.
"""

from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from resolver.store import Change, Checkpoint, Nonce

KEY_MAX: Final = 511
"""Bytes of a key in LMDB as it is built everywhere."""

LEAD: Final = KEY_MAX - 1 - 32
"""Bytes of text at the beginning of a shortened key: behind it stand a zero and the SHA-256 of the whole."""

FORMAT_ROW: Final = b"format"
HEAD_ROW: Final = b"head"
SECRET_ROW: Final = b"secret"
TREE_HEAD_ROW: Final = b"tree head"


class EntryRow(Struct, frozen=True, array_like=True, gc=False):
    """An entry of the journal, and how many artefacts stand beside its statement."""

    statement: bytes
    result: bytes
    artefacts: int


class AnswerRow(Struct, frozen=True, array_like=True, gc=False):
    """When an entry answered a request, in Unix seconds."""

    at: int
    request: bytes


entry_encoder = msgspec.msgpack.Encoder()
entry_decoder = msgspec.msgpack.Decoder(EntryRow)
answer_encoder = msgspec.msgpack.Encoder()
answer_decoder = msgspec.msgpack.Decoder(AnswerRow)
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


def import_row(name: str) -> bytes:
    """Give the key in `meta` of how far the import of this name has come."""
    return lmdb_key(b"import/" + name.encode(errors="surrogateescape"))


def artefact_row(index: int, place: int) -> bytes:
    """Give the key of what stands in this place beside the statement of the entry with this index."""
    return number(index) + bytes((place,))


def nonce_row(nonce: Nonce) -> bytes:
    """Give the key of a nonce: those that need not be remembered any more stand first."""
    return number(nonce.until) + nonce.name


def nonce_until(row: bytes) -> int:
    """Give the time until which the nonce with this key must be remembered, in Unix seconds."""
    return int.from_bytes(row[:8], "big")


def number(value: int) -> bytes:
    """Encode a number so that numbers sort as their encodings do."""
    return value.to_bytes(8, "big")


def span(prefix: bytes, *, derived: bool) -> tuple[bytes, bytes]:
    """Give the LMDB keys between which everything below a folded prefix lies: from the first to before the second.

    A dot sorts directly before a slash, so what is below derived prefixes and what is below the prefix itself are
    one range. Of a prefix longer than LEAD only the beginning shows, and others may lie in the same range.
    """
    if len(prefix) >= LEAD:
        return prefix[:LEAD], prefix[:LEAD] + b"\xff"
    return prefix + (b"." if derived else b"/"), prefix + b"0"
