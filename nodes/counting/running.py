"""Counts of a node, put together: what runs in the process that owns the store, and what runs in a resolver."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter

from nodes.client import RegistryClient, RegistryClientSettings, Signer
from nodes.counting.handing import Handing, Keeper
from nodes.counting.keeping import Keeping
from nodes.counting.reporting import Connect, Reporting
from nodes.counting.service import CountsService
from nodes.upward.identity import own_key
from nodes.upward.settings import UpwardSettings
from registry.counts_journal import CountedStore, JournalCounting
from registry.opening import Registry
from resolver.clock import Clock
from resolver.counting import Counting
from resolver.rpc.channels import ChannelSettings
from resolver.rpc.serving import Server
from resolver.store.counts import Counts

END_SECONDS: Final = 3.0
"""How long a resolver that was told to stop tries to hand on the rest; its supervisor waits five seconds longer than
answers may take."""

SPOOLS: Final = "counts"
"""The folder in the data folder of what nobody took."""

_log: Final = logging.getLogger(__name__)


def host_of(data: Path) -> str:
    """Name a node on a machine, as what its resolvers were belongs to it."""
    return f"{socket.gethostname()}:{data.absolute()}"


@asynccontextmanager
async def handing_on(
    counting: Counting, keeper: Keeper, data: Path, clock: Clock, registry: CollectorRegistry
) -> AsyncIterator[None]:
    """Hand on what is counted as long as the context lasts, and the rest at its end: for around all answers."""
    handing = Handing(counting, keeper, data / SPOOLS, clock, registry)
    try:
        async with _beside(handing.run(), handing.failures):
            yield
    finally:
        await handing.end(END_SECONDS)


@asynccontextmanager
async def keeping(counts: Counts, data: Path, clock: Clock, registry: CollectorRegistry) -> AsyncIterator[Keeping]:
    """Keep what resolvers of this machine hand on as long as the context lasts."""
    made = Keeping(counts, host_of(data), data / SPOOLS, clock, registry)
    async with _beside(made.run(), made.failures):
        yield made


@asynccontextmanager
async def accounting(
    store: CountedStore,
    opened: Registry,
    servers: Sequence[Server],
    *,
    node: str,
    data: Path,
    settings: UpwardSettings,
    clock: Clock,
    registry: CollectorRegistry,
) -> AsyncIterator[None]:
    """Count what is registered, tell operators, and report to the node above, as long as the context lasts.

    For the process that writes; the servers have not started yet.

    Raises:
        Fault: FILE_UNREADABLE, KEY_INVALID (the node's key).
    """
    reporting = None
    if settings.is_set:
        reporting = Reporting(store.counts, _connect(node, data, settings, clock), clock, registry)
    service = CountsService(store.counts, reporting, opened.queries, clock, registry)
    for server in servers:
        service.add_to(server)
    following = JournalCounting(store, registry)
    async with _beside(following.run(), following.failures):
        if reporting is None:
            yield
            return
        async with _beside(reporting.run(), reporting.failures):
            yield


def _connect(node: str, data: Path, settings: UpwardSettings, clock: Clock) -> Connect:
    signer = Signer(node, own_key(settings, data))
    reach = RegistryClientSettings(
        channel=ChannelSettings(tls=settings.tls, tls_name=settings.tls_name), verifier_key=settings.verifier_key
    )
    return lambda: RegistryClient(settings.registry, signer, reach, clock=clock)


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None], failures: Counter) -> AsyncIterator[None]:
    """Do this as long as the context lasts. A mistake of ours ends it, and nothing else."""
    running = asyncio.create_task(work)

    def tell_of_end(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            failures.inc()
            _log.error("counting has ended until the node is started again", exc_info=error)

    running.add_done_callback(tell_of_end)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
