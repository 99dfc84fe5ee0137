"""The wheel holds the three packages and nothing else, and installs one command."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.habits.tree import FLOORS, ROOT, copied

PYPROJECT = "pyproject.toml"


def built(tree: Path) -> zipfile.Path:
    """Build a wheel from a copy of the tree, without a network, and give what is in it."""
    copied(tree, PYPROJECT, "README.md", "LICENSE", *FLOORS, "loadtest", "tests", "proto")
    return _built(tree)


def _built(tree: Path) -> zipfile.Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tree / "dist")]
    ran = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (wheel,) = (tree / "dist").glob("topnode-*.whl")
    return zipfile.Path(wheel)


def names(wheel: zipfile.Path) -> set[str]:
    return {name for name in wheel.root.namelist() if not name.endswith("/")}


def outside(held: set[str]) -> set[str]:
    """Give what belongs to none of the three packages and is no metadata."""
    return {name for name in held if not name.startswith((*(f"{floor}/" for floor in FLOORS), "topnode-"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    return built(tmp_path_factory.mktemp("wheel"))


def test_nothing_but_the_packages_is_in_the_wheel(wheel: zipfile.Path) -> None:
    assert outside(names(wheel)) == set()


def test_everything_of_the_packages_is_in_the_wheel(wheel: zipfile.Path) -> None:
    """Every module, generated ones too, and the mark that says that there are types."""
    wanted = {path.relative_to(ROOT).as_posix() for floor in FLOORS for path in (ROOT / floor).rglob("*.py")}
    wanted |= {f"{floor}/py.typed" for floor in FLOORS}
    assert wanted <= names(wheel)
    assert "resolver/v1/resolver_pb2.py" in wanted


def test_the_wheel_installs_one_command_and_carries_the_licence(wheel: zipfile.Path) -> None:
    (metadata,) = (each for each in wheel.iterdir() if each.name.endswith(".dist-info"))
    commands = configparser.ConfigParser()
    commands.read_string((metadata / "entry_points.txt").read_text())
    assert {section: dict(commands[section]) for section in commands.sections()} == {
        "console_scripts": {"topnode": "nodes.cli:main"}
    }
    assert (metadata / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_a_package_that_does_not_belong_is_found(tmp_path: Path) -> None:
    """The check sees loadtest in a wheel when the allow-list lets it in."""
    tree = copied(tmp_path, PYPROJECT, "README.md", "LICENSE", "loadtest")
    settings = (tree / PYPROJECT).read_text(encoding="utf-8")
    planted = settings.replace('"nodes*"]', '"nodes*", "loadtest*"]')
    assert planted != settings
    (tree / PYPROJECT).write_text(planted, encoding="utf-8")
    assert "loadtest/__init__.py" in outside(names(_built(tree)))
