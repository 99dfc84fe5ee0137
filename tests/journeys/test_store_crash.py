"""A writer is killed at its work, again and again: what it said was durable is there, and nothing in part."""

import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from itertools import pairwise
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
    changes = await store.changes(0, 1_000_000)
    indexes = [change.index for change in changes.changes]
    assert all(after == before + 1 for before, after in pairwise(indexes))
    assert (indexes[0], indexes[-1], changes.is_lost) == (1, await store.head(), False)


async def check_commits(store: EmbeddedWriter, acknowledged: int) -> None:
    head = await store.head()
    assert head >= acknowledged
    expected = []
    for index in range(1, head + 1):
        writes = store_child.batch(index)[:-1]
        fetched = await store.full([each.key for each in writes])
        ends = wire.version_field(index)
        for each, body in zip(writes, fetched.bodies, strict=True):
            assert body == (each.full or each.public) + ends
            expected.append(wire.registered_spelling(each.public))
    found, _ = await listed(store, b"88.1", limit=1_000)
    assert sorted(found) == sorted([*expected, "88.1/NEWEST"])
    (newest,) = (await store.public([b"88.1/NEWEST"])).bodies
    assert newest is not None
    assert wire.decode_record(newest).values[0].data == str(head).encode()
    assert len(await store.prefixes(None, 1_000_000)) == head


async def check_load(store: EmbeddedWriter, acknowledged: int) -> None:
    done = (await store.checkpoint("load")).lines
    assert done >= acknowledged + 1
    for number in range(done + 2):
        keys = store_child.part_keys(number)
        is_there = [body is not None for body in (await store.public(keys)).bodies]
        if number < done:
            assert all(is_there)
        elif number == done:
            # What came in before the kill is the beginning of the part, in the order of the keys.
            assert is_there == sorted(is_there, reverse=True)
        else:
            assert not any(is_there)


async def test_every_acknowledged_commit_survives_and_none_is_there_in_part(tmp_path: Path) -> None:
    await rounds("commit", tmp_path / "store", check_commits)


async def test_a_load_survives_up_to_its_checkpoint_and_goes_on_from_there(tmp_path: Path) -> None:
    await rounds("load", tmp_path / "store", check_load)
