"""A load around the servers: what is refused, where records are meanwhile, and what its last entry tells."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.store import Checkpoint, Write
from resolver.store.cassandra.offline import OfflineWriter
from resolver.store.cassandra.runs import RunWriter, rows_through
from resolver.store.embedded import EmbeddedWriter, Owner
from tests.small_store import put
from tests.stores import write

NAME = "first load"


class Store(EmbeddedWriter):
    """A store that stands in the place of a ring."""

    async def holds_directly(self, prefix: bytes) -> bool:
        return bool((await self.identifiers(prefix, derived=False, after=None, limit=1)).identifiers)


class Load:
    """A load over an embedded store. At its end the rows of its run files are counted, or `fault` is raised."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self.store = store
        self.ended: list[int] = []
        self.fault: Fault | None = None
        self.runs = RunWriter(folder)
        self.writer = OfflineWriter(store, NAME, self.runs, self.put_in)

    async def reopen(self, *, behind: bytes) -> None:
        """Go on as another process does that finds what this one has left."""
        self.runs.close()
        self.runs = RunWriter(self.folder, through=await self.store.head())
        self.writer = OfflineWriter(self.store, NAME, self.runs, self.put_in, behind=behind)

    async def put_in(self, runs: RunWriter) -> None:
        if self.fault is not None:
            raise self.fault
        self.ended.append(runs.rows)

    async def take(self, *writes: Write, chunks: int = 1) -> int:
        """Plan and commit a chunk that is not the last one."""
        await self.plan(*writes)
        return await put(self.writer, writes, checkpoints=((NAME, Checkpoint(chunks=chunks)),))

    async def end(self, *writes: Write) -> int:
        await self.plan(*writes)
        return await put(self.writer, writes, checkpoints=((NAME, None),))

    async def plan(self, *writes: Write) -> None:
        keys = [each.key for each in writes]
        assert (await self.writer.public(keys, confirmed=True)).bodies == [None] * len(keys)

    async def held(self, writes: Sequence[Write]) -> list[bool]:
        bodies = (await self.store.public([each.key for each in writes])).bodies
        return [body is not None for body in bodies]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    store = Store.open(tmp_path / "store", owner=Owner.here("a test", clock=SystemClock()))
    try:
        load = Load(tmp_path / "runs", store)
        yield load
        load.runs.close()
    finally:
        store.close()


A, B, C, D = (write(f"88.{each}", is_new=True) for each in ("1.7/A", "1/B", "1/C", "2/D"))


async def test_records_come_at_the_end_and_the_last_entry_names_the_prefixes(load: Load) -> None:
    await load.take(A, B)
    await load.take(C, chunks=2)
    assert rows_through(load.folder, 1) == 2
    assert await load.store.checkpoint(NAME) == Checkpoint(chunks=2, offline=3)
    assert await load.held([A, B, C]) == [False] * 3
    assert load.ended == []
    await load.end(D)
    assert load.ended == [3]
    assert await load.held([A, B, C, D]) == [False] * 3 + [True]
    assert await load.store.checkpoint(NAME) == Checkpoint()
    first, second, last = (await load.store.changes(0, 10)).changes
    assert [(each.keys, each.below) for each in (first, second)] == [((), ())] * 2
    assert (last.keys, last.below) == ((D.key,), (b"88.1", b"88.1.7"))


async def test_a_load_of_one_chunk_is_written_as_any_other(load: Load) -> None:
    await load.end(A, B)
    assert load.ended == []
    assert await load.held([A, B]) == [True, True]


@pytest.mark.parametrize("keys", [(B, A), (A, A), (D, C)])
@pytest.mark.parametrize("chunks", [1, 2])
async def test_keys_that_do_not_rise_are_refused(load: Load, keys: tuple[Write, Write], chunks: int) -> None:
    """In one chunk, and from one to the next."""
    if chunks == 2:
        await load.take(keys[0])
        keys = keys[1], C
    with pytest.raises(Fault) as caught:
        await load.plan(*keys)
    assert caught.value.reason is Reason.LOAD_UNSORTED
    assert caught.value.variables == {"key": keys[2 - chunks].key.decode()}


async def test_keys_rise_from_where_an_interrupted_load_goes_on(load: Load) -> None:
    await load.reopen(behind=B.key)
    with pytest.raises(Fault):
        await load.plan(B)
    await load.plan(C)


async def test_a_prefix_below_which_something_is_registered_is_refused(load: Load) -> None:
    await put(load.store, [write("88.1/ONLINE")])
    await load.take(A)
    with pytest.raises(Fault) as caught:
        await load.plan(B)
    assert caught.value.reason is Reason.LOAD_PREFIX_IN_USE
    assert caught.value.variables == {"prefix": "88.1"}


async def test_what_the_load_itself_has_brought_below_a_prefix_does_not_stand_in_its_way(load: Load) -> None:
    """Its end was interrupted when the ring had its records already."""
    await load.take(A, B)
    await put(load.store, [A, B])
    await load.reopen(behind=B.key)
    await load.end(C, D)
    assert load.ended == [2]


async def test_rules_of_prefixes_see_what_the_load_has_brought(load: Load) -> None:
    await load.take(A)
    assert [await load.writer.holds_below(each) for each in (b"88.1.7", b"88.1", b"88", b"88.2", b"88.1.77")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    await put(load.store, [D])
    assert await load.writer.holds_below(b"88.2")


async def test_after_an_end_that_failed_nothing_is_written(load: Load) -> None:
    await load.take(A)
    load.fault = Fault(Reason.TOOL_FAILED, "It broke.")
    for _ in range(2):
        with pytest.raises(Fault) as caught:
            await put(load.writer, checkpoints=((NAME, None),))
        assert caught.value.reason is Reason.TOOL_FAILED
        load.fault = None
    assert await load.store.head() == 1
    await load.reopen(behind=A.key)
    await load.end(B)
    assert load.ended == [1]
