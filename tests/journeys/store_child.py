"""Other processes of the store's journeys: what they do to a store is the first argument, its folder the second.

They say on their output what is durable, line by line, and are killed while they work.
"""

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.routes import Prefix
from resolver.store import Checkpoint, Commit, Entry, Kept, Nonce, Write
from resolver.store.embedded import EmbeddedReader, EmbeddedWriter, Owner
from resolver.trust.actors import Node, NodeState, Tier
from tests.small_store import AT, entry, put
from tests.stores import write

_ROOT: Final = Path(__file__).parents[2]

CHUNK_RECORDS: Final = 16_384


@contextmanager
def started(what: str, path: Path, *arguments: str, before: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """Start a process that does this to a store; `before` is the command that starts it. It is gone afterwards."""
    command = [*before, sys.executable, "-m", __name__, what, str(path), *arguments]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def own(path: Path) -> EmbeddedWriter:
    return EmbeddedWriter.open(path, owner=Owner.here("child", clock=SystemClock()))


def batch(index: int) -> list[Write]:
    """Give the records of the entry with this index, and one that each entry replaces."""
    names = (f"88.1/{index:06}-{each:02}" for each in range(index % 40 + 1))
    newest = write("88.1/NEWEST", str(index).encode())
    return [*(write(name, name.encode() * 10, secret=b"s" if index % 3 else b"") for name in names), newest]


def made_entry(index: int) -> Entry:
    """Give the entry with this index, which leaves something in every database."""
    name = b"%08d" % index
    return entry(
        batch(index),
        [Prefix(f"88.1.{index}", "h")],
        [Node(node=f"88.{index}", tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=())],
        statement=b"statement " + name,
        artefacts=(b"envelope " + name, name * (index % 7 * 500)),
        result=b"result " + name,
        request=b"request " + name,
        nonces=(Nonce(name, AT),),
        checkpoints=(("commit", Checkpoint(chunks=index)),),
    )


def made_commit(first: int, count: int) -> Commit:
    """Give the commit of so many entries from this index on, and a stand-in for the tree over them."""
    indexes = range(first, first + count)
    tiles = [(b"tile/%d" % index, b"up to %d" % index) for index in indexes if index % 4 == 0]
    entries = [made_entry(index) for index in indexes]
    return Commit(entries=entries, tiles=tiles, tree_head=b"head %d" % indexes[-1])


def kept(index: int) -> Kept:
    """Give this entry as the journal keeps it."""
    made = made_entry(index)
    return Kept(index, made.statement, made.artefacts, made.result)


def chunk_keys(number: int) -> list[bytes]:
    """Give the keys of a chunk, sorted; every other one lies below what is there already."""
    prefix = b"88.3" if number % 2 else b"88.2.%d" % (1_000_000 - number)
    return [b"%s/%06d-%05d" % (prefix, number, each) for each in range(CHUNK_RECORDS)]


def chunk(number: int) -> list[Write]:
    """Give the records of a chunk, every other one out of order. That all have one body makes it quickly."""
    body = write("88.2/ANY").public
    made = [Write(key, body, is_new=True) for key in chunk_keys(number)]
    return made if number % 2 else made[::-1]


async def commit(path: Path) -> None:
    """Commit one to five entries at once, and say what the last one's index is."""
    writer = own(path)
    index = await writer.head()
    while True:
        index = await writer.commit(made_commit(index + 1, index % 5 + 1))
        say(index)


async def load(path: Path) -> None:
    writer = own(path)
    for number in count((await writer.checkpoint("load")).chunks):
        reached = ("load", Checkpoint(chunks=number + 1))
        await put(writer, chunk(number), artefacts=(b"envelope", bytes(500_000)), checkpoints=(reached,))
        say(number)


async def read(path: Path) -> None:
    """Read everything that each new entry wrote, until the entry in the third argument is there."""
    reader, seen = EmbeddedReader.open(path), 0
    say("ready")
    while seen < int(sys.argv[3]):
        head = await reader.head()
        for index in range(seen + 1, head + 1):
            fetched = await reader.full([each.key for each in batch(index)])
            assert None not in fetched.bodies
            assert fetched.as_of >= head
            assert await reader.entries(index - 1, 1) == [kept(index)]
        seen = head
    say(seen)


async def churn(path: Path) -> None:
    """Register, delete and replace among what is there already."""
    writer = own(path)
    for turn in count():
        name = f"88.1/{turn * 7919 % 1_000:04}-{turn % 3}"
        await put(writer, [write(name, deleted=bool(turn % 2))])
        if turn % 100 == 0:
            say(turn)


async def hold(path: Path) -> None:
    own(path)
    say("holding")
    sys.stdin.read()


async def take(path: Path) -> None:
    """Try to become the owner, with files that may not grow beyond the third argument."""
    if len(sys.argv) > 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    try:
        own(path)
    except Fault as fault:
        say(json.dumps({"reason": fault.reason.name, "text": str(fault), **fault.variables}))


async def fill(path: Path) -> None:
    """Commit and load until the disk is full, make room, and go on; then look whether everything is there."""
    has_limit = len(sys.argv) > 3
    writer = own(path)
    if has_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    committed = await _until_full(lambda number: put(writer, [write(f"88.1/C{number:05}", bytes(2_000))]))
    loaded = await _until_full(lambda number: _load(writer, number))
    if has_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        (path.parent / "ballast").unlink()
    head = await writer.head()
    assert await put(writer, [write(f"88.1/C{committed:05}")]) == head + 1
    await _load(writer, loaded)
    assert len(await writer.statements(0, 1_000_000)) == head + 2
    writer.close()
    reader = EmbeddedReader.open(path)
    keys = [b"88.1/C%05d" % number for number in range(committed + 1)]
    keys += [each.key for number in range(loaded + 1) for each in _filling(number)]
    assert None not in (await reader.public(keys)).bodies
    reader.close()
    say(f"{committed} {loaded}")


def _filling(number: int) -> list[Write]:
    return [write(f"88.2/L{number:03}-{each:04}", bytes(300)) for each in range(600)]


async def _load(writer: EmbeddedWriter, number: int) -> None:
    await put(writer, _filling(number), checkpoints=(("n", Checkpoint(lines=number)),))
    assert (await writer.checkpoint("n")).lines == number


async def _until_full(put: Callable[[int], Awaitable[object]]) -> int:
    """Give how many were written before the disk was full."""
    for number in count():
        try:
            await put(number)
        except Fault as fault:
            if fault.reason is not Reason.STORE_FULL:
                raise
            return number
    raise AssertionError


if __name__ == "__main__":
    asyncio.run(globals()[sys.argv[1]](Path(sys.argv[2])))
