"""A store read from one end to the other, where its rows have no order in common: what an audit asks of a ring."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct

from resolver.store import JournalReader, StoreReader


class Held(Struct, frozen=True, gc=False):
    """A record as it lies there: `index` is the entry that wrote it, whatever its bodies say."""

    key: bytes
    public: bytes | None
    full: bytes | None
    index: int


class HeldRow(Struct, frozen=True, gc=False):
    """A row of another table, likewise. `index` is 0 where the table does not tell."""

    key: bytes
    row: bytes
    index: int


class Scanned(StoreReader, JournalReader, Protocol):
    """Gives all rows of each kind, some at a time, in an order of its own; one that is there throughout once.

    Each is an asynchronous generator, and raises STORE_UNAVAILABLE where the store does not answer.
    """

    async def committed(self) -> int:
        """Give the index of the newest entry there is now: no row is newer."""

    def records(self) -> AsyncIterator[Sequence[Held]]:
        """Go through all records. A full body that is void is the public one."""

    def answers(self) -> AsyncIterator[Sequence[HeldRow]]:
        """Go through all requests that were answered: each with the number of the entry that did (8 bytes)."""

    def nonces(self) -> AsyncIterator[Sequence[HeldRow]]:
        """Go through all nonces that are remembered (until when, 8 bytes, and the name); they have no index."""

    def tiles(self) -> AsyncIterator[Sequence[HeldRow]]:
        """Go through all pieces of the tree, by name."""

    def imports(self) -> AsyncIterator[Sequence[HeldRow]]:
        """Go through how far all imports have come, by name."""

    def prefix_rows(self) -> AsyncIterator[Sequence[HeldRow]]:
        """Go through all rows of prefixes as they lie there, readable or not, by folded prefix."""

    def node_rows(self) -> AsyncIterator[Sequence[HeldRow]]:
        """Go through all rows of nodes, likewise, by the node's identifier."""

    def spans(self) -> AsyncIterator[Sequence[bytes]]:
        """Go through all prefixes that have a listing."""

    def listing(self, prefix: bytes) -> AsyncIterator[Sequence[HeldRow]]:
        """Go through what is listed below exactly this prefix: keys, with the spelling in UTF-8 as the row.

        The row is empty where a key lies in a place in which nobody would look for it.
        """

    async def listed(self, keys: Sequence[bytes]) -> list[bool]:
        """Tell for each of these keys, all below one prefix, whether it is listed."""
