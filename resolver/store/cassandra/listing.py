"""What lies below a prefix: one page of the identifiers, or whether there is anything.

The keys below a prefix lie in buckets in the order of (hash, key), and that order is the same for any number of
buckets: what ended before a listing was moved to more of them goes on behind it. Derived prefixes follow on each
other in their own order. Nothing here is a snapshot, but whatever is there throughout has one place in that order.
"""

import asyncio
import heapq
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple, Self

from resolver.store import Listed
from resolver.store.cassandra.asking import Asking, Row
from resolver.store.cassandra.layout import HASH_MAX, PARTS, bucket_of, hash_of, last_hash, part_of
from resolver.store.cassandra.statements import LISTED_AFTER, LISTED_FIRST, SPAN, SPANS_BETWEEN
from resolver.store.naming import prefix_of

SPANS_AT_ONCE: Final = 64
"""Prefixes whose listings one page looks into."""

BUCKETS_MAX: Final = 128
"""Buckets that one page reads, about: where most are empty the page is short, and the next goes on."""

AT_ONCE_MAX: Final = 16
"""Buckets that it reads at once."""

_BEHIND_ALL: Final = b"\xff"
"""Above every suffix: those are UTF-8."""


class Position(NamedTuple):
    """A place in the order of all that is listed: behind this key (which need not exist), below its prefix."""

    hashed: int
    key: bytes

    @classmethod
    def of_key(cls, key: bytes) -> Self:
        return cls(hash_of(key), key)

    @classmethod
    def behind(cls, prefix: bytes, hashed: int = HASH_MAX) -> Self:
        """Give the place behind all keys below this prefix that have this hash or a lower one."""
        return cls(hashed, prefix + b"/" + _BEHIND_ALL)

    @classmethod
    def from_bytes(cls, octets: bytes) -> Self:
        return cls(int.from_bytes(octets[:8], "big", signed=True), octets[8:])

    def to_bytes(self) -> bytes:
        return self.hashed.to_bytes(8, "big", signed=True) + self.key


class _Bucket(NamedTuple):
    """One partition of a listing, to be read from behind a position in it, or from its beginning."""

    prefix: bytes
    number: int
    buckets: int
    after: Position | None


async def page(asking: Asking, prefix: bytes, *, derived: bool, after: bytes | None, limit: int) -> Listed:
    """List at most `limit` identifiers that are not deleted, from behind `after` on."""
    position = None if after is None else Position.from_bytes(after)
    spans = await _spans(asking, prefix, position, derived=derived)
    places = _buckets(spans[:SPANS_AT_ONCE], position)
    found: list[Row] = []
    last: _Bucket | None = None
    # Most often the first bucket fills the page. Where it does not, more and more of them are read at once.
    looked, at_once = 0, 1
    while len(found) < limit and looked < BUCKETS_MAX and (window := list(islice(places, at_once))):
        for rows in await asyncio.gather(*(_rows(asking, each, limit - len(found)) for each in window)):
            found += rows
        last = window[-1]
        looked, at_once = looked + len(window), min(2 * at_once, AT_ONCE_MAX)
    return Listed([spelling for _, spelling in found[:limit]], _next_after(found, limit, last, spans, places))


async def holds_below(asking: Asking, prefix: bytes) -> bool:
    """Tell whether anything, a tombstone too, is held below a prefix or its derived ones."""
    own, derived = await asyncio.gather(
        asking.ask(SPAN, (part_of(prefix), prefix)), _derived(asking, prefix + b".", prefix, 1)
    )
    return bool(own or derived)


def _next_after(
    found: Sequence[Row], limit: int, last: _Bucket | None, spans: Sequence[Row], places: Iterator[_Bucket]
) -> bytes | None:
    if len(found) >= limit:
        return Position.of_key(found[limit - 1][0]).to_bytes()
    if last is not None and (next(places, None) is not None or len(spans) > SPANS_AT_ONCE):
        return Position.behind(last.prefix, last_hash(last.number, last.buckets)).to_bytes()
    return None


async def _spans(asking: Asking, prefix: bytes, position: Position | None, *, derived: bool) -> list[Row]:
    """Give prefixes with the number of their buckets: the one in which the page begins, and those that follow on it.

    One more than a page looks into shows that there are more.
    """
    first = prefix if position is None else prefix_of(position.key)
    own = asking.ask(SPAN, (part_of(first), first))
    if not derived:
        return [(first, buckets) for buckets, _ in await own]
    behind = prefix + b"." if first == prefix else first
    rows, others = await asyncio.gather(own, _derived(asking, behind, prefix, SPANS_AT_ONCE + 1))
    return [(first, buckets) for buckets, _ in rows] + others


async def _derived(asking: Asking, behind: bytes, prefix: bytes, limit: int) -> list[Row]:
    """Give so many of the prefixes derived from this one, in their order, from behind one of them on."""
    # What follows on a dot is a slash: all derived prefixes lie between the two.
    asked = (asking.ask(SPANS_BETWEEN, (part, behind, prefix + b"/", limit)) for part in range(PARTS))
    return list(islice(heapq.merge(*await asyncio.gather(*asked)), limit))


def _buckets(spans: Sequence[Row], position: Position | None) -> Iterator[_Bucket]:
    """Go through the buckets of these spans, beginning with the one in which the position is."""
    for prefix, buckets in spans:
        start, after = buckets, None
        if position is not None and prefix == prefix_of(position.key):
            start, after = bucket_of(position.hashed, buckets), position
        for number in range(start, 2 * buckets):
            yield _Bucket(prefix, number, buckets, after if number == start else None)


async def _rows(asking: Asking, bucket: _Bucket, limit: int) -> Sequence[Row]:
    if bucket.after is None:
        return await asking.ask(LISTED_FIRST, (bucket.prefix, bucket.number, limit))
    return await asking.ask(LISTED_AFTER, (bucket.prefix, bucket.number, *bucket.after, limit))
