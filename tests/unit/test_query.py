"""Queries: the bounds of a filter, and which queries are everybody's."""

from typing import Any

import pytest

from resolver.bounds import FILTER_TERMS, INDEX_MAX
from resolver.errors import Fault, Reason
from resolver.query import PUBLIC, Asker, Mode, Query

QUERY = Query(identifiers=[b"88.1/X"], deadline=10.0)


def test_a_query_about_a_batch_asks_for_everything_that_is_held_here() -> None:
    assert QUERY.asker == PUBLIC
    assert QUERY.mode is Mode.LOCAL
    assert (QUERY.is_filtered, QUERY.authoritative, QUERY.with_copy) == (False, False, False)
    assert QUERY.is_shared


@pytest.mark.parametrize(
    ("types", "indexes"),
    [
        (("URL",), ()),
        (("HS_.",), ()),
        ((), (1, INDEX_MAX)),
        (("T",) * FILTER_TERMS, tuple(range(1, FILTER_TERMS + 1))),
    ],
)
def test_a_filter_may_fill_its_bounds(types: tuple[str, ...], indexes: tuple[int, ...]) -> None:
    query = Query(identifiers=[b"88.1/X"], deadline=10.0, types=types, indexes=indexes)
    assert query.is_filtered
    assert (query.types, query.indexes) == (types, indexes)


@pytest.mark.parametrize(
    ("types", "indexes", "field"),
    [
        (("T",) * (FILTER_TERMS + 1), (), "options.types"),
        ((), tuple(range(1, FILTER_TERMS + 2)), "options.indexes"),
        (("URL", ""), (), "options.types"),
        (("U\nRL",), (), "options.types"),
        (("\udcff",), (), "options.types"),
        ((), (0,), "options.indexes"),
        ((), (-1,), "options.indexes"),
        ((), (INDEX_MAX + 1,), "options.indexes"),
    ],
)
def test_a_filter_out_of_bounds_is_refused_with_its_field(
    types: tuple[str, ...], indexes: tuple[int, ...], field: str
) -> None:
    with pytest.raises(Fault) as caught:
        Query(identifiers=[b"88.1/X"], deadline=10.0, types=types, indexes=indexes)
    assert (caught.value.reason, caught.value.field) == (Reason.FIELD_OUT_OF_RANGE, field)


@pytest.mark.parametrize(
    ("asked", "is_shared"),
    [
        ({}, True),
        ({"asker": Asker(address="192.0.2.1")}, True),
        ({"asker": Asker(identity="88.111.1")}, True),
        ({"authoritative": True}, False),
        ({"is_full": True}, False),
        ({"is_full": True, "authoritative": True}, False),
    ],
)
def test_only_what_anybody_asks_of_caches_is_shared(asked: dict[str, Any], *, is_shared: bool) -> None:
    """Who asks does not matter for what is everybody's; what only a holder may read is nobody else's."""
    assert Query(identifiers=[b"88.1/X"], deadline=10.0, **asked).is_shared is is_shared


def test_nobody_asks_for_restricted_values_unless_it_is_said() -> None:
    assert not QUERY.is_full
    assert not QUERY.asker.is_operator


def test_the_same_can_be_asked_about_others() -> None:
    query = Query(identifiers=[b"88.1/X"], deadline=10.0, types=("URL",), mode=Mode.REFERRAL, with_copy=True)
    about = query.about([b"88.1/Y"])
    assert about.identifiers == [b"88.1/Y"]
    assert (about.deadline, about.types, about.mode, about.with_copy) == (10.0, ("URL",), Mode.REFERRAL, True)
