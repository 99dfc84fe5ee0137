"""The keys of records that are going to be written: whether any of them stands below a prefix.

Rows of prefixes ask that one after another; looking at every key each time would take time by the square of both.
"""

from bisect import bisect_left
from collections.abc import Collection
from itertools import islice


class PlannedKeys:
    """Sorts the keys of a collection that only grows: when somebody asks, and as far as it has grown since."""

    def __init__(self, keys: Collection[bytes] = ()) -> None:
        self._keys = keys
        self._sorted: list[bytes] = []

    def holds_below(self, prefix: bytes) -> bool:
        """Tell whether any stands below this folded prefix or its derived ones."""
        if len(self._sorted) < len(self._keys):
            self._sorted += islice(self._keys, len(self._sorted), None)
            self._sorted.sort()
        # Behind a prefix come a dot or a slash, which are neighbours; behind those comes the zero.
        place = bisect_left(self._sorted, prefix + b".")
        return place < len(self._sorted) and self._sorted[place] < prefix + b"0"
