"""What the route table costs at a million prefixes: memory in this process, and time to load.

`python -m loadtest.routes_memory` prints a line of JSON. Run in a process of its own, since it counts the process.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator
from typing import Final

from resolver.routes import Endpoint, Hosting, Prefix, Protocol, RouteTable

CHILDREN: Final = 500
"""First segments below 88 that the prefixes are shared out to."""


def rows(count: int) -> Iterator[Prefix]:
    """Make prefixes of enterprises with a term each; three of four are delegated and have an endpoint."""
    for number in range(count):
        text = f"88.{100 + number % CHILDREN}.{number:08d}"
        here = number % 4 == 0
        yield Prefix(
            text,
            text,
            hosting=Hosting.HERE if here else Hosting.DELEGATED,
            expires_at=1_900_000_000 + number,
            endpoints=() if here else (Endpoint(Protocol.GRPC, f"192.0.2.{number % 250}", 3_641),),
            epoch=number,
        )


def measure(count: int) -> dict[str, float]:
    """Fill a table, ask about as many prefixes as it keeps scopes of, and give megabytes and seconds."""
    before = _resident_bytes()
    began = time.process_time()
    table = RouteTable()
    table.put(rows(count))
    loaded = time.process_time() - began
    resident = _resident_bytes() - before
    for number in range(0, count, max(1, count // 65_536)):
        table.scope(b"88.%d.%08d" % (100 + number % CHILDREN, number))
    return {
        "prefixes": len(table),
        "table_mb": round(resident / 1e6, 1),
        "with_scopes_mb": round((_resident_bytes() - before) / 1e6, 1),
        "peak_process_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 / 1e6, 1),
        "load_cpu_seconds": round(loaded, 2),
    }


def _resident_bytes() -> int:
    with open("/proc/self/statm") as pages:  # noqa: PTH123 - the plainest read, so that it adds nothing itself
        return int(pages.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)))
