"""What commands write: for people and for programs."""

import json

import pytest

from nodes import terminal
from resolver.errors import Fault, Reason


def test_piped_tables_are_plain_and_do_not_wrap(capsys: pytest.CaptureFixture[str]) -> None:
    shown = terminal.table("name", "count", right=["count"])
    shown.add_row("x" * 300, "1")
    terminal.output().print(shown)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "x" * 300 in said


def test_json_is_one_document_and_ndjson_one_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    terminal.print_json({"a": [1, "é"]})
    terminal.print_ndjson([{"n": 1}, {"n": 2}])
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"a": [1, "é"]}, {"n": 1}, {"n": 2}]


def test_a_fault_is_three_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_fault(Fault(Reason.STORE_OWNED, "node x is the writer.", field="data"))
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "Error: node x is the writer.\n"
        "  reason: STORE_OWNED (data)\n"
        "  do: Write through that process, or stop it first.\n"
    )


def test_progress_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.progress(unit="rows") as bar:
        task = bar.add_task("loading", total=10)
        bar.advance(task, 10)
    said = capsys.readouterr()
    assert said.out == said.err == ""
