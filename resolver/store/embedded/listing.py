"""What lies below a prefix, by a range scan: one page of the identifiers, or whether there is anything."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from resolver import wire
from resolver.answer import ABSENT
from resolver.bounds import IDENTIFIER_BYTES
from resolver.store import Listed
from resolver.store.embedded.layout import is_shortened, span
from resolver.store.embedded.opening import Store

if TYPE_CHECKING:
    from lmdb import Transaction

SCANNED_MAX: Final = 10_000
"""Rows looked at at once; where most are deleted, a page is short and the next one goes on."""

_SPELLING_BYTES: Final = IDENTIFIER_BYTES + 16  # the identifier and all that stands before it in a body


def page(
    transaction: "Transaction[memoryview]",
    store: Store,
    prefix: bytes,
    *,
    derived: bool,
    after: bytes | None,
    limit: int,
) -> Listed:
    """List at most `limit` identifiers that are not deleted, from behind `after` on.

    The transaction gives buffers: of a large value only the beginning is read.
    """
    first, end = span(prefix, derived=derived)
    beginnings = (prefix + b"/", prefix + b".") if derived else (prefix + b"/",)
    found: list[str] = []
    last: bytes | None = None
    for scanned, (key, body) in enumerate(_rows(transaction, first, end, after)):
        if scanned == SCANNED_MAX or len(found) == limit:
            return Listed(found, last)
        last = key
        if body[1] == ABSENT or not _canonical(transaction, store, key).startswith(beginnings):
            continue
        found.append(wire.registered_spelling(bytes(body[:_SPELLING_BYTES])))
    return Listed(found, None)


def holds_below(transaction: "Transaction[memoryview]", store: Store, prefix: bytes) -> bool:
    """Tell whether anything, a tombstone too, is held below a prefix or its derived ones.

    Where a prefix is too long to show in keys, and too many others lie in the same range, it is yes.
    """
    first, end = span(prefix, derived=True)
    beginnings = (prefix + b"/", prefix + b".")
    for scanned, (key, _) in enumerate(_rows(transaction, first, end, None)):
        if scanned == SCANNED_MAX or _canonical(transaction, store, key).startswith(beginnings):
            return True
    return False


def _rows(
    transaction: "Transaction[memoryview]", first: bytes, end: bytes, after: bytes | None
) -> Iterator[tuple[bytes, memoryview]]:
    with transaction.cursor() as cursor:
        if not cursor.set_range(max(first, after or first)):
            return
        for view, body in cursor:
            key = bytes(view)
            if key >= end:
                return
            if key != after:
                yield key, body


def _canonical(transaction: "Transaction[memoryview]", store: Store, key: bytes) -> bytes:
    if not is_shortened(key):
        return key
    return bytes(transaction.get(key, default=memoryview(key), db=store.long_keys))
