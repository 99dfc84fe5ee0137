"""Moving the listing of a prefix to more buckets, while it is read and written.

In four steps: from now on write to both numbers of buckets; copy what is there, with the timestamps that it has; let
readers read the new ones; some time later drop the old ones. Whoever becomes the writer in the middle of that begins
again at the second step, and comes to the same. Before the second step the writer makes sure that it still is the
writer: so whoever comes after it knows of the first one.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import prometheus_client
from msgspec import Struct
from prometheus_client import CollectorRegistry

from resolver.clock import Clock
from resolver.store.cassandra.applying import together
from resolver.store.cassandra.asking import Row
from resolver.store.cassandra.carrying import Bundle, Carrier, Request
from resolver.store.cassandra.layout import BUCKET_KEYS, BUCKETS_MAX, HASH_MAX, bucket_of, hash_of
from resolver.store.cassandra.lease import Lease
from resolver.store.cassandra.spans import Span, Spans
from resolver.store.cassandra.statements import DROP_BUCKET, LISTED_FIRST, LISTED_WITH_TIME, PUT_LISTED

ROOM: Final = 3
"""A listing gets so many times as many buckets as it needs now: so that it seldom has to be moved."""

PAGE: Final = 1_000
"""Rows that are looked at, or copied, at once."""

IN_FLIGHT: Final = 8
"""Bundles of copies in flight: commits come first."""

DROP_AFTER_SECONDS: Final = 60.0
"""Who began to read the old buckets before the others were there has finished by then."""

COUNTED_MAX: Final = 100_000
"""Prefixes whose writes are counted; those with few are forgotten first."""

_HASH_MIN: Final = -HASH_MAX - 1
_HASHES: Final = 1 << 64

_log: Final = logging.getLogger(__name__)


class GrowingMetrics:
    """What is moved."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.moved = prometheus_client.Counter(
            "topnode_cassandra_listings_moved_total", "Listings that were moved to more buckets.", registry=registry
        )
        self.copied = prometheus_client.Counter(
            "topnode_cassandra_listing_rows_copied_total", "Rows that were copied for that.", registry=registry
        )


class _Old(Struct, frozen=True):
    """Buckets that nobody reads any more, from a time on; rows in them are not newer than the timestamp."""

    due: float
    prefix: bytes
    buckets: int
    timestamp: int


class Growing:
    """Watches how much is written below prefixes, and moves listings whose buckets are too large.

    `turn` gives a time in which nothing is applied, and the size of the journal then. `bucket_keys` is what a bucket
    may hold before it is too large.
    """

    def __init__(
        self,
        carrier: Carrier,
        spans: Spans,
        lease: Lease,
        turn: Callable[[], AbstractAsyncContextManager[int]],
        *,
        bucket_keys: int = BUCKET_KEYS,
        clock: Clock,
        metrics: GrowingMetrics,
    ) -> None:
        self._carrier = carrier
        self._spans = spans
        self._lease = lease
        self._turn = turn
        self._bucket_keys = bucket_keys
        self._clock = clock
        self._metrics = metrics
        self._written: Counter[bytes] = Counter()
        self._due: dict[bytes, None] = {}
        self._old: deque[_Old] = deque()

    def note(self, written: Mapping[bytes, int], spans: Mapping[bytes, Span]) -> None:
        """Take in how many keys were just written below each folded prefix."""
        for prefix, keys in written.items():
            span = spans[prefix]
            self._written[prefix] += keys
            if span.wanted or self._written[prefix] * 4 >= span.buckets * self._bucket_keys:
                self._due[prefix] = None
        if len(self._written) > COUNTED_MAX:
            self._written = Counter(dict(self._written.most_common(COUNTED_MAX // 2)))

    async def tend(self) -> None:
        """Drop what is old, then look at the listings that may be too large, and move them.

        Raises:
            Fault: STORE_UNAVAILABLE, STORE_FENCED; what was not done is done the next time.
        """
        while self._old and self._old[0].due <= self._clock.monotonic():
            await self._drop(self._old[0])
            self._old.popleft()
        for prefix in list(self._due):
            # One that fails is the last the next time, and keeps no other waiting.
            del self._due[prefix]
            try:
                await self._look(prefix)
            except BaseException:
                self._due[prefix] = None
                raise
            del self._written[prefix]

    async def _look(self, prefix: bytes) -> None:
        spans, _ = await self._spans.learn([prefix])
        span = spans[prefix]
        if not span.wanted:
            keys = await self._estimate(prefix, span)
            if keys <= span.buckets * self._bucket_keys or span.buckets == BUCKETS_MAX:
                return
            span = Span(span.buckets, self._enough(keys, span.buckets))
            _log.info("Cassandra: moving a listing of about %d keys to %d buckets", keys, span.wanted)
            await self._put(prefix, span)
        await self._lease.check()
        await self._copy(prefix, span)
        size = await self._put(prefix, Span(span.wanted))
        self._old.append(_Old(self._clock.monotonic() + DROP_AFTER_SECONDS, prefix, span.buckets, size))
        self._metrics.moved.inc()

    async def _estimate(self, prefix: bytes, span: Span) -> int:
        """Give about how many keys there are: hashes are even, so the first ones tell how dense they lie."""
        rows = await self._carrier.ask(LISTED_FIRST, (prefix, span.buckets, PAGE))
        if len(rows) < PAGE:
            return len(rows) * span.buckets
        return len(rows) * _HASHES // (hash_of(rows[-1][0]) - _HASH_MIN + 1)

    def _enough(self, keys: int, buckets: int) -> int:
        while buckets < BUCKETS_MAX and buckets * self._bucket_keys < ROOM * keys:
            buckets *= 2
        return buckets

    async def _put(self, prefix: bytes, span: Span) -> int:
        """Have everything that is applied from now on go by this span, and give the journal's size now."""
        async with self._turn() as size:
            await self._carrier.carry([[span.put(prefix)]])
            self._spans.note({prefix: span})
        return size

    async def _copy(self, prefix: bytes, span: Span) -> None:
        for number in range(span.buckets, 2 * span.buckets):
            rows: Sequence[Row] = [(_HASH_MIN, b"")]
            while rows:
                values = (prefix, number, *rows[-1][:2], PAGE)
                rows = await self._carrier.ask(LISTED_WITH_TIME, values)
                await self._carrier.carry(_copies(prefix, span.wanted, rows), in_flight=IN_FLIGHT)
                self._metrics.copied.inc(len(rows))

    async def _drop(self, old: _Old) -> None:
        numbers = range(old.buckets, 2 * old.buckets)
        requests: Iterator[Request] = ((DROP_BUCKET, (old.timestamp, old.prefix, number)) for number in numbers)
        await self._carrier.carry(([request] for request in requests), in_flight=IN_FLIGHT)


def _copies(prefix: bytes, buckets: int, rows: Sequence[Row]) -> Iterator[Bundle]:
    placed = ((bucket_of(hashed, buckets), hashed, *rest) for hashed, *rest in rows)
    return together(
        (bucket, (PUT_LISTED, (prefix, bucket, hashed, key, spelling, timestamp)), 2 * len(key))
        for bucket, hashed, key, spelling, timestamp in placed
    )
