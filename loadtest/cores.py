"""Which core a process runs on and how much of it it has used. Linux only: the figures come from /proc."""

import os
from pathlib import Path
from typing import Final

NANOSECONDS: Final = 1_000_000_000


def server_core() -> int:
    """The core that servers under measurement are pinned to."""
    return min(os.sched_getaffinity(0))


def generator_cores() -> set[int]:
    """The other cores, for whatever makes the load; the same one where there is only one."""
    return os.sched_getaffinity(0) - {server_core()} or {server_core()}


def pin(core: int) -> None:
    """Keep this process, and what it starts, on one core."""
    os.sched_setaffinity(0, {core})


def cpu_seconds(pid: int) -> float:
    """CPU time that all threads of a process have used, in seconds, exact to the scheduler's clock."""
    used = 0
    for schedstat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        used += int(schedstat.read_text().split()[0])
    return used / NANOSECONDS


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
