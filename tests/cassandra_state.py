"""What stands in the tables of a store, but for what tells its writers apart: to compare two stores."""

from typing import Any, Final

from tests.keyspaces import Keyspace

COMPARED: Final = {
    "records": "key, public_body, full_body",
    "listing": "prefix, bucket, key, spelling",
    "spans": "prefix, buckets, wanted",
    "prefixes": "part, key, row",
    "nodes": "part, key, row",
    "feed": "bucket, idx, parts, change",
    "changes": "idx, part, octets",
    "tiles": "name, octets",
    "answers": "request, idx",
    "nonces": "nonce",
    "imports": "part, name, row",
    "watermark": "name, applied, tree_head, hidden_from",
}


def state_of(keyspace: Keyspace) -> dict[str, set[tuple[Any, ...]]]:
    """Read everything that is applied, table by table."""
    return {table: set(keyspace.rows(f"SELECT {columns} FROM {{}}.{table}")) for table, columns in COMPARED.items()}
