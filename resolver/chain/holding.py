"""Holding: shows the holder of a prefix all values of its own identifiers, which nobody else is shown.

What is read here is read from the store for its one asker: below, such a query is neither merged nor answered from a
cache, and what comes of it is kept by nobody.
"""

from collections.abc import Coroutine, Sequence
from typing import Any

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, Counter

from resolver.answer import Failed, Ready
from resolver.chain.link import Link
from resolver.errors import Fault
from resolver.handle import check_segments, fold
from resolver.holders import Holders
from resolver.query import Query


class Holding:
    """Asks below with all values for what the asker holds, and as everybody for the rest.

    Failure policy: closed. What is not known to be the asker's at this moment is not shown; and its holder is never
    given the public's answer in place of its own, which would look as if the other values were gone.
    """

    def __init__(self, below: Link, *, holders: Holders, registry: CollectorRegistry) -> None:
        self._resolve_below = below.resolve
        self._holders = holders
        self._shown = Counter(
            "topnode_holding_identifiers_total",
            "Identifiers asked for by the holders of their prefixes, who are shown all values.",
            registry=registry,
        )

    def resolve(self, query: Query) -> Coroutine[Any, Any, Sequence[Ready]]:
        # No coroutine of its own for the public: what is handed on costs a call and nothing else.
        if not query.asker.identity:
            return self._resolve_below(query)
        return self._tell_apart(query)

    async def _tell_apart(self, query: Query) -> Sequence[Ready]:
        name = self._holders.name(query.asker)
        is_own = self._own(query.identifiers, name) if name else ()
        if not any(is_own):
            return await self._resolve_below(query)
        self._shown.inc(sum(is_own))
        if query.trace:
            query.trace.step("holding", f"{sum(is_own)} with all values")
        if all(is_own):
            return await self._resolve_full(query)
        return await self._resolve_both(query, is_own)

    def _own(self, identifiers: Sequence[bytes], name: str) -> list[bool]:
        """Tell for each identifier whether this holder's allocation is the longest above it."""
        known: dict[bytes, bool] = {}
        told = []
        for identifier in identifiers:
            prefix = identifier.partition(b"/")[0]
            is_own = known.get(prefix)
            if is_own is None:
                is_own = known[prefix] = self._is_own(prefix, name)
            told.append(is_own)
        return told

    def _is_own(self, prefix: bytes, name: str) -> bool:
        try:
            check_segments(prefix, field="identifier")
        except Fault:
            # It is told below what is wrong with it.
            return False
        return self._holders.holder(fold(prefix)) == name

    async def _resolve_full(self, query: Query) -> Sequence[Ready]:
        self._holders.check_current()
        return await self._resolve_below(replace(query, is_full=True))

    async def _resolve_both(self, query: Query, is_own: Sequence[bool]) -> Sequence[Ready]:
        places = list(zip(query.identifiers, is_own, strict=True))
        own = query.about([identifier for identifier, is_its_own in places if is_its_own])
        others = query.about([identifier for identifier, is_its_own in places if not is_its_own])
        full = iter(await _each(self._resolve_full(own), own))
        public = iter(await _each(self._resolve_below(others), others))
        return [next(full) if is_its_own else next(public) for is_its_own in is_own]


async def _each(asked: Coroutine[Any, Any, Sequence[Ready]], query: Query) -> Sequence[Ready]:
    """Await answers; what fails as a whole stands in each place, because there are others in the batch."""
    try:
        return await asked
    except Fault as fault:
        return [Failed(fault=fault.with_traceback(None))] * len(query.identifiers)
