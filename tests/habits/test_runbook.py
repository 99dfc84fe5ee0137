"""The runbook names only metrics that there are."""

import re

from tests.habits.tree import FLOORS, ROOT, sources

RUNBOOK = ROOT / "deploy" / "RUNBOOK.md"


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\btopnode_[a-z_]+", text))


def names_in_code() -> set[str]:
    return {name for _, text in sources(ROOT, *FLOORS) for name in metric_names(text)}


def unknown(named: set[str], known: set[str]) -> set[str]:
    """A collector's family is named without the `_total` that its counter is exposed with."""
    return {name for name in named if name not in known and name.removesuffix("_total") not in known}


def test_every_metric_of_the_runbook_exists() -> None:
    named = metric_names(RUNBOOK.read_text())
    assert named
    # Services name their metrics after themselves: see resolver/rpc/calls.py.
    assert unknown(named, names_in_code() | {"topnode_resolver_calls", "topnode_registry_calls"}) == set()


def test_a_metric_that_is_not_there_is_noticed() -> None:
    assert unknown({"topnode_wishes_total"}, names_in_code()) == {"topnode_wishes_total"}
