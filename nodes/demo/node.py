"""A node of its own for the demo: `topnode serve top` in a process, on free ports of the loopback."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from nodes.serving.started import Started
from resolver.errors import Fault, Reason

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0

_LAST_WORDS: Final = 5


@asynccontextmanager
async def running(data: Path, *, workers: int, log: Path) -> AsyncIterator[Started]:
    """Run a node on the store in `data`; it is stopped, and has ended, when this is left.

    Raises:
        Fault: INTERNAL with the end of its log when it does not start.
    """
    with log.open("wb") as errors:
        child = await asyncio.create_subprocess_exec(
            *_command(data, workers),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            # Ctrl-C is for the demo, which stops the node in order.
            start_new_session=True,
        )
    try:
        yield await _started(child, log)
    finally:
        await _stop(child)


def _command(data: Path, workers: int) -> list[str]:
    listening = [
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--registry",
        "127.0.0.1:0",
        "--workers",
        str(workers),
    ]
    return [sys.executable, "-m", "nodes", "serve", "top", "--data", str(data), *listening, "--json"]


async def _started(child: asyncio.subprocess.Process, log: Path) -> Started:
    assert child.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            if line := await child.stdout.readline():
                return msgspec.json.decode(line, type=Started)
    raise Fault(Reason.INTERNAL, f"The demo's node did not start. The end of its log: {_last_words(log)}")


def _last_words(log: Path) -> str:
    return " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_WORDS:])


async def _stop(child: asyncio.subprocess.Process) -> None:
    """Stop it in order; one that does not stop is killed."""
    if child.returncode is None:
        child.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()
