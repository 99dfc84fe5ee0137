"""What a plan adds to the counts of registrations: pure functions of the plan and of the state that it meets.

It stands in the result of the request, and so in the journal: whoever counts later needs nothing else, and a rebuilt
journal says the same.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec.structs import replace

from registry.plans import Plan, Request
from registry.prefix_states import PRESENT
from registry.state import State
from resolver.answer import ABSENT
from resolver.counting import NOTHING, PREFIX_BYTES, Figures
from resolver.handle import ancestors
from resolver.routes import Prefix, RouteTable
from resolver.wire import body_outcome

_Planner = Callable[[Request, State], Awaitable[Plan]]


def counted(planner: _Planner) -> _Planner:
    """Have the plans of a planner say what they add to the counts."""

    async def plan(request: Request, state: State) -> Plan:
        made = await planner(request, state)
        if not made.writes and not made.prefixes:
            return made
        return replace(made, tallies=tallies_of(made, state.routes))

    return plan


def tallies_of(plan: Plan, routes: RouteTable) -> Sequence[tuple[bytes, Figures]]:
    """Give what a plan adds, in the order of prefixes; `routes` are those before it."""
    registered, deleted = Counter[bytes](), Counter[bytes]()
    for write in plan.writes:
        if write.is_new or write.revives:
            registered[write.key.partition(b"/")[0]] += 1
        elif body_outcome(write.public) == ABSENT:
            deleted[write.key.partition(b"/")[0]] += 1
    allocated = Counter(
        prefix.key.rpartition(b".")[0]
        for prefix in plan.prefixes
        if prefix.state in PRESENT and not _is_allocated(routes.allocation(prefix.key))
    )
    planned = {prefix.key: prefix for prefix in plan.prefixes}
    found: dict[bytes, Figures] = {}
    for name in {*registered, *deleted, *allocated}:
        allocation = _allocated_at_or_above(name, planned, routes)
        if allocation and len(allocation) <= PREFIX_BYTES:
            figures = Figures(registered=registered[name], deleted=deleted[name], allocated=allocated[name])
            found[allocation] = found.get(allocation, NOTHING) + figures
    return sorted(found.items())


def _allocated_at_or_above(name: bytes, planned: Mapping[bytes, Prefix], routes: RouteTable) -> bytes:
    """Give the longest allocated prefix of these, folded, as it is with what is planned; empty: there is none."""
    for key in ancestors(name):
        if _is_allocated(planned.get(key) or routes.allocation(key)):
            return key
    return b""


def _is_allocated(row: Prefix | None) -> bool:
    return row is not None and row.state in PRESENT
