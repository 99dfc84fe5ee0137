"""The command `topnode` as a real process, for journeys."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.fronts import agreed

ROOT: Final = Path(__file__).parents[1]
SECONDS: Final = 100


def topnode(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end; `options` are those of subprocess.run."""
    return subprocess.run(
        _command(arguments),
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=SECONDS,
        env=_environment(),
        **options,
    )


def asked(fronts: Iterable[str], *arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command that asks a node, at each of its fronts: what they have it print is given once it is the same."""
    return agreed(
        lambda front: topnode(*arguments, "--node", front, **options),
        fronts,
        lambda run: (run.returncode, run.stdout, run.stderr),
    )


def started(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    """Start it, with pipes; `options` are those of subprocess.Popen."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(_command(arguments), cwd=ROOT, env=_environment(), **{**pipes, **options})


def told(run: subprocess.CompletedProcess[bytes], code: int = 0) -> dict[str, Any]:
    """Give the JSON document that a run printed, after checking its exit code."""
    assert run.returncode == code, (run.returncode, run.stderr.decode())
    document: dict[str, Any] = json.loads(run.stdout)
    return document


def _command(arguments: Sequence[object]) -> list[str]:
    return [sys.executable, "-m", "nodes", *map(str, arguments)]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TOPNODE_")}


Rows = Callable[..., Path]
