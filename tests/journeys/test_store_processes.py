"""Several processes at one store: one writes and is named, the others read whatever it does."""

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.store.embedded import EmbeddedReader, EmbeddedWriter, Owner, backup, current_owner
from tests.journeys import store_child
from tests.journeys.store_child import started
from tests.small_store import put
from tests.stores import listed, writes

COMMITS = 300


async def test_a_reader_follows_while_the_map_is_outgrown_many_times(tmp_path: Path) -> None:
    """It begins with a map of 256 KiB, and each time the writer doubles it the reader takes it over."""
    path = tmp_path / "store"
    owner = Owner.here("growing", clock=SystemClock())
    with closing(EmbeddedWriter.open(path, owner=owner, map_size=256 << 10)) as writer:
        with started("read", path, str(COMMITS)) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
            for index in range(1, COMMITS + 1):
                assert await writer.commit(store_child.made_commit(index, 1)) == index
            assert reader.stdout.readline() == f"{COMMITS}\n"
            assert reader.wait(30) == 0
        assert (path / "data.mdb").stat().st_size > 2 << 20
        # The writer itself reads on in the larger map.
        assert (await writer.public([b"88.1/NEWEST"])).as_of == COMMITS
    with closing(EmbeddedReader.open(path)) as reopened:
        assert await reopened.head() == COMMITS


async def test_what_is_there_throughout_is_listed_once_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "store"
    there = [f"88.1/{each:04}" for each in range(1_000)]
    with closing(EmbeddedWriter.open(path, owner=Owner.here("first", clock=SystemClock()))) as writer:
        await put(writer, writes(there))
    with started("churn", path) as child, closing(EmbeddedReader.open(path)) as reader:
        assert child.stdout is not None
        child.stdout.readline()
        before = await reader.head()
        for limit in (7, 50, 333) * 4:
            found, _ = await listed(reader, b"88.1", limit=limit)
            assert [text for text in found if text in set(there)] == there
            assert len(found) == len(set(found))
        assert await reader.head() > before


def test_a_backup_taken_while_a_process_writes_is_the_store_at_one_moment(tmp_path: Path) -> None:
    """It holds as many records as its index says."""
    with started("commit", tmp_path / "store") as child:
        assert child.stdout is not None
        child.stdout.readline()
        manifests = [
            backup(tmp_path / "store", tmp_path / str(each), clock=SystemClock(), progress=lambda *_: None)
            for each in range(5)
        ]
    for manifest in manifests:
        assert manifest.prefixes == manifest.entries == manifest.index
        assert manifest.identifiers == 1 + sum(index % 40 + 1 for index in range(1, manifest.index + 1))
    assert manifests[0].index < manifests[-1].index


class TestOwner:
    def test_a_second_writer_is_told_who_the_first_is(self, tmp_path: Path) -> None:
        path = tmp_path / "store"
        owner = Owner.here("topnode serve", clock=SetClock(wall=1_800_000_000), socket="/run/owner.sock")
        with closing(EmbeddedWriter.open(path, owner=owner)), started("take", path) as child:
            assert child.stdout is not None
            said = json.loads(child.stdout.readline())
            assert said["reason"] == "STORE_OWNED"
            assert said["pid"] == str(os.getpid())
            assert said["what"] == "topnode serve"
            assert said["since"] == "2027-01-15T08:00:00+00:00"
            assert said["socket"] == "/run/owner.sock"
            assert f"topnode serve (process {os.getpid()})" in said["text"]

    def test_in_the_same_process_it_is_told_too(self, tmp_path: Path) -> None:
        owner = Owner.here("one", clock=SystemClock())
        with closing(EmbeddedWriter.open(tmp_path, owner=owner)), pytest.raises(Fault) as caught:
            EmbeddedWriter.open(tmp_path, owner=owner)
        assert caught.value.reason is Reason.STORE_OWNED

    def test_the_owner_is_known_until_it_ends_in_whatever_way(self, tmp_path: Path) -> None:
        path = tmp_path / "store"
        assert current_owner(path) is None
        with started("hold", path) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "holding\n"
            owner = current_owner(path)
            assert owner is not None
            assert (owner.pid, owner.what, owner.socket) == (child.pid, "child", "")
            child.kill()
            child.wait()
            assert current_owner(path) is None
        with closing(EmbeddedWriter.open(path, owner=Owner.here("next", clock=SystemClock()))):
            found = current_owner(path)
            assert found is not None
            assert found.what == "next"
        assert current_owner(path) is None

    def test_asking_keeps_no_writer_out(self, tmp_path: Path) -> None:
        """Many processes may ask at any moment, also the one at which a writer begins."""
        owner = Owner.here("one", clock=SystemClock())
        for _ in range(50):
            assert current_owner(tmp_path) is None
            EmbeddedWriter.open(tmp_path, owner=owner).close()
