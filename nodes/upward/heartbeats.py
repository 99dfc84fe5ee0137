"""Signs of life given to the node above."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from nodes.client import Fault, RegistryClient
from nodes.upward.metrics import UpwardMetrics

_log: Final = logging.getLogger(__name__)


class Heartbeats:
    """Gives one every so many seconds, which tells how far the own journal has come (`applied`).

    Each is answered by how far the journal above has come. Where that is less far than `taken`, of which there are
    receipts, `forgotten` is called.
    """

    def __init__(
        self,
        client: RegistryClient,
        *,
        every: float,
        version: str,
        applied: Callable[[], Awaitable[int]],
        taken: Callable[[], int],
        forgotten: Callable[[], None],
        metrics: UpwardMetrics,
    ) -> None:
        self._client = client
        self._every = every
        self._version = version
        self._applied = applied
        self._taken = taken
        self._forgotten = forgotten
        self._metrics = metrics
        self._is_heard = True

    async def run(self) -> None:
        """Go on until cancelled; one that is not heard is followed by the next."""
        while True:
            await self._beat()
            await asyncio.sleep(self._every)

    async def _beat(self) -> None:
        # Before it is asked: what is taken meanwhile may be behind what it answers.
        taken = self._taken()
        try:
            newest = await self._client.heartbeat(await self._applied(), self._version)
        except Fault as fault:
            self._metrics.heartbeats["failed"].inc()
            if self._is_heard:
                _log.warning("the node above heard no sign of life", extra={"cause": str(fault)})
            self._is_heard = False
            return
        self._metrics.heartbeats["heard"].inc()
        if newest < taken:
            self._forgotten()
        if not self._is_heard:
            _log.info("the node above hears signs of life again")
        self._is_heard = True
