"""What the feed forgets: whole partitions of it, when all that is in them is older than it has to remember."""

from itertools import chain
from typing import Final

from resolver.store.cassandra.carrying import Bundle, Carrier
from resolver.store.cassandra.layout import BUCKET_ENTRIES, entry_bucket
from resolver.store.cassandra.statements import DROP_CHANGE_PARTS, DROP_FEED, FEED_PARTS

_IN_FLIGHT: Final = 8


class Forgetting:
    """Drops what the feed need not remember: it keeps at least so many changes, and less than a partition more."""

    def __init__(self, carrier: Carrier, *, changes_kept: int) -> None:
        self._carrier = carrier
        self._changes_kept = changes_kept
        self._dropped: int | None = None

    async def tend(self, newest: int) -> None:
        """Drop what is too old where this is the index of the newest change.

        Raises:
            Fault: STORE_UNAVAILABLE; what was not dropped is dropped the next time.
        """
        last = entry_bucket(newest - self._changes_kept + 1) - 1
        if self._dropped is None:
            await self._drop_before(last)
        else:
            for bucket in range(self._dropped + 1, last + 1):
                await self._drop(bucket)
        self._dropped = last

    async def _drop_before(self, last: int) -> None:
        """Drop what another writer may have left: everything before the first partition that is empty, backwards."""
        while last >= 0 and await self._drop(last):
            last -= 1

    async def _drop(self, bucket: int) -> bool:
        """Drop a partition, and what lies beside it; tell whether anything was there."""
        end = (bucket + 1) * BUCKET_ENTRIES - 1
        rows = await self._carrier.ask(FEED_PARTS, (bucket, end))
        beside: list[Bundle] = [[(DROP_CHANGE_PARTS, (index, index))] for index, parts in rows if parts]
        await self._carrier.carry(chain(beside, [[(DROP_FEED, (end, bucket, end))]]), in_flight=_IN_FLIGHT)
        return bool(rows)
