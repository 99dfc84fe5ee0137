"""Nodes of their own for the demo: processes that are started, told to stop, killed, and started again.

Each says on standard output, one JSON document a node, when it serves; its log is a file.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from nodes.serving.started import Started
from resolver.errors import Fault, Reason

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 40.0

ANY_PORTS: Final = tuple(
    part for option in ("listen", "streaming", "admin", "registry") for part in (f"--{option}", "127.0.0.1:0")
)
"""Options of `topnode serve` for free ports of the loopback."""

_LAST_WORDS: Final = 5

_NOTHING: Final[Mapping[str, str]] = {}


class Launched:
    """One process that runs nodes. Made by `start`; whoever made it stops it."""

    def __init__(self, child: asyncio.subprocess.Process, log: Path) -> None:
        self._child = child
        self._log = log

    @classmethod
    async def start(
        cls, arguments: Sequence[str], log: Path, environment: Mapping[str, str] = _NOTHING
    ) -> "Launched":
        """Start `python -m ARGUMENTS`; its log goes on in a file that is there already."""
        with log.open("ab") as errors:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **environment},
                # Ctrl-C is for the demo, which stops the nodes in order.
                start_new_session=True,
            )
        return cls(child, log)

    @property
    def pid(self) -> int:
        return self._child.pid

    async def started(self) -> Started:
        """Wait until its next node serves.

        Raises:
            Fault: INTERNAL with the end of its log when it does not.
        """
        assert self._child.stdout is not None  # noqa: S101 - for the type checker: it is a pipe
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                if line := await self._child.stdout.readline():
                    return msgspec.json.decode(line, type=Started)
        raise Fault(Reason.INTERNAL, f"The demo's node did not start. The end of its log: {self._last_words()}")

    async def kill(self) -> None:
        """End it as a power failure would; it has ended when this returns."""
        self._signal(signal.SIGKILL)
        await self._child.wait()

    async def stop(self) -> None:
        """Stop it in order; one that does not stop is killed."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._child.wait()
        except TimeoutError:
            await self.kill()

    def _signal(self, number: signal.Signals) -> None:
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return " | ".join(lines[-_LAST_WORDS:])


@asynccontextmanager
async def running(
    data: Path, *, workers: int, log: Path, environment: Mapping[str, str] = _NOTHING
) -> AsyncIterator[Started]:
    """Run a top-level node on the store in `data`; it is stopped, and has ended, when this is left.

    `environment` are settings of it, as `topnode serve` reads them.

    Raises:
        Fault: INTERNAL with the end of its log when it does not start.
    """
    command = ["nodes", "serve", "top", "--data", str(data), *ANY_PORTS, "--workers", str(workers), "--json"]
    process = await Launched.start(command, log, environment)
    try:
        yield await process.started()
    finally:
        await process.stop()
