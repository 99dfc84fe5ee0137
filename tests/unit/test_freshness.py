"""When a kept answer may still be given: the whole table."""

import pytest

from resolver.answer import FOUND, Ready
from resolver.errors import Fault, Reason
from resolver.freshness import Freshness, FreshnessSettings, freshness
from resolver.routes import Prefix, Scope, Verdict
from resolver.units import Duration

NOW = 1_000.0
STALE_FOR = 60.0
ROW = Prefix("88.100", "88.100")

FRESH, STALE, VOID = Freshness.FRESH, Freshness.STALE, Freshness.VOID


@pytest.mark.parametrize(
    ("expires", "epoch", "verdict", "is_current", "expected"),
    [
        (NOW + 1, 7, Verdict.ANSWER, True, FRESH),
        (NOW, 7, Verdict.ANSWER, True, STALE),
        (NOW - 59, 7, Verdict.ANSWER, True, STALE),
        (NOW - 60, 7, Verdict.ANSWER, True, VOID),
        # The feed is not followed: what is in its time counts as if it were not.
        (NOW + 1, 7, Verdict.ANSWER, False, STALE),
        (NOW - 60, 7, Verdict.ANSWER, False, VOID),
        # Something in the chain of prefixes changed since.
        (NOW + 1, 6, Verdict.ANSWER, True, VOID),
        (NOW + 1, 8, Verdict.ANSWER, True, VOID),
        (NOW - 1, 6, Verdict.ANSWER, False, VOID),
        # Nothing may be said below the prefix, however fresh it is.
        (NOW + 1, 7, Verdict.REFUSE_DISABLED, True, VOID),
        (NOW + 1, 7, Verdict.REFUSE_EXPIRED, True, VOID),
        (NOW + 1, 7, Verdict.NOT_ALLOCATED, True, VOID),
        # What stands in the place of a dropped answer.
        (float("-inf"), 7, Verdict.ANSWER, True, VOID),
    ],
)
def test_freshness(expires: float, epoch: int, verdict: Verdict, *, is_current: bool, expected: Freshness) -> None:
    ready = Ready(b"frame", FOUND, expires, epoch)
    scope = Scope(ROW, verdict, 7)
    assert freshness(ready, scope, now=NOW, stale_for=STALE_FOR, is_current=is_current) is expected


@pytest.mark.parametrize("field", ["positive_for", "absent_for", "stale_for"])
def test_refuses_negative_times(field: str) -> None:
    with pytest.raises(Fault) as caught:
        FreshnessSettings(**{field: Duration(-1)})
    assert (caught.value.reason, caught.value.field) == (Reason.SETTING_INVALID, field)
