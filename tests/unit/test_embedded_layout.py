"""The keys of the embedded store."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.handle import check_prefix
from resolver.store import Nonce
from resolver.store.embedded.layout import (
    KEY_MAX,
    LEAD,
    artefact_row,
    import_row,
    is_shortened,
    lmdb_key,
    nonce_row,
    nonce_until,
    number,
    span,
)
from resolver.store.naming import prefix_of

texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
# Around the lengths at which keys are shortened, and at which a prefix no longer shows in a shortened key.
long_texts = st.builds(lambda text, times: (text * times)[:2_000], texts, st.sampled_from([1, 40, 60, 130, 200]))
keys = st.builds("{}/{}".format, long_texts.filter(lambda text: "/" not in text), long_texts).map(str.encode)


@given(key=keys)
def test_every_key_fits_into_lmdb_and_a_short_one_is_itself(key: bytes) -> None:
    kept = lmdb_key(key)
    assert 0 < len(kept) <= KEY_MAX
    assert is_shortened(kept) is (len(key) > KEY_MAX)
    assert (kept == key) is (len(key) <= KEY_MAX)
    assert kept.startswith(key[:LEAD])


@given(one=keys, other=keys)
def test_different_keys_stay_different(one: bytes, other: bytes) -> None:
    assert (lmdb_key(one) == lmdb_key(other)) is (one == other)


@given(key=keys, derived=st.booleans())
def test_whatever_lies_below_a_prefix_lies_in_its_span(key: bytes, *, derived: bool) -> None:
    first, end = span(prefix_of(key), derived=derived)
    assert first <= lmdb_key(key) < end


@given(parent=texts, below=texts, suffix=long_texts)
def test_what_lies_below_derived_prefixes_lies_in_the_span_that_includes_them(
    parent: str, below: str, suffix: str
) -> None:
    parent, below = parent.replace("/", "x"), below.replace("/", "x")
    first, end = span(parent.encode(), derived=True)
    assert first <= lmdb_key(f"{parent}.{below}/{suffix}".encode()) < end


@pytest.mark.parametrize("neighbour", ["88.1-/A", "88.10/A", "88.1\u00e9/A", "88.1,/A", "88/A", "88.1:/A"])
def test_neighbours_lie_outside_of_both_spans(neighbour: str) -> None:
    check_prefix(prefix_of(neighbour.encode()))
    for derived in (False, True):
        first, end = span(b"88.1", derived=derived)
        assert not first <= neighbour.encode() < end


@given(one=st.integers(0, 2**64 - 1), other=st.integers(0, 2**64 - 1))
def test_numbers_sort_as_their_encodings(one: int, other: int) -> None:
    assert (number(one) < number(other)) is (one < other)


nonces = st.builds(Nonce, st.binary(max_size=500), st.integers(0, 2**40))
places = st.tuples(st.integers(0, 2**40), st.integers(0, 255))


@given(one=nonces, other=nonces)
def test_nonces_stay_different_and_sort_by_when_they_may_be_forgotten(one: Nonce, other: Nonce) -> None:
    assert (nonce_row(one) == nonce_row(other)) is (one == other)
    assert nonce_until(nonce_row(one)) == one.until
    if one.until < other.until:
        assert nonce_row(one) < nonce_row(other)
    assert len(nonce_row(one)) <= KEY_MAX


@given(one=places, other=places)
def test_artefacts_sort_by_entry_and_then_by_place(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (artefact_row(*one) < artefact_row(*other)) is (one < other)


def test_an_import_may_have_any_name() -> None:
    for name in ("", "rows.ndjson", "x" * 5_000, "零件", "not\udcffutf8"):
        assert 0 < len(import_row(name)) <= KEY_MAX
