"""The endpoints of each holder, by the delegated prefixes that lead there: what a changed prefix adds and takes away.

Of a prefix only the number of its route is remembered: by holder and endpoints there are few different ones, however
many prefixes there are.
"""

from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from msgspec import Struct

from nodes.probing.numbering import Numbers
from resolver.routes import Endpoint

ENDPOINTS: Final = 16
"""Endpoints of one holder that are given, those with the lowest priorities; it may have others for other prefixes."""

ROUTES: Final = 65_536
"""Different routes that are held; what leads by others is left out until there is room."""

_order: Final = attrgetter("priority", "protocol", "address", "port", "tls_name")


class Route(Struct, frozen=True):
    """Where a prefix leads: a holder, and the endpoints at which it answers."""

    holder: str
    endpoints: tuple[Endpoint, ...]


STRANGER: Final = Route("", ())
"""The route of a prefix whose holder is not known here: it is only counted."""

_LEFT_OUT: Final = Route("-", ())
_FIXED: Final = 2


class Holdings:
    """Routes with how many prefixes lead by each, and the endpoints that their holders have by them."""

    def __init__(self, most: int = ROUTES) -> None:
        self._most = most
        self._numbers = Numbers()
        # By number; the first ones are no routes, and stay.
        self._routes = [STRANGER, _LEFT_OUT]
        self._prefixes = [0, 0]
        self._by_route = {STRANGER: 0, _LEFT_OUT: 1}
        self._free: list[int] = []
        self._by_holder: dict[str, set[int]] = {}

    @property
    def strangers(self) -> int:
        """How many prefixes lead to somebody who is not known here."""
        return self._prefixes[0]

    @property
    def left_out(self) -> int:
        """How many prefixes lead by routes for which there was no room."""
        return self._prefixes[1]

    @property
    def has_room(self) -> bool:
        """Is there room for another route?"""
        return len(self._by_route) - _FIXED < self._most

    @property
    def holders(self) -> Iterable[str]:
        """All to whom a prefix leads."""
        return self._by_holder.keys()

    def endpoints(self, holder: str) -> tuple[Endpoint, ...]:
        """Give the endpoints of a holder in the order of priorities, each once, and not too many."""
        numbers = self._by_holder.get(holder, ())
        found = {endpoint for number in numbers for endpoint in self._routes[number].endpoints}
        return tuple(sorted(found, key=_order)[:ENDPOINTS])

    def put(self, key: bytes, route: Route | None) -> bool:
        """Take where the prefix with this key leads now, if anywhere, and tell whether that is another route."""
        number = None if route is None else self._number(route)
        if number is not None:
            # Before the former route goes, which may be the same one.
            self._prefixes[number] += 1
        held = self._numbers.exchange(key, number)
        if held is not None:
            self._prefixes[held] -= 1
            if not self._prefixes[held]:
                self._forget(held)
        return held != number

    def _number(self, route: Route) -> int:
        number = self._by_route.get(route)
        if number is not None:
            return number
        if not self.has_room:
            return self._by_route[_LEFT_OUT]
        if self._free:
            number = self._free.pop()
            self._routes[number] = route
        else:
            number = len(self._routes)
            self._routes.append(route)
            self._prefixes.append(0)
        self._by_route[route] = number
        self._by_holder.setdefault(route.holder, set()).add(number)
        return number

    def _forget(self, number: int) -> None:
        """Forget a route by which no prefix leads any more."""
        if number < _FIXED:
            return
        route = self._routes[number]
        del self._by_route[route]
        numbers = self._by_holder[route.holder]
        numbers.discard(number)
        if not numbers:
            del self._by_holder[route.holder]
        self._free.append(number)
