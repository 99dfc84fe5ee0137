"""Selecting: serves whoever wants less than the plain answer, or another one: filters and referrals.

What is cached below is the whole public answer; it is cut here, and what was cut out is kept by nobody.
"""

from collections.abc import Coroutine, Sequence
from typing import Any, Final, cast

from msgspec.structs import replace

from resolver import wire
from resolver.answer import FOUND, REFERRAL, Failed, Ready
from resolver.chain.link import Link
from resolver.chain.scopes import Sayings, Speaker
from resolver.errors import Fault
from resolver.handle import fold, split
from resolver.query import Mode, Query
from resolver.routes import RouteTable

_LOCAL: Final = Mode.LOCAL


class Selecting:
    """Answers filtered queries and, under delegated prefixes, those for a referral.

    Recursion is not offered yet: RECURSIVE answers as REFERRAL.
    """

    def __init__(self, below: Link, *, routes: RouteTable, speaker: Speaker) -> None:
        self._resolve_below = below.resolve
        self._routes = routes
        self._speaker = speaker

    def resolve(self, query: Query) -> Coroutine[Any, Any, Sequence[Ready]]:
        if query.mode is _LOCAL and not query.types and not query.indexes:
            return self._resolve_below(query)
        return self._select(query)

    async def _select(self, query: Query) -> Sequence[Ready]:
        plain = replace(query, types=(), indexes=(), mode=_LOCAL, with_copy=False)
        if query.mode is _LOCAL:
            answers = await self._resolve_below(plain)
        else:
            answers = await self._refer(plain, with_copy=query.with_copy)
        if not query.is_filtered:
            return answers
        return [_cut(ready, query) if ready.outcome in (FOUND, REFERRAL) else ready for ready in answers]

    async def _refer(self, plain: Query, *, with_copy: bool) -> Sequence[Ready]:
        routes = [self._route(identifier) for identifier in plain.identifiers]
        if plain.trace:
            plain.trace.step("routes", f"{sum(route is not None for route in routes)} referred")
        asked = [
            identifier
            for identifier, route in zip(plain.identifiers, routes, strict=True)
            if with_copy or route is None
        ]
        given = iter(await self._ask(plain.about(asked), has_routes=any(routes)) if asked else ())
        return [
            next(given) if route is None else _referral(route, next(given) if with_copy else None) for route in routes
        ]

    async def _ask(self, plain: Query, *, has_routes: bool) -> Sequence[Ready]:
        try:
            return await self._resolve_below(plain)
        except Fault as fault:
            if not has_routes:
                raise
            # The routes are known all the same.
            return [Failed(fault=fault.with_traceback(None))] * len(plain.identifiers)

    def _route(self, identifier: bytes) -> Sayings | None:
        """Give what is said of a delegated scope that answers; None for every other identifier, faulty ones too."""
        try:
            prefix, _ = split(identifier)
        except Fault:
            return None
        sayings = self._speaker.sayings(self._routes.scope(fold(prefix)))
        return sayings if sayings and sayings.referral else None


def _referral(route: Sayings, held: Ready | None) -> Ready:
    """Give the referral, with the registered copy where one is held."""
    if held is not None and held.outcome == FOUND:
        return Ready(wire.frame(wire.with_referral(wire.answer_bytes(held.frame), route.referral_body)), REFERRAL)
    return cast("Ready", route.referral)


def _cut(ready: Ready, query: Query) -> Ready:
    answer = wire.select_values(wire.answer_bytes(ready.frame), query.types, query.indexes)
    return Ready(wire.frame(answer), ready.outcome)
