"""What requests add to the counts of registrations, by the longest allocated prefix."""

from typing import Any

import pytest

from registry.kinds import PLANNERS
from resolver.counting import PREFIX_BYTES, Figures
from resolver.routes import Prefix, PrefixState
from tests.planning import OWN_NAME, Planning, node

HELD = Prefix("88.111", "88.111")
DEEPER = Prefix("88.111.5", "88.111.5")


async def planning() -> Planning:
    return await Planning.begin(
        nodes=[node("88.111"), node("88.111.5", parent="88.111")],
        prefixes=[HELD, DEEPER, Prefix("88.222", "88.222", state=PrefixState.PENDING)],
    )


async def tallies(begun: Planning, kind: str, actor: str, body: dict[str, Any]) -> dict[str, Figures]:
    plan = await begun.plan(PLANNERS[kind], actor, body)
    return {prefix.decode(): figures for prefix, figures in plan.tallies}


def rows(*rows: dict[str, Any]) -> dict[str, Any]:
    """Make a body; what registers has no values."""
    return {"rows": [row if "op" in row else {**row, "values": []} for row in rows], "partial": True}


async def test_what_is_new_counts_for_the_longest_prefix_and_what_is_changed_does_not() -> None:
    begun = await planning()
    refused = rows({"identifier": "88.111/refused"}, {"identifier": "88.222/refused"}) | {"partial": False}
    assert await tallies(begun, "identifiers.v1", "88.111", refused) == {}
    first = rows({"identifier": "88.111/a"}, {"identifier": "88.111.7/b"})
    assert await tallies(begun, "identifiers.v1", "88.111", first) == {"88.111": Figures(registered=2)}
    again = rows({"identifier": "88.111/a", "registrant": "x", "overwrite": True}, {"identifier": "88.111/A.1"})
    assert await tallies(begun, "identifiers.v1", "88.111", again) == {"88.111": Figures(registered=1)}
    unchanged = rows({"identifier": "88.111/A.1", "overwrite": True})
    assert await tallies(begun, "identifiers.v1", "88.111", unchanged) == {}


async def test_what_is_deleted_counts_once_and_what_comes_back_is_registered_again() -> None:
    begun = await planning()
    await tallies(begun, "identifiers.v1", "88.111", rows({"identifier": "88.111/a"}))
    gone = rows({"identifier": "88.111/a", "op": "delete"})
    assert await tallies(begun, "identifiers.v1", "88.111", gone) == {"88.111": Figures(deleted=1)}
    assert await tallies(begun, "identifiers.v1", "88.111", gone) == {}
    back = rows({"identifier": "88.111/a", "overwrite": True})
    assert await tallies(begun, "identifiers.v1", "88.111", back) == {"88.111": Figures(registered=1)}


async def test_operators_count_for_each_prefix_by_itself() -> None:
    begun = await planning()
    both = rows({"identifier": "88.111.5/a"}, {"identifier": "88.111/a"}, {"identifier": "88.111.5.1/a"})
    expected = {"88.111": Figures(registered=1), "88.111.5": Figures(registered=2)}
    assert await tallies(begun, "identifiers.v1", "local", both) == expected


async def test_prefixes_count_for_the_one_above_when_they_come_into_being() -> None:
    begun = await planning()
    new = {"rows": [{"prefix": "88.111.6", "holder": "88.111", "hosting": "here"}]}
    assert await tallies(begun, "prefix-allocate.v1", "88.111", new) == {"88.111": Figures(allocated=1)}
    assert await tallies(begun, "prefix-state.v1", "local", {"prefix": "88.111.6", "state": "disabled"}) == {}
    assert await tallies(begun, "prefix-state.v1", "local", {"prefix": "88.111.6", "state": "enabled"}) == {}
    # An application is none, and there is nothing above this one.
    assert await tallies(begun, "prefix-state.v1", "local", {"prefix": "88.222", "state": "in_review"}) == {}
    top = {"rows": [{"prefix": "88", "holder": OWN_NAME, "hosting": "here"}]}
    assert await tallies(begun, "prefix-allocate.v1", "local", top) == {}
    below = {"rows": [{"prefix": f"88.{n}", "holder": OWN_NAME, "hosting": "here"} for n in (7, 8)]}
    assert await tallies(begun, "prefix-allocate.v1", "local", below) == {"88": Figures(allocated=2)}


async def test_prefixes_of_one_request_count_for_each_other() -> None:
    begun = await planning()
    chain = {"rows": [{"prefix": each, "holder": OWN_NAME, "hosting": "here"} for each in ("77", "77.1", "77.1.1")]}
    expected = {"77": Figures(allocated=1), "77.1": Figures(allocated=1)}
    assert await tallies(begun, "prefix-allocate.v1", "local", chain) == expected


async def test_long_prefixes_are_not_counted() -> None:
    long = "88.111." + "9" * PREFIX_BYTES
    begun = await Planning.begin(nodes=[node("88.111")], prefixes=[Prefix(long, "88.111")])
    assert await tallies(begun, "identifiers.v1", "88.111", rows({"identifier": f"{long}/a"})) == {}


@pytest.mark.parametrize("kind", ["node-apply.v1", "route.v1", "prefix-apply.v1", "prefix-renew.v1"])
def test_other_kinds_have_nothing_to_count(kind: str) -> None:
    assert PLANNERS[kind].__name__ != "plan"
