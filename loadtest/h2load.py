"""h2load (Debian's nghttp2-client), which asks the same again and again, and what a call of it costs a server."""

import re
import shutil
import subprocess
from pathlib import Path

from msgspec import Struct

from loadtest.cores import cpu_seconds, on_generator_cores
from loadtest.programs import RESOLVE, Server


class Shape(Struct, frozen=True):
    """How many ask: connections, calls under way on each; and how often they do."""

    connections: int
    streams: int
    calls: int

    def __str__(self) -> str:
        return f"{self.connections}x{self.streams}"


def is_there() -> bool:
    return shutil.which("h2load") is not None


def cost(
    server: Server, message: Path, shape: Shape, *, path: str = RESOLVE, scheme: str = "http", share: int = 1
) -> float:
    """Give the microseconds of CPU that a server takes for a call; the file holds the framed message.

    It is asked so many times less often as `share` says.

    Raises:
        RuntimeError: calls failed.
    """
    calls = shape.calls // share
    command = ["h2load", f"--requests={calls}", f"--clients={shape.connections}"]
    command += [f"--max-concurrent-streams={shape.streams}", f"--data={message}"]
    command += ["--header=content-type: application/grpc", "--header=te: trailers"]
    before = cpu_seconds(server.pid)
    with on_generator_cores():
        ran = subprocess.run(
            [*command, f"{scheme}://127.0.0.1:{server.port}{path}"],
            capture_output=True,
            check=True,
            text=True,
            timeout=120,
        )
    used = cpu_seconds(server.pid) - before
    succeeded = re.search(r"(\d+) succeeded", ran.stdout)
    if succeeded is None or int(succeeded[1]) != calls:
        raise RuntimeError(ran.stdout)
    return used / calls * 1e6
