"""Backups of the embedded store: taken while it is in use, refused when they are not whole."""

import asyncio
import json
import resource
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from resolver.clock import SetClock, SystemClock
from resolver.errors import Fault, Reason
from resolver.routes import Prefix
from resolver.store import FORMAT, Commit, Nonce
from resolver.store.embedded import BackupManifest, EmbeddedReader, EmbeddedWriter, Owner, backup, restore
from resolver.trust.actors import Key, Node, NodeState, Tier
from tests.small_store import AT, entry, put
from tests.stores import write, writes

CLOCK = SetClock(wall=1_800_000_000)
NODE = Node(node="88.1", tier=Tier.SECONDARY, state=NodeState.ENABLED, keys=(Key("k", b"spki", since=1),))
NONCE = Nonce(b"n", AT + 300)


class Told:
    """A progress bar's place: what it was told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def __call__(self, done: int, expected: int) -> None:
        self.steps.append((done, expected))


def own(path: Path) -> EmbeddedWriter:
    return EmbeddedWriter.open(path, owner=Owner.here("test", clock=SystemClock()))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give a folder with a store of 3,000 records, some with restricted values, and two prefixes."""
    path = tmp_path / "source"

    async def fill() -> None:
        with closing(own(path)) as writer:
            await put(writer, writes([f"88.1/{each:05}" for each in range(2_999)]), [Prefix("88.1", "h")])
            made = entry(
                [write("88.1/SECRET", secret=b"s")], [Prefix("88.2", "h")], [NODE], request=b"r", nonces=(NONCE,)
            )
            await writer.commit(Commit(entries=[made], tiles=[(b"t", b"tile")], tree_head=b"head"))

    asyncio.run(fill())
    return path


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Path:
    """Give a folder with a backup."""
    backup(source, tmp_path / "copy", clock=CLOCK, progress=Told())
    return tmp_path / "copy"


def refused_restore(copy: Path, target: Path) -> Fault:
    """Have a restore refused, and see that it leaves nothing behind."""
    with pytest.raises(Fault) as caught:
        restore(copy, target, progress=Told())
    assert not target.exists()
    return caught.value


class TestBackup:
    def test_the_manifest_says_what_is_in_it(self, source: Path, tmp_path: Path) -> None:
        told = Told()
        manifest = backup(source, tmp_path / "new" / "copy", clock=CLOCK, progress=told)
        assert (manifest.format, manifest.index, manifest.identifiers, manifest.prefixes) == (FORMAT, 2, 3_000, 2)
        assert manifest.entries == 2
        assert manifest.created_at == 1_800_000_000
        assert manifest.bytes == (tmp_path / "new" / "copy" / "data.mdb").stat().st_size
        written = (tmp_path / "new" / "copy" / "manifest.json").read_bytes()
        assert msgspec.json.decode(written, type=BackupManifest) == manifest
        assert told.steps[-1] == (manifest.bytes, manifest.bytes)
        assert all(done <= expected for done, expected in told.steps)
        assert sorted(each.name for each in (tmp_path / "new" / "copy").iterdir()) == ["data.mdb", "manifest.json"]

    async def test_it_comes_back_whole(self, source: Path, copy: Path, tmp_path: Path) -> None:
        told = Told()
        manifest = restore(copy, tmp_path / "target", progress=told)
        assert told.steps[-1] == (manifest.bytes, manifest.bytes)
        keys = [b"88.1/%05d" % each for each in range(2_999)] + [b"88.1/SECRET"]
        with (
            closing(EmbeddedReader.open(source)) as before,
            closing(EmbeddedReader.open(tmp_path / "target")) as after,
        ):
            assert await before.full(keys) == await after.full(keys)
            assert await before.prefixes(None, 9) == await after.prefixes(None, 9)
            assert await before.changes(0, 9) == await after.changes(0, 9)
            assert await before.secret() == await after.secret()
            assert await before.nodes(None, 9) == await after.nodes(None, 9) == [replace(NODE, epoch=2)]
            assert await before.entries(0, 9) == await after.entries(0, 9)
            assert (await after.tile(b"t"), await after.tree_head()) == (b"tile", b"head")
            assert (await after.answered([b"r"]), await after.spent([NONCE])) == ([2], [True])
        with closing(own(tmp_path / "target")) as writer:
            assert await put(writer, [write("88.1/NEW")]) == 3

    def test_into_a_folder_in_use_it_is_refused(self, source: Path, tmp_path: Path) -> None:
        (tmp_path / "kept").write_text("mine")
        with pytest.raises(Fault) as caught:
            backup(source, tmp_path, clock=CLOCK, progress=Told())
        assert caught.value.reason is Reason.STORE_EXISTS
        assert (tmp_path / "kept").read_text() == "mine"

    def test_of_no_store_it_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(Fault) as caught:
            backup(tmp_path / "nothing", tmp_path / "copy", clock=CLOCK, progress=Told())
        assert caught.value.reason is Reason.STORE_MISSING
        assert not (tmp_path / "copy").exists()

    def test_a_full_disk_leaves_nothing(self, source: Path, tmp_path: Path) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(Fault) as caught:
                backup(source, tmp_path / "copy", clock=CLOCK, progress=Told())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert caught.value.reason is Reason.STORE_FULL
        assert not (tmp_path / "copy").exists()

    def test_an_interrupted_one_leaves_nothing(self, source: Path, tmp_path: Path) -> None:
        def interrupt(_done: int, _expected: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            backup(source, tmp_path / "copy", clock=CLOCK, progress=interrupt)
        assert not (tmp_path / "copy").exists()

    def test_what_a_killed_one_left_is_in_nobodys_way(self, source: Path, tmp_path: Path) -> None:
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "data.mdb.part").write_bytes(b"half")
        backup(source, tmp_path / "copy", clock=CLOCK, progress=Told())
        assert sorted(each.name for each in (tmp_path / "copy").iterdir()) == ["data.mdb", "manifest.json"]


class TestRestore:
    @pytest.mark.parametrize("damage", ["flipped", "shorter", "longer", "empty", "gone"])
    def test_another_file_than_the_manifests_is_refused(self, copy: Path, tmp_path: Path, damage: str) -> None:
        octets = (copy / "data.mdb").read_bytes()
        middle = len(octets) // 2
        damaged = {
            "flipped": octets[:middle] + bytes((octets[middle] ^ 1,)) + octets[middle + 1 :],
            "shorter": octets[:-1],
            "longer": octets + b"\x00",
            "empty": b"",
            "gone": b"",
        }[damage]
        (copy / "data.mdb").write_bytes(damaged)
        if damage == "gone":
            (copy / "data.mdb").unlink()
        assert refused_restore(copy, tmp_path / "target").reason is Reason.BACKUP_DAMAGED

    @pytest.mark.parametrize("manifest", [None, "", "{", "[]", '{"format": 1}', '{"format": "one"}'])
    def test_a_missing_or_unreadable_manifest_is_refused(
        self, copy: Path, tmp_path: Path, manifest: str | None
    ) -> None:
        (copy / "manifest.json").unlink()
        if manifest is not None:
            (copy / "manifest.json").write_text(manifest)
        assert refused_restore(copy, tmp_path / "target").reason is Reason.BACKUP_DAMAGED

    @pytest.mark.parametrize("number", [1, FORMAT + 1])
    def test_an_unknown_format_is_refused(self, copy: Path, tmp_path: Path, number: int) -> None:
        """Manifests of the first format did not count entries."""
        manifest = json.loads((copy / "manifest.json").read_text()) | {"format": number}
        if number == 1:
            del manifest["entries"]
        (copy / "manifest.json").write_text(json.dumps(manifest))
        fault = refused_restore(copy, tmp_path / "target")
        assert fault.reason is Reason.STORE_FORMAT_UNKNOWN
        assert fault.variables["format"] == str(number)

    def test_no_backup_at_all_is_refused(self, tmp_path: Path) -> None:
        assert refused_restore(tmp_path / "nothing", tmp_path / "target").reason is Reason.BACKUP_DAMAGED

    def test_a_store_in_the_target_stays(self, source: Path, copy: Path) -> None:
        before = (source / "data.mdb").read_bytes()
        with pytest.raises(Fault) as caught:
            restore(copy, source, progress=Told())
        assert caught.value.reason is Reason.STORE_EXISTS
        assert (source / "data.mdb").read_bytes() == before

    def test_a_store_made_meanwhile_stays(self, copy: Path, tmp_path: Path) -> None:
        target = tmp_path / "target"

        def somebody_begins(_done: int, _expected: int) -> None:
            own(target).close()

        with pytest.raises(Fault) as caught:
            restore(copy, target, progress=somebody_begins)
        assert caught.value.reason is Reason.STORE_EXISTS
        with closing(EmbeddedReader.open(target)) as reader:
            assert asyncio.run(reader.head()) == 0

    def test_an_empty_folder_is_as_good_as_none(self, copy: Path, tmp_path: Path) -> None:
        (tmp_path / "target").mkdir()
        restore(copy, tmp_path / "target", progress=Told())
        EmbeddedReader.open(tmp_path / "target").close()
