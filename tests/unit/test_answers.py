"""How answers look to programs and to people."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.asking.answers import data_text, lifetime_text, plain, safe, time_text
from nodes.client import Traced
from registry.ndjson_rows import decode_row, read_ndjson
from registry.rows import IdentifierRow
from resolver.answer import Answer, Outcome, Standing
from resolver.errors import Fault, Reason
from resolver.handle import Handle
from resolver.record import Absolute, Record, Tombstone, Value
from resolver.routes import Endpoint, Protocol, Referral
from resolver.trace import Step
from tests import nouns

FOUND = Answer(outcome=Outcome.FOUND, standing=Standing.AUTHORITATIVE, authority="top", prefix="88.1")


@given(nouns.records().filter(lambda record: record.tombstone is None))
def test_a_printed_record_can_be_loaded_again(record: Record) -> None:
    told = plain("as asked", msgspec.structs.replace(FOUND, record=record))
    row = {"identifier": told["record"]["identifier"], "values": told["record"]["values"]}
    (line,) = read_ndjson(msgspec.json.encode(row), 1, decode_row)
    assert isinstance(line.row, IdentifierRow)
    assert line.row.to_values(0) == record.values


def test_everything_in_an_answer() -> None:
    record = Record(
        identifier=Handle("88.1", "a"),
        version=7,
        registrant="r",
        registered_at=1,
        updated_at=2,
        tombstone=Tombstone(reason="sold", deleted_at=3),
    )
    endpoint = Endpoint(Protocol.HANDLE_TCP, "10.0.0.1", 2641, 5, "n")
    referral = Referral(prefix="88.1", holder="h", endpoints=(endpoint,))
    answer = Answer(
        outcome=Outcome.NOT_HERE,
        record=record,
        referral=referral,
        standing=Standing.CACHED,
        stale=True,
        authority="x",
    )
    assert plain("88.1/A", answer) == {
        "identifier": "88.1/A",
        "outcome": "not_here",
        "standing": "cached",
        "authority": "x",
        "prefix": "",
        "stale": True,
        "record": {
            "identifier": "88.1/a",
            "registrant": "r",
            "registered_at": 1,
            "updated_at": 2,
            "version": 7,
            "values": [],
            "tombstone": {"reason": "sold", "deleted_at": 3},
        },
        "referral": {
            "prefix": "88.1",
            "holder": "h",
            "endpoints": [
                {"protocol": "handle_tcp", "address": "10.0.0.1", "port": 2641, "priority": 5, "tls_name": "n"}
            ],
        },
    }


@pytest.mark.parametrize(("retry_after", "more"), [(None, {}), (0.5, {"retry_after": 0.5})])
def test_a_fault_stands_in_the_place_of_an_answer(retry_after: float | None, more: dict[str, Any]) -> None:
    fault = Fault(Reason.RATE_LIMITED, "Slowly.", field="f", retry_after=retry_after)
    error = {"reason": "RATE_LIMITED", "detail": "Slowly.", "field": "f", **more}
    assert plain("a", fault) == {"identifier": "a", "outcome": "error", "error": error}


def test_the_way_of_an_answer() -> None:
    steps = [Step("top", "memory", "hit", 12)]
    told = plain("a", FOUND, Traced(FOUND, steps, 0.25))
    assert (told["trace"], told["seconds"]) == (steps, 0.25)


def test_what_was_asked_can_always_be_printed() -> None:
    assert msgspec.json.encode(plain("88.1/\udcff", FOUND))


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Zl"])))
def test_no_text_gets_at_the_terminal(text: str) -> None:
    assert safe(text).isprintable()
    if text.isprintable():
        assert safe(text) == text


@given(st.binary(max_size=400))
def test_no_data_gets_at_the_terminal(data: bytes) -> None:
    shown = data_text(data)
    assert shown.isprintable()
    assert len(shown) <= 64


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", ""),
        ("光模块".encode(), "光模块"),
        ("光\n".encode(), "光\\n"),
        (b"\x1b[31m", "\\x1b[31m"),
        (b"x" * 64, "x" * 64),
        (b"x" * 65, "x" * 61 + "..."),
        (b"\xff\x00", "0xff00"),
        (b"\xff" * 20, "0x" + "ff" * 16 + "... (20 bytes)"),
    ],
)
def test_data_in_a_table(data: bytes, shown: str) -> None:
    assert data_text(data) == shown


def test_times_in_a_table() -> None:
    assert time_text(0) == ""
    assert time_text(1_800_000_000) == "2027-01-15 08:00:00Z"
    value = Value(index=1, type="T", data=b"")
    assert lifetime_text(value) == "86,400 s"
    until = msgspec.structs.replace(value, lifetime=Absolute(1_800_000_000))
    assert lifetime_text(until) == "until 2027-01-15 08:00:00Z"
