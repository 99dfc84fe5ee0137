"""The one table of what can be asked for: each kind of request, with its version, and what plans it."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from registry import allocation, counts, identifiers, imports, nodes, prefix_changes
from registry.plans import Plan, Request
from registry.state import State
from registry.tallies import counted

Planner = Callable[[Request, State], Awaitable[Plan]]
"""Plans one request as if it were the next to be written; a Fault refuses it as a whole."""

IMPORT: Final = "import.v1"
"""The one kind that brings a chunk along, and is sent by the method Import."""

PLANNERS: Final[Mapping[str, Planner]] = MappingProxyType(
    {
        "identifiers.v1": counted(identifiers.plan),
        "route.v1": prefix_changes.plan_route,
        "prefix-apply.v1": prefix_changes.plan_apply,
        "prefix-allocate.v1": counted(allocation.plan_allocate),
        "prefix-state.v1": counted(prefix_changes.plan_state),
        "prefix-renew.v1": prefix_changes.plan_renew,
        "node-apply.v1": nodes.plan_apply,
        "node-review.v1": nodes.plan_review,
        "node-suspend.v1": nodes.plan_suspend,
        "node-resume.v1": nodes.plan_resume,
        "node-revoke.v1": nodes.plan_revoke,
        "node-rotate.v1": nodes.plan_rotate,
        "node-agreement.v1": nodes.plan_agreement,
        "node-takeover.v1": nodes.plan_takeover,
        counts.KIND: counts.plan,
        IMPORT: counted(imports.plan),
    }
)
