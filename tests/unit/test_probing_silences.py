"""Endpoints at which nobody has answered: how many looks it takes, what ends it, and how old it may be."""

from nodes.probing.probe import Cause, Look
from nodes.probing.silences import Silences
from resolver.routes import Endpoint, Protocol

ONE, OTHER = (Endpoint(Protocol.GRPC, "192.0.2.1", port) for port in (1, 2))
LONG_AGO = float("-inf")


def noted(*looks: Cause | None) -> Silences:
    """Look at one endpoint every ten seconds, from 0 on."""
    silences = Silences()
    for number, cause in enumerate(looks):
        silences.note(ONE, Look(0.1, cause), 10.0 * number)
    return silences


def test_three_looks_in_a_row_that_nobody_answers_are_a_silence() -> None:
    assert noted(Cause.SILENT, Cause.UNREACHABLE).lasting(LONG_AGO) == {}
    assert noted(Cause.SILENT, Cause.UNREACHABLE, Cause.SILENT).lasting(LONG_AGO) == {ONE: 0.0}
    # Of a longer one the latest three are told: what was answered before them is refuted.
    assert noted(*[Cause.SILENT] * 5).lasting(LONG_AGO) == {ONE: 20.0}


def test_one_look_that_is_answered_ends_it_whatever_the_answer() -> None:
    silent = [Cause.SILENT] * 3
    for answered in (None, Cause.NOT_SERVING, Cause.REFUSED, Cause.OTHER_NODE):
        assert noted(*silent, answered).lasting(LONG_AGO) == {}
        assert noted(*silent, answered, *silent[1:]).lasting(LONG_AGO) == {}


def test_what_was_not_looked_at_lately_says_nothing() -> None:
    silences = noted(*[Cause.SILENT] * 3)
    assert silences.lasting(20.0) == {ONE: 0.0}
    assert silences.lasting(20.1) == {}


def test_endpoints_are_apart_and_forgotten() -> None:
    silences = noted(*[Cause.SILENT] * 3)
    silences.note(OTHER, Look(0.1, None), 30.0)
    silences.forget(OTHER)
    assert silences.lasting(LONG_AGO) == {ONE: 0.0}
    silences.forget(ONE)
    assert silences.lasting(LONG_AGO) == {}
