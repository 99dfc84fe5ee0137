"""Small numbers by key, for very many keys: 13 bytes a key, however long. What they mean is not known here."""

from array import array
from bisect import bisect_left
from typing import Final

_BUCKETS: Final = 4_096
"""So a million keys are 250 to a bucket, and a new one moves as many at most."""

_MASK: Final = (1 << 64) - 1


class Numbers:
    """A number of 32 bits for each key that has one.

    Keys are told apart by 64 bits of a hash that nobody outside can foresee: among a million keys, two are taken for
    one another in one of forty million tables.
    """

    def __init__(self) -> None:
        # Hashes in order, and beside them their numbers.
        self._buckets = [(array("Q"), array("I")) for _ in range(_BUCKETS)]

    def exchange(self, key: bytes, number: int | None) -> int | None:
        """Give the number of a key, and let it have another one, or none, from now on."""
        hashed = hash(key) & _MASK
        hashes, numbers = self._buckets[hashed % _BUCKETS]
        place = bisect_left(hashes, hashed)
        held = numbers[place] if place < len(hashes) and hashes[place] == hashed else None
        if held is None and number is not None:
            hashes.insert(place, hashed)
            numbers.insert(place, number)
        elif held is not None and number is None:
            del hashes[place], numbers[place]
        elif number is not None:
            numbers[place] = number
        return held
