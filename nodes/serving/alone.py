"""A node in one process: the registry over its store, the resolver and the prober, who read it, the admin endpoint.

The same parts as with a supervisor. For a trial, a test, a small machine; a crash ends all of it.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodes.counting.running import handing_on, keeping
from nodes.listening import Address
from nodes.probing.telling import Silent, telling
from nodes.serving.admin import OWNER, Condition, Readiness, Seen, admin_endpoint, is_ready
from nodes.serving.child import spare_collector
from nodes.serving.exposition import Merged, openmetrics, process_registry
from nodes.serving.inside import inside_server
from nodes.serving.owner import registering
from nodes.serving.prober import probing
from nodes.serving.run_folder import remove_leftovers
from nodes.serving.started import Started
from nodes.serving.stopping import Stopping
from nodes.settings import NodeSettings
from nodes.stores import own_embedded
from nodes.top import Resolver, build_resolver
from resolver.clock import Clock
from resolver.counting import Counting
from resolver.errors import Fault, Reason
from resolver.store import StoreReader

if TYPE_CHECKING:
    from nodes.probing.prober import Prober

RESOLVER: Final = "worker-0"
"""How the resolver is called, as if it were a process of its own."""


class Alone:
    """A node of one process, given the folder for the socket at which it takes registrations."""

    def __init__(self, settings: NodeSettings, folder: Path, clock: Clock, stopping: Stopping) -> None:
        self._settings = settings
        self._folder = folder
        self._clock = clock
        self._stopping = stopping
        self._registry = process_registry()
        self._resolver: Resolver | None = None
        self._prober: Prober | None = None

    async def run(self, announce: Callable[[Started], None]) -> None:
        """Run the node until it is told to stop; tell when it serves.

        Raises:
            Fault (perhaps in a group): it cannot start; the store cannot be read any more.
        """
        address = Address.from_text(self._settings.admin, field="admin")
        socket = str(self._folder / f"{OWNER}.sock")
        async with admin_endpoint(address, self) as admin:
            with closing(own_embedded(self._settings, socket, self._clock, stop=os.getpid())) as store:
                remove_leftovers(self._folder)
                inside = inside_server(socket, self._registry, self._settings.serving.drain_grace)
                async with (
                    keeping(store.counts, self._settings.data, self._clock, self._registry) as keeper,
                    registering(store, inside, self._settings, self._clock, self._registry),
                ):
                    counting = Counting(self._clock)
                    resolver = await build_resolver(store, self._settings, self._clock, self._registry, counting)
                    async with (
                        handing_on(counting, keeper, self._settings.data, self._clock, self._registry),
                        resolver.serving(inside),
                        self._probing(store, socket, resolver),
                    ):
                        self._resolver = resolver
                        spare_collector()
                        announce(Started.of(self._settings, admin, workers=0))
                        await self._stopping.is_told()

    async def nodes(self) -> bytes:
        if self._prober is None:
            raise Fault(Reason.METHOD_UNKNOWN, "This node probes nobody, or not yet.")
        return self._prober.seen().to_json()

    @asynccontextmanager
    async def _probing(self, store: StoreReader, socket: str, resolver: Resolver) -> AsyncIterator[None]:
        if not self._settings.has_prober:
            yield
            return
        async with probing(store, socket, self._settings, self._clock, self._registry) as prober:
            self._prober = prober

            async def ask() -> Silent:
                return prober.silent()

            async with telling(ask, resolver.hear, self._settings.probing, self._clock, self._registry):
                yield

    async def metrics(self) -> Merged:
        merged = Merged()
        merged.add(openmetrics(self._registry).decode(), worker=RESOLVER)
        return merged

    async def readiness(self) -> Readiness:
        owner = resolver = Condition.STARTING
        if self._resolver is not None:
            owner = Condition.SERVING
            resolver = Condition.SERVING if self._resolver.is_current else Condition.NOT_SERVING
        seen = [
            Seen(name=OWNER, pid=os.getpid(), condition=owner),
            Seen(name=RESOLVER, pid=os.getpid(), condition=resolver),
        ]
        return Readiness(is_ready=not self._stopping.is_set and is_ready(seen), processes=seen)
