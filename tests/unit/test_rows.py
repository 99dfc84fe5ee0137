"""Rows of a load: what is read, and what is said of rows that cannot be."""

import base64
import csv
import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.csv_rows import Columns, read_csv, split_csv
from registry.ndjson_rows import decode_row, read_ndjson
from registry.rows import ROW_BYTES, IdentifierRow, PrefixRow, ValueRow
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule
from resolver.record import DEFAULT_TTL, Absolute, Reference, Relative, Value
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState, Protocol
from tests import nouns

NOW = 1_800_000_000
GOOD = b'{"identifier":"88.1/a","values":[{"index":1,"type":"URL","data":"x"}]}'


def only(octets: bytes) -> Any:
    """Read what should be one row."""
    (line,) = read_ndjson(octets, 1, decode_row)
    return line.row


def fault(row: object) -> Fault:
    assert isinstance(row, Fault), row
    return row


def values_of(row: Any) -> tuple[Value, ...]:
    assert isinstance(row, IdentifierRow), row
    return row.to_values(NOW)


def refused(row: Any) -> Fault:
    with pytest.raises(Fault) as raised:
        values_of(row)
    return raised.value


def row_of(**value: object) -> bytes:
    return json.dumps({"identifier": "88.1/a", "values": [{"index": 1, "type": "URL", **value}]}).encode()


# --- NDJSON ------------------------------------------------------------------------------------------------------


def test_a_value_takes_its_defaults() -> None:
    (value,) = values_of(only(GOOD))
    assert value == Value(index=1, type="URL", data=b"x", timestamp=NOW, permissions=0b1110)
    assert value.lifetime == Relative(DEFAULT_TTL)


def test_a_value_takes_everything_that_a_row_says() -> None:
    row = row_of(
        data_base64="AP8=",
        expires_at=NOW + 5,
        timestamp=7,
        permissions="1100",
        references=[{"handle": "88.1/b", "index": 3}],
    )
    assert values_of(only(row)) == (
        Value(
            index=1,
            type="URL",
            data=b"\x00\xff",
            lifetime=Absolute(NOW + 5),
            timestamp=7,
            permissions=0b1100,
            references=(Reference("88.1/b", 3),),
        ),
    )


@given(nouns.records())
def test_any_record_goes_through_a_row(record: Any) -> None:
    """What `resolve --json` prints of a value is what `load` reads."""
    rows = []
    for value in record.values:
        lifetime = (
            {"expires_at": value.lifetime.expires_at}
            if isinstance(value.lifetime, Absolute)
            else {"ttl": value.lifetime.seconds}
        )
        rows.append(
            {
                "index": value.index,
                "type": value.type,
                "data_base64": base64.b64encode(value.data).decode(),
                "timestamp": value.timestamp,
                "permissions": f"{value.permissions:04b}",
                "references": [{"handle": each.handle, "index": each.index} for each in value.references],
                **lifetime,
            }
        )
    row = {"identifier": record.identifier.to_text(), "values": rows}
    read = only(msgspec.json.encode(row))
    assert read.identifier == record.identifier.to_text()
    assert values_of(read) == record.values


def test_values_are_put_in_the_order_of_their_indexes() -> None:
    row = {"identifier": "a/b", "values": [{"index": i, "type": "T", "data": str(i)} for i in (3, 1, 2)]}
    assert [value.index for value in values_of(only(json.dumps(row).encode()))] == [1, 2, 3]


def test_a_prefix_row_takes_its_defaults_and_the_inherited_rule() -> None:
    row = only(b'{"prefix":"88.111","holder":"h"}')
    assert isinstance(row, PrefixRow)
    assert row.to_prefix(CaseRule.SENSITIVE) == Prefix("88.111", "h", case=CaseRule.SENSITIVE)


def test_a_prefix_row_takes_everything_that_it_says() -> None:
    row = only(
        b'{"prefix":"88.111","holder":"h","state":"to_delete","case":"insensitive","hosting":"delegated",'
        b'"expires_at":9,"endpoints":[{"protocol":"handle_tcp","address":"10.0.0.1","port":2641,"priority":3,'
        b'"tls_name":"n"}]}'
    )
    assert row.to_prefix(CaseRule.SENSITIVE) == Prefix(
        "88.111",
        "h",
        PrefixState.TO_DELETE,
        CaseRule.INSENSITIVE,
        Hosting.DELEGATED,
        9,
        (Endpoint(Protocol.HANDLE_TCP, "10.0.0.1", 2641, 3, "n"),),
    )


@pytest.mark.parametrize(
    ("line", "field", "said"),
    [
        (b"{", "", "truncated"),
        (b"nonsense", "", "malformed"),
        (b"[]", "", "Expected `object`"),
        (b"{}", "identifier", "missing required field"),
        (b'{"identifier":"a/b"}', "values", "missing required field"),
        (b'{"identifier":"a/b","values":[],"what":1}', "what", "unknown field"),
        (b'{"identifier":7,"values":[]}', "identifier", "Expected `str`"),
        (b'{"identifier":"a/b","values":[{"index":1}]}', "values[0].type", "missing required field"),
        (b'{"identifier":"a/b","values":[{"index":"1","type":"T"}]}', "values[0].index", "Expected `int`"),
        (b'{"identifier":"a/b","values":[{"index":1,"type":"T","typ":1}]}', "values[0].typ", "unknown field"),
        (b'{"identifier":"a/b","values":[{"index":1,"type":"T","data":null}]}', "values[0].data", "got `null`"),
        (
            b'{"identifier":"a/b","values":[{"index":1,"type":"T","data_base64":"?"}]}',
            "values[0].data_base64",
            "base64",
        ),
        (b'{"identifier":"a/\xff","values":[]}', "", "not UTF-8"),
        (b'{"identifier":"a/\\ud800","values":[]}', "", "malformed"),
        (b'{"identifier":"a/b","prefix":"a","values":[]}', "prefix", "unknown field"),
        (b'{"prefix":"a"}', "holder", "missing required field"),
        (b'{"prefix":"a","holder":"a","state":"sleeping"}', "state", "Invalid enum value"),
        (b'{"prefix":"a","holder":"a","expires_at":-1}', "expires_at", ">= 0"),
        (b'{"prefix":"a","holder":"a","endpoints":[{}]}', "endpoints[0].protocol", "missing required field"),
        (b'{"prefix":"\xff","holder":"a"}', "", "not UTF-8"),
        (b"\xff\xfe{\x00", "", ""),
        (b"[" * 100_000, "", "Expected `object`"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_its_field(line: bytes, field: str, said: str) -> None:
    first, second = read_ndjson(line + b"\n" + GOOD + b"\n", 1, decode_row)
    refusal = fault(first.row)
    assert (refusal.reason, refusal.field) == (Reason.ROW_MALFORMED, field)
    assert said in refusal.detail
    assert (first.number, first.octets) == (1, line)
    assert values_of(second.row)


@pytest.mark.parametrize(
    ("value", "reason", "field"),
    [
        ({"data": "x", "index": 0}, Reason.VALUE_INVALID, "values[0].index"),
        ({"data": "x", "index": 2**80}, Reason.VALUE_INVALID, "values[0].index"),
        ({"data": "x", "type": ""}, Reason.VALUE_INVALID, "values[0].type"),
        ({"data": "x", "type": "T."}, Reason.VALUE_INVALID, "values[0].type"),
        ({"data": "x", "type": "a\nb"}, Reason.VALUE_INVALID, "values[0].type"),
        ({"data": "x" * 65_537}, Reason.VALUE_INVALID, "values[0].data"),
        ({"data": "光" * 30_000}, Reason.VALUE_INVALID, "values[0].data"),
        ({"data": "x", "ttl": -1}, Reason.VALUE_INVALID, "values[0].lifetime"),
        ({"data": "x", "ttl": 2**40}, Reason.VALUE_INVALID, "values[0].lifetime"),
        ({"data": "x", "timestamp": -1}, Reason.VALUE_INVALID, "values[0].timestamp"),
        ({"data": "x", "permissions": "2110"}, Reason.VALUE_INVALID, "values[0].permissions"),
        ({"data": "x", "permissions": "14"}, Reason.VALUE_INVALID, "values[0].permissions"),
        ({"data": "x", "references": [{"handle": "none", "index": 1}]}, Reason.VALUE_INVALID, "values[0].references"),
        ({}, Reason.ROW_MALFORMED, "values[0].data"),
        ({"data": "x", "data_base64": "eA=="}, Reason.ROW_MALFORMED, "values[0].data"),
        ({"data": "x", "ttl": 1, "expires_at": 1}, Reason.ROW_MALFORMED, "values[0].ttl"),
    ],
)
def test_a_value_that_breaks_a_rule_is_refused_with_its_path(
    value: dict[str, object], reason: Reason, field: str
) -> None:
    refusal = refused(only(row_of(**value)))
    assert (refusal.reason, refusal.field) == (reason, field)


def test_the_path_counts_values_as_they_stand_in_the_row() -> None:
    values = [{"index": 9, "type": "T", "data": ""}, {"index": 1, "type": "T", "data": "", "permissions": "x"}]
    row = only(json.dumps({"identifier": "a/b", "values": values}).encode())
    assert refused(row).field == "values[1].permissions"


def test_an_endpoint_that_cannot_be_is_refused_with_its_path() -> None:
    row = only(b'{"prefix":"a","holder":"a","endpoints":[{"protocol":"grpc","address":"","port":1}]}')
    with pytest.raises(Fault) as raised:
        row.to_prefix(CaseRule.INSENSITIVE)
    assert raised.value.field == "endpoints[0].address"


@pytest.mark.parametrize("tail", [GOOD[:-1], GOOD[:20], b'{"identifier":"88.1/\xe5', b'{"pre', b"{"])
def test_an_input_that_ends_within_a_row_is_told_as_truncated(tail: bytes) -> None:
    first, last = read_ndjson(GOOD + b"\n" + tail, 5, decode_row)
    assert values_of(first.row)
    assert fault(last.row).reason is Reason.ROW_TRUNCATED
    assert last.number == 6


def test_a_whole_last_row_needs_no_line_end() -> None:
    assert len(list(read_ndjson(GOOD + b"\n" + GOOD, 1, decode_row))) == 2


def test_lines_keep_their_numbers_over_empty_ones() -> None:
    lines = list(read_ndjson(b"\n" + GOOD + b"\r\n \t\n\r\n" + GOOD + b"\n\n", 10, decode_row))
    assert [line.number for line in lines] == [11, 14]
    assert all(values_of(line.row) for line in lines)


def test_a_byte_order_mark_is_passed_over_in_the_first_line_only() -> None:
    assert values_of(only(b"\xef\xbb\xbf" + GOOD))
    (line,) = read_ndjson(b"\xef\xbb\xbf" + GOOD, 2, decode_row)
    assert fault(line.row).reason is Reason.ROW_MALFORMED


def test_a_row_beyond_the_bound_is_refused_unread() -> None:
    long = GOOD[:-1] + b" " * (ROW_BYTES - len(GOOD)) + b"}"
    assert values_of(only(long))
    refusal = fault(only(b" " + long))
    assert refusal.reason is Reason.ROW_MALFORMED
    assert "longer than" in refusal.detail


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading(octets: bytes) -> None:
    for line in read_ndjson(octets, 1, decode_row):
        assert isinstance(line.row, Fault | IdentifierRow | PrefixRow)


# --- CSV ---------------------------------------------------------------------------------------------------------

COLUMNS = Columns.from_names(["identifier", "URL", "registrant", "7:NAME", "LOT"])


def csv_rows(octets: bytes, columns: Columns = COLUMNS) -> list[Any]:
    return [line.row for line in read_csv(octets, 2, columns)]


def test_columns_become_values() -> None:
    (row,) = csv_rows("88.1/a,http://x,88.1,光,L1\n".encode())
    assert (row.identifier, row.registrant) == ("88.1/a", "88.1")
    assert [(value.index, value.type, value.data) for value in row.to_values(NOW)] == [
        (1, "URL", b"http://x"),
        (3, "LOT", b"L1"),
        (7, "NAME", "光".encode()),
    ]


def test_empty_cells_make_no_value() -> None:
    (row,) = csv_rows(b"88.1/a,,,,L1\n")
    assert [value.index for value in row.to_values(NOW)] == [3]


def test_quoted_cells_hold_commas_quotes_and_line_ends() -> None:
    rows = list(read_csv(b'88.1/a,"x, ""y""\r\nz",,,\r\n\r\n88.1/b,u,,,\r\n', 2, COLUMNS))
    assert [line.number for line in rows] == [2, 5]
    assert rows[0].octets == b'88.1/a,"x, ""y""\r\nz",,,\r\n'
    (value,) = values_of(rows[0].row)
    assert value.data == b'x, "y"\r\nz'


@pytest.mark.parametrize(
    ("names", "field", "said"),
    [
        ([], "identifier", "no column `identifier`"),
        (["id", "URL"], "identifier", "no column `identifier`"),
        (["identifier", "URL", "URL"], "URL", "twice"),
        (["identifier", "identifier"], "identifier", "twice"),
        (["identifier", "URL", "1:NAME"], "1:NAME", "same index"),
        (["identifier", "2:URL", "NAME"], "NAME", "same index"),
        (["identifier", "0:URL"], "0:URL", "An index is"),
        (["identifier", "99999999999:URL"], "99999999999:URL", "An index is"),
        (["identifier", "URL", ""], "", "The type is empty"),
        (["identifier", "5:"], "5:", "The type is empty"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused_with_its_column(names: list[str], field: str, said: str) -> None:
    with pytest.raises(Fault) as raised:
        Columns.from_names(names)
    assert raised.value.field == field
    assert said in raised.value.detail


def test_a_colon_without_a_number_belongs_to_the_type() -> None:
    assert [column.type for column in Columns.from_names(["identifier", "urn:x", "3:urn:y"]).values.values()] == [
        "urn:x",
        "urn:y",
    ]


@pytest.mark.parametrize(
    ("line", "field", "said"),
    [
        (b"88.1/a,b\n", "", "2 cells"),
        (b"88.1/a,b,c,d,e,f\n", "", "6 cells"),
        (b"88.1/a,\xff,,,\n", "URL", "not UTF-8"),
        (b"88.1/\xff,x,,,\n", "identifier", "not UTF-8"),
        (b'88.1/a,"x"y,,,\n', "", "not CSV"),
        (b'88.1/a,"x,,,\n', "", "not CSV"),
        (b"88.1/a," + b"x" * 70_000 + b",,,\n", "URL", "70000 bytes"),
        (b"88.1/a," + b"x" * 140_000 + b",,,\n", "", "not CSV"),
        (b"x" * (ROW_BYTES + 1) + b"\n", "", "longer than"),
    ],
)
def test_a_csv_row_that_cannot_be_read_spoils_no_other(line: bytes, field: str, said: str) -> None:
    before, bad, after = csv_rows(b"88.1/x,1,,,\n" + line + b"88.1/y,2,,,\n")
    assert (before.identifier, after.identifier) == ("88.1/x", "88.1/y")
    assert bad.reason in (Reason.ROW_MALFORMED, Reason.VALUE_INVALID)
    assert bad.field == field
    assert said in bad.detail


def test_a_last_row_without_a_line_end_may_have_been_cut_off() -> None:
    whole, cut = csv_rows(b"88.1/x,1,,,\n88.1/y,http://exam")
    assert whole.identifier == "88.1/x"
    assert cut.reason is Reason.ROW_TRUNCATED
    assert csv_rows(b"88.1/x,1,,,")[0].reason is Reason.ROW_TRUNCATED


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.lists(CELLS, min_size=5, max_size=5), max_size=6))
def test_what_python_writes_is_read_back(rows: list[list[str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows(rows)
    octets = written.getvalue().encode()
    split = list(split_csv(octets))
    assert [row.cells for row in split] == rows
    assert b"".join(row.octets for row in split) == octets
    assert sum(row.lines for row in split) == octets.count(b"\n")


@given(st.binary(max_size=200) | st.text(st.sampled_from('ab,"\n\r'), max_size=60).map(str.encode))
def test_splitting_loses_no_byte_of_anything(octets: bytes) -> None:
    rows = list(split_csv(octets))
    assert b"".join(row.octets for row in rows) == octets
    assert all(row.is_ended for row in rows[:-1])


def test_csv_values_need_no_further_reading() -> None:
    (row,) = csv_rows(b"88.1/a,x,,,\n")
    assert row.values == [ValueRow(index=1, type="URL", data_base64=b"x")]
