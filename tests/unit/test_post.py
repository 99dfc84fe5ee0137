"""The processes of a node run the packages that their supervisor runs."""

import os
import subprocess
import sys
from pathlib import Path

import nodes
from nodes.serving.post import ROOT


def test_another_interpreter_finds_the_same_packages(tmp_path: Path) -> None:
    """Whatever is installed, and wherever it is started."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", "import nodes; print(nodes.__file__)"]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True, text=True)
    assert found.stdout.strip() == nodes.__file__
