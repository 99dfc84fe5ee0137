"""Runs the program beside it: `python -m deploy.cassandra.bulk JOB.json REPORT.json`. It is compiled when it changed.

What stands in the two files is said in Bulk.java; `resolver.store.cassandra.bulk` writes and reads them.
"""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy.cassandra import jars, jdk

HERE: Final = Path(__file__).resolve().parent
CLASSES: Final = HERE.parent / "target" / "bulk"
COMPILE_SECONDS: Final = 300.0

YOUNG_MIB: Final = 256
"""For what lives as long as a batch of rows."""

AROUND_MIB: Final = 512
"""For everything that is not sorting."""


def main() -> int:
    """Compile, and become the program; give an exit code where that cannot be."""
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    job, report = sys.argv[1:]
    try:
        java_home = jdk.home()
        jars.resolve(java_home)
        _compile(java_home)
    except (jdk.NoJdkError, jars.NoJarsError) as error:
        print(error, file=sys.stderr)
        return 1
    command = _command(java_home, job, report)
    # In the place of this process, so that ending it ends the work.
    return os.execv(command[0], command)  # noqa: S606 - no shell, and none is wanted


def _command(java_home: Path, job: str, report: str) -> list[str]:
    memory = json.loads(Path(job).read_text(encoding="utf-8"))["memory"] >> 20
    return [
        str(java_home / "bin" / "java"),
        f"@{HERE.parent / 'jvm.options'}",
        f"-Xmx{memory * 5 // 4 + YOUNG_MIB + AROUND_MIB}m",
        f"-Xmn{YOUNG_MIB}m",
        # One thread at a time makes most of the garbage, and nobody waits for it.
        "-XX:+UseSerialGC",
        "-XX:+UseTransparentHugePages",
        f"-Dlogback.configurationFile={HERE.parent / 'logback-tools.xml'}",
        "-cp",
        f"{CLASSES}:{jars.FOLDER}/*",
        "bulk.Bulk",
        job,
        report,
    ]


def _compile(java_home: Path) -> None:
    """Compile the sources unless that was done since they changed.

    Raises:
        NoJdkError: there is no compiler, or it refuses the sources; it has said why on standard error.
    """
    sources = sorted(HERE.glob("*.java"))
    CLASSES.mkdir(parents=True, exist_ok=True)
    stamp = CLASSES / "compiled"
    with (HERE / "Bulk.java").open(encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(source.stat().st_mtime_ns for source in sources)
        if stamp.exists() and stamp.stat().st_mtime_ns > newest:
            return
        compiler = java_home / "bin" / "javac"
        if not compiler.exists():
            raise jdk.NoJdkError(f"{java_home} has no compiler.\n{jdk.INSTALL}")
        options = ["-proc:none", "-cp", f"{jars.FOLDER}/*", "-d", str(CLASSES)]
        # What it warns of is about annotations in the jars.
        compiled = subprocess.run(
            [compiler, *options, *sources],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=COMPILE_SECONDS,
        )
        if compiled.returncode:
            raise jdk.NoJdkError(f"The sources in {HERE} cannot be compiled:\n{compiled.stderr}")
        stamp.touch()


if __name__ == "__main__":
    sys.exit(main())
