"""Routes: the prefixes that are held here, and that they lead here, as the node above has them.

Those that an operator above allocated to this node get its endpoints. Those that are allocated here below them
become known above too, with their case rule, state and term, held by this node and leading to it: who of the nodes
below it answers is this node's to say, and may change without the node above.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from nodes.client import RegistryClient
from nodes.client.signing import Draft
from nodes.upward.metrics import UpwardMetrics
from nodes.upward.naming import request_id
from nodes.upward.refused import Refused, RefusedFile
from nodes.upward.verdicts import Verdict, of_route
from registry.allocation import Allocations
from registry.prefix_changes import Renewal, Route, StateChange
from registry.prefix_states import PRESENT
from registry.rows import EndpointRow, PrefixRow
from registry.state import State
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.handle import lineage
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState

REFUSED_MAX: Final = 10_000
"""Prefixes that are remembered as refused and tried again; beyond it, at the next start."""

SEGMENTS: Final = 1_024

STEPS_MAX: Final = 6
"""Requests about one prefix in a row: allocation, state, route, term, and as many more as others may interfere."""

_encode: Final = msgspec.json.Encoder().encode


class Step(Struct, frozen=True):
    """One request that brings the node above nearer to what is wanted."""

    kind: str
    body: Struct


def next_step(
    wanted: Prefix, held: Prefix | None, endpoints: Sequence[Endpoint], *, node: str, is_below: bool, is_changed: bool
) -> Step | None:
    """Say what is to be asked for next, None where nothing is: pure.

    `wanted` is the row as it stands here, `held` the one that the node above has. `is_below`: there is an allocated
    prefix above this one here; of others, state and term are decided by the node above. `is_changed`: the row here
    was just changed.

    Raises:
        Fault: PREFIX_NOT_HELD: it belongs to somebody else there.
    """
    rows = [EndpointRow.of(endpoint) for endpoint in endpoints]
    if held is None or held.state not in PRESENT:
        if wanted.state is not PrefixState.ENABLED:
            return None
        row = PrefixRow(
            prefix=wanted.text,
            holder=node,
            case=wanted.case.name.lower(),  # type: ignore[arg-type] # the words are the members' names
            hosting="delegated",
            expires_at=wanted.expires_at if is_below else 0,
            endpoints=rows,
        )
        return Step("prefix-allocate.v1", Allocations(rows=[row]))
    if held.holder != node:
        raise Fault(
            Reason.PREFIX_NOT_HELD,
            f"Above, the prefix {wanted.text} is held by {held.holder}.",
            field="prefix",
            variables={"prefix": wanted.text, "holder": held.holder},
        )
    is_enabled = held.state is PrefixState.ENABLED
    is_to_change = is_below and held.state is not wanted.state
    if is_to_change and not is_enabled:
        # Back to life first: nothing is changed of what is disabled. What was disabled above stays so, though, until
        # this node changes its own row.
        return _state(wanted) if is_changed else None
    if is_enabled and (held.hosting is not Hosting.DELEGATED or held.endpoints != tuple(endpoints)):
        return Step("route.v1", Route(prefix=wanted.text, hosting="delegated", endpoints=rows))
    if is_enabled and is_below and held.expires_at != wanted.expires_at:
        return Step("prefix-renew.v1", Renewal(prefix=wanted.text, expires_at=wanted.expires_at))
    return _state(wanted) if is_to_change else None


def _state(wanted: Prefix) -> Step:
    said = wanted.state.name.lower()
    return Step("prefix-state.v1", StateChange(prefix=wanted.text, state=said))  # type: ignore[arg-type] # as above


class Routes:
    """Brings the rows of prefixes above to what they are here."""

    def __init__(
        self,
        *,
        node: str,
        state: State,
        client: RegistryClient,
        endpoints: Sequence[Endpoint],
        refused: RefusedFile,
        metrics: UpwardMetrics,
        clock: Clock,
    ) -> None:
        self.waiting: set[bytes] = set()
        """Folded prefixes that were refused, to be tried again; not all of them where there are very many."""
        self._node = node
        self._state = state
        self._client = client
        self._endpoints = tuple(endpoints)
        self._refused = refused
        self._metrics = metrics
        self._clock = clock

    async def bring(self, prefixes: Iterable[bytes], life: str, *, is_changed: bool) -> None:
        """Bring these folded prefixes, in the order of their segments; what is refused is noted, once, and waits.

        `is_changed`: their rows were changed here, so that what is disabled above may come back to life.

        Raises:
            Fault: nothing is known of what was not brought; it is to be brought again.
        """
        for prefix in sorted(prefixes, key=lambda each: (each.count(b"."), each)):
            row = self._state.stored_prefix(prefix)
            if row is None or row.state not in PRESENT:
                self.waiting.discard(prefix)
                continue
            try:
                outcome = await self._bring(row, life, is_changed=is_changed)
            except Fault as fault:
                if of_route(fault) is Verdict.AGAIN:
                    raise
                await self._wait(prefix, fault)
                continue
            self._metrics.routes[outcome].inc()
            self.waiting.discard(prefix)

    async def _bring(self, row: Prefix, life: str, *, is_changed: bool) -> str:
        is_below = self._is_below(row)
        for taken in range(STEPS_MAX):
            held = await self._held(row.text)
            step = next_step(row, held, self._endpoints, node=self._node, is_below=is_below, is_changed=is_changed)
            if step is None:
                return "pushed" if taken else "unchanged"
            body = _encode(step.body)
            # The row above has another version after each step, so that the same step later is another request.
            place = f"route/{row.text}/{held.epoch if held else 0}"
            submitted = await self._client.send(Draft(step.kind, body, request_id(life, place, body)))
            submitted.insist()
        raise Fault(Reason.INTERNAL, f"The row of {row.text} above does not come to be as it is here.")

    async def _held(self, text: str) -> Prefix | None:
        try:
            return await self._client.prefix(text)
        except Fault as fault:
            if fault.reason is not Reason.PREFIX_NOT_ALLOCATED:
                raise
            return None

    def _is_below(self, row: Prefix) -> bool:
        *above, _ = lineage(row.key, SEGMENTS)
        rows = (self._state.stored_prefix(each) for each in above)
        return any(each is not None and each.state in PRESENT for each in rows)

    async def _wait(self, prefix: bytes, fault: Fault) -> None:
        self._metrics.routes["refused"].inc()
        if prefix in self.waiting:
            return
        if len(self.waiting) < REFUSED_MAX:
            self.waiting.add(prefix)
        await self._refused.add([Refused.of(prefix.decode(), "route", fault, self._clock.wall())])
