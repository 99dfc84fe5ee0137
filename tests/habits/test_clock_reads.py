"""Nothing outside the clock module reads a clock: time comes in through constructors."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.habits.tree import CODE, ROOT, parsed, planted

ALLOWED: Final = {
    "resolver/clock.py": "it is the clock",
    "loadtest/": "it measures real time",
}

CLOCKS: Final = {
    "time": {
        "time",
        "monotonic",
        "perf_counter",
        "process_time",
        "thread_time",
        "clock_gettime",
        "localtime",
        "gmtime",
    },
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


def reads(tree: Path) -> Iterator[str]:
    """Name every place where a clock is read, or taken in hand."""
    for file, module in parsed(tree, *CODE):
        if file.startswith(tuple(ALLOWED)):
            continue
        for node in ast.walk(module):
            if isinstance(node, ast.Attribute | ast.ImportFrom) and _is_clock(node):
                yield f"{file}:{node.lineno} {ast.unparse(node)}"


def _is_clock(node: ast.Attribute | ast.ImportFrom) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "time" and any(_is_time(alias.name) for alias in node.names)
    owner = ast.unparse(node.value)
    if node.attr == "time" and "loop" in owner.lower():
        return True
    kind = owner.rpartition(".")[2]
    return _is_time(node.attr) if kind == "time" else node.attr in CLOCKS.get(kind, ())


def _is_time(name: str) -> bool:
    return name.removesuffix("_ns") in CLOCKS["time"]


def test_only_the_clock_module_reads_a_clock() -> None:
    wrong = list(reads(ROOT))
    assert not wrong, "\n".join(wrong)


def test_what_is_allowed_is_there() -> None:
    assert all((ROOT / name).exists() for name in ALLOWED)


@pytest.mark.parametrize(
    "line",
    [
        "import time; x = time.time()",
        "import time; x = time.monotonic",
        "import time; x = time.perf_counter_ns()",
        "from time import monotonic",
        "from time import sleep, time_ns as now",
        "import datetime; x = datetime.datetime.now()",
        "from datetime import datetime; x = datetime.utcnow()",
        "from datetime import date; x = date.today()",
        "import asyncio; x = asyncio.get_running_loop().time()",
        "x = self._loop.time()",
        "import time; x = time.localtime()",
    ],
)
def test_a_planted_reading_is_found(tmp_path: Path, line: str) -> None:
    assert len(list(reads(planted(tmp_path, f"{line}\n")))) == 1


@pytest.mark.parametrize("line", ["x = clock.monotonic()", "from time import sleep", "x = clock.wall()"])
def test_a_clock_that_was_given_may_be_read(tmp_path: Path, line: str) -> None:
    assert list(reads(planted(tmp_path, f"{line}\n"))) == []
