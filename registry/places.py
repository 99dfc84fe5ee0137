"""What holds below the prefixes of a request's rows, found once for each spelling of one. Nothing is written."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from registry import authority
from registry.plans import Actor
from resolver.errors import Fault
from resolver.handle import Handle
from resolver.routes import Scope

PLACES_MAX: Final = 65_536
"""Prefixes remembered at once; an import may bring as many as it has rows."""

ScopeOf = Callable[[bytes], Scope]
"""Gives what holds directly below a folded prefix."""


class Place(Struct, frozen=True, gc=False):
    """What holds below one prefix for one actor: why it may write nothing there, else case rule and holder."""

    refused: Fault | None = None
    case_sensitive: bool = False
    holder: str = ""


class Places(dict[str, Place]):
    """The places by prefix, as it is spelled in rows: one that is not there yet is found. For one request."""

    def __init__(self, actor: Actor, scope: ScopeOf) -> None:
        super().__init__()
        self._actor = actor
        self._scope = scope

    def __missing__(self, spelled: str) -> Place:
        if len(self) >= PLACES_MAX:
            self.clear()
        place = self[spelled] = self._find(spelled)
        return place

    def _find(self, spelled: str) -> Place:
        try:
            scope = self._scope(Handle(spelled, "x").prefix.encode().upper())
            authority.check_write(self._actor, scope)
        except Fault as fault:
            return Place(fault)
        # Where nobody holds anything, it was refused above.
        return Place(None, scope.case_sensitive, scope.prefix.holder if scope.prefix else "")
