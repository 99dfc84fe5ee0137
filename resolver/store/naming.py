"""What an entry of the feed names: the keys that changed, or, where they are very many, the prefixes above them."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from resolver.routes import Prefix
from resolver.store import Change
from resolver.trust.actors import Node

NAMED_MAX: Final = 5_000
"""Keys, or prefixes, that one entry of the feed names. Where more keys change, it names the prefixes above them."""

NAMED_BYTES: Final = 1 << 20
"""Bytes of keys that one entry names: an extreme is about 10 MiB, which not every store takes in one row."""


def named_change(
    index: int,
    keys: Sequence[bytes],
    prefixes: tuple[Prefix, ...],
    nodes: tuple[Node, ...],
    below: Sequence[bytes] = (),
) -> Change:
    """Name what an entry changed: sorted keys, and rows that have this index as their epoch already.

    `below` are prefixes below which more changed than these keys.
    """
    if len(keys) <= NAMED_MAX and sum(map(len, keys)) <= NAMED_BYTES:
        return Change(index, keys=tuple(keys), prefixes=prefixes, below=_few(below), nodes=nodes)
    return Change(index, prefixes=prefixes, below=_few([*_prefixes(keys), *below]), nodes=nodes)


def prefix_of(key: bytes) -> bytes:
    """Give the folded prefix of a canonical key."""
    return key.partition(b"/")[0]


def _prefixes(keys: Sequence[bytes]) -> list[bytes]:
    """Give the folded prefixes of sorted keys, each at least once."""
    found, at = [], 0
    while at < len(keys):
        found.append(prefix_of(keys[at]))
        # A zero is what follows on a slash: what stands before that has this prefix.
        at = bisect_left(keys, found[-1] + b"0", at)
    return found


def _few(prefixes: Sequence[bytes]) -> tuple[bytes, ...]:
    """Name at most NAMED_MAX prefixes with all of these below them, as far as shortening brings that about."""
    named = set(prefixes)
    while len(named) > NAMED_MAX and any(b"." in prefix for prefix in named):
        named = {prefix.rpartition(b".")[0] or prefix for prefix in named}
    return tuple(sorted(named))
