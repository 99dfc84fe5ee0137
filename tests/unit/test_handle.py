"""Identifiers: where they split, what is refused and why, and which spellings are one identifier."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolver.bounds import IDENTIFIER_BYTES
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule, Handle, ancestors, canonical, check_prefix, encoded, fold, lineage, split
from tests.nouns import handles, prefixes


@pytest.mark.parametrize(
    ("text", "prefix", "suffix"),
    [
        ("88.111.1/SN-0042", "88.111.1", "SN-0042"),
        ("88.111.1/a/b//c/", "88.111.1", "a/b//c/"),
        ("88.111.1//", "88.111.1", "/"),
        ("20.500.123/urn:x:y", "20.500.123", "urn:x:y"),
        ("0.NA/88.111", "0.NA", "88.111"),
        ("88.111/制动盘 42", "88.111", "制动盘 42"),
        ("工业.1/x", "工业.1", "x"),
        ("a/😀", "a", "😀"),
        ("88.1/ ", "88.1", " "),
        ("88.1/\u2028\u200b\ufeff", "88.1", "\u2028\u200b\ufeff"),
    ],
)
def test_an_identifier_splits_at_its_first_slash(text: str, prefix: str, suffix: str) -> None:
    handle = Handle.from_text(text)
    assert (handle.prefix, handle.suffix) == (prefix, suffix)
    assert handle.to_text() == str(handle) == text
    assert Handle.from_bytes(text.encode()) == handle
    assert split(text.encode()) == (prefix.encode(), suffix.encode())


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"", Reason.IDENTIFIER_EMPTY),
        (b"88.111.1", Reason.IDENTIFIER_NO_SLASH),
        (b"88.111.1/", Reason.IDENTIFIER_EMPTY_SUFFIX),
        (b"/", Reason.IDENTIFIER_EMPTY_SUFFIX),
        (b"/x", Reason.PREFIX_EMPTY_SEGMENT),
        (b"//", Reason.PREFIX_EMPTY_SEGMENT),
        (b".88/x", Reason.PREFIX_EMPTY_SEGMENT),
        (b"88./x", Reason.PREFIX_EMPTY_SEGMENT),
        (b"88..1/x", Reason.PREFIX_EMPTY_SEGMENT),
        (b"./x", Reason.PREFIX_EMPTY_SEGMENT),
        (b"88.1/" + b"x" * (IDENTIFIER_BYTES - 4), Reason.IDENTIFIER_TOO_LONG),
        (b"88.1/" + "é".encode() * (IDENTIFIER_BYTES // 2), Reason.IDENTIFIER_TOO_LONG),
        (b"88.1/\xff", Reason.IDENTIFIER_NOT_UTF8),
        (b"\xe9/x", Reason.IDENTIFIER_NOT_UTF8),
        (b"88.1/\xed\xa0\x80", Reason.IDENTIFIER_NOT_UTF8),  # an encoded surrogate
        (b"88.1/\xc0\xaf", Reason.IDENTIFIER_NOT_UTF8),  # a slash in two bytes
        (b"88.1/x\n", Reason.IDENTIFIER_CONTROL_CHARACTER),
        (b"88.1\t/x", Reason.IDENTIFIER_CONTROL_CHARACTER),
        (b"\x00", Reason.IDENTIFIER_CONTROL_CHARACTER),
        (b"88.1/\x7f", Reason.IDENTIFIER_CONTROL_CHARACTER),
        (b"88.1/\xc2\x85", Reason.IDENTIFIER_CONTROL_CHARACTER),  # NEL, U+0085
        (b"88.1/\xc2\x9f", Reason.IDENTIFIER_CONTROL_CHARACTER),
    ],
)
def test_what_is_no_identifier_is_refused_with_its_reason_and_field(octets: bytes, reason: Reason) -> None:
    for read in (split, Handle.from_bytes):
        with pytest.raises(Fault) as caught:
            read(octets)
        assert (caught.value.reason, caught.value.field) == (reason, "identifier")


def test_an_identifier_may_fill_its_bound() -> None:
    """2,048 bytes are accepted; the refusal of one more says how many there were."""
    full = b"88.1/" + b"x" * (IDENTIFIER_BYTES - 5)
    assert Handle.from_bytes(full).to_bytes() == full
    with pytest.raises(Fault) as caught:
        split(full + b"x")
    assert caught.value.variables == {"bytes": "2049", "allowed": "2048"}


def test_a_refusal_says_where_the_fault_is() -> None:
    with pytest.raises(Fault) as control:
        split("制动盘/x\x85".encode())
    assert control.value.variables == {"offset": "5", "character": "U+0085"}
    with pytest.raises(Fault) as not_utf8:
        split(b"88.1/\xff")
    assert not_utf8.value.variables == {"offset": "5"}


@given(st.characters(categories=["Cc"]))
def test_every_control_character_is_refused(character: str) -> None:
    """C0, DEL and C1: what Unicode calls Cc is exactly U+0000 to U+001F and U+007F to U+009F."""
    with pytest.raises(Fault) as caught:
        Handle.from_text(f"88.1/a{character}")
    assert caught.value.reason is Reason.IDENTIFIER_CONTROL_CHARACTER


@pytest.mark.parametrize("text", ["88.1/\ud800", "\udcff/x", "\udcff"])
def test_a_lone_surrogate_is_not_utf8(text: str) -> None:
    """Python makes them of arguments and file names that are not UTF-8."""
    with pytest.raises(Fault) as caught:
        Handle.from_text(text)
    assert caught.value.reason is Reason.IDENTIFIER_NOT_UTF8
    with pytest.raises(Fault) as named:
        encoded(text, field="prefix")
    assert (named.value.reason, named.value.field) == (Reason.IDENTIFIER_NOT_UTF8, "prefix")


@pytest.mark.parametrize(
    ("prefix", "suffix", "reason"),
    [
        ("88/1", "x", Reason.PREFIX_HAS_SLASH),
        ("88", "", Reason.IDENTIFIER_EMPTY_SUFFIX),
        ("", "x", Reason.PREFIX_EMPTY_SEGMENT),
        ("88..1", "x", Reason.PREFIX_EMPTY_SEGMENT),
        ("\ud800", "x", Reason.IDENTIFIER_NOT_UTF8),
    ],
)
def test_a_handle_is_checked_however_it_is_built(prefix: str, suffix: str, reason: Reason) -> None:
    with pytest.raises(Fault) as caught:
        Handle(prefix, suffix)
    assert caught.value.reason is reason


def test_a_handle_is_frozen() -> None:
    handle = Handle.from_text("88.1/x")
    with pytest.raises(AttributeError):
        handle.suffix = "y"  # type: ignore[misc]  # that it cannot be done is what is tested
    assert hash(handle) == hash(Handle("88.1", "x"))


@given(handles)
def test_text_and_bytes_round_trip(handle: Handle) -> None:
    assert Handle.from_text(handle.to_text()) == handle
    assert Handle.from_bytes(handle.to_bytes()) == handle


@given(st.text(max_size=30))
@example("/")
@example("a/\x9f")
def test_any_text_is_either_read_or_refused(text: str) -> None:
    """No text makes anything but a Handle that gives it back, or a Fault with the field named."""
    try:
        said = Handle.from_text(text).to_text()
    except Fault as fault:
        said = fault.field
    assert said in (text, "identifier")


# --- case --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "insensitive", "sensitive"),
    [
        ("0.na/sn-1a", "0.NA/SN-1A", "0.NA/sn-1a"),
        ("0.NA/SN-1A", "0.NA/SN-1A", "0.NA/SN-1A"),
        ("a.B/c/D/e", "A.B/C/D/E", "A.B/c/D/e"),
        # Only ASCII letters are folded: none of these has another case here.
        ("1/ß", "1/ß", "1/ß"),
        ("1/\N{LATIN SMALL LETTER DOTLESS I}", "1/\u0131", "1/\u0131"),
        ("1/é", "1/é", "1/é"),
        ("1/\N{FULLWIDTH LATIN SMALL LETTER A}", "1/\uff41", "1/\uff41"),
        ("1/\N{LATIN SMALL LIGATURE FI}", "1/\ufb01", "1/\ufb01"),
        ("1/\N{MICRO SIGN}", "1/µ", "1/µ"),
        # Nothing is normalised: composed and decomposed are two identifiers (only the bare letter is folded).
        ("1/e\N{COMBINING ACUTE ACCENT}", "1/E\u0301", "1/e\u0301"),
    ],
)
def test_the_key_folds_ascii_by_the_rule(text: str, insensitive: str, sensitive: str) -> None:
    handle = Handle.from_text(text)
    assert handle.canonical(CaseRule.INSENSITIVE).decode() == insensitive
    assert handle.canonical(CaseRule.SENSITIVE).decode() == sensitive


@given(handles, st.sampled_from(CaseRule))
def test_folding_a_key_again_changes_nothing(handle: Handle, rule: CaseRule) -> None:
    key = handle.canonical(rule)
    again = Handle.from_bytes(key).canonical(rule)
    assert again == key
    assert len(key) == len(handle.to_bytes())


@given(handles)
def test_spellings_that_differ_by_ascii_case_share_a_key_and_no_others_do(handle: Handle) -> None:
    text = handle.to_text()
    swapped = "".join(letter.swapcase() if letter.isascii() else letter for letter in text)
    assert Handle.from_text(swapped).canonical(CaseRule.INSENSITIVE) == handle.canonical(CaseRule.INSENSITIVE)
    folded = "".join(letter.upper() if letter.isascii() else letter for letter in text)
    assert handle.canonical(CaseRule.INSENSITIVE).decode() == folded


def test_a_sensitive_key_keeps_the_case_of_the_suffix_only() -> None:
    assert canonical(b"a.b/c", prefix_length=3, case_sensitive=True) == b"A.B/c"
    assert canonical(b"a.b/c", prefix_length=3, case_sensitive=False) == b"A.B/C"
    assert fold("aß".encode()) == "Aß".encode()


# --- prefixes ----------------------------------------------------------------------------------------------------


def test_segments_are_text_and_leading_zeros_matter() -> None:
    zeros = Handle.from_text("88.101.0042/001")
    assert zeros != Handle.from_text("88.101.42/001")
    assert zeros.canonical(CaseRule.INSENSITIVE) == b"88.101.0042/001"
    assert check_prefix(b"88.101.0042") != check_prefix(b"88.101.42")


@pytest.mark.parametrize(
    ("prefix", "reason"),
    [
        (b"", Reason.IDENTIFIER_EMPTY),
        (b"88/1", Reason.PREFIX_HAS_SLASH),
        (b"88.", Reason.PREFIX_EMPTY_SEGMENT),
        (b".", Reason.PREFIX_EMPTY_SEGMENT),
        (b"88..1", Reason.PREFIX_EMPTY_SEGMENT),
        (b"88\n", Reason.IDENTIFIER_CONTROL_CHARACTER),
        (b"\xff", Reason.IDENTIFIER_NOT_UTF8),
        (b"8" * (IDENTIFIER_BYTES + 1), Reason.IDENTIFIER_TOO_LONG),
    ],
)
def test_what_is_no_prefix_is_refused_under_the_callers_field(prefix: bytes, reason: Reason) -> None:
    with pytest.raises(Fault) as caught:
        check_prefix(prefix, field="column 3")
    assert (caught.value.reason, caught.value.field) == (reason, "column 3")


def test_a_checked_prefix_comes_back_folded() -> None:
    assert check_prefix("0.na.ß".encode()) == "0.NA.ß".encode()


def test_prefixes_are_walked_by_segments_both_ways() -> None:
    assert list(ancestors(b"88.111.1")) == [b"88.111.1", b"88.111", b"88"]
    assert list(lineage(b"88.111.1", 9)) == [b"88", b"88.111", b"88.111.1"]
    assert list(lineage(b"88.111.1", 2)) == [b"88", b"88.111"]
    assert list(lineage(b"88", 1)) == [b"88"]
    assert list(lineage(b"88", 0)) == []


@given(prefixes)
def test_down_is_up_turned_round(prefix: str) -> None:
    octets = prefix.encode()
    up = list(ancestors(octets))
    assert list(lineage(octets, len(up))) == up[::-1]
    assert len(up) == len(prefix.split("."))
