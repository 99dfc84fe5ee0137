"""A state over a small store, and short ways to plan requests against it one after another."""

import json
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any

from registry.plans import Actor, Outcome, Plan, Request
from registry.state import State
from resolver.errors import Fault
from resolver.routes import Prefix
from resolver.store import Checkpoint
from resolver.trust.actors import Key, Node, NodeState, Tier
from tests.small_store import SmallStore

NOW = 1_800_000_000
OWN_NAME = "top"
OPERATOR = Actor("local")

Planner = Callable[[Request, State], Awaitable[Plan]]


def node(name: str, *, parent: str = "", state: NodeState = NodeState.ENABLED) -> Node:
    """Make the row of a secondary node, or of an enterprise where there is a parent; its key is named after it."""
    return Node(
        node=name,
        tier=Tier.ENTERPRISE if parent else Tier.SECONDARY,
        state=state,
        keys=(Key(f"key of {name}", b"", NOW - 100),),
        parent=parent,
        organisation=f"{name} Ltd",
        applied_at=NOW - 100,
        changed_at=NOW - 100,
    )


class Store(SmallStore):
    """A small store into which nothing is imported."""

    async def checkpoint(self, name: str) -> Checkpoint:  # noqa: ARG002 - no import of any name has begun
        return Checkpoint()


class Planning:
    """Plans requests; what was planned counts for all that follow, as within one group."""

    def __init__(self, store: Store, state: State) -> None:
        self.store = store
        self.state = state
        self.at = NOW

    @classmethod
    async def begin(
        cls, *, nodes: Sequence[Node] = (), prefixes: Sequence[Prefix] = (), keys: Sequence[bytes] = ()
    ) -> "Planning":
        """Begin with what a store holds; under `keys` stand records."""
        store = Store()
        store.commit(dict.fromkeys(keys, b"record"), prefixes, nodes)
        state = State(store, own_name=OWN_NAME)
        await state.begin(NOW)
        return cls(store, state)

    def actor(self, name: str) -> Actor:
        """Give the node of this name as an actor, or the operator."""
        return OPERATOR if name == OPERATOR.name else Actor(name, self.state.node(name))

    def request(self, actor: Actor | str, body: Any, *, key_ids: tuple[str, ...] = ("key",)) -> Request:
        octets = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Request(
            kind="test.v1",
            actor=self.actor(actor) if isinstance(actor, str) else actor,
            body=octets,
            at=self.at,
            envelope_sha256=sha256(octets).digest(),
            key_ids=key_ids,
        )

    async def plan(self, planner: Planner, actor: Actor | str, body: Any, **more: Any) -> Plan:
        """Plan a request, and take it as given; one that refuses a row changes nothing."""
        plan = await planner(self.request(actor, body, **more), self.state)
        if not plan.refusals:
            self.state.add(plan)
        return plan

    async def outcome(self, planner: Planner, actor: Actor | str, body: Any, **more: Any) -> Outcome:
        """Plan a request of one row."""
        (outcome,) = (await self.plan(planner, actor, body, **more)).outcomes
        return outcome

    async def refused(self, planner: Planner, actor: Actor | str, body: Any, **more: Any) -> Fault:
        """Plan a request that must be refused as a whole, and give the reason."""
        before = self.state.index
        try:
            plan = await self.plan(planner, actor, body, **more)
        except Fault as fault:
            assert self.state.index == before
            return fault
        raise AssertionError(f"not refused: {plan}")

    def pass_time(self, at: int) -> None:
        """Let it be this time."""
        self.at = at
        self.state.tell_time(at)

    def row(self, prefix: str) -> Prefix:
        """Give the row of a prefix that must be there."""
        row = self.state.routes.allocation(prefix.encode().upper())
        assert row is not None
        return row

    def node(self, name: str) -> Node:
        """Give the row of a node that must be there."""
        row = self.state.node(name)
        assert row is not None
        return row
