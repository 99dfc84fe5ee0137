"""Names are the field's words, and every module says what lives in it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.habits.tree import CODE, ROOT, parsed, planted

FORBIDDEN: Final = {
    "manager", "helper", "util", "common", "base", "data", "info", "process", "impl", "handler", "misc"
}  # fmt: skip


OF_THE_WIRE: Final = {"NodeInfo"}
"""What GetNodeInfo gives: the published method has the word."""


def names(tree: Path) -> Iterator[tuple[str, str]]:
    """Give place and name of every folder, module and class that somebody named."""
    for file, module in parsed(tree, *CODE):
        yield from ((file, part) for part in Path(file).with_suffix("").parts)
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef):
                yield f"{file}:{node.lineno}", node.name


def words(name: str) -> set[str]:
    """Split snake_case and CamelCase, and take plurals off."""
    parts = {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}
    return parts | {part.removesuffix("s") for part in parts} | {part.removesuffix("es") for part in parts}


def forbidden(tree: Path) -> set[str]:
    return {f"{place}: {name}" for place, name in names(tree) if name not in OF_THE_WIRE and words(name) & FORBIDDEN}


def silent(tree: Path) -> list[str]:
    """Name the modules that do not say in their first line what lives in them."""
    return [file for file, module in parsed(tree, *CODE) if not _says(ast.get_docstring(module))]


def _says(docstring: str | None) -> bool:
    first = (docstring or "").partition("\n")[0]
    return bool(re.search(r"\w", first))


def test_modules_and_classes_are_named_in_the_fields_words() -> None:
    wrong = forbidden(ROOT)
    assert not wrong, "\n".join(sorted(wrong))


def test_every_module_says_what_lives_in_it() -> None:
    wrong = silent(ROOT)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resolver/planted.py", "class StoreManager: ..."),
        ("resolver/planted.py", "class HTTPHandler: ..."),
        ("resolver/planted.py", "def made():\n    class BaseLink: ..."),
        ("registry/planted.py", "class WriterImpl: ..."),
        ("nodes/planted.py", "class PrefixInfo: ..."),
        ("nodes/utils.py", ""),
        ("nodes/text_helpers.py", ""),
        ("resolver/common/planted.py", ""),
        ("loadtest/processes.py", ""),
    ],
)
def test_a_planted_word_is_found(tmp_path: Path, name: str, text: str) -> None:
    assert len(forbidden(planted(tmp_path, text, name))) == 1


@pytest.mark.parametrize("name", ["Information", "Database", "Based", "Handle", "Handles", "Utility", "processor"])
def test_a_word_that_only_contains_one_is_let_pass(tmp_path: Path, name: str) -> None:
    assert forbidden(planted(tmp_path, f"class {name}: ...")) == set()


@pytest.mark.parametrize("text", ["", "import os\n", "# a comment\n", '""""""\n'])
def test_a_planted_silence_is_found(tmp_path: Path, text: str) -> None:
    assert silent(planted(tmp_path, text)) == ["resolver/planted.py"]
