"""Several nodes in one process, as a small machine has them: `python -m nodes.demo.hosting TIER CONFIG...`.

Each is the whole node that `topnode serve TIER --config CONFIG --workers 0` runs, with its own store, key and ports;
they share an event loop, and end together. When one serves it says so as `topnode serve --json` does.
"""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from nodes.logs import LogSettings, set_up
from nodes.serving.alone import Alone
from nodes.serving.run_folder import run_folder
from nodes.serving.running import placed
from nodes.serving.stopping import Stopping
from nodes.settings import NodeSettings, check, read
from nodes.terminal import print_fault, print_json
from resolver.clock import SystemClock
from resolver.errors import Fault, first_fault


async def host(settings: Sequence[NodeSettings]) -> None:
    """Run nodes until this process is told to stop.

    Raises:
        Fault (perhaps in a group): one cannot start; then none goes on.
    """
    stopping = Stopping()
    with stopping.on_signals():
        async with asyncio.TaskGroup() as tasks:
            for each in settings:
                tasks.create_task(_run(each, stopping))


async def _run(settings: NodeSettings, stopping: Stopping) -> None:
    with placed(settings) as real, run_folder(settings.data) as folder:
        await Alone(real, folder, SystemClock(), stopping).run(print_json)


def main(arguments: Sequence[str]) -> int:
    """Read the settings and run; gives the exit code."""
    tier, *configs = arguments
    set_up(LogSettings(), "hosting")
    raised: Fault | None = None
    try:
        settings = [read(Path(each), {}, {"workers": 0}, tier=tier).settings for each in configs]
        for each in settings:
            check(each)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(host(settings))
    except* Fault as faults:
        raised = first_fault(faults)
    if raised:
        print_fault(raised)
    return 1 if raised else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
