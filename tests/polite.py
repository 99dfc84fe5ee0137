"""A caller who asks at a modest steady rate over a connection of its own; and what a server costs meanwhile."""

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Final, Self

from tests.abuse import RESOLVE, SMALL, asking
from tests.running_node import children_of
from tests.services.http2 import ClosedError, Connection

EVERY: Final = 0.01
"""Seconds between two calls."""

PATIENCE: Final = 5.0
"""Seconds after which a call is a failed one."""

_ALWAYS_THE_SAME: Final = repeat(SMALL)
LOOK_EVERY: Final = 0.02
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class PoliteCaller:
    """Asks while the context is open, beside whatever else goes on."""

    def __init__(
        self,
        address: str,
        every: float = EVERY,
        *,
        identifiers: Iterator[bytes] = _ALWAYS_THE_SAME,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        """Ask at this address so often (in seconds) for the next identifier, from a thread that prepares itself."""
        self.took: list[float] = []
        """The seconds of each call that was answered."""

        self.failed: list[str] = []
        """How the others failed."""

        self._address = address
        self._every = every
        self._identifiers = identifiers
        self._prepare = prepare
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        self._prepare()
        while not self._is_over.is_set():
            try:
                with Connection(self._address) as connection:
                    self._ask(connection)
            except (ClosedError, OSError) as error:
                self.failed.append(repr(error))

    def _ask(self, connection: Connection) -> None:
        while not self._is_over.wait(self._every):
            began = time.monotonic()
            number = connection.open_call(RESOLVE, asking(next(self._identifiers)))
            ended = connection.ended((number,), PATIENCE).get(number)
            if ended is None or ended.status != 0:
                self.failed.append(str(ended))
                return
            self.took.append(time.monotonic() - began)


class Cost:
    """What a process and all below it take while the context is open."""

    def __init__(self, pid: int) -> None:
        self.peak = self.rest = 0
        """Octets above what it had, at most and at the end."""

        self.cpu = 0.0
        """Seconds."""

        self._pid = pid
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._memory, self._spent = self._resident(), self._cpu()
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._is_over.set()
        self._thread.join()
        self.rest = self._resident() - self._memory
        self.peak = max(self.peak, self.rest)
        self.cpu = self._cpu() - self._spent

    def _run(self) -> None:
        while not self._is_over.wait(LOOK_EVERY):
            self.peak = max(self.peak, self._resident() - self._memory)

    def _resident(self) -> int:
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids()) * _PAGE

    def _cpu(self) -> float:
        ticks = 0
        for pid in self._pids():
            user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
            ticks += int(user) + int(system)
        return ticks / _TICK

    def _pids(self) -> list[int]:
        return [self._pid, *children_of(self._pid)]


def percentile(seconds: Sequence[float], share: float) -> float:
    """Give the smallest of these within which such a share of them is; none of none."""
    return sorted(seconds)[max(0, math.ceil(len(seconds) * share) - 1)] if seconds else math.inf
