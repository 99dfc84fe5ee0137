"""How fast this machine is: what a call of the bare echo costs here, and so what absolute promises are worth."""

import statistics
from itertools import cycle, islice
from typing import Final

from msgspec import Struct

from loadtest import servers, workload
from loadtest.cores import on_generator_cores
from loadtest.driver import Call, Loop

REFERENCE: Final = 110e-6
"""Seconds of CPU for a call of the bare echo on the machine for which promises are given."""

ALIKE: Final = 0.1
"""A machine that differs from it by no more than this is held to them as they stand."""

ROUNDS: Final = 5
CONNECTIONS: Final = 8
CALLERS: Final = 128
ANSWER: Final = 330
"""Bytes: about what a lookup is answered with."""


class Machine(Struct, frozen=True):
    """`echo` is what a call of the bare echo costs, in seconds of CPU."""

    echo: float

    @property
    def slowness(self) -> float:
        """How many times as slow as the one for which promises are given; 1 where it is alike."""
        found = self.echo / REFERENCE
        return 1.0 if abs(found - 1) <= ALIKE else found


async def measure() -> Machine:
    """Ask the bare echo, and give the median of some rounds."""
    names = [workload.identifier(number) for number in range(1_000)]
    calls = [Call(f"/topnode.Echo/{ANSWER}", call.request) for call in workload.unary(names)]
    with servers.echo() as (port, pid), on_generator_cores():
        loop = Loop(port, pid, connections=CONNECTIONS)
        try:
            rounds = [
                await loop.run(islice(cycle(calls), 100_000), callers=CALLERS, seconds=1.0) for _ in range(ROUNDS)
            ]
        finally:
            await loop.close()
    return Machine(statistics.median(each.cpu / each.calls for each in rounds))
