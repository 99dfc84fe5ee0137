"""What one commit does to the databases: records, rows of prefixes, and the feed. The transaction is the caller's."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from resolver import wire
from resolver.answer import ABSENT
from resolver.routes import Prefix
from resolver.store import CHANGES_KEPT, Change, Committed, Write, Written
from resolver.store.embedded.layout import HEAD_ROW, KEY_MAX, change_encoder, lmdb_key, number, prefix_of
from resolver.store.embedded.opening import Store
from resolver.store.embedded.rows import put_row

if TYPE_CHECKING:
    from lmdb import Transaction

NAMED_MAX: Final = 5_000
"""Keys, or prefixes, that one entry of the feed names. Where more keys change, it names the prefixes above them."""

CHANGED: Final = frozenset((Written.REGISTERED, Written.REPLACED))


class Retention(Struct, frozen=True, kw_only=True):
    """How much the feed remembers: so many commits, and so many bytes of them on disk."""

    changes: int = CHANGES_KEPT
    octets: int = 256 << 20


def write_commit(
    transaction: "Transaction[bytes]",
    store: Store,
    retention: Retention,
    writes: Sequence[Write],
    prefixes: Sequence[Prefix],
) -> Committed:
    """Write everything under the next index. A commit that changes nothing has none: the head's is given."""
    index = next_index(transaction, store)
    version = wire.version_field(index)
    # Rows first: a new prefix has its rule before the first identifier comes below it.
    rows = tuple(put_row(transaction, store, prefix, index) for prefix in prefixes)
    written = [put_record(transaction, store, write, version) for write in writes]
    changed = {write.key: None for write, became in zip(writes, written, strict=True) if became in CHANGED}
    if not changed and not rows:
        return Committed(written, index - 1)
    if len(changed) <= NAMED_MAX:
        change = Change(index, keys=tuple(changed), prefixes=rows)
    else:
        change = Change(index, prefixes=rows, below=_few(map(prefix_of, changed)))
    remember(transaction, store, retention, change)
    return Committed(written, index)


def put_record(transaction: "Transaction[bytes]", store: Store, write: Write, version: bytes) -> Written:
    """Write one record, or leave what is there. `records` is the transaction's own database."""
    key = lmdb_key(write.key)
    body = write.public + version
    if transaction.put(key, body, overwrite=False):
        if len(write.key) > KEY_MAX:
            transaction.put(key, write.key, db=store.long_keys)
        became = Written.REGISTERED
    elif write.overwrite:
        transaction.put(key, body)
        transaction.delete(key, db=store.full)
        became = Written.REPLACED
    else:
        return Written.DELETED if transaction.get(key, b"")[1] == ABSENT else Written.EXISTS
    if write.full:
        transaction.put(key, write.full + version, db=store.full)
    return became


def remember(transaction: "Transaction[bytes]", store: Store, retention: Retention, change: Change) -> None:
    """Make a change the newest one in the feed, and forget the oldest ones beyond what is kept."""
    row = number(change.index)
    transaction.put(row, change_encoder.encode(change), db=store.feed)
    transaction.put(HEAD_ROW, row, db=store.meta)
    oldest_kept = number(max(change.index - retention.changes + 1, 0))
    with transaction.cursor(store.feed) as cursor:
        while cursor.first() and cursor.key() != row:
            if cursor.key() >= oldest_kept and _feed_bytes(transaction, store) <= retention.octets:
                return
            cursor.delete()


def next_index(transaction: "Transaction[bytes]", store: Store) -> int:
    """Give the index under which the next commit stands."""
    return int.from_bytes(transaction.get(HEAD_ROW, b"", store.meta), "big") + 1


def _feed_bytes(transaction: "Transaction[bytes]", store: Store) -> int:
    pages = transaction.stat(store.feed)
    return pages["psize"] * (pages["branch_pages"] + pages["leaf_pages"] + pages["overflow_pages"])


def _few(prefixes: Iterable[bytes]) -> tuple[bytes, ...]:
    """Name at most NAMED_MAX prefixes with all of these below them, as far as shortening brings that about."""
    named = set(prefixes)
    while len(named) > NAMED_MAX and any(b"." in prefix for prefix in named):
        named = {prefix.rpartition(b".")[0] or prefix for prefix in named}
    return tuple(sorted(named))
