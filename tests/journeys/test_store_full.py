"""The disk becomes full under a writer: nothing acknowledged is lost, nothing is half-done, and it goes on later."""

import json
from pathlib import Path
from typing import Final

import pytest

from resolver.clock import SystemClock
from resolver.store.embedded import EmbeddedWriter, Owner
from tests.conftest import own_mounts
from tests.journeys.store_child import started

MOUNT: Final = "mount -t tmpfs -o size=4m tmpfs {folder} && head -c 1500000 /dev/zero > {folder}/ballast"


def filled(path: Path, *arguments: str, before: tuple[str, ...] = ()) -> tuple[int, int]:
    """Let a process fill the disk and go on; give how many commits and chunks it wrote before."""
    with started("fill", path, *arguments, before=before) as child:
        assert child.stdout is not None
        said = child.stdout.read()
        assert child.wait() == 0
    committed, loaded = map(int, said.split())
    return committed, loaded


# Whether the limit falls on the boundary of a page or within one makes two different errors of LMDB's.
@pytest.mark.parametrize("limit", [1_000_000, 1 << 20, 2_345_678])
def test_a_file_that_may_not_grow(tmp_path: Path, limit: int) -> None:
    committed, _ = filled(tmp_path / "store", str(limit))
    assert committed > 100


@pytest.mark.needs("mount")
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    namespace = own_mounts()
    assert namespace
    mount = MOUNT.format(folder=tmp_path)
    committed, _ = filled(tmp_path / "store", before=(*namespace, "sh", "-c", f'{mount} && exec "$@"', "sh"))
    assert committed > 100


def test_no_room_for_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with started("take", path, "1000") as child:
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["reason"] == "STORE_FULL"
    # What was begun is in nobody's way.
    EmbeddedWriter.open(path, owner=Owner.here("one", clock=SystemClock())).close()
