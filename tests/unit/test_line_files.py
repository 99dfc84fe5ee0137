"""Files of JSON objects, one a line: begun afresh, added to, or gone on with; no whole line is lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.loading.line_files import LineFile
from nodes.loading.rejects import Reject
from resolver.errors import Fault, Reason

Opening = Callable[[LineFile], None]


def written(path: Path, *numbers: int, opening: Opening) -> int:
    """Write objects; gives how many lines there are then."""
    file = LineFile(path, "--file")
    opening(file)
    file.write({"line": number} for number in numbers)
    count = file.count()
    assert file.size() == path.stat().st_size
    file.close()
    return count


def lines(path: Path) -> list[int]:
    return [json.loads(line)["line"] for line in path.read_text().splitlines()]


def go_on(behind: int | None) -> Opening:
    return lambda file: file.go_on(behind)


def test_a_file_that_is_begun_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert written(path, 1, 2, opening=LineFile.begin) == 2
    assert written(path, 3, opening=LineFile.begin) == 1
    assert lines(path) == [3]


@pytest.mark.parametrize("opening", [LineFile.add, LineFile.go_on, go_on(0), go_on(12)])
def test_a_file_is_added_to(tmp_path: Path, opening: Opening) -> None:
    path = tmp_path / "file"
    path.write_bytes(b'{"line":1}\n{"line":2}\n')
    assert written(path, 3, opening=opening) == 3
    assert lines(path) == [1, 2, 3]


@pytest.mark.parametrize("opening", [LineFile.add, LineFile.go_on])
def test_there_need_be_no_file(tmp_path: Path, opening: Opening) -> None:
    assert written(tmp_path / "file", 1, opening=opening) == 1


@pytest.mark.parametrize("last", [b"{", b'{"line":2', b'{"line":2,"x":"' + b"y" * 200_000, b"2", b"\xff"])
def test_a_line_that_a_kill_cut_through_is_taken_away(tmp_path: Path, last: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(b'{"line":1}\n' + last)
    assert written(path, 3, opening=LineFile.go_on) == 2
    assert lines(path) == [1, 3]


@pytest.mark.parametrize("opening", [LineFile.add, LineFile.go_on])
def test_a_line_of_which_only_the_end_is_missing_stays(tmp_path: Path, opening: Opening) -> None:
    """An editor may have left it so."""
    path = tmp_path / "file"
    path.write_bytes(b'{"line":1}\n{"line":2}')
    assert written(path, 3, opening=opening) == 3
    assert lines(path) == [1, 2, 3]


def test_a_file_that_is_added_to_loses_nothing_whatever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a letter\nwithout an end")
    written(path, 1, opening=LineFile.add)
    assert path.read_bytes() == b'a letter\nwithout an end\n{"line":1}\n'


def test_what_is_there_behind_the_place_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    written(path, 1, 2, 3, opening=LineFile.begin)
    written(path, 1, 2, 3, 4, opening=go_on(11))
    assert lines(path) == [1, 2, 3, 1, 4]


@pytest.mark.parametrize("there", [None, b"", b'{"line":1}\n'])
def test_a_file_that_is_shorter_than_it_was_is_told_and_left(tmp_path: Path, there: bytes | None) -> None:
    path = tmp_path / "file"
    if there is not None:
        path.write_bytes(there)
    with pytest.raises(Fault) as raised:
        LineFile(path, "--file").go_on(12)
    assert (raised.value.reason, raised.value.field) == (Reason.FILE_UNREADABLE, "--file")
    assert "name another file" in raised.value.detail
    assert (path.read_bytes() if path.exists() else None) == there


@pytest.mark.parametrize("opening", [LineFile.begin, LineFile.add, LineFile.go_on])
def test_a_file_that_cannot_be_written(tmp_path: Path, opening: Opening) -> None:
    with pytest.raises(Fault) as raised:
        opening(LineFile(tmp_path / "no" / "file", "--file"))
    assert (raised.value.reason, raised.value.field) == (Reason.FILE_UNREADABLE, "--file")


def test_a_full_disk_is_told_once() -> None:
    """What could not be written would be tried again when the file is closed."""
    file = LineFile(Path("/dev/full"), "--file")
    file.add()
    with pytest.raises(Fault) as raised:
        file.write([{"line": 1}])
    assert "No space left" in raised.value.detail
    file.close()


def test_a_refused_row_as_it_is_told() -> None:
    reject = Reject(1, Fault(Reason.ROW_MALFORMED, field="what"), b"\xff{")
    told: dict[str, Any] = {
        "line": 1,
        "reason": "ROW_MALFORMED",
        "field": "what",
        "detail": Reason.ROW_MALFORMED.value.happened,
        "row": "\\xff{",
    }
    assert reject.plain() == told
