"""Rows of prefixes in the store, and the one rule that it holds itself: a record's key never changes its meaning."""

from typing import TYPE_CHECKING

from msgspec.structs import replace

from resolver.errors import Fault, Reason
from resolver.handle import CaseRule, ancestors
from resolver.routes import Prefix, Verdict, verdict
from resolver.store.embedded.layout import lmdb_key, span
from resolver.store.embedded.opening import Store

if TYPE_CHECKING:
    from lmdb import Transaction


def put_row(transaction: "Transaction[bytes]", store: Store, prefix: Prefix, index: int) -> Prefix:
    """Write a row with its epoch, and give it.

    Raises:
        Fault: PREFIX_RULE_FIXED when the row has another case rule already, or when registered identifiers below it
            would come under another rule than the one by which they were folded.
    """
    held = _row(transaction, store, prefix.key)
    if held is not None and held.case is not prefix.case:
        raise _fixed(prefix, f"The prefix {prefix.text} was created with the other case rule.")
    was_allocated = held is not None and _is_allocated(held)
    if was_allocated is not _is_allocated(prefix) and _changes_rule(transaction, store, prefix):
        raise _fixed(prefix, f"Identifiers below {prefix.text} are registered by the other case rule.")
    stamped = replace(prefix, epoch=index)
    transaction.put(lmdb_key(prefix.key), stamped.to_bytes(), db=store.prefixes)
    return stamped


def _changes_rule(transaction: "Transaction[bytes]", store: Store, prefix: Prefix) -> bool:
    """Would this row's coming or going change the rule of anything that is registered below it?"""
    return prefix.case is not _inherited(transaction, store, prefix.key) and _has_records(
        transaction, store, prefix.key
    )


def _inherited(transaction: "Transaction[bytes]", store: Store, key: bytes) -> CaseRule:
    for above in ancestors(key.rpartition(b".")[0]):
        row = _row(transaction, store, above)
        if row is not None and _is_allocated(row):
            return row.case
    return CaseRule.INSENSITIVE


def _has_records(transaction: "Transaction[bytes]", store: Store, key: bytes) -> bool:
    first, end = span(key, derived=True)
    with transaction.cursor(store.records) as cursor:
        return cursor.set_range(first) and cursor.key() < end


def _row(transaction: "Transaction[bytes]", store: Store, key: bytes) -> Prefix | None:
    row = transaction.get(lmdb_key(key), db=store.prefixes)
    return None if row is None else Prefix.from_bytes(row)


def _is_allocated(prefix: Prefix) -> bool:
    return verdict(prefix.state, is_expired=False) is not Verdict.NOT_ALLOCATED


def _fixed(prefix: Prefix, detail: str) -> Fault:
    return Fault(Reason.PREFIX_RULE_FIXED, detail, field="case", variables={"prefix": prefix.text})
