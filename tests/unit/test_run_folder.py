"""The private folder for a node's sockets."""

import socket
import tempfile
from pathlib import Path

import pytest

from nodes.serving.run_folder import remove_leftovers, run_folder
from resolver.errors import Fault, Reason


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def test_it_is_private_below_the_data_and_gone_at_the_end() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        with run_folder(Path(short) / "data") as folder:
            assert folder.parent == Path(short) / "data" / "run"
            assert folder.stat().st_mode & 0o777 == 0o700
            bind(folder / "worker-9999.sock")
        assert not folder.exists()


def test_under_a_long_path_it_is_elsewhere_and_as_private(tmp_path: Path) -> None:
    data = tmp_path / ("d" * 100)
    with run_folder(data) as folder:
        assert data not in folder.parents
        assert folder.stat().st_mode & 0o777 == 0o700
        bind(folder / "worker-9999.sock")
    assert not folder.exists()


def test_what_killed_nodes_left_is_removed_and_nothing_else() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        data = Path(short)
        (data / "run" / "left").mkdir(parents=True)
        (data / "run" / "left" / "owner.sock").touch()
        (data / "data.mdb").touch()
        with run_folder(data) as folder:
            remove_leftovers(folder)
            assert list((data / "run").iterdir()) == [folder]
            assert (data / "data.mdb").exists()


def test_elsewhere_nothing_is_removed(tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    with run_folder(tmp_path / ("d" * 100)) as folder:
        remove_leftovers(folder)
        assert (tmp_path / "stranger").exists()
        assert folder.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        (Path(short) / "data").symlink_to(tmp_path / "file")
        with pytest.raises(Fault) as caught, run_folder(Path(short) / "data"):
            pass
    assert caught.value.reason is Reason.FILE_UNREADABLE
    assert caught.value.field == "data"
