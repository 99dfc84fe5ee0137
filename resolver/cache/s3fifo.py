"""S3-FIFO: which answers stay when there is no more room. Knows no time, no epochs and no markers.

Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023. New keys enter a small queue; those asked
for again while they are in it move to the main one, the others leave, so a scan passes through a tenth of the room.
A key that left and soon comes back goes straight to the main queue. A hit moves nothing: it counts a visit.

loadtest/hit_ratios.py compares it with other rules.
"""

from array import array
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from resolver.answer import Ready

VISITS_MAX: Final = 3
"""Visits are counted up to this."""

ENTRY_OCTETS: Final = 296
"""What an entry takes at most beside the bytes of key and answer (tests/unit/test_memory_cache.py measures it).

Of it 52 are the time and the index of one that was read alone; those that were read together share them.
"""

ENTRY_MAX: Final = 64 * 1024
"""An answer larger than this (bytes) gets no place."""

_SMALL_PART: Final = 10
_SPARED_MAX: Final = 64
"""Entries of the main queue that one eviction may pass over, so that no caller ever waits for a whole round."""

_SLACK: Final = 1_000
"""Room is made for at least one entry in so many."""

_TYPICAL_OCTETS: Final = 512


class Share:
    """A part of a cache's entries with bounds of its own.

    Several shares work on one dict; each of its keys has exactly one place, in one queue of one share. The number of
    that queue is the entry's `place`: `small_place` or `main_place`.
    """

    def __init__(self, entries: dict[bytes, Ready], *, first_place: int, octets: int, count: int) -> None:
        self.small_place = first_place
        self.main_place = first_place + 1
        self.octets = 0
        self.evicted = 0
        self._entries = entries
        self._octets_max = octets
        self._count_max = count
        self._small_octets = 0
        self._small: deque[bytes] = deque()
        self._main: deque[bytes] = deque()
        # The hashes of keys that left, each in the slot that it chooses itself: about as many as stay.
        self._ghosts = array("q", bytes(8 * _power_of_two(min(count, octets // _TYPICAL_OCTETS))))

    def __len__(self) -> int:
        return len(self._small) + len(self._main)

    def add(self, keys: Sequence[bytes], answers: Sequence[Ready]) -> None:
        """Enter new keys, each standing once, with answers that have had no place yet; others leave to make room."""
        # No call and no branch for each entry: this is a fifth of what answering from the store costs.
        octets = _octets(keys, answers)
        self.octets += octets
        self._small_octets += octets
        self._entries.update(zip(keys, answers, strict=True))
        if self.small_place:
            for ready in answers:
                ready.place = self.small_place
        if self.evicted:
            keys = self._welcome_back(keys)
        self._small.extend(keys)
        self._make_room()

    def resize(self, place: int, octets: int) -> None:
        """Note that the entry of a key became larger or smaller; it keeps its place."""
        self.octets += octets
        if place == self.small_place:
            self._small_octets += octets

    def forget(self) -> None:
        """Start empty; whoever owns the dict empties that."""
        self._small.clear()
        self._main.clear()
        self.octets = self._small_octets = 0

    def _welcome_back(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """Enter those that left lately into the main queue, and give the others."""
        ghosts, mask = self._ghosts, len(self._ghosts) - 1
        returned = {key for key in keys if ghosts[(left := hash(key)) & mask] == left}
        if not returned:
            return keys
        for key in returned:
            ready = self._entries[key]
            ready.place = self.main_place
            self._small_octets -= _octets((key,), (ready,))
        self._main.extend(returned)
        return [key for key in keys if key not in returned]

    def _make_room(self) -> None:
        """Let entries go until the bounds hold."""
        while excess := _over(self.octets, self._octets_max, len(self), self._count_max):
            if over := self._over_in_small():
                # Some more than is needed: single ones cost ten times as much.
                self._take_from_small(min(max(excess, len(self) // _SLACK), over))
            else:
                self._take_from_main()

    def _over_in_small(self) -> int:
        """Give about how many entries the small queue has beyond its part; all are, where the main one is empty."""
        if not self._main:
            return len(self._small)
        octets_max, count_max = self._octets_max // _SMALL_PART, self._count_max // _SMALL_PART
        return _over(self._small_octets, octets_max, len(self._small), count_max)

    def _take_from_small(self, count: int) -> None:
        """Take the oldest entries out of the small queue: those that were visited go on to the main one."""
        next_key, entries = self._small.popleft, self._entries
        keys = [next_key() for _ in range(count)]
        answers = list(map(entries.pop, keys))
        octets = _octets(keys, answers)
        self.octets -= octets
        self._small_octets -= octets
        visited = {key: ready for key, ready in zip(keys, answers, strict=True) if ready.visits}
        if visited:
            self._promote(visited)
            keys = [key for key in keys if key not in visited]
        self.evicted += len(keys)
        ghosts, mask = self._ghosts, len(self._ghosts) - 1
        for left in map(hash, keys):
            ghosts[left & mask] = left

    def _promote(self, visited: dict[bytes, Ready]) -> None:
        for ready in visited.values():
            ready.visits = 0
            ready.place = self.main_place
        self._entries.update(visited)
        self._main.extend(visited)
        self.octets += _octets(visited.keys(), visited.values())

    def _take_from_main(self) -> None:
        key = self._main.popleft()
        ready = self._entries[key]
        spared = 0
        while ready.visits and spared < _SPARED_MAX:
            ready.visits -= 1
            self._main.append(key)
            key = self._main.popleft()
            ready = self._entries[key]
            spared += 1
        del self._entries[key]
        self.octets -= _octets((key,), (ready,))
        self.evicted += 1


def _octets(keys: Collection[bytes], answers: Iterable[Ready]) -> int:
    """Give what entries take."""
    return sum(map(len, keys)) + sum([len(ready.frame) for ready in answers]) + ENTRY_OCTETS * len(keys)


def _over(octets: int, octets_max: int, count: int, count_max: int) -> int:
    """Give about how many entries are too many, not fewer than one while a bound does not hold."""
    by_octets = (octets - octets_max) * count // octets + 1 if octets > octets_max else 0
    return max(by_octets, count - count_max, 0)


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
