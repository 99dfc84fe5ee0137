"""Selecting: serves whoever wants less than the plain answer, or another one: filters, referrals and recursion.

What is cached below is the whole public answer; it is cut here, and what was cut out is kept by nobody.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, cast

from msgspec.structs import replace

from resolver import wire
from resolver.answer import FOUND, REFERRAL, Failed, Ready
from resolver.chain.federating import Federating
from resolver.chain.link import Link
from resolver.chain.scopes import Sayings, Speaker
from resolver.errors import Fault
from resolver.handle import check_segments, fold, split
from resolver.query import Mode, Query
from resolver.routes import Hosting, RouteTable, Verdict

_LOCAL: Final = Mode.LOCAL
_RECURSIVE: Final = Mode.RECURSIVE


class Selecting:
    """Answers filtered queries and, under delegated prefixes, those for a referral or for recursion.

    A recursive query is split: what lies with a child that can be asked goes to the federating link, what lies with
    another gets the referral, and the rest goes below. Without that link, RECURSIVE answers as REFERRAL.
    """

    def __init__(
        self, below: Link, *, routes: RouteTable, speaker: Speaker, federating: Federating | None = None
    ) -> None:
        self._resolve_below = below.resolve
        self._federating = federating
        self._routes = routes
        self._speaker = speaker

    def resolve(self, query: Query) -> Coroutine[Any, Any, Sequence[Ready]]:
        if query.mode is _LOCAL and not query.types and not query.indexes:
            return self._resolve_below(query)
        federating = self._federating
        if query.mode is not _RECURSIVE or federating is None:
            return self._select(query)
        reached: dict[bytes, bool] = {}
        is_asked = []
        for identifier in query.identifiers:
            prefix = identifier.partition(b"/")[0]
            is_reached = reached.get(prefix)
            if is_reached is None:
                is_reached = reached[prefix] = self._is_reached(prefix, federating)
            is_asked.append(is_reached)
        if all(is_asked) and not query.is_filtered:
            # As nearly all recursive questions are: nothing to be split off, and nothing to be cut out.
            return federating.resolve(query)
        return self._select(query, is_asked)

    async def _select(self, query: Query, is_asked: Sequence[bool] = ()) -> Sequence[Ready]:
        plain = replace(query, types=(), indexes=(), mode=_LOCAL, with_copy=False)
        if query.mode is _LOCAL:
            answers = await self._resolve_below(plain)
        elif self._federating is not None and any(is_asked):
            answers = await self._recurse(plain, self._federating, is_asked, with_copy=query.with_copy)
        else:
            answers = await self._refer(plain, with_copy=query.with_copy)
        if not query.is_filtered:
            return answers
        return [_cut(ready, query) if ready.outcome in (FOUND, REFERRAL) else ready for ready in answers]

    async def _recurse(
        self, plain: Query, federating: Federating, is_asked: Sequence[bool], *, with_copy: bool
    ) -> Sequence[Ready]:
        beyond = replace(plain, mode=_RECURSIVE, with_copy=with_copy)
        if all(is_asked):
            return await federating.resolve(beyond)
        places = list(zip(plain.identifiers, is_asked, strict=True))
        asked = beyond.about([identifier for identifier, is_beyond in places if is_beyond])
        others = plain.about([identifier for identifier, is_beyond in places if not is_beyond])
        given, own = map(
            iter,
            await asyncio.gather(federating.resolve(asked), self._refer(others, with_copy=with_copy, is_part=True)),
        )
        return [next(given) if is_beyond else next(own) for is_beyond in is_asked]

    async def _refer(self, plain: Query, *, with_copy: bool, is_part: bool = False) -> Sequence[Ready]:
        routes = [self._route(identifier) for identifier in plain.identifiers]
        if plain.trace:
            plain.trace.step("routes", f"{sum(route is not None for route in routes)} referred")
        asked = [
            identifier
            for identifier, route in zip(plain.identifiers, routes, strict=True)
            if with_copy or route is None
        ]
        given = iter(await self._ask(plain.about(asked), has_others=is_part or any(routes)) if asked else ())
        return [
            next(given) if route is None else _referral(route, next(given) if with_copy else None) for route in routes
        ]

    async def _ask(self, plain: Query, *, has_others: bool) -> Sequence[Ready]:
        try:
            return await self._resolve_below(plain)
        except Fault as fault:
            if not has_others:
                raise
            # Routes are known, and children answer, all the same.
            return [Failed(fault=fault.with_traceback(None))] * len(plain.identifiers)

    def _is_reached(self, prefix: bytes, federating: Federating) -> bool:
        """Is this a delegated prefix that answers, or below one, with a way to its holder?"""
        try:
            check_segments(prefix, field="identifier")
        except Fault:
            return False
        scope = self._routes.scope(fold(prefix))
        row = scope.prefix
        is_delegated = row is not None and row.hosting is Hosting.DELEGATED and scope.verdict is Verdict.ANSWER
        return is_delegated and row is not None and federating.reaches(row)

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
        framed = wire.frame(wire.with_referral(wire.answer_bytes(held.frame), route.referral_body))
        return Ready(framed, REFERRAL, tag=route.other_tag)
    return cast("Ready", route.referral)


def _cut(ready: Ready, query: Query) -> Ready:
    answer = wire.select_values(wire.answer_bytes(ready.frame), query.types, query.indexes)
    return Ready(wire.frame(answer), ready.outcome, tag=ready.tag)
