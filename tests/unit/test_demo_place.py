"""The demo's folder: what stays in it and what goes."""

import subprocess
import sys
from pathlib import Path

import pytest

from nodes.demo.place import Place, usual_folder
from resolver.errors import Fault, Reason


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "demo")


def test_the_usual_folder_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert usual_folder() == Path("/somewhere/topnode/demo")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert usual_folder() == Path("/home/somebody/.cache/topnode/demo")


def test_a_runs_folder_goes_with_the_run_also_when_it_fails(place: Place) -> None:
    with pytest.raises(FileNotFoundError), place.run(keep=False) as folder:
        (folder / "data" / "missing").mkdir()
    assert list(place.folder.iterdir()) == []


def test_a_runs_folder_stays_when_it_is_to_be_kept(place: Place) -> None:
    with place.run(keep=True) as folder:
        (folder / "data").mkdir()
    assert (folder / "data").is_dir()


def test_the_next_run_leaves_alone_what_goes_on_and_what_is_to_be_kept(place: Place) -> None:
    with place.run(keep=True) as kept:
        pass
    with place.run(keep=False) as first, place.run(keep=False) as second:
        assert first != second
        assert first.is_dir()
    assert kept.is_dir()


def test_what_a_killed_run_left_behind_goes_with_the_next(place: Place) -> None:
    """The lock of its folder is free: the kernel let go of it."""
    killed = (
        "import os, signal, sys; from pathlib import Path; from nodes.demo.place import Place\n"
        "with Place(Path(sys.argv[1])).run(keep=False): os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", killed, str(place.folder)], check=False, timeout=60)
    assert ended.returncode < 0
    (left,) = place.folder.iterdir()
    with place.run(keep=False):
        assert not left.exists()


def test_only_one_thing_is_kept(place: Place) -> None:
    for name in ("old", "new"):
        place.kept(name).mkdir(parents=True)
    place.keep_only("new")
    assert not place.kept("old").exists()
    assert place.kept("new").is_dir()


def test_cleaning_leaves_nothing_but_runs_that_go_on(place: Place) -> None:
    place.kept("something").mkdir(parents=True)
    with place.run(keep=True):
        pass
    with place.run(keep=False) as folder:
        place.clean()
        assert list(place.folder.iterdir()) == [folder]
    place.clean()
    assert not place.folder.exists()


def test_cleaning_where_nothing_is_does_nothing(place: Place) -> None:
    place.clean()
    assert not place.folder.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Fault) as caught, Place(tmp_path / "file" / "demo").run(keep=False):
        pass
    assert (caught.value.reason, caught.value.field) == (Reason.FILE_UNREADABLE, "--data")
