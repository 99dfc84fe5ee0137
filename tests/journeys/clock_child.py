"""A secondary node in one process whose clock is wrong: `clock_child.py SECONDS DATA REGISTRY`, with one record."""

import asyncio
import sys
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from nodes.client import RegistryClient, Row, Signer, Value
from nodes.logs import LogSettings, set_up
from nodes.serving.alone import Alone
from nodes.serving.run_folder import run_folder
from nodes.serving.running import placed
from nodes.serving.started import Started
from nodes.serving.stopping import Stopping
from nodes.settings import read
from nodes.terminal import print_json
from registry.keyring import OPERATOR_FILE
from registry.rows import PrefixRow
from resolver.clock import SystemClock

NODE: Final = "88.111"


class WrongClock(SystemClock):
    """A machine's clock, wrong by some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def wall(self) -> float:
        return SystemClock.wall() + self._seconds


async def register(started: Started, clock: WrongClock) -> None:
    signer = Signer.from_file("local", Path(started.data) / OPERATOR_FILE)
    async with RegistryClient(started.registry, signer, clock=clock) as client:
        await client.allocate([PrefixRow(prefix=NODE, holder=NODE)])
        await client.register([Row(identifier=f"{NODE}/SN-1", values=[Value(index=1, type="NAME", data="a part 1")])])


async def main(seconds: float, data: Path, registry: str) -> None:
    options = {
        "node": NODE,
        "data": data,
        "workers": 0,
        "admin": "127.0.0.1:0",
        "serving.address": "127.0.0.1:0",
        "front.streaming": "127.0.0.1:0",
        "registry.address": "127.0.0.1:0",
        "upward.registry": registry,
        "upward.organisation": "A works",
        "upward.heartbeat_every": "200ms",
    }
    settings = read(None, {}, options, tier="secondary").settings
    clock, stopping, tasks = WrongClock(seconds), Stopping(), []

    def announce(started: Started) -> None:
        print_json(started)
        sys.stdout.flush()
        tasks.append(asyncio.get_running_loop().create_task(register(started, clock)))

    with stopping.on_signals(), placed(settings) as real, run_folder(data) as folder:
        await Alone(real, folder, clock, stopping).run(announce)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    set_up(LogSettings(), "node")
    asyncio.run(main(float(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
