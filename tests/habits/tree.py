"""The tree that the habits are checked on, or a copy of it in which a breach is planted."""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FLOORS: Final = ("resolver", "registry", "nodes")
CODE: Final = (*FLOORS, "loadtest")


def sources(tree: Path, *folders: str) -> Iterator[tuple[str, str]]:
    """Give name and text of every Python file that somebody wrote: what is generated stands in v1 folders."""
    for folder in folders:
        for path in sorted((tree / folder).rglob("*.py")):
            if path.parent.name != "v1":
                yield path.relative_to(tree).as_posix(), path.read_text(encoding="utf-8")


def parsed(tree: Path, *folders: str) -> Iterator[tuple[str, ast.Module]]:
    """Give name and syntax tree of every Python file that somebody wrote."""
    for name, text in sources(tree, *folders):
        yield name, ast.parse(text, name)


def copied(target: Path, *names: str) -> Path:
    """Copy these files and folders of the tree."""
    for name in names:
        source, place = ROOT / name, target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place)
    return target


def planted(target: Path, text: str, name: str = "resolver/planted.py") -> Path:
    """Make a tree of one file."""
    path = target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return target
