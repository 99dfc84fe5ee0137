"""Generated code is what protoc makes of proto/ today."""

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

import pytest

from tests.habits.tree import ROOT, copied

PROTO: Final = "proto/resolver/v1/resolver.proto"
WRITTEN: Final = {"__init__.py"}
"""All that somebody writes in a generated folder."""


def generated(tree: Path, target: Path) -> None:
    """Do what `make proto` does, into another folder."""
    target.mkdir()
    protos = sorted((tree / "proto").rglob("*.proto"))
    # Nothing serves the octets twin of the requests: it has no service.
    serving = [path for path in protos if path.name != "octets.proto"]
    _protoc(tree, protos, f"--python_out={target}", f"--pyi_out={target}")
    _protoc(tree, serving, f"--grpc_python_out={target}")


def _protoc(tree: Path, protos: list[Path], *outputs: str) -> None:
    includes = ["-I", "proto", "-I", sysconfig.get_path("purelib")]
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs]
    command += [path.relative_to(tree).as_posix() for path in protos]
    ran = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr


def held(tree: Path) -> dict[str, bytes]:
    """Give the generated files of a tree: all that is in v1 folders beside what is written there."""
    return {
        path.relative_to(tree).as_posix(): path.read_bytes()
        for folder in tree.glob("*/v1")
        for path in folder.iterdir()
        if path.is_file() and path.name not in WRITTEN
    }


def drift(tree: Path, scratch: Path) -> list[str]:
    """Name the generated files that are missing, left over or different."""
    generated(tree, scratch)
    committed, fresh = held(tree), held(scratch)
    return sorted(name for name in committed.keys() | fresh.keys() if committed.get(name) != fresh.get(name))


def test_generated_code_has_not_drifted(tmp_path: Path) -> None:
    differing = drift(ROOT, tmp_path / "fresh")
    assert differing == [], "run `make proto` and commit what it writes"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copied(tmp_path / "tree", "proto", "resolver/v1", "registry/v1", "nodes/v1")


def test_a_changed_proto_is_found(tree: Path, tmp_path: Path) -> None:
    proto = tree / PROTO
    proto.write_text(proto.read_text().replace("bool stale = 6;", "bool stale = 6;\n  bool planted = 60;"))
    assert drift(tree, tmp_path / "fresh") == ["resolver/v1/resolver_pb2.py", "resolver/v1/resolver_pb2.pyi"]


def test_a_changed_or_left_over_file_is_found(tree: Path, tmp_path: Path) -> None:
    with (tree / "nodes/v1/nodes_pb2_grpc.py").open("a") as file:
        file.write("# planted\n")
    (tree / "resolver/v1/gone_pb2.py").write_text("")
    assert drift(tree, tmp_path / "fresh") == ["nodes/v1/nodes_pb2_grpc.py", "resolver/v1/gone_pb2.py"]
