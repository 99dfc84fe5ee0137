"""Who may see more than the public: the holders of prefixes, and operators. Rules over rows; asks no store."""

from collections.abc import Callable
from typing import Final

from resolver.errors import Fault, Reason
from resolver.handle import ancestors
from resolver.query import Asker
from resolver.routes import RouteTable
from resolver.trust.actors import NodeState, NodeTable

_RETRY_AFTER: Final = 0.5
"""Seconds after which the feed will have been looked at again."""


class Holders:
    """Tells for whom an asker speaks, by the rows of nodes and prefixes as they are now.

    An enabled node speaks for itself, an operator for this node, which holds prefixes under its own name. All others
    speak for nobody: they are the public, whatever they have proven. `is_current` tells whether the rows are those
    of a moment ago.
    """

    def __init__(self, node: str, *, nodes: NodeTable, routes: RouteTable, is_current: Callable[[], bool]) -> None:
        self._node = node
        self._nodes = nodes
        self._routes = routes
        self._is_current = is_current

    def name(self, asker: Asker) -> str:
        """Give the holder for whom this asker speaks; empty: nobody."""
        if asker.is_operator:
            return self._node
        row = self._nodes.node(asker.identity) if asker.identity else None
        is_holder = row is not None and row.state is NodeState.ENABLED and row.node != self._node
        return asker.identity if is_holder else ""

    def holder(self, prefix: bytes) -> str:
        """Give the holder of the longest allocation at or above this folded prefix; empty: there is none."""
        allocated = self._routes.scope(prefix).prefix
        return allocated.holder if allocated else ""

    def may_list(self, asker: Asker, prefix: bytes) -> bool:
        """May this asker see what is registered below this folded prefix?

        Its holder may, the holders of allocations above it, and operators.
        """
        if asker.is_operator:
            return True
        name = self.name(asker)
        return bool(name) and any(self.holder(each) == name for each in ancestors(prefix))

    def check_current(self) -> None:
        """Check that a suspension of a moment ago would be known here: else nobody is shown more than the public.

        Raises:
            Fault: STORE_UNAVAILABLE.
        """
        if not self._is_current():
            raise Fault(
                Reason.STORE_UNAVAILABLE,
                "It cannot be told at the moment who may see more than the public.",
                retry_after=_RETRY_AFTER,
            )
