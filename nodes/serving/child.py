"""The life of a process that the supervisor started: takes its order, serves, reports, and ends when it is told to.

It also ends when its supervisor is gone, however that died: the pipe on standard input ends then.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import uvloop

from nodes.logs import set_up
from nodes.serving.orders import Complaint, Order, Report
from resolver.errors import Fault, first_fault

_log: Final = logging.getLogger(__name__)

_STDIN: Final = 0
_STDOUT: Final = 1
_STDERR: Final = 2


class Life:
    """When a process has begun to serve, and when it is to stop."""

    def __init__(self, reports: int) -> None:
        self._reports = reports
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_reader(_STDIN, self._read_stdin)

    def serves(self) -> None:
        """Report that it serves now. What exists by then is there to stay."""
        spare_collector()
        _report(self._reports, Report())

    async def is_over(self) -> None:
        """Wait until it is to stop."""
        await self._stop.wait()

    def _read_stdin(self) -> None:
        if not os.read(_STDIN, 1_024):
            asyncio.get_running_loop().remove_reader(_STDIN)
            _log.warning("the supervisor is gone; stopping")
            self._stop.set()


def run(serve: Callable[[Order, Life], Awaitable[None]]) -> NoReturn:
    """Live as the order on standard input says. Exit code 0: stopped as told; 1: a Fault, reported and logged."""
    # Ctrl-C in a terminal is the supervisor's to understand; nor does a lost terminal end a node.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Whatever prints by accident goes to the log, not between the reports.
    reports = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    line = sys.stdin.buffer.readline()
    if not line:
        sys.exit(0)
    order = Order.from_line(line)
    set_up(order.settings.log, order.name)

    async def live() -> None:
        await serve(order, Life(reports))

    complaint: Complaint | None = None
    try:
        uvloop.run(live())
    except* Fault as faults:
        fault = first_fault(faults)
        complaint = Complaint.of(fault)
        _log.error("%s", fault)
        _report(reports, Report(complaint=complaint))
    sys.exit(1 if complaint else 0)


def spare_collector() -> None:
    """Keep the cycle collector from walking through what cannot be garbage.

    Modules, descriptors and settings are frozen out of its sight. A resolver then caches answers by the million,
    each an object that the collector tracks and none part of a cycle: reference counts free them. With the usual
    thresholds it looks at all of them whenever their number has grown by a quarter, and at two million of them one
    look was measured to stop the process for 0.3 seconds. So young objects are looked at as often as elsewhere and
    all objects next to never.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 5, 1_000)


def _report(reports: int, report: Report) -> None:
    # The supervisor may be gone; then nobody reads reports.
    with contextlib.suppress(OSError):
        os.write(reports, report.to_line())
