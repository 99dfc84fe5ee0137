"""Imports only go down: the contracts of import-linter hold, and each of them is seen to fail on a breach."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.habits.tree import CODE, ROOT, copied


def linted(tree: Path) -> tuple[int, str]:
    """Run lint-imports there; give its exit code and what it said."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    ran = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=60)
    return ran.returncode, ran.stdout + ran.stderr


def test_imports_only_go_down() -> None:
    code, said = linted(ROOT)
    assert code == 0, said


@pytest.mark.parametrize(
    ("module", "breach"),
    [
        ("resolver/handle.py", "import registry"),
        ("resolver/front/__init__.py", "import nodes"),
        ("registry/__init__.py", "import nodes"),
        ("nodes/__init__.py", "import loadtest"),
        ("resolver/wire.py", "import resolver.chain"),
        ("resolver/chain/__init__.py", "import resolver.front"),
        ("resolver/cache/__init__.py", "import resolver.store"),
        ("resolver/record.py", "import google.protobuf"),
        ("resolver/routes.py", "import grpc"),
        ("resolver/errors.py", "import resolver.v1.resolver_pb2"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, module: str, breach: str) -> None:
    tree = copied(tmp_path, *CODE, "pyproject.toml")
    with (tree / module).open("a", encoding="utf-8") as source:
        source.write(f"\n{breach}\n")
    code, said = linted(tree)
    assert code == 1, said
    assert "BROKEN" in said
