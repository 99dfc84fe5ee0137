"""Which core a process runs on and how much of it it has used. Linux only: the figures come from /proc."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

NANOSECONDS: Final = 1_000_000_000


def server_core() -> int:
    """The core that servers under measurement are pinned to."""
    return min(os.sched_getaffinity(0))


def generator_cores() -> set[int]:
    """The other cores, for whatever makes the load; the same one where there is only one."""
    return os.sched_getaffinity(0) - {server_core()} or {server_core()}


@contextmanager
def on_server_core() -> Iterator[None]:
    """Be, with whatever is started meanwhile, where servers are."""
    with _on({server_core()}):
        yield


@contextmanager
def on_generator_cores() -> Iterator[None]:
    """Be where servers are not."""
    with _on(generator_cores()):
        yield


@contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def cpu_seconds(pid: int) -> float:
    """CPU time that all threads of a process have used, in seconds, exact to the scheduler's clock."""
    used = 0
    for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        used += int(schedstat.read_text().split()[0])
    return used / NANOSECONDS
