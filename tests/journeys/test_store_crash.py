"""A writer is killed at its work, again and again: what it said was durable is there, and nothing in part."""

import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from resolver import wire
from resolver.clock import SystemClock
from resolver.store.embedded import EmbeddedWriter, Owner, current_owner
from tests.journeys import store_child
from tests.journeys.store_child import started
from tests.stores import listed

ROUNDS = 6
LONGEST_WORK_SECONDS = 0.25


def killed_at_work(what: str, path: Path, seed: int) -> list[int]:
    """Let a writer work for a while, kill it, and give what it had said by then."""
    with started(what, path) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline())]
        time.sleep(random.Random(seed).uniform(0, LONGEST_WORK_SECONDS))
        writer.send_signal(signal.SIGKILL)
        said += map(int, writer.stdout.read().split("\n")[:-1])
        assert writer.wait() == -signal.SIGKILL
    return said


def reopened(path: Path) -> EmbeddedWriter:
    assert current_owner(path) is None
    return EmbeddedWriter.open(path, owner=Owner.here("survivor", clock=SystemClock()))


async def rounds(what: str, path: Path, check: Callable[[EmbeddedWriter, int], Awaitable[None]]) -> None:
    for seed in range(ROUNDS):
        said = killed_at_work(what, path, seed)
        with closing(reopened(path)) as store:
            await check(store, said[-1])
            await check_feed(store)


async def check_feed(store: EmbeddedWriter) -> None:
    indexes: list[int] = []
    while changes := (await store.changes(indexes[-1] if indexes else 0, 1_000_000)).changes:
        indexes += [change.index for change in changes]
    assert indexes == list(range(1, await store.head() + 1))


async def check_commits(store: EmbeddedWriter, acknowledged: int) -> None:
    """Everything of each entry is there, in every database, or nothing of it; so is each commit."""
    head = await store.head()
    assert head >= acknowledged
    assert await store.tree_head() == b"head %d" % head
    expected = []
    for index in range(1, head + 1):
        writes = store_child.batch(index)[:-1]
        fetched = await store.full([each.key for each in writes])
        ends = wire.version_field(index)
        for each, body in zip(writes, fetched.bodies, strict=True):
            assert body == (each.full or each.public) + ends
            expected.append(wire.registered_spelling(each.public))
        await check_entry(store, index)
    found, _ = await listed(store, b"88.1", limit=1_000)
    assert sorted(found) == sorted([*expected, "88.1/NEWEST"])
    (newest,) = (await store.public([b"88.1/NEWEST"])).bodies
    assert newest is not None
    assert wire.decode_record(newest).values[0].data == str(head).encode()
    assert len(await store.prefixes(None, 1_000_000)) == len(await store.nodes(None, 1_000_000)) == head
    assert len(await store.statements(0, 1_000_000)) == head
    assert (await store.checkpoint("commit")).chunks == head
    await check_entry_missing(store, head + 1)


async def check_entry(store: EmbeddedWriter, index: int) -> None:
    made = store_child.made_entry(index)
    assert await store.entries(index - 1, 1) == [store_child.kept(index)]
    assert await store.answered([made.request]) == [index]
    assert await store.spent(made.nonces[:1]) == [True]
    assert (await store.tile(b"tile/%d" % index) is not None) is (index % 4 == 0)


async def check_entry_missing(store: EmbeddedWriter, index: int) -> None:
    made = store_child.made_entry(index)
    assert await store.answered([made.request]) == [0]
    assert await store.spent(made.nonces[:1]) == [False]
    assert await store.tile(b"tile/%d" % index) is None
    assert not any((await store.full([each.key for each in store_child.batch(index)[:-1]])).bodies)


async def check_load(store: EmbeddedWriter, acknowledged: int) -> None:
    """A chunk is there as a whole, with its checkpoint, or not at all."""
    done = (await store.checkpoint("load")).chunks
    assert done == await store.head() >= acknowledged + 1
    for number in range(done + 2):
        bodies = (await store.public(store_child.chunk_keys(number))).bodies
        assert all(bodies) if number < done else not any(bodies)


async def test_every_acknowledged_commit_survives_and_none_is_there_in_part(tmp_path: Path) -> None:
    await rounds("commit", tmp_path / "store", check_commits)


async def test_a_load_survives_up_to_its_checkpoint_and_goes_on_from_there(tmp_path: Path) -> None:
    await rounds("load", tmp_path / "store", check_load)
