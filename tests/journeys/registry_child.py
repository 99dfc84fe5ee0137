"""Other processes of the registry's journeys: what they do is the first argument, the data folder the second.

    group DATA STEP   submit all requests of DATA/../requests as one group, and be killed at this step
    torn DATA STEP    the same with a store that does not keep its promise
    steps DATA        the same, and tell on the output which steps there are, one a line
    begin DATA N      open a registry where there is none, and be killed at the Nth use of the file system
    register DATA     register identifiers one after another, telling each that is durable, until killed
    fill DATA LIMIT   register until the disk is full, make room, and go on

Run with the name of this module and `table`, it prints what is left after a kill at each step.
"""

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec.structs import replace

from registry.answers import Answer
from registry.kinds import IMPORT
from resolver.clock import SetClock
from resolver.errors import Fault, Reason
from resolver.store import Commit
from resolver.store.embedded import EmbeddedWriter
from resolver.store.embedded.snapshot import DATABASES
from resolver.store.embedded.writing import write_commit
from resolver.trust.envelopes import Envelope, kind_of
from resolver.trust.keys import PrivateKey
from tests.signing import registering
from tests.small_registry import SECONDARY, SmallRegistry, opened

if TYPE_CHECKING:
    import lmdb

_ROOT: Final = Path(__file__).parents[2]

REACHED: Final = "request read"
VERIFIED: Final = "signature verified"
PLANNED: Final = "group planned"
BEGUN: Final = "transaction begun"
WRITTEN: Final = "transaction complete, before its commit"
COMMITTED: Final = "transaction committed, before the thread is back"
RETURNED: Final = "durable, before any answer"
ANSWERED: Final = "first answer given"
LATE: Final = (COMMITTED, RETURNED, ANSWERED)
"""Steps after which everything is there; before them nothing is."""

PAGES: Final = "pages being written, up to byte "
"""Followed by the number: there the file may not grow any more, and the kernel ends the process in its write."""


@contextmanager
def started(what: str, data: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a process that does this; it is gone afterwards."""
    command = [sys.executable, "-m", __name__, what, str(data), *map(str, arguments)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def say(what: object) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# --- a store that tells each of its steps ------------------------------------------------------------------------

Step = Callable[[str], None]


class Watched:
    """A transaction, or a cursor in one, that names each of its writes before it does it."""

    def __init__(self, watched: Any, names: dict[int, str], database: str, step: Step) -> None:
        self._watched = watched
        self._names = names
        self._database = database
        self._step = step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watched, name)

    def __enter__(self) -> Self:
        self._watched.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._watched.__exit__(*raised)

    def put(self, key: bytes, value: bytes, *, db: Any = None, **more: Any) -> bool:
        name = self._name(db)
        self._step(f"put {name}{f' ({key.decode()})' if name == 'meta' else ''}")
        return bool(self._watched.put(key, value, **more, **({} if db is None else {"db": db})))

    def delete(self, *arguments: Any, db: Any = None, **more: Any) -> bool:
        self._step(f"delete {self._name(db)}")
        return bool(self._watched.delete(*arguments, **more, **({} if db is None else {"db": db})))

    def putmulti(self, *arguments: Any, **more: Any) -> Any:
        self._step(f"append {self._database}")
        return self._watched.putmulti(*arguments, **more)

    def cursor(self, database: Any) -> "Watched":
        return Watched(self._watched.cursor(database), self._names, self._name(database), self._step)

    def _name(self, database: Any) -> str:
        return self._database if database is None else self._names[id(database)]


class WatchedStore(EmbeddedWriter):
    """A store that names each of its steps before it does it."""

    step: Step

    async def commit(self, commit: Commit) -> int:
        self.step(PLANNED)
        index = await super().commit(commit)
        self.step(RETURNED)
        return index

    def _commit(self, commit: Commit) -> int:
        store = self._store
        names = {id(getattr(store, name)): name for name in DATABASES}
        transaction: lmdb.Transaction[bytes]
        with store.environment.begin(store.records, write=True) as transaction:
            self.step(BEGUN)
            watched: Any = Watched(transaction, names, "records", self.step)
            index = write_commit(watched, store, self._retention, commit)
            self.step(WRITTEN)
        self.step(COMMITTED)
        return index


class TornStore(WatchedStore):
    """A store that commits the entries of a group one by one."""

    async def commit(self, commit: Commit) -> int:
        for entry in commit.entries[:-1]:
            await super().commit(replace(commit, entries=[entry], tiles=()))
        return await super().commit(replace(commit, entries=commit.entries[-1:]))


# --- what they do ------------------------------------------------------------------------------------------------


async def group(data: Path, wanted: str) -> None:
    """Be killed when this step is reached."""
    if wanted.startswith(PAGES):
        end_in_the_writing(int(wanted.removeprefix(PAGES)))
    await _submit_all(data, lambda step: die() if step == wanted else None)


async def torn(data: Path, wanted: str) -> None:
    """The same with a store that does not keep its promise."""
    await _submit_all(data, lambda step: die() if step == wanted else None, TornStore)


async def steps(data: Path) -> None:
    await _submit_all(data, say)


async def _submit_all(data: Path, step: Step, store: type[WatchedStore] = WatchedStore) -> None:
    store.step = staticmethod(step)
    async with opened(data, SetClock(), store=store) as small:
        requests = read_requests(data)
        step(REACHED)
        sent = [asyncio.ensure_future(submit(small, *each)) for each in requests]
        # Those who wait have been verified, and the desk has not begun yet.
        asyncio.get_running_loop().call_soon(step, VERIFIED)
        for answer in asyncio.as_completed(sent):
            await answer
            step(ANSWERED)


def read_requests(data: Path) -> list[tuple[bytes, bytes]]:
    """Give envelopes, with the chunks of those that have one, in their order."""
    folder = data.parent / "requests"
    return [(each.read_bytes(), _chunk(each)) for each in sorted(folder.glob("*.envelope"))]


def _chunk(envelope: Path) -> bytes:
    chunk = envelope.with_suffix(".chunk")
    return chunk.read_bytes() if chunk.exists() else b""


async def submit(small: SmallRegistry, octets: bytes, chunk: bytes = b"") -> Answer:
    """Submit a request, whatever its kind."""
    if kind_of(Envelope.from_bytes(octets).payload_type) == IMPORT:
        return await small.take_import(octets, chunk)
    return await small.registry.submit(octets)


def end_in_the_writing(size: int) -> None:
    """Let no file grow beyond this size; whoever tries is ended by the kernel, after what still fitted."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    # Python ignores it from the start, so that the write fails instead.
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


async def begin(data: Path, number: str) -> None:
    """Be killed at this use of the file system, of those that make a store and its keys; tell if there were fewer."""
    uses = count(1)

    def look(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in {"os.mkdir", "os.link", "os.remove", "tempfile.mkstemp"} and next(uses) == int(number):
            die()

    sys.addaudithook(look)
    async with opened(data, SetClock()):
        pass
    say("begun")


async def register(data: Path) -> None:
    async with opened(data, SetClock()) as small:
        small.keys[SECONDARY] = PrivateKey.from_file(data.parent / "secondary.pem")
        for turn in count():
            texts = [f"88.111/{small.registry.journal.size:05}-{each}" for each in range(turn % 7 + 1)]
            octets = small.signed(SECONDARY, "identifiers.v1", registering(*texts))
            answer = await small.registry.submit(octets)
            assert answer.receipt
            say(json.dumps([answer.receipt.index, octets.hex()]))


async def fill(data: Path, limit: str) -> None:
    """Register until nothing fits any more, twice with the same request; then make room, and send it again."""
    async with opened(data, SetClock()) as small:
        small.keys[SECONDARY] = PrivateKey.from_file(data.parent / "secondary.pem")
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        for turn in count():
            body = registering(f"88.111/FILL-{turn:05}", data="x" * 1_500)
            octets = small.signed(SECONDARY, "identifiers.v1", body)
            size = small.registry.journal.size
            if await _is_full(small, octets):
                break
        assert await _is_full(small, octets)
        assert small.registry.journal.size == size == await small.registry.store.head()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        answer = await small.registry.submit(octets)
        assert answer.receipt
        assert (answer.receipt.index, answer.is_repeated) == (size + 1, False)
        say(size + 1)


async def _is_full(small: SmallRegistry, octets: bytes) -> bool:
    try:
        await small.registry.submit(octets)
    except Fault as fault:
        if fault.reason is not Reason.STORE_FULL:
            raise
        return True
    return False


def main(arguments: list[str]) -> None:
    what, *rest = arguments
    if what == "table":
        from tests.journeys.test_registry_crash import print_table

        print_table()
        return
    data, *more = rest
    asyncio.run(globals()[what](Path(data), *more))


if __name__ == "__main__":
    main(sys.argv[1:])
