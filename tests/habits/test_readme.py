"""What README.md says to type works, and what the documents point to is there.

All blocks that begin with ```sh run are one script: bash -euo pipefail runs them in their order in an empty folder,
with the project's commands on the path and a home of their own. Ports of 127.0.0.1 are exchanged for free ones, so
that a node that runs already is in nobody's way. The script must end well, in time, and leave no process behind.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.habits.tree import ROOT

README: Final = ROOT / "README.md"
SCRIPT_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 20.0
MARK: Final = "RUN_OF_THE_README"


def script(text: str) -> str:
    """Join the blocks that are to be run."""
    return "".join(re.findall(r"^```sh run\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def with_free_ports(text: str) -> str:
    """Exchange each port of 127.0.0.1 for one that is free."""
    ports = sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", text)))
    free = dict(zip(ports, free_ports(len(ports)), strict=True))
    return re.sub(r"127\.0\.0\.1:(\d+)", lambda found: f"127.0.0.1:{free[found[1]]}", text)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def failures(
    commands: str, folder: Path, *, seconds: float = SCRIPT_SECONDS, drain: float = DRAIN_SECONDS
) -> list[str]:
    """Run the commands there and say what went wrong: nothing, it is hoped."""
    mark = uuid.uuid4().hex
    said = folder / "said"
    work, home = folder / "work", folder / "home"
    work.mkdir()
    home.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", MARK: mark}
    try:
        with said.open("wb") as output:
            code = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", commands],
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=seconds,
            ).returncode
        wrong = [f"exit code {code}"] if code else []
    except subprocess.TimeoutExpired:
        wrong, drain = [f"not done in {seconds:.0f} seconds"], 0.0
    wrong += [f"left behind: {command}" for command in left_behind(mark, drain)]
    return [*wrong, said.read_text(errors="replace")] if wrong else []


def left_behind(mark: str, drain: float) -> list[str]:
    """Wait for what the script started to end; end the rest, and name it."""
    until = time.monotonic() + drain
    while (left := seen(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    commands = [_read(f"/proc/{pid}/cmdline").replace("\0", " ").strip() for pid in left]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return commands


def seen(mark: str) -> list[int]:
    """Look for processes with this mark, twice: whoever is just becoming another program has no environment."""
    found = list(marked(mark))
    if not found:
        time.sleep(0.1)
        found = list(marked(mark))
    return found


def marked(mark: str) -> Iterator[int]:
    """Find the processes that carry this mark in their environment, however they were started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and f"{MARK}={mark}" in _read(f"/proc/{entry.name}/environ"):
            yield int(entry.name)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""  # it has ended, or is somebody else's


def test_what_the_readme_says_to_type_works(tmp_path: Path) -> None:
    commands = script(README.read_text(encoding="utf-8"))
    assert "topnode serve" in commands
    assert "topnode resolve" in commands
    wrong = failures(with_free_ports(commands), tmp_path)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("commands", "wrong"),
    [
        ("false\ntrue\n", "exit code 1"),
        ("false | true\n", "exit code 1"),
        ("echo $UNKNOWN\n", "exit code"),
        ("no-such-command\n", "exit code 127"),
        ("sleep 77 &\n", "left behind: sleep 77"),
        ("setsid sleep 78 &\n", "left behind: sleep 78"),
        ("sleep 79\n", "not done in 1 seconds"),
    ],
)
def test_a_planted_failure_is_found(tmp_path: Path, commands: str, wrong: str) -> None:
    """And nothing is left of it afterwards."""
    found = failures(commands, tmp_path, seconds=1.0, drain=0.2)
    assert found
    assert any(each.startswith(wrong) for each in found)


def test_only_blocks_marked_to_be_run_are_run_in_their_order(tmp_path: Path) -> None:
    text = "```sh run\necho one > a\n```\nand\n```sh\nfalse\n```\n```console\n$ false\n```\n```sh run\nmv a b\n```\n"
    assert script(text) == "echo one > a\nmv a b\n"
    assert failures(script(text), tmp_path) == []
    assert (tmp_path / "work" / "b").read_text() == "one\n"


def test_one_port_stays_one_port() -> None:
    exchanged = with_free_ports("127.0.0.1:3641 127.0.0.1:9641 127.0.0.1:3641")
    first, second, third = re.findall(r"127\.0\.0\.1:(\d+)", exchanged)
    assert first == third != second
    assert {first, second}.isdisjoint({"3641", "9641"})


# --- links -------------------------------------------------------------------------------------------------------


def documents(tree: Path) -> Iterator[Path]:
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md"):
        yield from sorted(tree.glob(pattern))


def dead_links(tree: Path) -> list[str]:
    """Name the relative links of the documents that lead nowhere."""
    return [
        f"{document.relative_to(tree)}: {link}"
        for document in documents(tree)
        for link in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
        if "://" not in link and not link.startswith("mailto:") and not (document.parent / link).exists()
    ]


def test_what_the_documents_point_to_is_there() -> None:
    dead = dead_links(ROOT)
    assert not dead, "\n".join(dead)


def test_a_planted_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("[x](b.md) [y](https://example.cn) [z](../README.md#top) [q](#here)")
    assert dead_links(tmp_path) == ["docs/a.md: b.md", "docs/a.md: ../README.md"]
    (tmp_path / "README.md").write_text("")
    assert dead_links(tmp_path) == ["docs/a.md: b.md"]
