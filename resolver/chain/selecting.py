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
from resolver.routes import Hosting, Prefix, RouteTable, Verdict

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
        if query.mode is _LOCAL:
            return self._select(query) if query.is_filtered else self._resolve_below(query)
        rows: dict[bytes, Prefix | None] = {}
        for identifier in query.identifiers:
            prefix = identifier.partition(b"/")[0]
            if prefix not in rows:
                rows[prefix] = self._delegated(prefix)
        is_plain = not query.is_filtered
        if is_plain and not any(rows.values()):
            # As nearly all of a node without children are: there is nobody to go to.
            if query.trace:
                query.trace.step("routes", "0 referred")
            return self._resolve_below(query)
        if self._federating is None or query.mode is not _RECURSIVE:
            return self._select(query)
        reached = [prefix for prefix, row in rows.items() if row and self._federating.reaches(row)]
        if is_plain and len(reached) == len(rows):
            # As nearly all of a node with children are: nothing to be split off, and nothing to be cut out.
            return self._federating.resolve(query)
        return self._select(query, frozenset(reached))

    async def _select(self, query: Query, reached: frozenset[bytes] = frozenset()) -> Sequence[Ready]:
        """Answer a query that is split, referred or cut; `reached` are the prefixes of which children are asked."""
        plain = replace(query, types=(), indexes=(), mode=_LOCAL, with_copy=False)
        if query.mode is _LOCAL:
            answers = await self._resolve_below(plain)
        elif self._federating is not None and reached:
            answers = await self._recurse(plain, self._federating, reached, with_copy=query.with_copy)
        else:
            answers = await self._refer(plain, with_copy=query.with_copy)
        if not query.is_filtered:
            return answers
        return [_cut(ready, query) if ready.outcome in (FOUND, REFERRAL) else ready for ready in answers]

    async def _recurse(
        self, plain: Query, federating: Federating, reached: frozenset[bytes], *, with_copy: bool
    ) -> Sequence[Ready]:
        beyond = replace(plain, mode=_RECURSIVE, with_copy=with_copy)
        is_asked = [identifier.partition(b"/")[0] in reached for identifier in plain.identifiers]
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

    def _delegated(self, prefix: bytes) -> Prefix | None:
        """Give the row of the allocation above a prefix that answers, where that is delegated."""
        try:
            check_segments(prefix, field="identifier")
        except Fault:
            return None
        scope = self._routes.scope(fold(prefix))
        row = scope.prefix
        is_delegated = row is not None and row.hosting is Hosting.DELEGATED and scope.verdict is Verdict.ANSWER
        return row if is_delegated else None

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
