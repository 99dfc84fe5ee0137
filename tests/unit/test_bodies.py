"""Reading bodies: exactly what the struct says, and every refusal names its place."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from registry.bodies import decode
from resolver.errors import Fault, Reason


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    number: int = 0
    octets: bytes = b""


class Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rows: list[Row]


def test_a_body_is_read_as_its_struct() -> None:
    body = b'{"rows": [{"name": "a", "number": 3, "octets": "AAE="}]}'
    assert decode(body, Body) == Body(rows=[Row(name="a", number=3, octets=b"\x00\x01")])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"rows": [{"name": 1}]}', "rows[0].name"),
        (b'{"rows": [{"name": "a"}, {"nome": "b"}]}', "rows[1].nome"),
        (b'{"rows": [{}]}', "rows[0].name"),
        (b'{"rows": [{"name": "a", "octets": "!"}]}', "rows[0].octets"),
        (b'{"row": []}', "row"),
        (b"{}", "rows"),
        (b'{"rows": "a"}', "rows"),
        (b"[]", "body"),
        (b"", "body"),
        (b'{"rows": []} {}', "body"),
        (b'{"rows": [{"name": "\xff"}]}', "body"),
        (b'{"rows": [{"name": "\\ud800"}]}', "body"),
        (b'{"rows": ' + b"[" * 100_000, "rows[0]"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(body: bytes, field: str) -> None:
    with pytest.raises(Fault) as caught:
        decode(body, Body)
    assert (caught.value.reason, caught.value.field) == (Reason.PAYLOAD_MALFORMED, field)
    assert not caught.value.detail.endswith("..")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["rows", "name", "number", "octets"]), inner),
)


def body_or_fault(sent: Any) -> Body | Fault:
    try:
        return decode(json.dumps(sent).encode(), Body)
    except Fault as fault:
        return fault


@given(anything)
def test_whatever_is_sent_is_a_body_or_a_fault(sent: Any) -> None:
    read = body_or_fault(sent)
    if isinstance(read, Fault):
        assert read.reason is Reason.PAYLOAD_MALFORMED
        assert read.field
    else:
        assert len(read.rows) == len(sent["rows"])


@given(st.binary())
def test_whatever_bytes_are_sent_nothing_else_is_raised(sent: bytes) -> None:
    with pytest.raises(Fault, match="PAYLOAD_MALFORMED"):
        decode(sent, Body)
