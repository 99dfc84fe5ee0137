"""Where everything lies in Redis: which shelf a key belongs to, how names are made, and commands as bytes.

The name of an entry is the tag of its shelf and the canonical key; the bare tag names the shelf's state. A tag stands
in braces, so that a cluster keeps a shelf in one slot, and says how many shelves there are: where that is changed,
everything begins anew.
"""

from collections.abc import Sequence
from typing import Final, Self
from zlib import crc32

from resolver.bounds import IDENTIFIER_BYTES
from resolver.cache.redis.settings import RedisSettings

_BATCH: Final = b"*%d\r\n$4\r\nMGET\r\n$%d\r\n%b"


class Layout:
    """The layout of one namespace. `tags` are the names of the shelves' states; indexes are told on `channel`."""

    def __init__(self, namespace: str, shelves: int) -> None:
        name = namespace.encode()
        self.channel = b"%b:feed" % name
        self.tags = (
            [b"{%b}" % name] if shelves == 1 else [b"{%b:%d:%d}" % (name, shelves, shelf) for shelf in range(shelves)]
        )
        # What stands before a key in a command, by the key's length: most of what making one costs.
        self._heads = [
            [b"\r\n$%d\r\n%b" % (len(tag) + length, tag) for length in range(IDENTIFIER_BYTES + 1)]
            for tag in self.tags
        ]

    @classmethod
    def of(cls, settings: RedisSettings) -> Self:
        return cls(settings.namespace, settings.shelves)

    def spread(self, keys: Sequence[bytes]) -> list[tuple[int, Sequence[int]]]:
        """Give the shelves that these keys lie on, each with the places of its keys."""
        if len(self.tags) == 1:
            return [(0, range(len(keys)))]
        places: dict[int, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(crc32(key) % len(self.tags), []).append(place)
        return [*places.items()]

    def name(self, shelf: int, key: bytes) -> bytes:
        return self.tags[shelf] + key

    def batch(self, shelf: int, keys: Sequence[bytes]) -> bytes:
        """Make the command that reads a shelf's state and what lies there under these keys, at one moment."""
        tag, heads = self.tags[shelf], self._heads[shelf]
        pieces = [_BATCH % (len(keys) + 2, len(tag), tag)]
        for key in keys:
            pieces += (heads[len(key)], key)
        pieces.append(b"\r\n")
        return b"".join(pieces)


def command(*parts: bytes) -> bytes:
    """Write a command as it is sent."""
    return b"*%d\r\n%b" % (len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]))
