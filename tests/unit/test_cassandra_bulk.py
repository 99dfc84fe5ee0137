"""Importing SSTables says what it did not do: programs that fail, stay away, or take only a part are noticed."""

import sys
from pathlib import Path

import pytest

from resolver.errors import Fault, Reason
from resolver.store.cassandra.bulk import BulkSettings, import_sstables, stream_sstables
from resolver.units import Duration


def program(does: str) -> tuple[str, ...]:
    """A program that does this with the folder that is its last argument."""
    return sys.executable, "-c", f"import sys, pathlib; folder = pathlib.Path(sys.argv[-1]); {does}"


TAKES = program("[path.unlink() for path in folder.iterdir()]")
KEEPS = program("")
FAILS = program("sys.exit('no such keyspace')")
TAKES_RECORDS = program("sys.exit(3) if folder.name == 'listing' else [path.unlink() for path in folder.iterdir()]")
SETTINGS = BulkSettings(deadline=Duration(60))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    for table in ("records", "listing"):
        folder = tmp_path / "k" / table
        folder.mkdir(parents=True)
        for name in ("da-1-bti-Data.db", "da-1-bti-Filter.db"):
            (folder / name).touch()
    return tmp_path


def test_what_a_node_took_is_gone(made: Path) -> None:
    import_sstables(made, nodetool=TAKES, keyspace="k", settings=SETTINGS)
    assert list((made / "k").iterdir()) == []


def test_what_was_sent_stays(made: Path) -> None:
    stream_sstables(made, sstableloader=KEEPS, keyspace="k", settings=SETTINGS)
    assert len(list((made / "k").rglob("*-Data.db"))) == 2


@pytest.mark.parametrize(
    ("nodetool", "said"), [(KEEPS, "did not take"), (FAILS, "no such keyspace"), (("/nowhere",), "No such file")]
)
def test_a_node_that_takes_nothing_is_noticed(made: Path, nodetool: tuple[str, ...], said: str) -> None:
    with pytest.raises(Fault) as caught:
        import_sstables(made, nodetool=nodetool, keyspace="k", settings=SETTINGS)
    assert caught.value.reason is Reason.TOOL_FAILED
    assert said in caught.value.detail
    assert len(list((made / "k").rglob("*-Data.db"))) == 2


def test_a_loader_that_fails_is_noticed(made: Path) -> None:
    with pytest.raises(Fault) as caught:
        stream_sstables(made, sstableloader=FAILS, keyspace="k", settings=SETTINGS)
    assert caught.value.reason is Reason.TOOL_FAILED


def test_a_program_that_does_not_end_is_ended(made: Path) -> None:
    hangs = program("import time; time.sleep(600)")
    with pytest.raises(Fault) as caught:
        stream_sstables(made, sstableloader=hangs, keyspace="k", settings=BulkSettings(deadline=Duration(0.2)))
    assert caught.value.reason is Reason.TOOL_FAILED
    assert "timed out" in caught.value.detail


def test_an_import_that_failed_between_the_tables_goes_on_with_the_second(made: Path) -> None:
    with pytest.raises(Fault):
        import_sstables(made, nodetool=TAKES_RECORDS, keyspace="k", settings=SETTINGS)
    assert [path.name for path in (made / "k").iterdir()] == ["listing"]
    import_sstables(made, nodetool=TAKES, keyspace="k", settings=SETTINGS)
    assert list((made / "k").iterdir()) == []


def test_nothing_to_take_is_no_success(made: Path) -> None:
    import_sstables(made, nodetool=TAKES, keyspace="k", settings=SETTINGS)
    with pytest.raises(Fault) as caught:
        import_sstables(made, nodetool=TAKES, keyspace="k", settings=SETTINGS)
    assert caught.value.reason is Reason.FILE_UNREADABLE
    with pytest.raises(Fault) as caught:
        stream_sstables(made, sstableloader=KEEPS, keyspace="k", settings=SETTINGS)
    assert caught.value.reason is Reason.FILE_UNREADABLE


def test_an_import_that_was_interrupted_behind_the_last_table_has_nothing_left_to_do(made: Path) -> None:
    """The node has moved the files, and nobody removed the folder."""
    for path in (made / "k").rglob("*.db"):
        path.unlink()
    import_sstables(made, nodetool=FAILS, keyspace="k", settings=SETTINGS)
    assert list((made / "k").iterdir()) == []
