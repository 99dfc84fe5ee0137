"""Cassandra itself, as jars: where they lie, and how Maven brings them there when they are missing."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
FOLDER: Final = Path(os.environ.get("TOPNODE_CASSANDRA_JARS", HERE / "target" / "lib"))
"""An installation whose tree is not the user's own names another one."""

SERVER: Final = "cassandra-all-5.0.9.jar"
RESOLVE_SECONDS: Final = 900.0


class NoJarsError(Exception):
    """There are no jars and none could be had; the text says what to do."""


def are_there() -> bool:
    """Is the version of pom.xml there, all of it? Maven copies in alphabetical order; the last one is looked for."""
    return (FOLDER / SERVER).exists() and any(FOLDER.glob("zstd-jni-*.jar"))


def can_be_had() -> bool:
    """Are they there, or is there a Maven that brings them?"""
    return are_there() or shutil.which("mvn") is not None


def agent() -> Path:
    """The jar that measures objects, which java must be started with.

    Raises:
        NoJarsError: it is not there.
    """
    for jar in FOLDER.glob("jamm-*.jar"):
        return jar
    raise NoJarsError(f"{FOLDER} holds no jamm-*.jar: remove that folder and start again")


def resolve(java_home: Path) -> None:
    """Have Maven bring the jars (67 MB, about 10 seconds) unless they are there.

    Raises:
        NoJarsError: there is no Maven, or it failed; it has said why on standard error.
    """
    with (HERE / "pom.xml").open(encoding="utf-8") as lock:
        # Of two that find nothing, one brings the jars and the other waits.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not are_there():
            _bring(java_home)


def _bring(java_home: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise NoJarsError(
            f"Cassandra's jars are not in {FOLDER}, and there is no Maven to bring them.\n"
            "Install it with:  sudo apt-get install maven"
        )
    command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), f"-Djars={FOLDER}", "package"]
    environment = {**os.environ, "JAVA_HOME": str(java_home)}
    resolved = subprocess.run(command, env=environment, check=False, timeout=RESOLVE_SECONDS)
    if resolved.returncode or not are_there():
        raise NoJarsError(f"Maven could not bring Cassandra's jars: exit code {resolved.returncode}")
