"""Settings of federation: what is refused."""

from typing import Any

import pytest

from resolver.errors import Fault, Reason
from resolver.federation.settings import FederationSettings
from resolver.units import Duration


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hops", 0),
        ("hops", 9),
        ("deadline", Duration(0.01)),
        ("positive_for", Duration(-1)),
        ("absent_for", Duration(-1)),
        ("stale_for", Duration(-1)),
        ("children", 0),
        ("calls", 0),
        ("waiting", -1),
        ("identifiers", 999),
        ("hedge_percent", 101),
        ("hedge_percent", -1),
    ],
)
def test_what_cannot_be_is_refused(field: str, value: Any) -> None:
    with pytest.raises(Fault) as refused:
        FederationSettings(**{field: value})
    assert (refused.value.reason, refused.value.field) == (Reason.SETTING_INVALID, field)
