"""Telling a resolver what the prober of its node has seen: at which endpoints nobody answers.

Failure policy: what cannot be fetched is counted and fetched again; what was heard runs out after a few probes' time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from nodes.probing.settings import ProbingSettings
from resolver.clock import Clock
from resolver.errors import Fault
from resolver.routes import Endpoint

EVERY: Final = 1.0
"""Seconds between two times that the prober is asked; it is asked once a probe where that is more often."""

WITHIN: Final = 1.0
"""Seconds within which it answers."""

Silent = Mapping[Endpoint, float]
"""Endpoints at which nobody answers, each with how many seconds ago the first of the probes in a row began."""

Ask = Callable[[], Awaitable[Silent]]
"""Asks the prober; a Fault where it does not answer."""

Hear = Callable[[Silent, float], None]
"""Hears of endpoints since when they are silent, and until when that counts, both on the monotonic clock."""


class Telling:
    """Asks one, and tells another."""

    def __init__(
        self, ask: Ask, hear: Hear, settings: ProbingSettings, clock: Clock, registry: CollectorRegistry
    ) -> None:
        self._ask = ask
        self._hear = hear
        self._every = min(EVERY, float(settings.every))
        self._lasts = settings.lasts
        self._clock = clock
        self._failures = Counter(
            "topnode_probe_telling_failures_total",
            "Times that a resolver did not hear from the prober at which endpoints nobody answers.",
            registry=registry,
        )

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await self.tell()
            await asyncio.sleep(self._every)

    async def tell(self) -> None:
        """Tell once. Moments are reckoned from before it was asked: so none is later than it was."""
        began = self._clock.monotonic()
        try:
            silent = await self._ask()
        except Fault:
            self._failures.inc()
            return
        self._hear({endpoint: began - ago for endpoint, ago in silent.items()}, began + self._lasts)


@asynccontextmanager
async def telling(
    ask: Ask, hear: Hear, settings: ProbingSettings, clock: Clock, registry: CollectorRegistry
) -> AsyncIterator[None]:
    """Tell as long as the context lasts."""
    made = Telling(ask, hear, settings, clock, registry)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.run())
        try:
            yield
        finally:
            running.cancel()
