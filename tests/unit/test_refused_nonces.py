"""How long nonces of refused requests are remembered, and how many."""

from registry.refused_nonces import RefusedNonces
from resolver.store import Nonce

AT = 1_800_000_000


def nonces(count: int, until: int) -> list[Nonce]:
    return [Nonce(b"%d" % each, until) for each in range(count)]


def test_they_are_remembered_until_their_time_is_over() -> None:
    refused = RefusedNonces()
    first, second = Nonce(b"one", AT + 10), Nonce(b"two", AT + 20)
    for nonce in (first, second):
        refused.add(nonce)
    refused.tell_time(AT + 10)
    assert first in refused
    refused.tell_time(AT + 11)
    assert first not in refused
    assert second in refused
    assert Nonce(b"two", AT + 21) not in refused


def test_a_clock_that_is_set_back_forgets_nothing() -> None:
    refused = RefusedNonces()
    refused.add(Nonce(b"one", AT))
    refused.tell_time(AT - 86_400)
    assert Nonce(b"one", AT) in refused


def test_they_are_bounded_and_the_oldest_go_first() -> None:
    refused = RefusedNonces(most=100)
    come = nonces(250, AT)
    for nonce in come:
        refused.add(nonce)
    assert len(refused) == 100
    assert [nonce for nonce in come if nonce in refused] == come[150:]
