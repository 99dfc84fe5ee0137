"""Endpoints by holder, counted by prefixes: against a plain map of all prefixes, and where there is no more room."""

from hypothesis import given
from hypothesis import strategies as st

from nodes.probing.holdings import STRANGER, Holdings, Route
from nodes.probing.numbering import Numbers
from resolver.routes import Endpoint, Protocol

ENDPOINTS = [Endpoint(Protocol.GRPC, "192.0.2.1", port) for port in (1, 2, 3)]
ROUTES = [Route(holder, tuple(ENDPOINTS[:count])) for holder in ("a", "b") for count in (1, 2, 3)]
KEYS = [f"88.{number}".encode() for number in range(6)]

changes = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from([None, STRANGER, *ROUTES])))


@given(changes)
def test_it_knows_what_a_map_of_all_prefixes_knows(made: list[tuple[bytes, Route | None]]) -> None:
    holdings, plain = Holdings(), dict[bytes, Route]()
    for key, route in made:
        before = plain.pop(key, None)
        if route is not None:
            plain[key] = route
        assert holdings.put(key, route) is (route != before)
    known = [route for route in plain.values() if route != STRANGER]
    assert set(holdings.holders) == {route.holder for route in known}
    for holder in ("a", "b"):
        expected = {endpoint for route in known if route.holder == holder for endpoint in route.endpoints}
        assert set(holdings.endpoints(holder)) == expected
    assert (holdings.strangers, holdings.left_out) == (len(plain) - len(known), 0)


def test_routes_beyond_the_room_are_left_out_and_counted() -> None:
    holdings = Holdings(most=2)
    for key, route in zip(KEYS, ROUTES[:4], strict=False):
        holdings.put(key, route)
    assert (holdings.left_out, holdings.has_room) == (2, False)
    assert holdings.endpoints("a") == tuple(ENDPOINTS[:2])
    # Those that are held already need no room.
    holdings.put(KEYS[4], ROUTES[0])
    assert holdings.left_out == 2
    holdings.put(KEYS[1], None)
    assert (holdings.left_out, holdings.has_room) == (2, True)
    holdings.put(KEYS[2], ROUTES[2])
    holdings.put(KEYS[3], None)
    assert (holdings.left_out, holdings.has_room) == (0, False)
    assert holdings.endpoints("a") == tuple(ENDPOINTS)


@given(st.lists(st.tuples(st.binary(max_size=2), st.none() | st.integers(0, 2**32 - 1))))
def test_numbers_are_exchanged_as_in_a_map(made: list[tuple[bytes, int | None]]) -> None:
    numbers, plain = Numbers(), dict[bytes, int]()
    for key, number in made:
        assert numbers.exchange(key, number) == plain.pop(key, None)
        if number is not None:
            plain[key] = number
