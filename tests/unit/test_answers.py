"""How answers look to programs and to people."""

from io import StringIO
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from nodes.asking import answer_tables
from nodes.asking.answers import data_text, lifetime_text, plain, safe, time_text
from nodes.client import Traced
from registry.ndjson_rows import decode_row, read_ndjson
from registry.rows import IdentifierRow
from resolver.answer import Answer, Hop, Outcome, Standing
from resolver.errors import Fault, Reason
from resolver.handle import Handle
from resolver.record import Absolute, Record, Tombstone, Value
from resolver.routes import Endpoint, Protocol, Referral
from resolver.trace import Step
from resolver.trust.verdicts import Trust
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


def shown(renderable: RenderableType) -> list[str]:
    """Give the lines of a table as a wide terminal has them, with single spaces."""
    with StringIO() as file:
        Console(file=file, width=200).print(renderable)
        return [" ".join(line.split()) for line in file.getvalue().splitlines()]


FORWARDED = msgspec.structs.replace(
    FOUND,
    standing=Standing.CACHED,
    authority="88.111.2",
    hops=(Hop("88.111.2", Protocol.GRPC, 1_800_000_000_001), Hop("88.111", Protocol.GRPC, 1_800_000_000_002)),
    expires_at=1_800_003_600,
    trust=Trust.UNKNOWN,
)


def test_the_nodes_by_way_of_which_an_answer_came() -> None:
    told = plain("88.111.2/A", FORWARDED)
    assert told["hops"] == [
        {"node": "88.111.2", "protocol": "grpc", "obtained_at": 1_800_000_000_001},
        {"node": "88.111", "protocol": "grpc", "obtained_at": 1_800_000_000_002},
    ]
    assert (told["expires_at"], told["trust"]) == (1_800_003_600, "unknown")
    assert "takeover" not in told
    lines = shown(answer_tables.one("88.111.2/A", FORWARDED))
    assert lines[1] == "found · cached · by 88.111.2 · under 88.1 · by way of 88.111.2, 88.111"


def test_an_answer_in_the_place_of_an_authority_that_is_down_says_so() -> None:
    answer = msgspec.structs.replace(FOUND, standing=Standing.REGISTERED_COPY, authority="88.111", takeover=True)
    told = plain("88.111/A", answer)
    assert told["takeover"]
    assert "hops" not in told
    (line,) = (line for line in shown(answer_tables.one("88.111/A", answer)) if line.startswith("found"))
    assert line == ("found · registered copy · in the place of its authority, which is down · by 88.111 · under 88.1")


def test_the_time_of_each_node_on_the_way_is_its_own() -> None:
    """A child's steps count from when the question came to it, those of the node that asked it from before that."""
    steps = [
        Step("top", "memory", "miss", 40),
        Step("88.111", "memory", "miss", 100),
        Step("88.111", "store", "found\x1b[2J", 350),
        Step("top", "child", "88.111 grpc 1 answered", 1_540),
    ]
    lines = shown(answer_tables.way(Traced(FOUND, steps, 0.002)))
    rows = [[part for part in line.replace("│", " ").split() if part] for line in lines]
    times = {(row[0], row[1]): row[-4:] for row in rows if row and row[0] in {"top", "88.111", "here"}}
    assert times["top", "memory"] == ["40", "us", "40", "us"]
    assert times["88.111", "memory"] == ["100", "us", "100", "us"]
    assert times["88.111", "store"] == ["250", "us", "350", "us"]
    assert times["top", "child"] == ["1,500", "us", "1,540", "us"]
    assert times["here", "call"] == ["460", "us", "2,000", "us"]
    assert not any("\x1b" in line for line in lines)


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
