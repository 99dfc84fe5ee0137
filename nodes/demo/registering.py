"""Registrations as an enterprise makes them: a thousand in a signed request, each receipt checked."""

from collections.abc import Callable, Iterable, Iterator

import msgspec
from msgspec import Struct

from nodes.client import RegistryClient
from resolver.clock import Clock


class Registered(Struct, frozen=True, kw_only=True):
    """What registering came to; `seconds` until the last row was durable and its receipt was checked."""

    rows: int = 0
    receipts: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0

    def __add__(self, other: "Registered") -> "Registered":
        return Registered(
            rows=self.rows + other.rows,
            receipts=self.receipts + other.receipts,
            seconds=self.seconds + other.seconds,
        )


async def register(
    client: RegistryClient, rows: Iterable[bytes], clock: Clock, taken: Callable[[int], None]
) -> Registered:
    """Register rows (JSON of identifiers.v1 each); `taken` is told how many became durable with each request.

    Raises:
        Fault: that of the first row that was refused; the node's; RECEIPT_INVALID.
    """
    began = clock.monotonic()
    count = receipts = 0
    async for submitted in client.register_all(map(msgspec.Raw, rows), partial=False):
        submitted.insist()
        count += len(submitted.outcomes)
        receipts += 1
        taken(len(submitted.outcomes))
    return Registered(rows=count, receipts=receipts, seconds=clock.monotonic() - began)


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut chunks of whole rows into rows."""
    for chunk in chunks:
        yield from chunk.splitlines()
