"""The table between faults and google.rpc.Status, both ways."""

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from resolver import wire
from resolver.answer import Outcome
from resolver.errors import DOMAIN, Fault, Kind, Reason
from resolver.rpc.errors import (
    DETAILS_KEY,
    RETRY_AFTER,
    TEXT_BYTES,
    code_of,
    error_frame,
    fault_of,
    fault_of_rpc_error,
    status_of,
)
from resolver.v1 import resolver_pb2 as pb

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=TEXT_BYTES // 4)
faults = st.builds(
    Fault,
    st.sampled_from(Reason),
    texts,
    field=texts,
    retry_after=st.none() | st.integers(0, 10**15).map(lambda nanoseconds: nanoseconds / 1e9),
    variables=st.dictionaries(texts.filter(lambda key: key != "field"), texts, max_size=4),
)


@given(faults)
def test_a_fault_comes_back_as_it_was(fault: Fault) -> None:
    read = fault_of(status_pb2.Status.FromString(status_of(fault).SerializeToString()))
    assert (read.reason, read.detail, read.field) == (fault.reason, fault.detail, fault.field)
    assert read.variables == fault.variables
    if fault.retry_after is not None:
        assert read.retry_after == pytest.approx(fault.retry_after)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_the_code_of_its_name(kind: Kind) -> None:
    reason = next((each for each in Reason if each.value.kind is kind), None)
    if reason:
        fault = Fault(reason)
        assert code_of(fault).name == kind.name
        assert status_of(fault).code == code_pb2.Code.Value(kind.name)


@given(faults)
def test_every_status_has_one_error_info_and_names_the_refused_field(fault: Fault) -> None:
    details = {detail.TypeName(): detail for detail in status_of(fault).details}
    assert len(details) == len(status_of(fault).details)
    info = error_details_pb2.ErrorInfo.FromString(details["google.rpc.ErrorInfo"].value)
    assert (info.reason, info.domain) == (fault.reason.name, DOMAIN)
    assert info.metadata.get("field", "") == fault.field
    is_refused_field = bool(fault.field) and fault.kind is Kind.INVALID_ARGUMENT
    assert ("google.rpc.BadRequest" in details) is is_refused_field
    if is_refused_field:
        (violation,) = error_details_pb2.BadRequest.FromString(
            details["google.rpc.BadRequest"].value
        ).field_violations
        assert (violation.field, violation.reason) == (fault.field, fault.reason.name)


@pytest.mark.parametrize("reason", Reason)
def test_what_is_worth_trying_again_says_when(reason: Reason) -> None:
    read = fault_of(status_of(Fault(reason)))
    is_retryable = reason.value.kind is Kind.UNAVAILABLE or reason in {Reason.TOO_MANY_IN_FLIGHT, Reason.RATE_LIMITED}
    assert read.retry_after == (RETRY_AFTER if is_retryable else None)


def test_a_retry_time_of_the_fault_is_kept() -> None:
    assert fault_of(status_of(Fault(Reason.RATE_LIMITED, retry_after=0.25))).retry_after == 0.25


@given(st.text(min_size=TEXT_BYTES))
def test_a_long_text_is_cut_and_what_no_wire_takes_is_replaced(text: str) -> None:
    """A gRPC client takes 8 KiB of metadata, and a path that is not UTF-8 is a text with lone surrogates."""
    status = status_of(Fault(Reason.FILE_UNREADABLE, "\udcff" + text, variables={"path": text + "\udcff"}))
    assert status.message.startswith("?")
    assert len(status.message.encode()) <= TEXT_BYTES
    assert len(status.SerializeToString()) < 3 * TEXT_BYTES


@given(st.sampled_from(grpc.StatusCode), texts)
def test_a_status_without_our_reason_becomes_the_closest_and_keeps_its_text(code: grpc.StatusCode, text: str) -> None:
    fault = fault_of(status_pb2.Status(code=code.value[0], message=text))
    assert fault.detail == (text or fault.reason.value.happened)
    if code.name in {each.value.kind.name for each in Reason}:
        assert fault.kind.name == code.name


def test_a_reason_of_a_newer_node_is_told_beside_the_closest_one() -> None:
    status = status_of(Fault(Reason.RATE_LIMITED, "Too fast.", field="x", variables={"a": "b"}))
    info = error_details_pb2.ErrorInfo(reason="INVENTED_LATER", domain=DOMAIN, metadata={"a": "b"})
    status.details[0].Pack(info)
    fault = fault_of(status)
    assert fault.reason is Reason.TOO_MANY_IN_FLIGHT
    assert fault.variables == {"a": "b", "reason": "INVENTED_LATER"}
    assert fault.retry_after == RETRY_AFTER


def test_a_reason_of_another_domain_is_not_ours() -> None:
    info = error_details_pb2.ErrorInfo(reason="STORE_FULL", domain="elsewhere.example")
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE)
    status.details.add().Pack(info)
    assert fault_of(status).reason is Reason.NODE_UNREACHABLE


def test_details_that_cannot_be_read_are_passed_over() -> None:
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="away")
    status.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
    assert fault_of(status).reason is Reason.NODE_UNREACHABLE


def _rpc_error(code: grpc.StatusCode, text: str, *trailing: tuple[str, bytes]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=text)


@given(faults)
def test_a_failed_call_gives_the_fault_that_the_node_sent(fault: Fault) -> None:
    status = status_of(fault)
    error = _rpc_error(code_of(fault), status.message, (DETAILS_KEY, status.SerializeToString()))
    read = fault_of_rpc_error(error)
    assert (read.reason, read.detail, read.field) == (fault.reason, fault.detail, fault.field)


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", Reason.NODE_UNREACHABLE),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", Reason.DEADLINE_SPENT),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max", Reason.REQUEST_TOO_LARGE),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", Reason.TOO_MANY_IN_FLIGHT),
        (grpc.StatusCode.UNKNOWN, "", Reason.INTERNAL),
    ],
)
def test_a_call_that_grpc_itself_ended_gives_the_closest_reason(
    code: grpc.StatusCode, text: str, reason: Reason
) -> None:
    assert fault_of_rpc_error(_rpc_error(code, text)).reason is reason
    assert fault_of_rpc_error(_rpc_error(code, text, (DETAILS_KEY, b"\xff"))).reason is reason


@given(faults)
def test_an_error_frame_stands_in_a_batch_as_an_answer_does(fault: Fault) -> None:
    answer = wire.frame(wire.bare_body(Outcome.ABSENT))
    response = pb.BatchResolveResponse.FromString(answer + error_frame(fault) + answer)
    assert [each.WhichOneof("result") for each in response.results] == ["answer", "error", "answer"]
    assert response.results[1].error == status_of(fault)
