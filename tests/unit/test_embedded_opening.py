"""Folders that hold a store, no store, or something that this version cannot read."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import lmdb
import pytest

from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.store import FORMAT
from resolver.store.embedded import EmbeddedReader, EmbeddedWriter, Owner, current_owner
from resolver.store.embedded.border import Border
from resolver.store.embedded.layout import FORMAT_ROW, number
from tests.small_store import put
from tests.stores import write


def own(path: Path) -> EmbeddedWriter:
    return EmbeddedWriter.open(path, owner=Owner.here("test", clock=SystemClock()))


def refused(opens: Callable[[Path], object], path: Path) -> Fault:
    with pytest.raises(Fault) as caught:
        opens(path)
    return caught.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a folder with a store in it."""
    own(tmp_path / "store").close()
    return tmp_path / "store"


def plant(path: Path, change: Callable[[lmdb.Transaction, Any], object]) -> None:
    """Change the meta database behind the store's back."""
    with closing(lmdb.open(str(path), max_dbs=9)) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(write=True) as transaction:
            change(transaction, meta)


def coded(error: lmdb.Error, code: int) -> lmdb.Error:
    """Give an error the code that LMDB would have given it."""
    vars(error)["code"] = code
    return error


class TestFormat:
    @pytest.mark.parametrize("opens", [EmbeddedReader.open, own])
    def test_an_unknown_number_is_refused_and_named(self, path: Path, opens: Callable[[Path], object]) -> None:
        plant(path, lambda transaction, meta: transaction.put(FORMAT_ROW, number(1), db=meta))
        fault = refused(opens, path)
        assert fault.reason is Reason.STORE_FORMAT_UNKNOWN
        assert fault.variables == {"path": str(path), "format": "1", "known": str(FORMAT)}

    @pytest.mark.parametrize("opens", [EmbeddedReader.open, own])
    def test_one_without_a_number_is_refused(self, path: Path, opens: Callable[[Path], object]) -> None:
        plant(path, lambda transaction, meta: transaction.delete(FORMAT_ROW, db=meta))
        assert refused(opens, path).reason is Reason.STORE_FORMAT_UNKNOWN

    @pytest.mark.parametrize("opens", [EmbeddedReader.open, own])
    def test_somebody_elses_lmdb_is_left_alone(self, tmp_path: Path, opens: Callable[[Path], object]) -> None:
        with closing(lmdb.open(str(tmp_path), max_dbs=9)) as environment:
            environment.open_db(b"theirs")
        before = (tmp_path / "data.mdb").read_bytes()
        assert refused(opens, tmp_path).reason is Reason.STORE_FORMAT_UNKNOWN
        assert (tmp_path / "data.mdb").read_bytes() == before

    @pytest.mark.parametrize("opens", [EmbeddedReader.open, own])
    def test_a_file_that_is_no_lmdb_is_refused(self, tmp_path: Path, opens: Callable[[Path], object]) -> None:
        (tmp_path / "data.mdb").write_bytes(b"These are words." * 1_000)
        assert refused(opens, tmp_path).reason is Reason.STORE_FORMAT_UNKNOWN

    def test_a_refused_writer_holds_nothing(self, path: Path) -> None:
        plant(path, lambda transaction, meta: transaction.put(FORMAT_ROW, number(99), db=meta))
        refused(own, path)
        assert current_owner(path) is None
        plant(path, lambda transaction, meta: transaction.put(FORMAT_ROW, number(FORMAT), db=meta))
        own(path).close()


class TestMissing:
    def test_a_reader_makes_no_store(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "nowhere", tmp_path / "no" / "where"):
            assert refused(EmbeddedReader.open, path).reason is Reason.STORE_MISSING
        assert list(tmp_path.iterdir()) == []

    def test_one_that_was_only_begun_is_none_yet_and_is_finished_by_a_writer(self, tmp_path: Path) -> None:
        (tmp_path / "data.mdb").touch()
        assert refused(EmbeddedReader.open, tmp_path).reason is Reason.STORE_MISSING
        # LMDB has written its first pages, and the writer was killed before the first transaction.
        lmdb.open(str(tmp_path)).close()
        assert refused(EmbeddedReader.open, tmp_path).reason is Reason.STORE_MISSING
        own(tmp_path).close()
        EmbeddedReader.open(tmp_path).close()


class TestUnreadable:
    @pytest.mark.parametrize("below", ["file", "file/store"])
    def test_a_file_where_the_folder_should_be(self, tmp_path: Path, below: str) -> None:
        (tmp_path / "file").write_text("not a folder")
        assert refused(own, tmp_path / below).reason is Reason.FILE_UNREADABLE
        assert refused(EmbeddedReader.open, tmp_path / below).reason in {Reason.FILE_UNREADABLE, Reason.STORE_MISSING}
        assert current_owner(tmp_path / below) is None

    def test_a_folder_without_rights(self, tmp_path: Path) -> None:
        """In a child that is an ordinary user, because root may do everything."""
        folder = tmp_path / "closed"
        folder.mkdir(mode=0o500)
        program = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from resolver.clock import SystemClock\n"
            "from resolver.errors import Fault\n"
            "from resolver.store.embedded import EmbeddedReader, EmbeddedWriter, Owner\n"
            "if os.geteuid() == 0: os.setuid(65534)\n"
            "for what in (lambda p: EmbeddedWriter.open(p, owner=Owner.here('x', clock=SystemClock())),\n"
            "             EmbeddedReader.open):\n"
            "    try: what(Path(sys.argv[1]))\n"
            "    except Fault as fault: print(fault.reason.name)\n"
        )
        root = Path(__file__).parents[2]
        said = subprocess.run(
            [sys.executable, "-c", program, str(folder / "store")],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.split() == [
            "FILE_UNREADABLE",
            *(["FILE_UNREADABLE"] if os.geteuid() == 0 else ["STORE_MISSING"]),
        ]


class TestReading:
    async def test_a_reader_gives_what_a_writer_left(self, tmp_path: Path) -> None:
        with closing(own(tmp_path)) as writer:
            await put(writer, [write("88.1/A", secret=b"s")])
            expected = (await writer.full([b"88.1/A"]), await writer.secret())
        with closing(EmbeddedReader.open(tmp_path)) as reader:
            assert (await reader.full([b"88.1/A"]), await reader.secret()) == expected

    async def test_no_transaction_stays_open_between_reads(self, tmp_path: Path) -> None:
        """One that did would keep the pages of what was replaced from being used again."""
        with closing(own(tmp_path)) as writer:
            for turn in range(200):
                await put(writer, [write("88.1/A", bytes(3_000))], artefacts=())
                await writer.public([b"88.1/A"])
                await writer.identifiers(b"88.1", derived=False, after=None, limit=1)
                if turn == 100:
                    size = (tmp_path / "data.mdb").stat().st_size
            assert (tmp_path / "data.mdb").stat().st_size <= size + 64 * 1_024

    async def test_a_damaged_store_is_unavailable_not_wrong(self, path: Path) -> None:
        plant(path, lambda transaction, meta: transaction.delete(b"head", db=meta))
        with closing(EmbeddedReader.open(path)) as reader:
            with pytest.raises(Fault) as caught:
                await reader.public([b"88.1/A"])
            assert caught.value.reason is Reason.STORE_UNAVAILABLE


class TestDurability:
    @pytest.mark.parametrize("is_new", [True, False])
    def test_a_commit_is_synced_with_its_meta_page_before_it_is_acknowledged(
        self, tmp_path: Path, *, is_new: bool
    ) -> None:
        """LMDB's own words of the environment that is written to: no test can pull the plug."""
        if not is_new:
            own(tmp_path).close()
        with closing(own(tmp_path)) as writer:
            flags = writer._store.environment.flags()
        assert {name: flags[name] for name in ("sync", "metasync", "map_async", "writemap", "readonly")} == {
            "sync": True,
            "metasync": True,
            "map_async": False,
            "writemap": False,
            "readonly": False,
        }


class TestBorder:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (OSError(errno.ENOSPC, "full"), Reason.STORE_FULL),
            (OSError(errno.EDQUOT, "quota"), Reason.STORE_FULL),
            (coded(lmdb.Error("growing"), errno.EFBIG), Reason.STORE_FULL),
            (coded(lmdb.DiskError("growing"), errno.ENOSPC), Reason.STORE_FULL),
            (OSError(errno.EACCES, "no"), Reason.FILE_UNREADABLE),
            (OSError(errno.EROFS, "read only"), Reason.FILE_UNREADABLE),
            (lmdb.InvalidError("no store"), Reason.STORE_FORMAT_UNKNOWN),
            (lmdb.Error("closed"), Reason.STORE_UNAVAILABLE),
            (lmdb.CorruptedError("torn"), Reason.STORE_UNAVAILABLE),
            # The disk has room, so this one is broken.
            (coded(lmdb.Error("writing"), errno.EIO), Reason.STORE_UNAVAILABLE),
        ],
    )
    def test_each_error_has_its_reason(self, path: Path, error: lmdb.Error | OSError, reason: Reason) -> None:
        with pytest.raises(Fault) as caught, Border(path):
            raise error
        assert caught.value.reason is reason
        assert caught.value.__cause__ is error

    def test_a_store_that_may_answer_later_says_when_to_ask_again(self, path: Path) -> None:
        assert Border(path).fault(lmdb.Error("closed")).retry_after == 1.0

    def test_other_errors_pass_through(self, path: Path) -> None:
        with pytest.raises(KeyError), Border(path):
            raise KeyError
