"""When a process that ended is started again."""

from hypothesis import given
from hypothesis import strategies as st

from nodes.serving.restarts import Restarts, RestartSettings
from resolver.units import Duration

SETTINGS = RestartSettings(first=Duration(0.1), longest=Duration(1), steady=Duration(10), attempts=6)


def test_waits_double_up_to_the_longest_and_then_it_is_given_up() -> None:
    restarts = Restarts(SETTINGS)
    assert [restarts.wait_after(0.5) for _ in range(7)] == [0.1, 0.2, 0.4, 0.8, 1, 1, None]


def test_a_long_life_makes_the_next_wait_the_first_again() -> None:
    restarts = Restarts(SETTINGS)
    for _ in range(5):
        restarts.wait_after(0.5)
    assert restarts.wait_after(10) == 0.1
    assert restarts.wait_after(9.9) == 0.2


@given(st.lists(st.floats(10, 1e6), max_size=50))
def test_what_lives_long_is_always_started_again_at_once(lives: list[float]) -> None:
    restarts = Restarts(SETTINGS)
    assert all(restarts.wait_after(lived) == 0.1 for lived in lives)
