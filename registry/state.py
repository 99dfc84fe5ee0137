"""What requests are planned against: what the store holds, and above it what the requests before them change.

One task at a time: `begin`, then for each request of a group a plan and `add`, then the commit and `committed`, or
`forget` where it failed.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from registry.planned_keys import PlannedKeys
from registry.plans import Plan
from resolver import wire
from resolver.errors import Fault, Reason
from resolver.routes import Prefix, RouteTable, Scope
from resolver.store import Checkpoint, StoreReader
from resolver.tables import read_nodes, read_routes
from resolver.trust.actors import Node, NodeTable

_RETRY_SECONDS: Final = 1.0


class Store(StoreReader, Protocol):
    """What a state is read from: what resolvers read, and how far imports have come."""

    async def checkpoint(self, name: str) -> Checkpoint:
        """Give how far the import of this name has come."""


class State:
    """The store and what is planned above it. `now` is the time by which terms end, in Unix seconds.

    `own_name` is this node's identifier: the holder of prefixes that its operators keep for themselves.

    `routes` and `nodes` hold what is planned too; both are for reading only, and for those who plan: others are told
    what is in the store (`stored_prefix`, `stored_node`).
    """

    def __init__(self, store: Store, *, own_name: str) -> None:
        self.own_name = own_name
        self.routes = RouteTable()
        self.nodes = NodeTable()
        self.now = 0
        self._store = store
        self._index = -1
        self._plan_nothing()

    @property
    def index(self) -> int:
        """The journal index of the newest entry, with those that are planned."""
        return self._index

    async def begin(self, wall: float) -> None:
        """Be up to date: read the rows of prefixes and nodes where anybody else has written, and let terms end."""
        if await self._store.head() != self._index:
            await self._read_all()
        self.tell_time(wall)

    def tell_time(self, wall: float) -> None:
        """Let terms end: an entry is planned by the time at which it is, or was, accepted."""
        self.now = int(wall)
        self.routes.tell_time(wall)

    def add(self, plan: Plan) -> None:
        """Take what a request changes as given for those after it; it will be the next entry."""
        self._index += 1
        version = wire.version_field(self._index)
        self._bodies.update((write.key, (write.full or write.public) + version) for write in plan.writes)
        for prefix in plan.prefixes:
            self._stored_prefixes.setdefault(prefix.key, self.routes.allocation(prefix.key))
        for node in plan.nodes:
            self._stored_nodes.setdefault(node.node, self.nodes.node(node.node))
        if plan.prefixes:
            self.routes.put(replace(prefix, epoch=self._index) for prefix in plan.prefixes)
        self.nodes.put(replace(node, epoch=self._index) for node in plan.nodes)
        self._checkpoints.update((name, reached or Checkpoint()) for name, reached in plan.checkpoints)

    def committed(self) -> None:
        """Note that everything planned is in the store."""
        self._plan_nothing()

    def forget(self) -> None:
        """Note that what was planned may not be in the store: `begin` reads everything again."""
        self._plan_nothing()
        self._index = -1

    def check_known(self) -> None:
        """Refuse to tell anything before a commit that failed was followed by `begin`.

        Raises:
            Fault: STORE_UNAVAILABLE.
        """
        if self._index < 0:
            raise Fault(
                Reason.STORE_UNAVAILABLE, "What the last commit left is being read.", retry_after=_RETRY_SECONDS
            )

    async def held(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Fetch the full bodies of what stands under these keys (tombstones too); usually nothing does."""
        fetched = await self._store.public(keys, confirmed=True)
        held = [key for key, body in zip(keys, fetched.bodies, strict=True) if body is not None]
        bodies = (await self._store.full(held)).bodies if held else ()
        found = {key: body for key, body in zip(held, bodies, strict=True) if body is not None}
        planned = self._bodies
        if planned:
            found.update((key, planned[key]) for key in keys if key in planned)
        return found

    async def holds_below(self, prefix: bytes) -> bool:
        """Tell whether anything, a tombstone too, stands below this folded prefix or its derived ones."""
        return self._keys.holds_below(prefix) or await self._store.holds_below(prefix)

    async def checkpoint(self, name: str) -> Checkpoint:
        """Give how far the import of this name has come."""
        return self._checkpoints.get(name) or await self._store.checkpoint(name)

    def scope(self, prefix: bytes) -> Scope:
        """Give what holds directly below a folded prefix."""
        return self.routes.scope(prefix)

    def node(self, name: str) -> Node | None:
        return self.nodes.node(name)

    def stored_prefix(self, prefix: bytes) -> Prefix | None:
        """Give the row of exactly this folded prefix as it is in the store.

        Raises:
            Fault: as `check_known`.
        """
        self.check_known()
        stored = self._stored_prefixes
        return stored[prefix] if prefix in stored else self.routes.allocation(prefix)

    def stored_node(self, name: str) -> Node | None:
        """Give the row of a node as it is in the store.

        Raises:
            Fault: as `check_known`.
        """
        self.check_known()
        return self._stored_nodes[name] if name in self._stored_nodes else self.nodes.node(name)

    def _plan_nothing(self) -> None:
        self._bodies: dict[bytes, bytes] = {}
        self._keys = PlannedKeys(self._bodies)
        self._checkpoints: dict[str, Checkpoint] = {}
        # As they are in the store, of those that are planned anew.
        self._stored_prefixes: dict[bytes, Prefix | None] = {}
        self._stored_nodes: dict[str, Node | None] = {}

    async def _read_all(self) -> None:
        index = await self._store.head()
        routes, nodes = await read_routes(self._store), await read_nodes(self._store)
        self.routes.adopt(routes)
        self.nodes.adopt(nodes)
        self._plan_nothing()
        self._index = index
