"""Run files hold what was written, in bounded files; a writer that comes back goes on at the right place."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver import wire
from resolver.errors import Fault, Reason
from resolver.store import Write
from resolver.store.cassandra.runs import BLOCK_ROWS, MAGIC, RunWriter, last_key, rows_through, run_files
from tests.stores import write

A, B, SECRET = write("88.1/A"), write("88.2/B", is_new=True), write("88.1.7/C", secret=b"for its holder")


def read(folder: Path) -> Iterator[tuple[int, Write]]:
    """Read all rows as the description of the format says, and nothing else knows."""
    for path in run_files(folder):
        octets = path.read_bytes()
        assert octets.startswith(MAGIC)
        at = len(MAGIC)
        while at < len(octets):
            size, crc, index, rows, prefixes = struct.unpack_from(">IIQII", octets, at)
            payload = octets[at + 24 : at + 24 + size]
            assert len(payload) == size
            assert crc32(octets[at + 8 : at + 24 + size]) == crc
            yield from ((index, each) for each in _rows(payload, index, rows, prefixes))
            at += 24 + size


def _rows(payload: bytes, index: int, rows: int, prefixes: int) -> Iterator[Write]:
    at = 1 + payload[0]
    assert payload[1:at] == wire.version_field(index)
    counted = 0
    for _ in range(prefixes):
        length, count = struct.unpack_from(">HI", payload, at)
        at, counted = at + 6 + length, counted + count
    assert counted == rows
    columns = []
    for code in "HII?":
        columns.append(struct.unpack_from(f">{rows}{code}", payload, at))
        at += struct.calcsize(f">{rows}{code}")
    parts = []
    for lengths in columns[:3]:
        part = []
        for length in lengths:
            part.append(payload[at : at + length])
            at += length
        parts.append(part)
    assert at == len(payload)
    for row in zip(*parts, columns[3], strict=True):
        yield Write(*row)


def test_what_is_added_is_read_as_it_was(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        writer.add(7, [A, B])
        writer.add(300, [SECRET])
        assert writer.below == {b"88.1": 1, b"88.2": 1, b"88.1.7": 1}
        assert writer.rows == 3
    assert list(read(tmp_path)) == [(7, A), (7, B), (300, SECRET)]


SOME = st.binary(max_size=30)


@given(st.lists(st.builds(Write, SOME, SOME, SOME, st.booleans()), max_size=20))
def test_any_rows_are_read_as_they_were(tmp_path_factory: pytest.TempPathFactory, writes: list[Write]) -> None:
    folder = tmp_path_factory.mktemp("runs")
    with RunWriter(folder) as writer:
        writer.add(1, writes)
    assert [each for _, each in read(folder)] == writes


def test_many_rows_lie_in_several_blocks(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        writer.add(1, [A] * (BLOCK_ROWS + 1))
    assert len(list(read(tmp_path))) == BLOCK_ROWS + 1


def test_a_file_that_is_large_enough_is_followed_by_another(tmp_path: Path) -> None:
    with RunWriter(tmp_path, file_bytes=1_000) as writer:
        for index in range(1, 100):
            writer.add(index, [A])
    sizes = [path.stat().st_size for path in run_files(tmp_path)]
    assert len(sizes) > 3
    assert max(sizes) < 1_200
    assert [index for index, _ in read(tmp_path)] == list(range(1, 100))


def test_what_is_synced_is_there_before_the_file_ends(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    writer.add(7, [A])
    writer.sync()
    assert list(read(tmp_path)) == [(7, A)]
    writer.close()


@pytest.mark.parametrize("file_bytes", [1, 1 << 20])
def test_what_was_written_for_entries_that_were_not_committed_is_cut_off(tmp_path: Path, file_bytes: int) -> None:
    with RunWriter(tmp_path, file_bytes=file_bytes) as writer:
        for index in (1, 2, 3):
            writer.add(index, [A, B])
    with RunWriter(tmp_path, through=2, file_bytes=file_bytes) as writer:
        assert writer.rows == 4
        writer.add(3, [SECRET])
        assert writer.below == {b"88.1": 2, b"88.2": 2, b"88.1.7": 1}
    assert [(index, each.key) for index, each in read(tmp_path)] == [
        (1, A.key),
        (1, B.key),
        (2, A.key),
        (2, B.key),
        (3, SECRET.key),
    ]


def test_without_a_word_about_entries_everything_begins_afresh(tmp_path: Path) -> None:
    for _ in range(2):
        with RunWriter(tmp_path) as writer:
            writer.add(1, [A])
    assert list(read(tmp_path)) == [(1, A)]


@pytest.mark.parametrize("lost", [1, 30, 90])
def test_a_block_that_was_cut_off_is_dropped(tmp_path: Path, lost: int) -> None:
    with RunWriter(tmp_path) as writer:
        writer.add(1, [A])
        writer.add(2, [B])
    (path,) = run_files(tmp_path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - lost)
    with RunWriter(tmp_path, through=2) as writer:
        assert writer.rows == 1
    assert list(read(tmp_path)) == [(1, A)]


def test_a_file_that_only_began_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "000001.run").write_bytes(MAGIC[:3])
    with RunWriter(tmp_path, through=2) as writer:
        writer.add(3, [A])
    assert list(read(tmp_path)) == [(3, A)]


def test_another_file_is_not_cut(tmp_path: Path) -> None:
    other: Any = tmp_path / "000001.run"
    other.write_bytes(b"somebody's own")
    with pytest.raises(Fault) as caught:
        RunWriter(tmp_path)
    assert caught.value.reason is Reason.FILE_UNREADABLE
    assert other.read_bytes() == b"somebody's own"


@pytest.mark.parametrize("file_bytes", [1, 1 << 20])
def test_what_is_there_is_told_without_a_change(tmp_path: Path, file_bytes: int) -> None:
    assert (rows_through(tmp_path, 9), last_key(tmp_path)) == (0, b"")
    with RunWriter(tmp_path, file_bytes=file_bytes) as writer:
        for index, writes in ((1, [A, B]), (2, [B, SECRET]), (3, []), (4, [A, SECRET, B])):
            writer.add(index, writes)
    before = [path.read_bytes() for path in run_files(tmp_path)]
    assert [rows_through(tmp_path, index) for index in range(5)] == [0, 2, 4, 4, 7]
    assert last_key(tmp_path) == B.key
    assert [path.read_bytes() for path in run_files(tmp_path)] == before


def test_the_last_key_is_that_of_the_last_whole_block(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        writer.add(1, [A, SECRET])
        writer.add(2, [B])
    (path,) = run_files(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert last_key(tmp_path) == SECRET.key
