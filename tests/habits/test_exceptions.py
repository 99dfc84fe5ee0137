"""Nothing is swallowed: who catches everything raises it again, or is the outermost wrapper of a gRPC method."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.habits.tree import CODE, ROOT, parsed, planted

ALLOWED: Final = {
    "resolver/front/bursts.py": "the outermost wrapper of what a native front hands on",
    "resolver/front/grpc.py": "the outermost wrapper of the hot methods",
    "resolver/rpc/calls.py": "the outermost wrapper of all other methods",
    "resolver/rpc/turns.py": "the outermost wrapper of a message in a long call",
}

EVERYTHING: Final = {"Exception", "BaseException"}


def swallowed(tree: Path) -> Iterator[str]:
    """Name every place that catches everything and does not raise it again."""
    for file, module in parsed(tree, *CODE):
        for node in ast.walk(module):
            if isinstance(node, ast.ExceptHandler) and _catches_everything(node) and not _raises_again(node):
                yield f"{file}:{node.lineno}"
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                yield from (f"{file}:{node.lineno}" for each in node.args if ast.unparse(each) in EVERYTHING)


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(ast.unparse(each) in EVERYTHING for each in caught)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_nothing_is_swallowed() -> None:
    wrong = [place for place in swallowed(ROOT) if place.partition(":")[0] not in ALLOWED]
    assert not wrong, "\n".join(wrong)


def test_every_exemption_is_used_once() -> None:
    used = [place.partition(":")[0] for place in swallowed(ROOT)]
    assert sorted(name for name in used if name in ALLOWED) == sorted(ALLOWED)


@pytest.mark.parametrize(
    "handler",
    [
        "try: f()\nexcept Exception: pass",
        "try: f()\nexcept BaseException as error: print(error)",
        "try: f()\nexcept: pass",
        "try: f()\nexcept (OSError, Exception): pass",
        "try: f()\nexcept Exception as error: raise ValueError from error",
        "with contextlib.suppress(Exception): f()",
    ],
)
def test_a_planted_swallowing_is_found(tmp_path: Path, handler: str) -> None:
    assert list(swallowed(planted(tmp_path, f"{handler}\n")))


@pytest.mark.parametrize(
    "handler",
    ["try: f()\nexcept OSError: pass", "try: f()\nexcept BaseException:\n    g()\n    raise"],
)
def test_what_is_named_or_raised_again_is_let_pass(tmp_path: Path, handler: str) -> None:
    assert list(swallowed(planted(tmp_path, f"{handler}\n"))) == []
