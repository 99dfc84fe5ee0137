"""Bytes: what is joined by hand is what protobuf would write, and every piece decodes to the noun it was made of."""

from enum import IntEnum
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from resolver import wire
from resolver.answer import Answer, Outcome, Standing
from resolver.bounds import RECORD_BYTES, VALUE_DATA_BYTES
from resolver.clock import SetClock
from resolver.encoding import encode_record, varint
from resolver.errors import Fault, Reason
from resolver.handle import Handle
from resolver.query import Mode
from resolver.record import Absolute, Record, Reference, Relative, Tombstone, Value
from resolver.routes import Endpoint, Hosting, Prefix, Protocol, Referral
from resolver.trace import Trace
from resolver.v1 import octets_pb2
from resolver.v1 import resolver_pb2 as pb
from tests.nouns import handles, prefixes, records, words

HANDLE = Handle.from_text("88.111.1/SN-0042")
VALUE = Value(index=1, type="URL", data=b"https://example.cn")
RECORD = Record(identifier=HANDLE, values=(VALUE,), version=7, registrant="88.111.1", registered_at=1_800_000_000)

EDGES = sorted(
    {edge + step for edge in (1 << 7, 1 << 14, 1 << 21) for step in range(-6, 7)} | {0, 1, 2, 4_095, 4_096}
)
"""Lengths around every place where a varint grows, and where our tables end."""


# --- records: by hand as by protobuf -----------------------------------------------------------------------------


def by_protobuf(record: Record, *, public: bool) -> bytes:
    """The reference: the same record through message objects and protobuf's own serializer."""
    message = pb.Record(
        identifier=record.identifier.to_text(),
        registrant=record.registrant,
        registered_at=record.registered_at,
        updated_at=record.updated_at,
    )
    for value in record.values:
        if public and not value.is_public:
            continue
        lifetime: dict[str, Any] = (
            {"ttl_seconds": value.lifetime.seconds}
            if isinstance(value.lifetime, Relative)
            else {"expires_at": value.lifetime.expires_at}
        )
        message.values.add(
            index=value.index,
            type=value.type,
            data=value.data,
            timestamp=value.timestamp,
            permissions=value.permissions,
            references=[pb.Reference(handle=to.handle, index=to.index) for to in value.references],
            **lifetime,
        )
    if record.tombstone:
        message.tombstone.CopyFrom(
            pb.Tombstone(reason=record.tombstone.reason, deleted_at=record.tombstone.deleted_at)
        )
    return message.SerializeToString(deterministic=True)


@given(records(), st.booleans())
@example(Record(identifier=HANDLE), True)
@example(replace(RECORD, values=(replace(VALUE, permissions=0, lifetime=Relative(0)),)), False)
@example(replace(RECORD, values=(replace(VALUE, data=b"", lifetime=Absolute(0)),)), True)
@example(replace(RECORD, values=(replace(VALUE, references=(Reference("88.1/x", 0),) * 64),)), True)
@example(replace(RECORD, values=(), tombstone=Tombstone(reason="", deleted_at=0)), True)
@example(replace(RECORD, values=(replace(VALUE, data=bytes(VALUE_DATA_BYTES)),)), True)
@example(replace(RECORD, values=tuple(replace(VALUE, index=index) for index in range(1_000, 1_050))), True)
def test_a_record_is_encoded_as_protobuf_would(record: Record, public: bool) -> None:  # noqa: FBT001 - drawn
    encoded = encode_record(record, public=public)
    assert encoded == by_protobuf(record, public=public)
    outcome = pb.OUTCOME_ABSENT if record.tombstone else pb.OUTCOME_FOUND
    whole = pb.Answer(outcome=outcome, record=pb.Record.FromString(encoded)).SerializeToString(deterministic=True)
    assert wire.record_body(record, public=public) == whole


@pytest.mark.parametrize("length", [length for length in EDGES if length <= VALUE_DATA_BYTES])
def test_data_of_every_length_of_length_is_encoded_as_protobuf_would(length: int) -> None:
    record = replace(RECORD, values=(replace(VALUE, data=b"x" * length),))
    assert encode_record(record, public=True) == by_protobuf(record, public=True)


@pytest.mark.parametrize("length", range(1_010, 1_040))
def test_where_the_tables_end_nothing_changes(length: int) -> None:
    long = Handle("88.1", "x" * length)
    record = Record(identifier=long, values=(Value(index=length, type="T", data=b"x" * length),))
    assert encode_record(record, public=True) == by_protobuf(record, public=True)


@given(records())
def test_a_record_comes_back_out_of_its_body(record: Record) -> None:
    body = wire.record_body(record, public=False) + wire.version_field(record.version)
    assert wire.decode_record(body) == record


@given(records())
def test_the_public_body_holds_exactly_what_everybody_may_read(record: Record) -> None:
    public = replace(record, values=tuple(value for value in record.values if value.is_public))
    body = wire.record_body(record, public=True)
    assert body == wire.record_body(public, public=False)
    assert (body == wire.record_body(record, public=False)) is record.is_public


@given(records(), st.sampled_from(Standing), words, prefixes)
def test_body_version_and_tail_joined_are_one_answer(
    record: Record, standing: Standing, authority: str, prefix: str
) -> None:
    body = wire.record_body(record, public=False)
    joined = body + wire.version_field(record.version) + wire.tail(standing, authority, prefix)
    assert wire.decode_record(joined) == record
    assert wire.decode_answer(joined) == Answer(
        outcome=Outcome.ABSENT if record.tombstone else Outcome.FOUND,
        record=record,
        standing=standing,
        authority=authority,
        prefix=prefix,
    )


@given(records())
def test_outcome_and_spelling_are_read_without_decoding(record: Record) -> None:
    body = wire.record_body(record, public=True)
    assert wire.body_outcome(body) == (Outcome.ABSENT if record.tombstone else Outcome.FOUND)
    for stored in (body, body + wire.version_field(record.version)):
        assert wire.registered_spelling(stored) == record.identifier.to_text()


@pytest.mark.parametrize("length", [1, 122, 123, 127, 128, 129, 2_042, 2_043])
@pytest.mark.parametrize("size", [0, 100, 20_000])
def test_the_spelling_is_found_behind_lengths_of_any_length(length: int, size: int) -> None:
    spelled = Handle("88.1", "é" * (length // 2) + "x" * (length % 2))
    record = Record(identifier=spelled, values=(replace(VALUE, data=bytes(size)),))
    assert wire.registered_spelling(wire.record_body(record, public=True)) == spelled.to_text()


def test_a_record_over_its_bound_is_refused_with_its_size() -> None:
    values = tuple(replace(VALUE, index=index, data=bytes(VALUE_DATA_BYTES)) for index in range(1, 5))
    with pytest.raises(Fault) as caught:
        wire.record_body(replace(RECORD, values=values), public=False)
    assert (caught.value.reason, caught.value.field) == (Reason.RECORD_TOO_LARGE, "values")
    assert int(caught.value.variables["bytes"]) > RECORD_BYTES
    assert wire.record_body(replace(RECORD, values=values[:3]), public=False)


# --- frames ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", EDGES)
def test_a_frame_gives_back_what_was_put_in(length: int) -> None:
    answer = b"\x08\x01" * (length // 2) + b"\x30"[: length % 2]
    framed = wire.frame(answer)
    assert wire.answer_bytes(framed) == answer
    assert wire.unary(framed) == b"\x0a" + varint(length) + answer
    assert framed == b"\x0a" + varint(length + 1 + len(varint(length))) + wire.unary(framed)
    assert wire.answer_bytes(wire.stale_frame(framed)) == answer + b"\x30\x01"


@pytest.mark.parametrize("size", [length for length in EDGES if length <= VALUE_DATA_BYTES])
def test_a_frame_is_a_unary_response_and_one_result_of_a_batch(size: int) -> None:
    """A BatchResult with an answer is on the wire the same as a ResolveResponse."""
    answer = wire.encode_answer(
        Answer(outcome=Outcome.FOUND, record=replace(RECORD, values=(replace(VALUE, data=b"x" * size),)))
    )
    framed = wire.frame(answer)
    expected = pb.Answer.FromString(answer)
    unary = wire.unary(framed)
    assert pb.ResolveResponse.FromString(unary).answer == expected
    assert pb.BatchResult.FromString(unary).answer == expected
    assert unary == pb.ResolveResponse(answer=expected).SerializeToString(deterministic=True)
    batch = pb.BatchResolveResponse.FromString(framed * 3)
    assert [result.answer for result in batch.results] == [expected] * 3
    assert framed == pb.BatchResolveResponse(results=[pb.BatchResult(answer=expected)]).SerializeToString(
        deterministic=True
    )


def test_frames_of_different_answers_keep_their_order() -> None:
    outcomes = [Outcome.NOT_HERE, Outcome.ABSENT, Outcome.FOUND]
    joined = b"".join(wire.frame(wire.bare_body(outcome)) for outcome in outcomes)
    batch = pb.BatchResolveResponse.FromString(joined)
    assert [Outcome(result.answer.outcome) for result in batch.results] == outcomes


def test_a_stale_frame_says_so_and_nothing_else_changes() -> None:
    body = wire.record_body(RECORD, public=True) + wire.version_field(7)
    framed = wire.frame(body + wire.tail(Standing.AUTHORITATIVE, "top", "88.111"))
    stale = wire.decode_answer(wire.answer_bytes(wire.stale_frame(framed)))
    assert stale == replace(wire.decode_answer(wire.answer_bytes(framed)), stale=True)


@given(st.integers(0, 2**64 - 1))
@example(127)
@example(128)
@example(2**64 - 1)
def test_a_version_is_a_varint_as_protobuf_writes_it(version: int) -> None:
    assert pb.Answer.FromString(wire.version_field(version)).version == version
    if version:
        assert wire.version_field(version) == pb.Answer(version=version).SerializeToString()


@given(st.integers(1, 2**64 - 1))
@example(127)
@example(128)
@example(2**64 - 1)
def test_the_version_of_a_body_is_read_off_its_end(version: int) -> None:
    body = wire.record_body(RECORD, public=True)
    assert wire.body_version(body + wire.version_field(version)) == version


# --- whole answers -----------------------------------------------------------------------------------------------

endpoints = st.builds(
    Endpoint,
    st.sampled_from(Protocol),
    st.sampled_from(["192.0.2.1", "2001:db8::1", "node.example.cn"]),
    st.integers(1, 65_535),
    st.integers(0, 65_535),
    st.sampled_from(["", "node.example.cn"]),
)
referrals = st.builds(Referral, prefix=prefixes, holder=words, endpoints=st.lists(endpoints, max_size=3).map(tuple))
answers = st.builds(
    Answer,
    outcome=st.sampled_from(Outcome),
    record=st.none() | records(),
    referral=st.none() | referrals,
    standing=st.sampled_from(Standing),
    authority=words,
    prefix=words,
    stale=st.booleans(),
)


@given(answers)
def test_answers_round_trip(answer: Answer) -> None:
    assert wire.decode_answer(wire.encode_answer(answer)) == answer


@pytest.mark.parametrize("octets", [b"\xff", b"\x12\x05\x0a", b"\x12\x03\x0a\x01\xff"])
def test_what_is_no_answer_is_malformed(octets: bytes) -> None:
    with pytest.raises(Fault) as caught:
        wire.decode_answer(octets)
    assert (caught.value.reason, caught.value.field) == (Reason.REQUEST_MALFORMED, "answer")


@pytest.mark.parametrize(
    ("octets", "field"),
    [
        (b"\x08\x63", "answer.outcome"),
        (b"\x20\x63", "answer.standing"),
        (b"\x1a\x04\x1a\x02\x08\x63", "endpoints.protocol"),
        (b"\x1a\x02\x1a\x00", "endpoints.protocol"),
    ],
)
def test_a_number_from_a_newer_node_is_told_and_not_guessed(octets: bytes, field: str) -> None:
    with pytest.raises(Fault) as caught:
        wire.decode_answer(octets)
    assert (caught.value.reason, caught.value.field) == (Reason.ENUM_UNKNOWN, field)


def test_an_answer_with_a_broken_value_is_refused_by_the_nouns_rule() -> None:
    broken = pb.Answer(outcome=pb.OUTCOME_FOUND, record=pb.Record(identifier="88.1/x", values=[pb.Value(index=0)]))
    with pytest.raises(Fault) as caught:
        wire.decode_answer(broken.SerializeToString())
    assert (caught.value.reason, caught.value.field) == (Reason.VALUE_INVALID, "index")


@given(referrals)
def test_a_referral_names_prefix_holder_and_endpoints(referral: Referral) -> None:
    row = Prefix(
        referral.prefix, referral.holder or "88", hosting=Hosting.DELEGATED, endpoints=referral.endpoints, epoch=3
    )
    answer = wire.decode_answer(wire.referral_body(row))
    assert answer == Answer(
        outcome=Outcome.REFERRAL,
        referral=Referral(prefix=row.text, holder=row.holder, endpoints=row.endpoints),
    )


@pytest.mark.parametrize("outcome", [Outcome.ABSENT, Outcome.NOT_HERE])
def test_an_answer_without_a_record_is_its_outcome(outcome: Outcome) -> None:
    tail = wire.tail(Standing.AUTHORITATIVE, "top", "88")
    assert wire.decode_answer(wire.bare_body(outcome) + tail) == Answer(
        outcome=outcome, standing=Standing.AUTHORITATIVE, authority="top", prefix="88"
    )


# --- filters, referrals, modes, traces ---------------------------------------------------------------------------

FILTERED = Record(
    identifier=HANDLE,
    version=7,
    values=tuple(
        Value(index=index, type=kind, data=b"x")
        for index, kind in [
            (1, "URL"),
            (2, "url.mobile"),
            (3, "URLX"),
            (4, "DESC"),
            (5, "é"),
            (100, "HS_ADMIN"),
            (200, "HS_SITE.PREFIX"),
        ]
    ),
)


@pytest.mark.parametrize(
    ("types", "indexes", "left"),
    [
        (["URL"], [], [1]),
        (["url"], [], [1]),
        (["URL."], [], [1, 2]),
        (["Url."], [], [1, 2]),
        (["URL.MOBILE"], [], [2]),
        (["HS_SITE"], [], []),
        (["HS_SITE."], [], [200]),
        (["HS_"], [], []),
        (["\N{LATIN SMALL LETTER E WITH ACUTE}"], [], [5]),
        (["\N{LATIN CAPITAL LETTER E WITH ACUTE}"], [], []),  # only ASCII case is folded
        ([], [4, 100], [4, 100]),
        (["URL"], [4], [1, 4]),
        (["DESC"], [4], [4]),
        (["URL", "DESC"], [], [1, 4]),
        (["NONE"], [9], []),
        (["."], [], []),
    ],
)
def test_a_filter_leaves_the_values_that_either_list_names(
    types: list[str], indexes: list[int], left: list[int]
) -> None:
    """Types and indexes add up (RFC 3652 section 3.2); "T." means T and everything below it."""
    body = wire.record_body(FILTERED, public=True) + wire.version_field(7)
    whole = body + wire.tail(Standing.AUTHORITATIVE, "top", "88")
    cut = wire.decode_answer(wire.select_values(whole, types, indexes))
    values = tuple(value for value in FILTERED.values if value.index in left)
    assert [value.index for value in values] == left
    assert cut == replace(wire.decode_answer(whole), record=replace(FILTERED, values=values))


def test_a_filter_leaves_an_answer_without_a_record_as_it_is() -> None:
    absent = wire.bare_body(Outcome.ABSENT) + wire.tail(Standing.AUTHORITATIVE, "top", "88")
    assert wire.select_values(absent, ["URL"], [1]) == absent


def test_a_referral_keeps_the_copy_beside_it() -> None:
    row = Prefix(
        "88.111", "88.111", hosting=Hosting.DELEGATED, endpoints=(Endpoint(Protocol.GRPC, "192.0.2.1", 3641),)
    )
    copy = (
        wire.record_body(RECORD, public=True)
        + wire.version_field(7)
        + wire.tail(Standing.REGISTERED_COPY, "top", "88.111")
    )
    joined = wire.decode_answer(wire.with_referral(copy, wire.referral_body(row)))
    assert joined == Answer(
        outcome=Outcome.REFERRAL,
        record=RECORD,
        referral=Referral(prefix="88.111", holder="88.111", endpoints=row.endpoints),
        standing=Standing.REGISTERED_COPY,
        authority="top",
        prefix="88.111",
    )


@pytest.mark.parametrize("outcome", [Outcome.ABSENT, Outcome.NOT_HERE])
def test_a_referral_without_a_copy_stands_alone(outcome: Outcome) -> None:
    referral = wire.referral_body(Prefix("88.111", "88.111", hosting=Hosting.DELEGATED))
    assert wire.with_referral(wire.bare_body(outcome), referral) == referral


@pytest.mark.parametrize(
    ("number", "mode"), [(0, Mode.LOCAL), (1, Mode.LOCAL), (2, Mode.REFERRAL), (3, Mode.RECURSIVE)]
)
def test_a_mode_is_read_from_its_number(number: int, mode: Mode) -> None:
    assert wire.mode_from_wire(number) is mode


@pytest.mark.parametrize("number", [4, -1, 2**31 - 1])
def test_an_unknown_mode_is_refused_with_its_number(number: int) -> None:
    with pytest.raises(Fault) as caught:
        wire.mode_from_wire(number)
    assert (caught.value.reason, caught.value.field) == (Reason.ENUM_UNKNOWN, "options.mode")
    assert caught.value.variables == {"number": str(number)}


@pytest.mark.parametrize(
    ("noun", "enumeration"),
    [(Mode, pb.Mode), (Outcome, pb.Outcome), (Standing, pb.Standing), (Protocol, pb.Protocol)],
)
def test_nouns_and_messages_have_the_same_numbers(noun: type[IntEnum], enumeration: Any) -> None:
    """All but 0, which on the wire means that nothing was said."""
    ours = {f"{noun.__name__.upper()}_{each.name}": int(each) for each in noun if each}
    assert ours == {name: number for name, number in enumeration.items() if number}


def test_a_trace_comes_back_step_by_step() -> None:
    clock = SetClock()
    trace = Trace("top", clock)
    clock.advance(0.000_012)
    trace.step("memory", "miss")
    clock.advance(0.000_030)
    trace.step("store", "found")
    steps = wire.trace_steps(wire.trace_message(trace.steps))
    assert steps == trace.steps
    assert [(step.node, step.tier, step.verdict, step.microseconds) for step in steps] == [
        ("top", "memory", "miss", 12),
        ("top", "store", "found", 42),
    ]


# --- requests as octets ------------------------------------------------------------------------------------------

options = st.builds(
    pb.Options,
    types=st.lists(words, max_size=3),
    indexes=st.lists(st.integers(0, 2**32 - 1), max_size=3),
    mode=st.sampled_from([0, 1, 2, 3, 9]),
    authoritative=st.booleans(),
    with_copy=st.booleans(),
    trace=st.booleans(),
)


@given(st.text(st.characters(exclude_categories=["Cs"])), options)
def test_the_octets_twin_reads_a_unary_request(identifier: str, wanted: pb.Options) -> None:
    sent = pb.ResolveRequest(identifier=identifier, options=wanted).SerializeToString()
    read = octets_pb2.ResolveRequestOctets.FromString(sent)
    assert read.identifier == identifier.encode()
    assert read.options == wanted


@given(st.lists(handles.map(Handle.to_text) | st.just(""), max_size=5), options)
def test_the_octets_twin_reads_a_batch_request(identifiers: list[str], wanted: pb.Options) -> None:
    sent = pb.BatchResolveRequest(identifiers=identifiers, options=wanted).SerializeToString()
    read = octets_pb2.BatchResolveRequestOctets.FromString(sent)
    assert list(read.identifiers) == [identifier.encode() for identifier in identifiers]
    assert read.options == wanted


def test_one_identifier_that_is_not_utf8_does_not_spoil_a_batch() -> None:
    """The published message refuses the whole request; the twin hands on each identifier as it came."""
    sent = b"\x0a\x01\xff\x0a\x04\x31\x2f\x41\x42"
    assert list(octets_pb2.BatchResolveRequestOctets.FromString(sent).identifiers) == [b"\xff", b"1/AB"]
    with pytest.raises(DecodeError):
        pb.BatchResolveRequest.FromString(sent)


@pytest.mark.parametrize("name", ["ResolveRequest", "BatchResolveRequest"])
def test_the_octets_twin_has_the_fields_of_the_published_message(name: str) -> None:
    """A field that is added to a request must be added to its twin; only strings turn into bytes."""

    def shape(descriptor: Any) -> list[tuple[object, ...]]:
        strings = {descriptor.fields[0].TYPE_STRING: descriptor.fields[0].TYPE_BYTES}
        return [
            (field.number, field.name, strings.get(field.type, field.type), field.is_repeated)
            for field in descriptor.fields
        ]

    published = pb.DESCRIPTOR.message_types_by_name[name]
    assert shape(octets_pb2.DESCRIPTOR.message_types_by_name[f"{name}Octets"]) == shape(published)
