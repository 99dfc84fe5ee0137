"""The file of refused rows: written afresh or gone on with, whole lines only."""

import json
from pathlib import Path

import pytest

from nodes.loading.rejects import Reject, RejectsFile
from resolver.errors import Fault, Reason


def reject(line: int) -> Reject:
    return Reject(line, Fault(Reason.ROW_MALFORMED, field="what"), b"\xff{")


def written(path: Path, *lines: int, goes_on: bool) -> int:
    """Write refused rows; gives how many stood there before."""
    file = RejectsFile(path)
    there = file.begin(goes_on=goes_on)
    file.write([reject(line) for line in lines])
    file.close()
    return there


def lines(path: Path) -> list[int]:
    return [json.loads(line)["line"] for line in path.read_text().splitlines()]


def test_a_load_that_goes_on_adds_to_its_file(tmp_path: Path) -> None:
    path = tmp_path / "rejects"
    assert written(path, 1, 2, goes_on=False) == 0
    assert written(path, 3, goes_on=True) == 2
    assert lines(path) == [1, 2, 3]
    assert json.loads(path.read_text().splitlines()[0]) == {
        "line": 1,
        "reason": "ROW_MALFORMED",
        "field": "what",
        "detail": Reason.ROW_MALFORMED.value.happened,
        "row": "\\xff{",
    }


def test_a_load_that_begins_afresh_begins_its_file_afresh(tmp_path: Path) -> None:
    path = tmp_path / "rejects"
    written(path, 1, 2, goes_on=False)
    assert written(path, 3, goes_on=False) == 0
    assert lines(path) == [3]


@pytest.mark.parametrize("kept", [1, 50, -1])
def test_a_line_that_a_kill_cut_through_is_taken_away(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "rejects"
    written(path, 1, 2, goes_on=False)
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second[:kept])
    assert written(path, 3, goes_on=True) == 1
    assert lines(path) == [1, 3]


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(Fault) as raised:
        RejectsFile(tmp_path / "no" / "rejects").begin(goes_on=False)
    assert (raised.value.reason, raised.value.field) == (Reason.FILE_UNREADABLE, "--rejects")
