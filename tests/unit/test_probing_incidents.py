"""Incidents: three failures in a row open one, three good probes close it, and nothing else does."""

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from nodes.probing.incidents import IN_A_ROW, KEPT, Incident, Incidents


def note(incidents: Incidents, outcomes: str, *, begin: int = 100) -> list[Incident]:
    """Note one probe a second, good ones as ".", failed ones as "x"; give what was opened or closed."""
    noted = (
        incidents.note(is_good=each == ".", at=at, cause="timeout") for at, each in enumerate(outcomes, start=begin)
    )
    return [each for each in noted if each]


def test_three_failures_in_a_row_open_one_that_began_with_the_first() -> None:
    incidents = Incidents()
    assert note(incidents, "..xx.xx.") == []
    (opened,) = note(incidents, "xxx", begin=200)
    assert opened == Incident(number=1, began_at=200, cause="timeout")
    assert incidents.current == opened


def test_three_good_probes_in_a_row_close_it_as_of_the_first() -> None:
    incidents = Incidents()
    note(incidents, "xxx")
    assert note(incidents, "..x.x..x", begin=200) == []
    (closed,) = note(incidents, "....", begin=300)
    assert closed == Incident(number=1, began_at=100, ended_at=300, cause="timeout")
    assert incidents.current is None


def test_incidents_are_numbered_and_the_newest_are_kept() -> None:
    incidents = Incidents()
    note(incidents, "xxx..." * (KEPT + 5))
    assert [each.number for each in incidents.newest_first] == list(range(KEPT + 5, 5, -1))
    assert incidents.opened == KEPT + 5


def test_a_clock_that_is_set_back_leaves_no_incident_that_ends_before_it_began() -> None:
    incidents = Incidents()
    note(incidents, "xxx", begin=500)
    (closed,) = note(incidents, "...", begin=0)
    assert (closed.began_at, closed.ended_at) == (500, 500)


@given(st.text(".x", max_size=200))
def test_one_is_open_exactly_while_the_last_long_run_was_of_failures(outcomes: str) -> None:
    incidents = Incidents()
    note(incidents, outcomes)
    long_runs = [kind for kind, run in groupby(outcomes) if len(list(run)) >= IN_A_ROW]
    assert (incidents.current is not None) == bool(long_runs and long_runs[-1] == "x")
    changes = [kind for kind, _ in groupby(long_runs)]
    assert incidents.opened == changes.count("x")
