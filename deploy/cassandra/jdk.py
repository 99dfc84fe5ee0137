"""Finds the Java that Cassandra 5.0 runs on: version 17 and no other, wherever on this machine it is."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

NEEDED: Final = 17
INSTALLED: Final = Path("/usr/lib/jvm")
ANSWER_SECONDS: Final = 20.0

INSTALL: Final = "Install it with:  sudo apt-get install openjdk-17-jdk-headless\nor set JAVA_HOME to where it is."


class NoJdkError(Exception):
    """There is no Java 17; the text says what was found instead, and what to install."""


def home(environment: Mapping[str, str] = os.environ, installed: Path = INSTALLED) -> Path:
    """Find the folder of a Java 17: JAVA_HOME, what the distribution installed, or what the path leads to.

    Raises:
        NoJdkError: there is none.
    """
    found = {}
    for candidate in _candidates(environment, installed):
        version = version_of(candidate)
        if version == NEEDED:
            return candidate
        found[candidate] = version
    seen = "".join(
        f"\n  {folder}: {f'Java {version}' if version else 'no Java'}" for folder, version in found.items()
    )
    looked = f"Looked at JAVA_HOME, {installed} and the path, and found{seen or ' none'}."
    raise NoJdkError(f"Cassandra 5.0 needs Java {NEEDED}, neither older nor newer.\n{looked}\n{INSTALL}")


def version_of(folder: Path) -> int:
    """Ask a Java for its version, as in its `release` file or as it says itself; 0 where there is none."""
    java = folder / "bin" / "java"
    if not os.access(java, os.X_OK):
        return 0
    try:
        text = (folder / "release").read_text(encoding="utf-8")
    except OSError:
        asked = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS
        )
        text = asked.stderr
    said = re.search(r'(?:JAVA_VERSION=|version )"(?:1\.)?(\d+)', text)
    return int(said[1]) if said else 0


def _candidates(environment: Mapping[str, str], installed: Path) -> Iterator[Path]:
    if "JAVA_HOME" in environment:
        yield Path(environment["JAVA_HOME"])
    yield from sorted({folder.resolve() for folder in installed.glob("*") if (folder / "bin" / "java").exists()})
    if java := shutil.which("java", path=environment.get("PATH", "")):
        yield Path(java).resolve().parents[1]
