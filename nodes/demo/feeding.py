"""Rows into the running node, through the process that owns its store, as `topnode load` does it."""

from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from registry.intake import Manner
from registry.loading import Taken, TakesLoads
from registry.parts import Cutter, Part
from registry.rows import RowFormat
from resolver.clock import Clock
from resolver.errors import Fault


class Fed(Struct, frozen=True, kw_only=True):
    """What a load came to; `seconds` until the last row was durable."""

    rows: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds else 0.0


async def feed(
    loads: TakesLoads, name: str, chunks: Iterable[bytes], clock: Clock, taken: Callable[[int], None]
) -> Fed:
    """Load rows from their first on; `taken` is told how many became durable with each part.

    Raises:
        Fault: that of the first row that was refused; the node's.
    """
    began = clock.monotonic()
    rows = 0
    await loads.begin(name, restart=True)
    for part in _parts(chunks):
        _insist(await loads.take(name, part, Manner()))
        count = part.rows.count(b"\n")
        rows += count
        taken(count)
    return Fed(rows=rows, seconds=clock.monotonic() - began)


def _parts(chunks: Iterable[bytes]) -> Iterator[Part]:
    cutter = Cutter(RowFormat.NDJSON)
    for chunk in chunks:
        cutter.add(chunk)
        yield from cutter.parts()
    cutter.end()
    yield from cutter.parts()


def _insist(taken: Taken) -> None:
    for line, fault, _row in taken.rejects:
        raise Fault(fault.reason, f"The node refused line {line}: {fault.detail}", field=fault.field)
