"""The command `topnode`: quick to help, clear when it refuses, and its exit codes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nodes.cli import COMMANDS, run

ROOT = Path(__file__).parents[2]

HEAVY = (
    "grpc",
    "rich",
    "aiohttp",
    "lmdb",
    "uvloop",
    "google.protobuf",
    "cryptography",
    "prometheus_client",
    "asyncio",
)


def topnode(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nodes", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        timeout=60,
    )


def loaded_by(arguments: list[str]) -> set[str]:
    """The modules that an interpreter holds after running a command line."""
    program = (
        "import contextlib, io, json, sys\n"
        "from nodes.cli import run\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    run({arguments!r})\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(ran.stdout))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(arguments).isdisjoint(HEAVY)


def test_the_check_for_heavy_modules_can_fail() -> None:
    assert not loaded_by(["config", "check"]).isdisjoint(HEAVY)


def test_help_lists_every_command_with_a_line() -> None:
    said = topnode("--help")
    assert said.returncode == 0
    for name, (_, line) in COMMANDS.items():
        assert name in said.stdout
        assert line in said.stdout


def test_version_says_one() -> None:
    said = topnode("--version")
    assert said.returncode == 0
    assert said.stdout.startswith("topnode ")


def test_a_line_that_is_not_understood_is_exit_code_2() -> None:
    for arguments in (["lod"], ["--nothing"], ["serve", "top", "--workers", "x"], ["serve", "bottom"]):
        said = topnode(*arguments)
        assert said.returncode == 2
        assert said.stdout == ""
        assert "Error" in said.stderr


def test_a_fault_is_told_with_reason_field_and_remedy_and_is_exit_code_1() -> None:
    said = topnode("config", "check", TOPNODE_SERVING__ADRESS="x")
    assert said.returncode == 1
    assert said.stdout == ""
    first, *others = said.stderr.splitlines()
    assert "TOPNODE_SERVING__ADRESS" in first
    assert first.endswith("Did you mean serving.address?")
    assert others == ["  reason: SETTING_UNKNOWN (serving.adress)", "  do: Correct or remove it."]


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = "import sys; from nodes.cli import run; sys.exit(run(['config', 'check', '--json']))"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as ran:
        assert ran.stdout
        assert ran.stderr
        ran.stdout.close()
        assert ran.stderr.read() == b""
    assert ran.returncode == 141


def test_run_gives_exit_codes_to_its_caller(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert run(["lod"]) == 2
    assert "No such command 'lod'" in capsys.readouterr().err


def test_the_systemd_unit_gives_the_command_lines_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    unit = (ROOT / "deploy" / "topnode.service").read_text()
    lines = re.findall(r"^ExecStart(?:Pre)?=\S+/topnode (.*)$", unit, flags=re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        # An option that does not exist is refused before help is given.
        assert run([*line.split(), "--help"]) == 0
        assert "--config" in capsys.readouterr().out
    assert run([*lines[0].split(), "--nothing", "--help"]) == 2
