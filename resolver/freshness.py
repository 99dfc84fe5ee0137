"""When a kept answer may still be given: pure functions over times and epochs. Knows no cache and no clock."""

from enum import Enum

from msgspec import Struct

from resolver.answer import Ready
from resolver.errors import Fault, Reason
from resolver.routes import Scope, Verdict
from resolver.units import Duration


class FreshnessSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long answers are kept. The store's feed tells of changes sooner."""

    positive_for: Duration = Duration(3_600)
    """An answer with a record."""

    absent_for: Duration = Duration(60)
    """The authority's word that there is no such identifier."""

    stale_for: Duration = Duration(86_400)
    """How long after its time an answer may still be given, marked stale, while the store does not answer."""

    def __post_init__(self) -> None:
        for field in ("positive_for", "absent_for", "stale_for"):
            if getattr(self, field) < 0:
                raise Fault(Reason.SETTING_INVALID, "A duration is not negative.", field=field)


class Freshness(Enum):
    """What a kept answer is good for."""

    FRESH = "given to anybody"
    STALE = "given, marked, while the store does not answer"
    VOID = "never given"


def freshness(ready: Ready, scope: Scope, *, now: float, stale_for: float, is_current: bool) -> Freshness:
    """Judge a kept answer by the scope that holds now, at a time on the monotonic clock.

    `is_current`: has the feed been followed, so that what changed would be known? An answer of another epoch is
    known to be possibly wrong and is void; time alone makes it stale (RFC 8767 section 4).
    """
    if ready.epoch != scope.epoch or scope.verdict is not Verdict.ANSWER or ready.expires + stale_for <= now:
        return Freshness.VOID
    return Freshness.FRESH if is_current and ready.expires > now else Freshness.STALE
