"""What counting adds to a lookup: `python -m loadtest.counting`. Side by side, in rounds that take turns.

A whole chain answers from memory, with and without what the front does to count; and the count alone.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from loadtest.chains import chain_over
from resolver.chain import Chain
from resolver.clock import SystemClock
from resolver.counting import Counting
from resolver.query import Mode, Query
from resolver.routes import Prefix
from resolver.store import StoreReader
from resolver.store.embedded import EmbeddedReader, EmbeddedWriter, Owner
from tests.small_store import put
from tests.stores import writes

BATCHES: Final = (1, 16, 1_000)
PREFIXES: Final = 25
ROUNDS: Final = 60
LOOKUPS: Final = 20_000
"""Lookups in a round."""


def main() -> None:
    """Measure, and print JSON."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder) / "store"))
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


async def measure(path: Path) -> dict[int, dict[str, float]]:
    """Measure batches of several sizes over a store that is made here: nanoseconds of CPU for each lookup."""
    with closing(EmbeddedWriter.open(path, owner=Owner.here("measurement", clock=SystemClock()))) as store:
        prefixes = [Prefix(f"88.{number}", f"88.{number}") for number in range(PREFIXES)]
        keys = [f"88.{number % PREFIXES}/SN-{number}" for number in range(1_000)]
        await put(store, writes(keys), prefixes)
    with closing(EmbeddedReader.open(path)) as reader:
        identifiers = [key.encode() for key in keys]
        return {batch: await measured(reader, identifiers[:batch]) for batch in BATCHES}


async def measured(reader: StoreReader, identifiers: Sequence[bytes]) -> dict[str, float]:
    """Give medians of rounds, in nanoseconds a lookup: as it was, counted, and the difference of the two."""
    rounds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        # A chain of its own for each: nothing follows the feed here, and after a second it would ask the store.
        chain = await chain_over(reader)
        for name, nanoseconds in (await _round(chain, identifiers)).items():
            rounds.setdefault(name, []).append(nanoseconds)
        await chain.close()
    medians = {name: round(statistics.median(each), 1) for name, each in rounds.items()}
    pairs = zip(rounds["plain"], rounds["counted"], strict=True)
    medians["added"] = round(statistics.median(after - before for before, after in pairs), 1)
    return medians


async def _round(chain: Chain, identifiers: Sequence[bytes]) -> dict[str, float]:
    counting = Counting(SystemClock())
    query = Query(identifiers=identifiers, deadline=time.monotonic() + 3_600)
    answers = await chain.resolve(query)
    times = max(1, LOOKUPS // len(identifiers))
    found: dict[str, float] = {}
    for name in ("plain", "counted", "plain", "counted"):
        counts = name == "counted"
        began = time.process_time_ns()
        for _ in range(times):
            given = await chain.resolve(query)
            if counts:
                counting.count(given, query.mode)
        spent = (time.process_time_ns() - began) / times / len(identifiers)
        found[name] = min(spent, found.get(name, spent))
    began = time.process_time_ns()
    for _ in range(times):
        counting.count(answers, Mode.LOCAL)
    found["count alone"] = (time.process_time_ns() - began) / times / len(identifiers)
    return found


if __name__ == "__main__":
    main()
