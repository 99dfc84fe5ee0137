"""Page tokens can be neither read, forged, altered nor taken to another listing."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolver.bounds import ANSWER_BYTES, IDENTIFIER_BYTES, LIST_PAGE
from resolver.errors import Fault, Reason
from resolver.front.paging import TOKEN_CHARACTERS, PageTokens

TOKENS = PageTokens(b"s" * 32)
ALPHABET = string.ascii_letters + string.digits + "-_"

positions = st.binary(min_size=1, max_size=IDENTIFIER_BYTES)
prefixes = st.binary(min_size=1, max_size=60)


def _refused(token: str, prefix: bytes = b"88.111", *, derived: bool = False, by: PageTokens = TOKENS) -> None:
    with pytest.raises(Fault) as raised:
        by.open(token, prefix, derived=derived)
    assert (raised.value.reason, raised.value.field) == (Reason.PAGE_TOKEN_INVALID, "page_token")


@given(positions, prefixes, st.booleans())
def test_a_position_comes_back(position: bytes, prefix: bytes, derived: bool) -> None:  # noqa: FBT001 - drawn
    token = TOKENS.seal(position, prefix, derived=derived)
    assert set(token) <= set(ALPHABET)
    assert TOKENS.open(token, prefix, derived=derived) == position


@given(positions, prefixes)
def test_a_token_tells_nothing_of_its_position(position: bytes, prefix: bytes) -> None:
    """Positions of the same length make tokens of the same length that share nothing but the version."""
    other = bytes(octet ^ 1 for octet in position)
    one, two = (TOKENS.seal(each, prefix, derived=False) for each in (position, other))
    assert len(one) == len(two)
    assert one[0] == two[0]
    assert one[2:24] != two[2:24]


@given(positions, st.data())
def test_an_altered_token_is_refused(position: bytes, data: st.DataObject) -> None:
    token = TOKENS.seal(position, b"88.111", derived=False)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(ALPHABET).filter(lambda character: character != token[at]))
    _refused(token[:at] + other + token[at + 1 :])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_bits_that_base64_would_drop_count_too(length: int) -> None:
    token = TOKENS.seal(b"k" * length, b"88.111", derived=False)
    for last in set(ALPHABET) - {token[-1]}:
        _refused(token[:-1] + last)


@given(positions, st.data())
def test_a_shortened_or_lengthened_token_is_refused(position: bytes, data: st.DataObject) -> None:
    token = TOKENS.seal(position, b"88.111", derived=False)
    _refused(token[: data.draw(st.integers(0, len(token) - 1))])
    _refused(token + data.draw(st.text(ALPHABET + "= \n", min_size=1, max_size=8)))


@given(st.text(max_size=200))
def test_any_other_text_is_refused(token: str) -> None:
    _refused(token)


@given(positions)
def test_a_token_is_good_for_its_listing_only(position: bytes) -> None:
    token = TOKENS.seal(position, b"88.111", derived=False)
    _refused(token, b"88.112")
    _refused(token, derived=True)
    _refused(token, by=PageTokens(b"t" * 32))


def test_the_longest_token_fits_and_a_longer_text_is_not_looked_at() -> None:
    longest = TOKENS.seal(b"k" * IDENTIFIER_BYTES, b"88", derived=True)
    assert len(longest) < TOKEN_CHARACTERS
    _refused("A" * (TOKEN_CHARACTERS + 1))


def test_a_full_page_of_the_longest_identifiers_stays_within_an_answer() -> None:
    """So that a page needs no bound in bytes beside the one in identifiers."""
    tag_and_length = 3
    assert LIST_PAGE * (IDENTIFIER_BYTES + tag_and_length) + TOKEN_CHARACTERS + tag_and_length < ANSWER_BYTES
