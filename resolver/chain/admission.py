"""Admission, the first link: refuses early what would be refused anyway, and more than this process accepts at once.

Failure policy: closed. A refusal says why, is counted, and where waiting helps it says for how long.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge

from resolver.answer import Ready
from resolver.bounds import BATCH_IDENTIFIERS
from resolver.chain.link import Link
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.query import Asker, Query

CALLERS_MAX: Final = 65_536
"""Callers whose use is remembered; of more, those that asked least recently are forgotten."""

_RETRY_AFTER: Final = 0.1
"""Seconds after which a caller may try again when too much is in flight: most queries take a fraction of it."""

_ROUNDING: Final = 1e-9
"""Seconds that are no time: who waited exactly as long as told is not told to wait for the last bit of a float."""


class AdmissionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each worker accepts."""

    queries: int = 10_000
    """Queries in flight at once."""

    identifiers: int = 200_000
    """Identifiers in flight at once, in all queries together."""

    rate: int = 0
    """Identifiers a second for each caller, on average; 0: no limit. A caller is a proven identity or an address."""

    burst: int = 10_000
    """Identifiers that a caller may ask for at once after a pause, where there is a limit."""

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise Fault(Reason.SETTING_INVALID, "At least one query must be accepted.", field="queries")
        if self.rate < 0:
            raise Fault(Reason.SETTING_INVALID, "A rate is not negative.", field="rate")
        for field in ("identifiers", "burst"):
            if getattr(self, field) < BATCH_IDENTIFIERS:
                raise Fault(
                    Reason.SETTING_INVALID, f"At least one whole batch must fit ({BATCH_IDENTIFIERS}).", field=field
                )


class AdmissionMetrics:
    """What was refused, and what is in flight."""

    def __init__(self, registry: CollectorRegistry) -> None:
        refused = Counter(
            "topnode_admission_refused_total", "Queries refused before any work.", ("reason",), registry=registry
        )
        self.refused = {
            reason: refused.labels(reason.name)
            for reason in (
                Reason.BATCH_EMPTY,
                Reason.BATCH_TOO_LARGE,
                Reason.DEADLINE_SPENT,
                Reason.TOO_MANY_IN_FLIGHT,
                Reason.RATE_LIMITED,
            )
        }
        self.queries = Gauge("topnode_admission_in_flight_queries", "Queries in flight.", registry=registry)
        self.identifiers = Gauge(
            "topnode_admission_in_flight_identifiers", "Identifiers in flight.", registry=registry
        )


class RateLimit:
    """A token bucket for each caller, kept as one number: when it will be full again (GCRA, ITU-T I.371)."""

    def __init__(self, rate: int, burst: int) -> None:
        self._seconds_each = 1 / rate
        self._seconds_whole = burst / rate
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def spend(self, caller: str, identifiers: int, now: float) -> float:
        """Take identifiers out of a caller's bucket and give 0; or none, and give the seconds to wait."""
        full_at = max(now, self._full_at.get(caller, now)) + identifiers * self._seconds_each
        wait = full_at - now - self._seconds_whole
        if wait > _ROUNDING:
            return wait
        self._full_at[caller] = full_at
        self._full_at.move_to_end(caller)
        if len(self._full_at) > CALLERS_MAX:
            self._full_at.popitem(last=False)
        return 0.0


class Admission:
    """Admits queries.

    Raises:
        Fault: BATCH_EMPTY, BATCH_TOO_LARGE, DEADLINE_SPENT, TOO_MANY_IN_FLIGHT, RATE_LIMITED; else as below.
    """

    def __init__(
        self, below: Link, *, clock: Clock, settings: AdmissionSettings, registry: CollectorRegistry
    ) -> None:
        self._resolve_below = below.resolve
        self._monotonic = clock.monotonic
        self._queries_max = settings.queries
        self._identifiers_max = settings.identifiers
        self._limit = RateLimit(settings.rate, settings.burst) if settings.rate else None
        self._metrics = AdmissionMetrics(registry)
        self._metrics.queries.set_function(lambda: self._queries)
        self._metrics.identifiers.set_function(lambda: self._identifiers)
        self._queries = 0
        self._identifiers = 0

    async def resolve(self, query: Query) -> Sequence[Ready]:
        count = len(query.identifiers)
        now = self._monotonic()
        if not 0 < count <= BATCH_IDENTIFIERS:
            raise self._refuse(_wrong_size(count))
        if query.deadline <= now:
            raise self._refuse(Fault(Reason.DEADLINE_SPENT))
        if self._queries >= self._queries_max or self._identifiers + count > self._identifiers_max:
            raise self._refuse(Fault(Reason.TOO_MANY_IN_FLIGHT, retry_after=_RETRY_AFTER))
        if self._limit is not None:
            self._spend(query.asker, count, now, self._limit)
        if query.trace:
            query.trace.step("admission", "passed")
        self._queries += 1
        self._identifiers += count
        try:
            return await self._resolve_below(query)
        finally:
            self._queries -= 1
            self._identifiers -= count

    def _spend(self, asker: Asker, count: int, now: float, limit: RateLimit) -> None:
        # Apart, so that nobody's identity is spelled like somebody else's address.
        caller = f"identity {asker.identity}" if asker.identity else asker.address
        wait = limit.spend(caller, count, now)
        if wait:
            raise self._refuse(Fault(Reason.RATE_LIMITED, retry_after=wait))

    def _refuse(self, fault: Fault) -> Fault:
        self._metrics.refused[fault.reason].inc()
        return fault


def _wrong_size(count: int) -> Fault:
    return Fault(
        Reason.BATCH_TOO_LARGE if count else Reason.BATCH_EMPTY,
        field="identifiers",
        variables={"identifiers": str(count), "allowed": str(BATCH_IDENTIFIERS)},
    )
