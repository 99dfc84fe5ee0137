"""What one commit does to the databases: journal, records, rows, and the feed. The transaction is the caller's."""

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from lmdb import BadValsizeError
from msgspec import Struct
from msgspec.structs import replace

from resolver import wire
from resolver.bounds import ANSWERS_KEPT
from resolver.store import CHANGES_KEPT, Change, Commit, Entry, Write
from resolver.store.embedded.layout import (
    HEAD_ROW,
    KEY_MAX,
    TREE_HEAD_ROW,
    AnswerRow,
    EntryRow,
    answer_decoder,
    answer_encoder,
    artefact_row,
    change_encoder,
    checkpoint_encoder,
    entry_encoder,
    import_row,
    lmdb_key,
    nonce_row,
    nonce_until,
    number,
)
from resolver.store.embedded.opening import Store, damaged, torn
from resolver.store.naming import named_change

if TYPE_CHECKING:
    from lmdb import Transaction, _Database

_FORGOTTEN_AT_ONCE: Final = 8
"""Nonces, and answers, that go with one entry at most: more than come with it, so that none pile up.

Counted by entries and not by commits, so that the same entries leave the same behind, however they were grouped.
"""

_CHANGES_DROPPED: Final = 1_000
"""Changes that go from the feed with one commit at most, beside as many as came: when less is to be kept than was."""

_APPENDED_MIN: Final = 64
"""Fewer records than this are put one by one."""

_KEY: Final = attrgetter("key")


class Retention(Struct, frozen=True, kw_only=True):
    """How much is remembered: of the feed so many entries and so many bytes on disk, of answers so many seconds."""

    changes: int = CHANGES_KEPT
    octets: int = 256 << 20
    answers: int = ANSWERS_KEPT


def write_commit(transaction: "Transaction[bytes]", store: Store, retention: Retention, commit: Commit) -> int:
    """Write everything, and give the index of the last entry.

    Raises:
        Fault: JOURNAL_DAMAGED when there is something above the head already, which would be a second journal.
    """
    index = _head(transaction, store)
    if not commit.entries:
        return index
    for entry in commit.entries:
        index += 1
        _put_entry(transaction, store, entry, index)
        change = _put_changes(transaction, store, entry, index)
        _put_on_top(transaction, store.feed, number(index), change_encoder.encode(change))
        _forget(transaction, store, retention, entry.at)
    for name, tile in commit.tiles:
        transaction.put(name, tile, db=store.tiles)
    transaction.put(HEAD_ROW, number(index), db=store.meta)
    transaction.put(TREE_HEAD_ROW, commit.tree_head, db=store.meta)
    _shorten_feed(transaction, store, retention, index, len(commit.entries) + _CHANGES_DROPPED)
    return index


def _head(transaction: "Transaction[bytes]", store: Store) -> int:
    row = transaction.get(HEAD_ROW, db=store.meta)
    if row is None:
        raise damaged("it has no head")
    return int.from_bytes(row, "big")


def _put_entry(transaction: "Transaction[bytes]", store: Store, entry: Entry, index: int) -> None:
    row = number(index)
    kept = EntryRow(entry.statement, entry.result, len(entry.artefacts))
    _put_on_top(transaction, store.entries, row, entry_encoder.encode(kept))
    for place, artefact in enumerate(entry.artefacts):
        _put_on_top(transaction, store.artefacts, artefact_row(index, place), artefact)
    transaction.put(entry.request, row, db=store.answered)
    _put_on_top(transaction, store.answers, row, answer_encoder.encode(AnswerRow(entry.at, entry.request)))
    for nonce in entry.nonces:
        transaction.put(nonce_row(nonce), b"", db=store.nonces)
    for name, checkpoint in entry.checkpoints:
        if checkpoint is None:
            transaction.delete(import_row(name), db=store.meta)
        else:
            transaction.put(import_row(name), checkpoint_encoder.encode(checkpoint), db=store.meta)


def _put_on_top(transaction: "Transaction[bytes]", database: "_Database", key: bytes, row: bytes) -> None:
    # LMDB writes nothing, and raises nothing, when the key is not above all that are there.
    if not transaction.put(key, row, append=True, db=database):
        raise torn("The store has entries above the head of its journal")


def _put_changes(transaction: "Transaction[bytes]", store: Store, entry: Entry, index: int) -> Change:
    prefixes = tuple(replace(prefix, epoch=index) for prefix in entry.prefixes)
    for prefix in prefixes:
        transaction.put(lmdb_key(prefix.key), prefix.to_bytes(), db=store.prefixes)
    nodes = tuple(replace(node, epoch=index) for node in entry.nodes)
    for node in nodes:
        transaction.put(node.node.encode(), node.to_bytes(), db=store.nodes)
    keys = _put_records(transaction, store, entry.writes, wire.version_field(index))
    return named_change(index, keys, prefixes, nodes, entry.below)


def _put_records(
    transaction: "Transaction[bytes]", store: Store, writes: Sequence[Write], version: bytes
) -> list[bytes]:
    """Write records, and give their keys in order."""
    keys = [write.key for write in writes]
    # Whether they are sorted LMDB finds out while it appends.
    if len(writes) >= _APPENDED_MIN and _append(transaction, store, writes, keys, version):
        return keys
    keys.sort()
    for write in sorted(writes, key=_KEY):
        _put_record(transaction, store, write, version)
    return keys


def _put_record(transaction: "Transaction[bytes]", store: Store, write: Write, version: bytes) -> None:
    key, body = lmdb_key(write.key), write.public + version
    # That it is new is seen by the way. What is held under `full` is held in `records` too.
    is_new = write.is_new and transaction.put(key, body, overwrite=False)
    if not is_new:
        transaction.put(key, body)
    if len(write.key) > KEY_MAX:
        transaction.put(key, write.key, db=store.long_keys)
    if write.full:
        transaction.put(key, write.full + version, db=store.full)
    elif not is_new:
        transaction.delete(key, db=store.full)


def _append(
    transaction: "Transaction[bytes]", store: Store, writes: Sequence[Write], keys: Sequence[bytes], version: bytes
) -> bool:
    """Write records without searching, with full pages, where they lie above all that is there; else say no.

    No means that all are to be put one by one, whatever is there by then.
    """
    with transaction.cursor(store.records) as cursor:
        if cursor.last() and keys[0] <= cursor.key():
            return False
        # One after the other, so that the memory of one body is used for the next.
        bodies = (write.public + version for write in writes)
        try:
            _, added = cursor.putmulti(zip(keys, bodies, strict=False), append=True)
        except BadValsizeError:
            # A key that is too long for LMDB.
            return False
    # A key that is not above the last one is passed over without an error.
    if added != len(writes):
        return False
    for write in [write for write in writes if write.full]:
        transaction.put(write.key, write.full + version, db=store.full)
    return True


def _forget(transaction: "Transaction[bytes]", store: Store, retention: Retention, now: int) -> None:
    """Forget answers and nonces that need not be remembered any more."""
    with transaction.cursor(store.answers) as cursor:
        for _ in range(_FORGOTTEN_AT_ONCE):
            if not cursor.first():
                break
            answer = answer_decoder.decode(cursor.value())
            if answer.at + retention.answers >= now:
                break
            # A request that came again after its first answer was forgotten has a later one.
            if transaction.get(answer.request, db=store.answered) == cursor.key():
                transaction.delete(answer.request, db=store.answered)
            cursor.delete()
    with transaction.cursor(store.nonces) as cursor:
        for _ in range(_FORGOTTEN_AT_ONCE):
            if not cursor.first() or nonce_until(cursor.key()) >= now:
                break
            cursor.delete()


def _shorten_feed(
    transaction: "Transaction[bytes]", store: Store, retention: Retention, newest: int, at_most: int
) -> None:
    oldest_kept = number(max(newest - retention.changes + 1, 0))
    with transaction.cursor(store.feed) as cursor:
        for _ in range(at_most):
            if not cursor.first() or cursor.key() == number(newest):
                return
            if cursor.key() >= oldest_kept and _feed_bytes(transaction, store) <= retention.octets:
                return
            cursor.delete()


def _feed_bytes(transaction: "Transaction[bytes]", store: Store) -> int:
    pages = transaction.stat(store.feed)
    return pages["psize"] * (pages["branch_pages"] + pages["leaf_pages"] + pages["overflow_pages"])
