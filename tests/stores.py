"""Records ready to be written, for the tests of stores."""

from collections.abc import Sequence

from resolver import wire
from resolver.handle import CaseRule, Handle
from resolver.record import Permission, Record, Tombstone, Value
from resolver.store import RecordReader, Write

RESTRICTED = Permission.ADMIN_READ | Permission.ADMIN_WRITE


def record(text: str, data: bytes = b"a part", *, secret: bytes = b"", deleted: bool = False) -> Record:
    """Make a record with a public value, and a restricted one where there is a secret; or a tombstone."""
    if deleted:
        return Record(identifier=Handle.from_text(text), tombstone=Tombstone(reason="withdrawn", deleted_at=7))
    values = [Value(index=1, type="NAME", data=data)]
    if secret:
        values.append(Value(index=2, type="SECRET", data=secret, permissions=RESTRICTED))
    return Record(identifier=Handle.from_text(text), values=tuple(values))


def write(
    text: str,
    data: bytes = b"a part",
    *,
    secret: bytes = b"",
    deleted: bool = False,
    is_new: bool = False,
    rule: CaseRule = CaseRule.INSENSITIVE,
) -> Write:
    """Make the write of such a record."""
    made = record(text, data, secret=secret, deleted=deleted)
    return Write(
        made.identifier.canonical(rule),
        wire.record_body(made, public=True),
        b"" if made.is_public else wire.record_body(made, public=False),
        is_new,
    )


def writes(texts: Sequence[str], data: bytes = b"a part", *, is_new: bool = False) -> list[Write]:
    return [write(text, data, is_new=is_new) for text in texts]


async def listed(
    store: RecordReader, prefix: bytes, *, derived: bool = False, limit: int = 100
) -> tuple[list[str], int]:
    """Give everything that is listed below a prefix, and the number of pages that it took."""
    found: list[str] = []
    pages, after = 0, None
    while True:
        page = await store.identifiers(prefix, derived=derived, after=after, limit=limit)
        assert len(page.identifiers) <= limit
        found += page.identifiers
        pages, after = pages + 1, page.next_after
        if after is None:
            return found, pages
