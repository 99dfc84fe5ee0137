"""The read path, link by link. The order stands here and nowhere else."""

from msgspec import Struct
from prometheus_client import CollectorRegistry

from resolver.cache.memory import MemoryCache
from resolver.chain.admission import Admission, AdmissionSettings
from resolver.chain.caching import Caching
from resolver.chain.federating import Federating, Federation
from resolver.chain.gathering import Gathering, GatheringSettings
from resolver.chain.holding import Holding
from resolver.chain.link import Link
from resolver.chain.lookup import Lookup
from resolver.chain.scopes import Speaker
from resolver.chain.selecting import Selecting
from resolver.clock import Clock
from resolver.following import Following
from resolver.freshness import FreshnessSettings
from resolver.holders import Holders
from resolver.routes import RouteTable
from resolver.store import RecordReader

__all__ = ["Chain", "ChainSettings", "Federation", "Link", "build"]


class ChainSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the read path behaves."""

    admission: AdmissionSettings = AdmissionSettings()
    freshness: FreshnessSettings = FreshnessSettings()
    gathering: GatheringSettings = GatheringSettings()


class Chain:
    """All links, asked through the first."""

    def __init__(self, first: Link, gathering: Gathering, federating: Federating | None) -> None:
        # The link's own method: another call in between would cost as much as a link.
        self.resolve = first.resolve
        self._gathering = gathering
        self._federating = federating

    async def close(self) -> None:
        """Ask children no more; take no more questions to the store, and wait for those that are on their way."""
        if self._federating:
            await self._federating.close()
        await self._gathering.close()


def build(  # noqa: PLR0913 - what a composition root puts together
    *,
    node: str,
    clock: Clock,
    records: RecordReader,
    routes: RouteTable,
    cache: MemoryCache,
    following: Following,
    holders: Holders,
    settings: ChainSettings,
    registry: CollectorRegistry,
    federation: Federation | None = None,
) -> Chain:
    """Put the links together, from the last one up: admission, selecting, holding, caching, gathering, lookup.

    Federating stands beside holding: selecting asks the one or the other. Without `federation` no child is asked.
    """
    freshness = settings.freshness
    speaker = Speaker(node)
    lookup = Lookup(records, routes=routes, speaker=speaker, clock=clock, settings=freshness)
    gathering = Gathering(
        lookup, keep=cache.put, following=following, clock=clock, settings=settings.gathering, registry=registry
    )
    caching = Caching(
        gathering, cache=cache, routes=routes, following=following, speaker=speaker, clock=clock, settings=freshness
    )
    holding = Holding(caching, holders=holders, registry=registry)
    federating = None
    if federation:
        federating = Federating(
            holding,
            federation,
            node=node,
            routes=routes,
            following=following,
            speaker=speaker,
            clock=clock,
            registry=registry,
        )
    selecting = Selecting(holding, routes=routes, speaker=speaker, federating=federating)
    admission = Admission(selecting, clock=clock, settings=settings.admission, registry=registry)
    return Chain(admission, gathering, federating)
