"""What a client gains by gathering: lookups for each CPU second of its own, many at once beside one call each.

Run as `python -m loadtest.gathering HOST:PORT` beside a node with the store of `loadtest.workload`.
"""

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Final

import uvloop
from msgspec import Struct

from loadtest import workload
from nodes.client import Client

ROUNDS: Final = 7
LOOKUPS: Final = 20_000
AT_ONCE: Final = 1_000
ALONE: Final = 2_000
CALLERS: Final = 16
"""Callers that share no client, so that each lookup of theirs is a call."""


class Gathered(Struct, frozen=True):
    """Medians of lookups for each CPU second of the client. `read_too`: each record was also decoded."""

    one_each: float
    gathered: float
    one_each_read_too: float
    gathered_read_too: float

    @property
    def ratio(self) -> float:
        return self.gathered / self.one_each


async def measure(address: str, names: Sequence[str]) -> Gathered:
    """Look these up again and again, by turns in each way."""
    asked = itertools.cycle(names)
    rates: list[list[float]] = [[], [], [], []]
    clients = [Client(address) for _ in range(CALLERS)]
    for _ in range(ROUNDS):
        for kind, read_too in ((0, False), (2, True)):
            rates[kind].append(await _rate(clients, CALLERS, ALONE, asked, read_too=read_too))
            rates[kind + 1].append(await _rate(clients[:1], AT_ONCE, LOOKUPS, asked, read_too=read_too))
    for client in clients:
        await client.close()
    return Gathered(*map(statistics.median, rates))


async def _rate(
    clients: Sequence[Client], callers: int, lookups: int, asked: Iterator[str], *, read_too: bool
) -> float:
    async def call(client: Client) -> None:
        for _ in range(lookups // callers):
            answer = await client.resolve(next(asked))
            assert not read_too or answer.record

    used = time.process_time()
    await asyncio.gather(*(call(clients[number % len(clients)]) for number in range(callers)))
    return lookups / (time.process_time() - used)


def main() -> None:
    parser = argparse.ArgumentParser(prog="loadtest.gathering", description=__doc__)
    parser.add_argument("address")
    names = [workload.identifier(number).decode() for number in range(LOOKUPS)]
    found = uvloop.run(measure(parser.parse_args().address, names))
    print(f"one call each  {found.one_each:10,.0f} lookups/s   with records read {found.one_each_read_too:10,.0f}")
    print(f"gathered       {found.gathered:10,.0f} lookups/s   with records read {found.gathered_read_too:10,.0f}")
    print(f"ratio          {found.ratio:10.1f}")


if __name__ == "__main__":
    main()
