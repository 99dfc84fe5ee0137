"""The native front in its place: made of settings, told of changes, certificates and health, and its numbers told.

`topnode_front` is a distribution of its own, in Rust. Where it is not installed a node serves with grpcio alone.
"""

import asyncio
import fcntl
import os
import resource
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_reflection.v1alpha import reflection
from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from resolver import bounds
from resolver.answer import Outcome
from resolver.cache.s3fifo import ENTRY_MAX
from resolver.clock import Clock
from resolver.counting import Counting
from resolver.errors import Fault, Reason
from resolver.front.bursts import Bursts, Served
from resolver.front.core import ALLOWED, SERVICE, Core
from resolver.routes import RouteTable
from resolver.rpc.calls import LATENCY_BUCKETS, Counted, too_large
from resolver.rpc.errors import status_of
from resolver.rpc.health import HEALTH_SERVICE, NO_SUCH_SERVICE
from resolver.rpc.native_channel import MODULE
from resolver.rpc.serving import ServingSettings
from resolver.rpc.tls import WatchedFiles
from resolver.trust.queries import QUERY_KEY, QueryVerifier
from resolver.units import Duration, Size

TOLD_EVERY: Final = 0.1
"""Seconds between two times that the front is told how long what it keeps counts as fresh."""

TLS_LOOKED_AT_EVERY: Final = 5.0
"""Seconds between two looks at the certificate files."""

REFERRED: Final = (
    f"/{SERVICE}/StreamResolve",
    f"/{HEALTH_SERVICE}/Watch",
    f"/{reflection.SERVICE_NAME}/ServerReflectionInfo",
)
"""Methods of which callers are told where they are served."""

SPELLINGS: Final = 4
"""Spellings under which one answer is found; whoever spells it in a fifth way is answered by Python."""

_KINDS: Final = ("one", "batch", "other", "other")
"""How plain requests are read of Resolve, BatchResolve, ListHandles and GetNodeInfo: the last two not at all."""

_Refusal = tuple[int, str, bytes]
_Path = tuple[str, str, int, _Refusal | None]
_ABSENT_PART: Final = 16
_KEEPALIVE_TIMEOUT_MS: Final = 20_000
_LONGEST: Final = 3_600.0


class NativeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The front in Rust, and what it bounds."""

    enabled: bool = True
    """Where it is installed (`make native`), it serves Resolve, BatchResolve, ListHandles, GetNodeInfo and health
    checks at `serving.address`; the rest is at `front.streaming`. Otherwise grpcio serves everything at both."""

    size: Size = Size(256 << 20)
    """How much is kept in the memory of each worker. A sixteenth of it is for absent answers."""

    connections: int = 20_000
    """Connections of each worker."""

    connections_per_peer: int = 3_000
    """Connections of one address, of them."""

    flights: int = 50_000
    """Questions of each worker that wait for an answer of its own."""

    buffered: Size = Size(64 << 20)
    """Bytes of requests that have not arrived whole, in all; and as many of answers that clients have not read."""

    body_timeout: Duration = Duration(10)
    """Within this time a request that has begun must be there whole."""

    def __post_init__(self) -> None:
        if self.size < _ABSENT_PART * ENTRY_MAX:
            raise Fault(Reason.SETTING_INVALID, "The cache needs at least 1 MiB.", field="size")
        for name in ("connections", "connections_per_peer", "flights"):
            if getattr(self, name) < 1:
                raise Fault(Reason.SETTING_INVALID, "At least one.", field=name)
        if self.buffered < bounds.BATCH_BYTES:
            raise Fault(Reason.SETTING_INVALID, "At least one whole message must fit.", field="buffered")
        if self.body_timeout <= 0:
            raise Fault(Reason.SETTING_INVALID, "The time for a request is above 0.", field="body_timeout")


def is_installed() -> bool:
    """Is there a native front on this machine?"""
    return find_spec(MODULE) is not None


class NativeFront:
    """Serves the plain methods of topnode.resolver.v1.ResolverService at an address of its own.

    What it keeps it keeps by the same rules as the memory cache: it is told of the same changes, at the same moment.
    """

    def __init__(  # noqa: PLR0913 - what a composition root puts together
        self,
        settings: NativeSettings,
        serving: ServingSettings,
        core: Core,
        *,
        referred: str,
        answers_alone: bool,
        signatures: QueryVerifier,
        routes: RouteTable,
        current_until: Callable[[], float],
        counting: Counting | None,
        clock: Clock,
    ) -> None:
        """Bind the address of `serving`. `referred` is where the methods are served that are not served here.

        Unless it `answers_alone`, every call is handed on whole: where callers' rates are limited, nothing may be
        answered that the chain does not see.

        `current_until` gives the moment, on the monotonic clock, until which what is kept may count as fresh.

        Raises:
            Fault: SETTING_INVALID when the address cannot be bound; FILE_UNREADABLE naming a TLS file.
        """
        self._current_until = current_until
        self._clock = clock
        self._grace = round(serving.drain_grace * 1_000)
        self._connections = settings.connections
        self._files = WatchedFiles(serving.tls) if serving.tls else None
        self._sequence = 0
        methods = (
            Served("Resolve", core.resolve),
            Served("BatchResolve", core.batch_resolve),
            Served("ListHandles", core.list_handles),
            Served("GetNodeInfo", core.get_node_info),
        )
        self._names = {f"/{SERVICE}/{method.name}": method.name for method in methods}
        kinds = _KINDS if answers_alone else ("other",) * len(_KINDS)
        paths: list[_Path] = [
            (path, kind, ALLOWED[name], _refusal(too_large(ALLOWED[name])))
            for (path, name), kind in zip(self._names.items(), kinds, strict=True)
        ]
        paths += [(path, "refer", 0, None) for path in REFERRED]
        self._front = _made(settings, serving, core, referred, paths, self._files)
        self.port: int = self._front.port
        self._bursts = Bursts(
            self._front,
            core,
            methods,
            signatures=signatures,
            routes=routes,
            sequence=lambda: self._sequence,
            clock=clock,
        )
        self._services = {"": True, SERVICE: True}
        self._counting = counting
        self._running = False
        routes.watch(self._routes_changed)
        core.identifiers.beside = lambda: self.stats()["identifiers"][: len(Outcome)] if self._running else ()

    # --- what a cache learns ------------------------------------------------------------------------------------

    def drop(self, keys: Iterable[bytes], index: int) -> None:
        """Forget these keys, which changed at this journal index."""
        self._front.drop(list(keys), index)

    def clear(self, index: int) -> None:
        """Forget everything that was read before this journal index."""
        self._front.clear(index)

    def _routes_changed(self, prefixes: Sequence[bytes] | None) -> None:
        self._sequence += 1
        self._front.changed([b""] if prefixes is None else list(prefixes), self._sequence)

    # --- serving --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve as long as the context lasts; then drain, within the grace."""
        self._front.set_health(self._services)
        self._tell_currency()
        make_room_for_files(self._connections)
        self._bursts.begin()
        self._front.start()
        self._running = True
        if self._counting:
            self._counting.count_beside(self._front.counts)
        tasks = [asyncio.create_task(self._keep_telling()), asyncio.create_task(self._keep_looking())]
        try:
            yield
            self._front.set_health(dict.fromkeys(self._services, False))
            await asyncio.to_thread(self._front.drain, self._grace)
        finally:
            for task in tasks:
                task.cancel()
            await self._bursts.end()
            if self._counting:
                self._counting.count_beside(_last(self._front.counts()))
            self._running = False
            await asyncio.to_thread(self._front.close)

    def set_serving(self, *, is_serving: bool) -> None:
        """Tell health whether calls are answered as they should be."""
        if is_serving is not self._services[""]:
            self._services = dict.fromkeys(self._services, is_serving)
            self._front.set_health(self._services)

    def stats(self) -> Mapping[str, Any]:
        """Give its numbers as they are now."""
        stats: Mapping[str, Any] = self._front.stats()
        return stats

    def numbers(self) -> Mapping[str, Counted]:
        """Give what was counted of its calls, by method."""
        if not self._running:
            return {}
        stats = self.stats()
        counted = {}
        for path, name in self._names.items():
            by_code = {_CODES[code]: count for (of, code), count in stats["calls"].items() if of == path}
            if cancelled := stats["cancelled"].get(path):
                by_code["CANCELLED"] = by_code.get("CANCELLED", 0) + cancelled
            took = Counted(by_code, [0] * (len(LATENCY_BUCKETS) + 1), 0.0)
            for (of, _tier), (buckets, seconds) in stats["latency"].items():
                if of == path:
                    took = took.plus(Counted({}, buckets, seconds))
            counted[name] = took
        return counted

    def _tell_currency(self) -> None:
        left = min(_LONGEST, self._current_until() - self._clock.monotonic())
        self._front.current_for(max(0, int(left * 1_000)))

    async def _keep_telling(self) -> None:
        while True:
            self._tell_currency()
            await asyncio.sleep(TOLD_EVERY)

    async def _keep_looking(self) -> None:
        """Take certificates up that were replaced."""
        while self._files:
            await asyncio.sleep(TLS_LOOKED_AT_EVERY)
            pem = await asyncio.to_thread(self._files.replaced)
            if pem:
                self._front.replace_tls(pem.certificate, pem.key, pem.client_ca)


class NativeNumbers(Collector):
    """The front's own numbers, as metrics `topnode_native_*`; without one, that there is none."""

    def __init__(self, front: NativeFront | None, registry: CollectorRegistry) -> None:
        self._front = front
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("topnode_native_front", "1: the native front serves here.", value=bool(self._front))
        if self._front is None:
            return
        stats = self._front.stats()
        yield GaugeMetricFamily(
            "topnode_native_connections", "Connections that are open.", value=stats["connections"]
        )
        yield GaugeMetricFamily("topnode_native_waiting", "Calls that wait for an answer.", value=stats["waiting"])
        yield GaugeMetricFamily(
            "topnode_native_buffered_bytes",
            "Bytes of requests that have not arrived whole.",
            value=stats["buffered_bytes"],
        )
        yield GaugeMetricFamily(
            "topnode_native_unread_bytes",
            "Bytes of answers that clients have not read, or that are to come.",
            value=stats["unread_bytes"],
        )
        yield GaugeMetricFamily(
            "topnode_native_flights", "Questions that wait for an answer of this process.", value=stats["flights"]
        )
        yield CounterMetricFamily(
            "topnode_native_accepted", "Connections that were accepted.", value=stats["accepted"]
        )
        yield CounterMetricFamily(
            "topnode_native_turned_away", "Connections that were more than there may be.", value=stats["turned_away"]
        )
        yield CounterMetricFamily(
            "topnode_native_handshakes_failed", "TLS handshakes that failed.", value=stats["handshakes_failed"]
        )
        yield CounterMetricFamily(
            "topnode_native_calmed", "Connections that were told to calm down.", value=stats["calmed"]
        )
        yield CounterMetricFamily(
            "topnode_native_stalled", "Connections that did not read what they had asked for.", value=stats["stalled"]
        )
        yield CounterMetricFamily(
            "topnode_native_parked", "Calls that waited for room for their answers.", value=stats["parked"]
        )
        yield CounterMetricFamily(
            "topnode_native_joined", "Calls that were answered by another one's flight.", value=stats["joined"]
        )
        yield CounterMetricFamily(
            "topnode_native_panics",
            "Mistakes of the front, each of which ended one connection.",
            value=stats["panics"],
        )
        cache = stats["cache"]
        yield GaugeMetricFamily("topnode_native_cache_bytes", "Memory that the answers take.", value=cache["bytes"])
        yield GaugeMetricFamily("topnode_native_cache_entries", "Answers that it holds.", value=cache["entries"])
        lookups = CounterMetricFamily(
            "topnode_native_cache_lookups", "Identifiers looked up, by what came of it.", labels=("verdict",)
        )
        for verdict in ("hits", "misses", "stale"):
            lookups.add_metric((verdict,), cache[verdict])
        yield lookups
        refused = CounterMetricFamily(
            "topnode_native_refused", "Calls refused without asking anybody.", labels=("reason",)
        )
        for reason, count in stats["refused"].items():
            refused.add_metric((reason,), count)
        yield refused


def _made(
    settings: NativeSettings,
    serving: ServingSettings,
    core: Core,
    referred: str,
    paths: Sequence[_Path],
    files: WatchedFiles | None,
) -> Any:
    """Make the front, which listens then and accepts nothing yet."""
    pem = files.pem if files else None
    absent = settings.size // _ABSENT_PART
    try:
        return import_module(MODULE).Front(
            address=serving.address,
            paths=paths,
            python_keys=[QUERY_KEY],
            refer=f"This method is served at {referred}.",
            batch_identifiers=bounds.BATCH_IDENTIFIERS,
            answer_bytes=bounds.ANSWER_BYTES,
            refusals=_REFUSALS,
            streams=serving.streams,
            connections=settings.connections,
            connections_per_peer=settings.connections_per_peer,
            flights=settings.flights,
            buffered_bytes=settings.buffered,
            body_timeout_ms=_milliseconds(settings.body_timeout),
            deadline_ms=round(core.longest * 1_000),
            connection_age_ms=_milliseconds(serving.connection_age),
            connection_grace_ms=_milliseconds(serving.connection_grace),
            keepalive_ms=_milliseconds(serving.keepalive),
            keepalive_timeout_ms=_KEEPALIVE_TIMEOUT_MS,
            ping_interval_ms=_milliseconds(serving.ping_interval),
            cache_bytes=settings.size - absent,
            absent_bytes=absent,
            entry_bytes=ENTRY_MAX,
            spellings=SPELLINGS,
            latency_bounds_ms=[limit * 1_000 for limit in LATENCY_BUCKETS],
            tls=(pem.certificate, pem.key, pem.client_ca) if pem else None,
        )
    except OSError as error:
        raise Fault(
            Reason.SETTING_INVALID,
            f"The address {serving.address} cannot be bound: {error.strerror}.",
            field="serving.address",
            variables={"address": serving.address},
        ) from None


def make_room_for_files(connections: int) -> None:
    """Have the system make room now for as many files as there may be connections.

    By itself it doubles that room whenever it is full, and has the thread that opened one file too many wait until
    all cores know: here that answers nobody for 10 to 16 ms, each time.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    # More than are allowed nobody opens; and of what cannot be had now the front learns when it needs it.
    with suppress(OSError), Path(os.devnull).open() as some:
        os.close(fcntl.fcntl(some, fcntl.F_DUPFD_CLOEXEC, min(connections, allowed) - 1))


def _last(counted: Sequence[tuple[bytes, int, int]]) -> Callable[[], Iterable[tuple[bytes, int, int]]]:
    """Give this once, and nothing more."""
    left = [counted]
    return lambda: left.pop() if left else ()


def _refusal(fault: Fault) -> _Refusal:
    status = status_of(fault)
    return status.code, status.message, status.SerializeToString()


def _milliseconds(duration: Duration) -> int:
    return max(1, round(duration * 1_000))


_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}

_REFUSALS: Final = {
    "deadline": _refusal(Fault(Reason.DEADLINE_SPENT)),
    "busy": _refusal(Fault(Reason.TOO_MANY_IN_FLIGHT)),
    "draining": _refusal(Fault(Reason.NODE_DRAINING)),
    "malformed_timeout": (grpc.StatusCode.INTERNAL.value[0], "Error parsing 'grpc-timeout' metadata", b""),
    "health_unknown": (grpc.StatusCode.NOT_FOUND.value[0], NO_SUCH_SERVICE, b""),
}
"""What the front refuses by itself with a reason of ours; anything else it says as gRPC does."""
