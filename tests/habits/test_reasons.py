"""docs/reasons.md says what the registry of reasons says."""

from pathlib import Path

import pytest

from nodes import reference
from resolver.errors import Reason
from tests.habits.tree import ROOT


def test_the_committed_table_is_the_generated_one(capsys: pytest.CaptureFixture[str]) -> None:
    code = reference.main(["--check"], ROOT)
    assert code == 0, capsys.readouterr().err


def test_every_reason_has_one_row() -> None:
    rows = [line.split(" | ") for line in reference.page().splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == [f"| `{reason.name}`" for reason in Reason]
    assert all(len(row) == 4 for row in rows)


def test_a_table_that_is_missing_or_differs_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reference.main(["--check"], tmp_path) == 1
    assert reference.main([], tmp_path) == 0
    assert reference.main(["--check"], tmp_path) == 0
    page = tmp_path / reference.PAGE
    page.write_text(page.read_text(encoding="utf-8").replace("The batch holds no", "The batch has no"))
    capsys.readouterr()
    assert reference.main(["--check"], tmp_path) == 1
    assert "make proto" in capsys.readouterr().err
