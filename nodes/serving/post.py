"""One process of a node, kept there: started, watched, started again when it ends, stopped when it is told to."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

from prometheus_client import Counter

from nodes.serving.admin import OWNER, Condition, Seen
from nodes.serving.inside import Peer
from nodes.serving.orders import Order, Report
from nodes.serving.restarts import Restarts
from resolver.clock import Clock
from resolver.errors import Fault, Reason

_log: Final = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""A process that does not answer its supervisor within this time is silent."""

ROOT: Final = Path(__file__).parents[2]
"""What another interpreter needs on its path to find the same packages."""


class Post:
    """A process of the node and its successors."""

    def __init__(self, module: str, order: Order, restarts: Restarts, clock: Clock, restarted: Counter) -> None:
        self.name = order.name
        self.serving = asyncio.Event()
        self._module = module
        self._order = order
        self._restarts = restarts
        self._clock = clock
        self._restarted = restarted
        self._child: asyncio.subprocess.Process | None = None
        self._peer: Peer | None = None
        self._fault: Fault | None = None
        self._has_served = False
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()

    async def keep(self) -> None:
        """Have the process run until it is stopped.

        Raises:
            Fault: its own, when it ends without ever having served; INTERNAL, when it keeps ending early.
        """
        self._ended.clear()
        try:
            while not self._stopping.is_set():
                began = self._clock.monotonic()
                code = await self._live()
                if not self._stopping.is_set():
                    await self._pause(code, self._clock.monotonic() - began)
        finally:
            self._ended.set()

    async def stop(self, within: float) -> None:
        """Tell it to stop, and wait until it has; one that takes longer than this many seconds is killed."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within):
                await self._ended.wait()
        except TimeoutError:
            _log.warning("did not stop in time; killed", extra={"post": self.name, "pid": self.pid})
            self.kill()
            await self._ended.wait()

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    @property
    def pid(self) -> int:
        """Give its number, 0 while there is no process."""
        return 0 if self._child is None else self._child.pid

    async def look(self) -> Seen:
        """See how it is."""
        return Seen(name=self.name, pid=self.pid, condition=await self._condition())

    async def metrics(self) -> str:
        """Fetch its metrics as OpenMetrics text.

        Raises:
            Fault: it is not there, or did not answer in time.
        """
        if self._peer is None or not self.serving.is_set():
            raise Fault(Reason.NODE_UNREACHABLE, f"{self.name} does not serve.")
        return await self._peer.metrics(within=LOOK_SECONDS)

    async def nodes(self) -> bytes:
        """Fetch what it has seen of the nodes below, as JSON.

        Raises:
            Fault: as `metrics`.
        """
        if self._peer is None or not self.serving.is_set():
            raise Fault(Reason.NODE_UNREACHABLE, f"{self.name} does not serve.")
        return await self._peer.nodes(within=LOOK_SECONDS)

    async def _condition(self) -> Condition:
        if self._peer is None:
            return Condition.ENDED
        if not self.serving.is_set():
            return Condition.STARTING
        try:
            is_serving = await self._peer.is_serving(within=LOOK_SECONDS)
        except Fault:
            return Condition.SILENT
        if is_serving:
            return Condition.SERVING
        return Condition.STANDING_BY if self.name == OWNER else Condition.NOT_SERVING

    async def _live(self) -> int:
        """Start the process, hear its reports, and give its exit code when it has ended."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(),
            # Ctrl-C in a terminal reaches the supervisor alone, which then drains in order.
            process_group=0,
        )
        self._child = child
        self._peer = Peer(self._order.socket)
        self._fault = None
        if self._stopping.is_set():
            # Told to while the process was just being made.
            self._signal(signal.SIGTERM)
        try:
            await self._hear(child)
            return await child.wait()
        finally:
            self.serving.clear()
            await self._bury(child)
            await self._peer.close()
            self._child = self._peer = None

    async def _hear(self, child: asyncio.subprocess.Process) -> None:
        assert child.stdin is not None  # noqa: S101 - pipes were asked for; these tell the type checker
        assert child.stdout is not None  # noqa: S101
        with contextlib.suppress(ConnectionError):
            child.stdin.write(self._order.to_line())
            await child.stdin.drain()
        async for line in child.stdout:
            report = Report.from_line(line)
            if report.complaint:
                self._fault = report.complaint.to_fault()
                continue
            _log.info("serves", extra={"post": self.name, "pid": child.pid})
            self._has_served = True
            self.serving.set()

    async def _bury(self, child: asyncio.subprocess.Process) -> None:
        """Leave no process behind when the whole node is given up."""
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()

    async def _pause(self, code: int, lived: float) -> None:
        """Wait before the next one is started, or until it is not to be."""
        wait = self._wait(code, lived)
        _log.warning("ended", extra={"post": self.name, "cause": cause(code), "restart_in": f"{wait:g}s"})
        try:
            async with asyncio.timeout(wait):
                await self._stopping.wait()
        except TimeoutError:
            self._restarted.inc()

    def _wait(self, code: int, lived: float) -> float:
        if not self._has_served:
            raise self._fault or Fault(
                Reason.INTERNAL,
                f"{self.name} ended before it served ({cause(code)}); its log says why.",
                variables={"post": self.name, "cause": cause(code)},
            )
        wait = self._restarts.wait_after(lived)
        if wait is None:
            why = f": {self._fault.detail}" if self._fault else f" ({cause(code)}); its log says why."
            raise Fault(
                Reason.INTERNAL,
                f"{self.name} ended again and again right after its start{why}",
                variables={"post": self.name, "cause": cause(code)},
            )
        return wait

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)


def cause(code: int) -> str:
    """Say how a process ended, by the exit code that Python gives it."""
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


def _environment() -> dict[str, str]:
    """The same packages for the other interpreter, whatever lies in the folder where the node was started."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
