"""What the prober remembers of a million prefixes: memory in this process, time to read them, time for one change.

`python -m loadtest.probing_memory` prints a line of JSON. Run in a process of its own, since it counts the process.
Of the prefixes three of four are delegated, by 250 routes to each of 500 children.
"""

import json
import resource
import sys
import time
from typing import Final

from nodes.probing.holdings import Holdings, Route
from resolver.routes import Endpoint, Protocol

CHILDREN: Final = 500
ADDRESSES: Final = 250
CHANGES: Final = 10_000


def route(number: int) -> Route | None:
    """Say where a prefix leads: made anew each time, as when it is read from a store."""
    if number % 4 == 0:
        return None
    endpoint = Endpoint(Protocol.GRPC, f"192.0.2.{number // CHILDREN % ADDRESSES}", 3_641)
    return Route(f"88.{100 + number % CHILDREN}", (endpoint,))


def measure(count: int) -> dict[str, float]:
    """Fill holdings, change some of them, and give megabytes and seconds."""
    before, began = _resident_bytes(), time.process_time()
    holdings = Holdings(most=CHILDREN * ADDRESSES)
    for number in range(count):
        holdings.put(b"88.%d.%08d" % (100 + number % CHILDREN, number), route(number))
    loaded, resident = time.process_time() - began, _resident_bytes() - before
    began = time.process_time()
    for number in range(CHANGES):
        holdings.put(b"88.%d.%08d" % (100 + number % CHILDREN, number), route(number + 1))
    return {
        "prefixes": count,
        "megabytes": round(resident / 1e6, 1),
        "load_cpu_seconds": round(loaded, 2),
        "change_cpu_microseconds": round((time.process_time() - began) / CHANGES * 1e6, 1),
    }


def _resident_bytes() -> int:
    with open("/proc/self/statm") as pages:  # noqa: PTH123 - the plainest read, so that it adds nothing itself
        return int(pages.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)))
