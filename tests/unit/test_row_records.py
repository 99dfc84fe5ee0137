"""Records that are encoded straight from rows are the ones that nouns make, byte for byte."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from registry.records import RecordMaker
from registry.rows import PERMISSIONS_UNSAID, ReferenceRow, ValueRow, to_values
from resolver.errors import Fault, Reason
from resolver.handle import Handle
from resolver.record import Record
from resolver.wire import record_body

NOW = 1_800_000_000
IDENTIFIER = "88.1/a"

unsaid = st.just(UNSET)
value_rows = st.builds(
    ValueRow,
    index=st.integers(-1, 6) | st.sampled_from([1_023, 1_024, 2**31 - 1, 2**31]),
    type=st.sampled_from(["URL", "NAME.SHORT", "", "a.", "ü" * 64, "ü" * 65, "\n"]),
    data=unsaid | st.text(max_size=200) | st.sampled_from(["", "x" * 65_536, "ü" * 32_769]),
    data_base64=unsaid | unsaid | st.binary(max_size=200),
    ttl=unsaid | unsaid | st.sampled_from([0, 86_400, 7, -1, 2**32]),
    expires_at=unsaid | unsaid | unsaid | st.sampled_from([0, NOW, 2**32]),
    timestamp=unsaid | unsaid | st.sampled_from([0, NOW, 5, -1, 2**32]),
    permissions=st.sampled_from([PERMISSIONS_UNSAID] * 4 + ["1110", "1100", "0000", "x"]),
    references=st.lists(
        st.builds(ReferenceRow, handle=st.sampled_from(["88.1/b", "b"]), index=st.just(1)), max_size=1
    ),
)
plain_rows = st.builds(
    ValueRow,
    index=st.integers(1, 5),
    type=st.sampled_from(["URL", "NAME"]),
    data=st.text(max_size=20),
    ttl=unsaid | st.integers(0, 9),
    timestamp=unsaid | st.integers(0, 9),
)


def by_nouns(values: list[ValueRow], registrant: str) -> tuple[bytes, bytes]:
    record = Record(
        identifier=Handle.from_text(IDENTIFIER),
        values=to_values(values, NOW),
        registrant=registrant,
        registered_at=NOW,
        updated_at=NOW,
    )
    public = record_body(record, public=True)
    return public, b"" if record.is_public else record_body(record, public=False)


def by_rows(maker: RecordMaker, values: list[ValueRow], registrant: str) -> tuple[bytes, bytes]:
    write = maker.write(b"key", IDENTIFIER, IDENTIFIER.encode(), values, registrant)
    assert (write.key, write.is_new) == (b"key", True)
    return write.public, write.full


def outcome(make: Any, *arguments: Any) -> Any:
    try:
        return make(*arguments)
    except Fault as fault:
        return fault.reason, fault.field, fault.detail


@given(
    st.lists(
        st.tuples(
            st.lists(value_rows, max_size=4) | st.lists(plain_rows, max_size=4),
            st.sampled_from(["maker", "", "ü", "\n"]),
        ),
        max_size=4,
    )
)
def test_any_rows_come_to_what_nouns_come_to(rows: list[tuple[list[ValueRow], str]]) -> None:
    """The same bytes, or the same fault; also for rows after others, when pieces are remembered."""
    maker = RecordMaker(NOW)
    for values, registrant in rows:
        assert outcome(by_rows, maker, values, registrant) == outcome(by_nouns, values, registrant)


@pytest.mark.parametrize("count", [2_048, 2_049])
@pytest.mark.parametrize("data", ["", "x" * 124, "x" * 125])
def test_at_the_bounds_of_a_record(count: int, data: str) -> None:
    values = [ValueRow(index=index, type="T", data=data) for index in range(1, count + 1)]
    came = outcome(by_rows, RecordMaker(NOW), values, "maker")
    assert came == outcome(by_nouns, values, "maker")


def test_a_record_of_exactly_its_bound() -> None:
    """One byte more is too much."""
    rest = [ValueRow(index=index, type="T", data="x" * 60_000) for index in range(1, 5)]

    def made(size: int) -> Any:
        values = [*rest, ValueRow(index=9, type="T", data="y" * size)]
        came = outcome(by_rows, RecordMaker(NOW), values, "maker")
        assert came == outcome(by_nouns, values, "maker")
        return came

    fits = max(size for size in range(21_950, 22_200) if isinstance(made(size)[0], bytes))
    assert made(fits + 1)[0] is Reason.RECORD_TOO_LARGE
