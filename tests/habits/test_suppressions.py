"""Every suppression has a reason: behind it, in a comment right above it, or on the same one a line above."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.habits.tree import CODE, ROOT, planted, sources

SUPPRESSION: Final = re.compile(r"#\s*(?:ruff:\s*)?(noqa|type:\s*ignore|pragma|fmt|mypy|nosec)\b[:\s]*")
CODES: Final = re.compile(r"(\[[\w, -]+\]|(?:[A-Z]+[0-9]+[,\s]*)+|skip|off|on|no cover)?\s*")
NEEDS_NONE: Final = {"fmt"}
"""How something is laid out is no rule that is broken."""


def unreasoned(tree: Path, *folders: str) -> Iterator[str]:
    """Name every suppression for which nobody says why."""
    for file, text in sources(tree, *folders):
        before = 0
        for line, kind, reason in suppressions(text):
            is_told = bool(reason) or _is_comment(text, line - 1) or before == line - 1
            if is_told:
                before = line
            elif kind not in NEEDS_NONE:
                yield f"{file}:{line}"


def suppressions(text: str) -> Iterator[tuple[int, str, str]]:
    """Give line, kind and reason of each suppression."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and (found := SUPPRESSION.search(token.string)):
            rest = token.string[found.end() :]
            codes = CODES.match(rest)
            yield token.start[0], found[1], rest[codes.end() if codes else 0 :].strip(" #-:")


def _is_comment(text: str, line: int) -> bool:
    above = text.splitlines()[line - 1].strip() if line > 0 else ""
    return above.startswith("#") and not SUPPRESSION.search(above)


def test_every_suppression_has_a_reason() -> None:
    wrong = list(unreasoned(ROOT, *CODE, "tests"))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "x = 1  # noqa",
        "x = 1  # noqa: E501",
        "x = 1  # noqa: ARG002, N802",
        "x = 1  # noqa: E501 -",
        "x = 1  # type: ignore",
        "x = 1  # type: ignore[arg-type, misc]",
        "# ruff: noqa: PLC0415",
        "x = 1  # pragma: no cover",
    ],
)
def test_a_planted_suppression_without_a_reason_is_found(tmp_path: Path, line: str) -> None:
    assert list(unreasoned(planted(tmp_path, f"y = 0\n{line}\n"), "resolver")) == ["resolver/planted.py:2"]


@pytest.mark.parametrize(
    "lines",
    [
        "x = 1  # noqa: E501 - a table",
        "x = 1  # noqa: ARG002, N802 - as above",
        "x = 1  # type: ignore[misc]  # the stubs miss it",
        "# ruff: noqa: PLC0415 - slow to import",
        "# The stubs miss it.\nx = 1  # type: ignore[misc]",
        "x = 1  # noqa: E501 - a table\nz = 2  # noqa: E501",
        "x = '# noqa'",
    ],
)
def test_a_suppression_with_a_reason_is_let_pass(tmp_path: Path, lines: str) -> None:
    assert list(unreasoned(planted(tmp_path, f"y = 0\n{lines}\n"), "resolver")) == []
