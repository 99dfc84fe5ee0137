"""Protos are linted by buf and break nothing of the baseline, the image of what was released."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.habits.tree import copied

RESOLVER = "proto/resolver/v1/resolver.proto"
BASELINE = "proto/baseline.binpb"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The protos, and the foreign one that buf cannot find in an installed package."""
    tree = copied(tmp_path / "tree", "buf.yaml", "proto")
    foreign = Path("google/rpc/status.proto")
    place = tree / "build/proto-deps" / foreign
    place.parent.mkdir(parents=True)
    shutil.copy(Path(sysconfig.get_path("purelib")) / foreign, place)
    return tree


def buf(tree: Path, *arguments: str) -> tuple[int, str]:
    """Run buf there, with no settings of the user's; give its exit code and what it said."""
    command = [str(Path(sys.executable).with_name("buf")), *arguments]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tree)}
    ran = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=60)
    return ran.returncode, ran.stdout + ran.stderr


def breaking(tree: Path) -> tuple[int, str]:
    # Only our own module: the image of a release is one, the workspace would be two.
    return buf(tree, "breaking", "proto", "--against", BASELINE)


def changed(tree: Path, old: str, new: str) -> None:
    proto = tree / RESOLVER
    text = proto.read_text()
    assert old in text
    proto.write_text(text.replace(old, new))


def test_protos_are_clean(tree: Path) -> None:
    code, said = buf(tree, "lint")
    assert code == 0, said


def test_protos_break_nothing_that_was_released(tree: Path) -> None:
    assert (tree / BASELINE).is_file(), "there is no baseline: run `make baseline` and commit it"
    code, said = breaking(tree)
    assert code == 0, said


@pytest.mark.parametrize(
    ("old", "new"),
    [("string registrant = 3;", "string Registrant = 3;"), ("OUTCOME_FOUND = 1", "FOUND = 1")],
)
def test_planted_untidiness_is_found(tree: Path, old: str, new: str) -> None:
    changed(tree, old, new)
    code, said = buf(tree, "lint")
    assert code != 0
    assert "resolver.proto" in said


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bool stale = 6;", "bool stale = 9;"),
        ("uint64 version = 7;", "string version = 7;"),
        ("  bool stale = 6;\n", ""),
        ("string registrant = 3;", "string registrar = 3;"),
        ("MODE_RECURSIVE = 3;", "MODE_RECURSIVE = 4;"),
        ("rpc GetNodeInfo(", "rpc TellNodeInfo("),
    ],
)
def test_a_planted_break_is_found(tree: Path, old: str, new: str) -> None:
    """Renumbered, retyped, removed, renamed."""
    changed(tree, old, new)
    code, said = breaking(tree)
    assert code != 0
    assert "resolver.proto" in said


def test_a_new_field_breaks_nothing(tree: Path) -> None:
    changed(tree, "bool stale = 6;", "bool stale = 6;\n  bool added = 60;")
    code, said = breaking(tree)
    assert code == 0, said
