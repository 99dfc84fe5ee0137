"""The admin endpoint of a node: metrics, health, readiness, the nodes below. HTTP, for the operator's network.

What is shown comes from a `Watched`: the supervisor, or the one process where everything runs in one.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final, Protocol

import msgspec
from aiohttp import web
from msgspec import Struct
from prometheus_client.exposition import choose_encoder

from nodes.listening import Address, address_fault
from nodes.serving.exposition import Merged
from resolver.errors import Fault

OWNER: Final = "owner"
"""The name of the process that owns the store."""

PROBER: Final = "prober"
"""The name of the process that probes the nodes below, where there is one; all others are resolvers."""

Encoder = Callable[[Merged], bytes]


class Condition(StrEnum):
    """How one process of the node is."""

    STARTING = "starting"
    SERVING = "serving"
    NOT_SERVING = "not serving"
    STANDING_BY = "standing by"
    SILENT = "silent"
    ENDED = "ended"


class Seen(Struct, frozen=True, kw_only=True):
    """One process of the node, as it was seen just now. `pid` is 0 while there is none."""

    name: str
    pid: int
    condition: Condition


class Readiness(Struct, frozen=True, kw_only=True):
    """Is the node ready for callers, and how are its processes?"""

    is_ready: bool = msgspec.field(name="ready")
    processes: Sequence[Seen]


class Watched(Protocol):
    """What the endpoint shows."""

    async def metrics(self) -> Merged:
        """Collect the metrics of all processes that answer in time."""

    async def readiness(self) -> Readiness:
        """See how all processes are. Ready means: the owner serves or stands by, a resolver serves and is current."""

    async def nodes(self) -> bytes:
        """Give what was probed of the nodes below, as JSON (`nodes.probing.seen`).

        Raises:
            Fault: nobody probes them, or who does says nothing in time.
        """


def is_ready(processes: Sequence[Seen]) -> bool:
    """Are callers served: is the writer there, or ready to become it, and at least one resolver?"""
    conditions = {each.name: each.condition for each in processes}
    owner = conditions.pop(OWNER, Condition.ENDED)
    # Callers are answered without it.
    conditions.pop(PROBER, None)
    return owner in {Condition.SERVING, Condition.STANDING_BY} and Condition.SERVING in conditions.values()


@asynccontextmanager
async def admin_endpoint(address: Address, watched: Watched) -> AsyncIterator[Address]:
    """Serve /metrics, /healthz, /readyz and /nodes; give the address with its real port.

    Raises:
        Fault: ADDRESS_TAKEN, SETTING_INVALID.
    """
    runner = web.AppRunner(_application(watched), access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, address.host, address.port).start()
        except OSError as error:
            raise address_fault(address, error, field="admin") from None
        yield Address(address.host, runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _application(watched: Watched) -> web.Application:
    application = web.Application()
    pages: Final = _Pages(watched)
    application.router.add_get("/metrics", pages.metrics)
    application.router.add_get("/healthz", pages.health)
    application.router.add_get("/readyz", pages.readiness)
    application.router.add_get("/nodes", pages.nodes)
    return application


class _Pages:
    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    async def metrics(self, request: web.Request) -> web.Response:
        # Encoders say that they take a registry; all they do is collect from it.
        encode: Encoder
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        body = encode(await self._watched.metrics())
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def readiness(self, _request: web.Request) -> web.Response:
        seen = await self._watched.readiness()
        return web.Response(
            status=200 if seen.is_ready else 503, body=msgspec.json.encode(seen), content_type="application/json"
        )

    async def nodes(self, _request: web.Request) -> web.Response:
        try:
            return web.Response(body=await self._watched.nodes(), content_type="application/json")
        except Fault as fault:
            return web.Response(status=503, text=f"{fault.detail}\n")
