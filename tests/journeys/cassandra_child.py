"""Another process that writes to a store in Cassandra: it is stopped, or killed, while it works.

    python -m tests.journeys.cassandra_child HOST PORT KEYSPACE LEASE_SECONDS

It says on its output what is durable, line by line, and at the end why it writes no more.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from resolver.clock import SystemClock
from resolver.errors import Fault
from resolver.routes import Prefix
from resolver.store import Checkpoint, Commit, Entry, Nonce
from resolver.store.cassandra.settings import CassandraSettings, LeaseSettings
from resolver.store.cassandra.writer import CassandraWriter
from resolver.trust.actors import Node, NodeState, Tier
from resolver.units import Duration
from tests.small_store import AT, entry
from tests.stores import write

_ROOT: Final = Path(__file__).parents[2]


def made_entry(index: int) -> Entry:
    """Give the entry with this index, which leaves something in every table; some of it the next ones replace."""
    name = b"%08d" % index
    written = [
        *(write(f"88.1/{index:06}-{each}", secret=b"s" if index % 3 else b"", is_new=True) for each in range(3)),
        write("88.1/NEWEST", name, secret=b"s" if index % 2 else b""),
        write("88.1/SOMETIMES", name, deleted=bool(index % 2)),
        write(f"88.1.{index}/A", name, is_new=True),
    ]
    return entry(
        written,
        [Prefix(f"88.1.{index}", "h"), Prefix("88.1", f"holder {index}")],
        [Node(node=f"88.{index}", tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=())],
        statement=b"statement " + name,
        artefacts=(b"envelope " + name, name * (index % 7 * 500)),
        result=b"result " + name,
        request=b"request " + name,
        nonces=(Nonce(name, AT + 3_600),),
        checkpoints=(
            ("commit", Checkpoint(chunks=index)),
            (f"old {index - 1}", None),
            (f"old {index}", Checkpoint()),
        ),
    )


def made_commit(first: int, count: int) -> Commit:
    """Give the commit of so many entries from this index on, and a stand-in for the tree over them."""
    indexes = range(first, first + count)
    return Commit(
        entries=[made_entry(index) for index in indexes],
        tiles=[(b"tile/%d" % index, b"up to %d" % index) for index in indexes if index % 4 == 0],
        tree_head=b"head %d" % indexes[-1],
    )


@contextmanager
def started(settings: CassandraSettings, lease: float) -> Iterator[subprocess.Popen[str]]:
    """Start a process that writes; it is gone afterwards."""
    (host,) = settings.hosts
    arguments = [host, str(settings.port), settings.keyspace, str(lease)]
    command = [sys.executable, "-m", __name__, *arguments]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def main() -> None:
    """Commit one to three entries at once, and say what the last one's index is, until that is over."""
    host, port, keyspace, lease = sys.argv[1:]
    timing = LeaseSettings(lease=Duration(float(lease)), beat_every=Duration(float(lease) / 6))
    settings = CassandraSettings(hosts=(host,), port=int(port), keyspace=keyspace, replicas=1, lease=timing)
    writer = await CassandraWriter.open(
        settings, owner="child", waits=True, clock=SystemClock(), registry=CollectorRegistry()
    )
    index = await writer.head()
    try:
        while True:
            index = await writer.commit(made_commit(index + 1, index % 3 + 1))
            say(index)
    except Fault as fault:
        say(fault.reason.name)


if __name__ == "__main__":
    asyncio.run(main())
