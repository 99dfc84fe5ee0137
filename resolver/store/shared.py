"""Public records through a cache that resolvers share, in front of a store of any kind.

What is held counts where it can be shown to be as new as what this process knows:
- The cache has markers of all named changes up to an index that is not below what this process has forgotten; what it
  remembers it compares itself, by version.
- A change that named no keys has an index that is not above the one as of which the entry was read: the route table
  knows the changes since it was read, the cache the newest of those before.
Then an entry is true as of the index up to which this process follows the feed.

What the store says is not believed at once either: a replica may have missed a write. A body older than a marker is
asked for again, confirmed.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from msgspec import Struct
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Counted

from resolver import wire
from resolver.errors import Fault, Reason
from resolver.routes import RouteTable
from resolver.shelves import (
    ABSENT,
    AS_OF_AT,
    BODY_AT,
    FOUND,
    MARKER,
    VERSION_AT,
    Fill,
    SharedCache,
    Shelf,
    number,
    version_of,
)
from resolver.store import Fetched, Listed, RecordReader

_FILLS_WAITING: Final = 10_000
"""Entries that wait to be kept; more are not kept."""

_FILLS_AT_ONCE: Final = 500

_Missed: TypeAlias = tuple[int, int, bytes]
"""A place in the batch, the version that its key has at the least, and the era in which to keep it (none: not)."""


class SharedSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much falls through."""

    store_calls: int = 32
    """Calls that ask the store for what the shared cache does not hold, at once; others wait for one to end."""

    def __post_init__(self) -> None:
        if self.store_calls < 1:
            raise Fault(Reason.SETTING_INVALID, "At least one call must be allowed.", field="store_calls")


class Followed(Protocol):
    """How far this process follows the feed (`resolver.following`)."""

    applied: int

    @property
    def is_current(self) -> bool: ...


class Remembered(Protocol):
    """Which changes this process remembers one by one (the memory cache)."""

    changed: Callable[[bytes], int | None]

    @property
    def floor(self) -> int: ...


class SharedRecords:
    """A RecordReader. `run` keeps what the store said; `lookups` counts identifiers by what the cache said of them.

    Failure policy: open. Whatever is wrong with the cache, the store is asked, by as many calls at once as are
    allowed; while the feed is not followed, the store alone is.

    Raises:
        Fault: as the store does, and nothing else.
    """

    def __init__(
        self,
        records: RecordReader,
        cache: SharedCache,
        *,
        following: Followed,
        memory: Remembered,
        routes: RouteTable,
        settings: SharedSettings,
        registry: CollectorRegistry,
    ) -> None:
        self._records = records
        self._cache = cache
        self._following = following
        self._memory = memory
        self._routes = routes
        self._room = asyncio.Semaphore(settings.store_calls)
        self._fills: deque[Fill] = deque()
        self._has_fills = asyncio.Event()
        self.lookups = Counter({"hit": 0, "miss": 0, "refused": 0, "bypassed": 0})
        self._confirmed = Counted(
            "topnode_shared_confirmed_total",
            "Records that the store gave older than a known change, and was asked for again.",
            registry=registry,
        )
        self._overflown = Counted(
            "topnode_shared_fills_dropped_total", "Records not kept, too many others waiting.", registry=registry
        )

    async def public(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:
        if confirmed or not keys:
            return await self._records.public(keys, confirmed=confirmed)
        if not self._following.is_current:
            self.lookups["bypassed"] += len(keys)
            return await self._ask(keys)
        as_of = self._following.applied
        bodies: list[bytes | None] = [None] * len(keys)
        missed = [each for shelf in await self._cache.get(keys) for each in self._sift(keys, shelf, bodies)]
        if missed:
            as_of = min(as_of, await self._complete(keys, bodies, missed))
        return Fetched(bodies, as_of, shared=len(keys) - len(missed))

    async def full(self, keys: Sequence[bytes]) -> Fetched:
        return await self._records.full(keys)

    async def identifiers(self, prefix: bytes, *, derived: bool, after: bytes | None, limit: int) -> Listed:
        return await self._records.identifiers(prefix, derived=derived, after=after, limit=limit)

    async def holds_below(self, prefix: bytes) -> bool:
        return await self._records.holds_below(prefix)

    async def run(self) -> None:
        """Keep what the store said, behind the backs of those who asked, until cancelled."""
        while True:
            await self._has_fills.wait()
            fills = [self._fills.popleft() for _ in range(min(len(self._fills), _FILLS_AT_ONCE))]
            if not self._fills:
                self._has_fills.clear()
            await self._cache.fill(fills)

    def _sift(self, keys: Sequence[bytes], shelf: Shelf, bodies: list[bytes | None]) -> list[_Missed]:
        """Put the bodies that count in their places, and give what is to be asked of the store."""
        state, floor, changed = shelf.state, self._memory.floor, self._memory.changed
        if state is None or state.marked < floor:
            self.lookups["bypassed"] += len(shelf.places)
            return [(place, 0, b"") for place in shelf.places]
        era, refused = state.era, 0
        found, absent, marker = FOUND + era, ABSENT + era, MARKER + era
        unnamed = min(state.below, floor)
        leasts: dict[bytes, bytes] = {}
        missed: list[_Missed] = []
        for place, value in zip(shelf.places, shelf.values, strict=True):
            if value is None:
                missed.append((place, 0, era))
                continue
            head = value[:VERSION_AT]
            if head not in (found, absent):
                missed.append((place, version_of(value) if head == marker else 0, era))
                continue
            key = keys[place]
            prefix = key.partition(b"/")[0]
            least = leasts.get(prefix)
            if least is None:
                least = leasts[prefix] = number(max(unnamed, self._routes.scope(prefix).changed_at))
            index = changed(key)
            if value[AS_OF_AT:BODY_AT] < least or (index is not None and value[VERSION_AT:AS_OF_AT] < number(index)):
                missed.append((place, version_of(value), era))
                refused += 1
            elif head == found:
                bodies[place] = value[BODY_AT:]
        lookups = self.lookups
        lookups["hit"] += len(shelf.places) - len(missed)
        lookups["miss"] += len(missed) - refused
        lookups["refused"] += refused
        return missed

    async def _complete(self, keys: Sequence[bytes], bodies: list[bytes | None], missed: Sequence[_Missed]) -> int:
        """Ask the store for what was missed, put it in its places, and give the index as of which it is true."""
        asked = [keys[place] for place, _, _ in missed]
        fetched = await self._ask(asked)
        as_of, given = fetched.as_of, fetched.bodies
        doubtful = [
            at
            for at, (key, body, (_, index, _)) in enumerate(zip(asked, given, missed, strict=True))
            if body is not None and wire.body_version(body) < max(index, self._memory.changed(key) or 0)
        ]
        if doubtful:
            self._confirmed.inc(len(doubtful))
            again = await self._ask([asked[at] for at in doubtful], confirmed=True)
            for at, body in zip(doubtful, again.bodies, strict=True):
                given[at] = body
        for (place, _, era), key, body in zip(missed, asked, given, strict=True):
            bodies[place] = body
            if era:
                self._keep(Fill(key, body, 0 if body is None else wire.body_version(body), as_of, era))
        return as_of

    async def _ask(self, keys: Sequence[bytes], *, confirmed: bool = False) -> Fetched:
        async with self._room:
            return await self._records.public(keys, confirmed=confirmed)

    def _keep(self, fill: Fill) -> None:
        if len(self._fills) >= _FILLS_WAITING:
            self._overflown.inc()
            return
        self._fills.append(fill)
        self._has_fills.set()
