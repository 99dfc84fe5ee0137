"""A node's side of being below another, put together: one task of the process that owns the store.

Whatever goes wrong with the node above, or on the way to it, is taken up again for as long as it takes; nothing of it
reaches those whom this node serves.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from nodes.client import RegistryClient, RegistryClientSettings, Signer
from nodes.client.receipts import node_of
from nodes.upward.copies import Copies
from nodes.upward.heartbeats import Heartbeats
from nodes.upward.identity import endpoints_of, own_key
from nodes.upward.joining import Joining
from nodes.upward.metrics import UpwardMetrics
from nodes.upward.outbox import Outbox
from nodes.upward.pushing import Pushing
from nodes.upward.refused import RefusedFile
from nodes.upward.routes import Routes
from nodes.upward.settings import UpwardSettings
from nodes.upward.watermark import WatermarkFile
from nodes.version import software_version
from registry.opening import Registry
from resolver.clock import Clock
from resolver.errors import Fault, Reason, first_fault
from resolver.routes import Endpoint
from resolver.rpc.channels import ChannelSettings
from resolver.rpc.serving import ServingSettings
from resolver.trust.actors import Tier
from resolver.trust.keys import PrivateKey

POLL_SECONDS: Final = 0.5
"""How often the own journal is looked at when it had nothing new."""

REVIEW_SECONDS: Final = 5.0
"""How often it is asked whether the application was reviewed."""

FIRST_WAIT: Final = 0.25
LONGEST_WAIT: Final = 15.0
"""Seconds before what failed is taken up again, doubled each time; half of a wait is left to chance."""

_log: Final = logging.getLogger(__name__)


class Upward:
    """Everything between this node and the one above. `endpoints` are where callers find this node."""

    def __init__(  # noqa: PLR0913 - who this node is, what it has, and how it goes about it
        self,
        *,
        node: str,
        tier: Tier,
        data: Path,
        key: PrivateKey,
        endpoints: Sequence[Endpoint],
        opened: Registry,
        settings: UpwardSettings,
        clock: Clock,
        registry: CollectorRegistry,
    ) -> None:
        self._node = node
        self._tier = tier
        self._key = key
        self._endpoints = endpoints
        self._opened = opened
        self._settings = settings
        self._clock = clock
        self._metrics = UpwardMetrics(registry)
        self._outbox = Outbox(opened.store, opened.state)
        self._file = WatermarkFile(data)
        self._refused = RefusedFile(data, self._metrics.dropped)
        self._failures = 0
        self._reason: Reason | None = None
        self._corrections = 0

    async def run(self) -> None:
        """Go on until cancelled."""
        self._metrics.running.set(1)
        while True:
            raised: Fault | None = None
            try:
                await self._live()
            except* Fault as faults:
                raised = first_fault(faults)
            if raised:
                await self._rest_after(raised)

    def tell_of_end(self, task: asyncio.Task[None]) -> None:
        """Say so where the task ended by itself: nothing is pushed any more until the node is started again."""
        self._metrics.running.set(0)
        if not task.cancelled() and (error := task.exception()):
            _log.error("dealings with the node above have ended", exc_info=error)

    async def _live(self) -> None:
        """Join, then push and give signs of life until something fails.

        Raises:
            Fault (perhaps in a group): what failed.
        """
        async with self._client() as client:
            try:
                parent = await _parent(client, self._settings)
                joining = Joining(
                    node=self._node,
                    tier=self._tier,
                    key=self._key,
                    settings=self._settings,
                    client=client,
                    parent=parent,
                )
                self._corrections = 0
                while not await joining.is_enabled():
                    self._failures, self._reason = 0, None
                    await asyncio.sleep(REVIEW_SECONDS)
                self._metrics.enabled.set(1)
                await self._push(client, parent)
            finally:
                self._metrics.enabled.set(0)

    async def _push(self, client: RegistryClient, parent: str) -> None:
        pushing = await self._pushing(client, parent)
        heartbeats = Heartbeats(
            client,
            every=float(self._settings.heartbeat_every),
            version=software_version(),
            applied=self._opened.store.head,
            taken=lambda: pushing.mark.taken,
            forgotten=pushing.tell_forgotten,
            metrics=self._metrics,
        )
        async with asyncio.TaskGroup() as tasks:
            beating = tasks.create_task(heartbeats.run())
            try:
                while True:
                    is_done = await pushing.step()
                    self._note_success(client)
                    if not is_done:
                        await asyncio.sleep(POLL_SECONDS)
            finally:
                beating.cancel()

    async def _pushing(self, client: RegistryClient, parent: str) -> Pushing:
        routes = copies = None
        if "routes" in self._settings.push:
            routes = Routes(
                node=self._node,
                state=self._opened.state,
                client=client,
                endpoints=self._endpoints,
                refused=self._refused,
                metrics=self._metrics,
                clock=self._clock,
            )
        if "copies" in self._settings.push:
            copies = Copies(self._opened.store, self._outbox, client, self._refused, self._metrics, self._clock)
        return Pushing(
            store=self._opened.store,
            outbox=self._outbox,
            routes=routes,
            copies=copies,
            endpoints=self._endpoints,
            file=self._file,
            mark=await self._file.read(parent),
            metrics=self._metrics,
            clock=self._clock,
        )

    def _client(self) -> RegistryClient:
        settings = RegistryClientSettings(
            channel=ChannelSettings(tls=self._settings.tls, tls_name=self._settings.tls_name),
            verifier_key=self._settings.verifier_key,
        )
        return RegistryClient(self._settings.registry, Signer(self._node, self._key), settings, clock=self._clock)

    def _note_success(self, client: RegistryClient) -> None:
        if self._reason:
            self._reason = None
            _log.info("the node above is there again", extra={"registry": self._settings.registry})
        self._failures = 0
        self._note_clock(client)

    def _note_clock(self, client: RegistryClient) -> None:
        self._metrics.clock_offset.set(client.clock_offset)
        if client.counts.clock_corrections != self._corrections:
            self._corrections = client.counts.clock_corrections
            _log.warning(
                "the clock of the node above differs from this machine's; requests are signed by that one",
                extra={"ahead_seconds": round(client.clock_offset)},
            )

    async def _rest_after(self, fault: Fault) -> None:
        self._metrics.failures.inc()
        if fault.reason is not self._reason:
            self._reason = fault.reason
            _log.warning("broken off with the node above: %s", fault, extra={"registry": self._settings.registry})
        wait = min(FIRST_WAIT * 2 ** min(self._failures, 16), LONGEST_WAIT)
        self._failures += 1
        await asyncio.sleep(wait * (0.5 + random.random() / 2))  # noqa: S311 - so that children spread


async def _parent(client: RegistryClient, settings: UpwardSettings) -> str:
    """Give the identifier of the node above: of the key that was pinned, else as that node says."""
    return node_of(settings.verifier_key) if settings.verifier_key else (await client.checkpoint()).node


@asynccontextmanager
async def upward(
    opened: Registry,
    *,
    node: str,
    tier: str,
    data: Path,
    serving: ServingSettings,
    settings: UpwardSettings,
    clock: Clock,
    registry: CollectorRegistry,
) -> AsyncIterator[None]:
    """Deal with the node above, where the settings name one, as long as the context lasts.

    `serving` is how this node resolves, with the port that was really taken.

    Raises:
        Fault: FILE_UNREADABLE, KEY_INVALID (the node's key); SETTING_INVALID.
    """
    if not settings.is_set:
        yield
        return
    working = Upward(
        node=node,
        tier=Tier[tier.upper()],
        data=data,
        key=own_key(settings, data),
        endpoints=endpoints_of(settings, serving.address, has_tls=serving.tls is not None),
        opened=opened,
        settings=settings,
        clock=clock,
        registry=registry,
    )
    running = asyncio.create_task(working.run())
    # A mistake of ours ends this task and not the registry, which goes on taking what is to be pushed.
    running.add_done_callback(working.tell_of_end)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
