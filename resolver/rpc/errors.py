"""The one table between a Fault and what gRPC says of it (google.rpc.Status), both ways. Nothing else maps errors.

Every status carries one ErrorInfo of the domain "topnode" (google.aip.dev/193); a refused field is also named in a
BadRequest, and what is worth trying again carries a RetryInfo.
"""

from collections.abc import Iterable
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from resolver.errors import DOMAIN, Fault, Kind, Reason
from resolver.v1 import resolver_pb2 as pb

DETAILS_KEY: Final = "grpc-status-details-bin"
"""The trailing metadata that carries a google.rpc.Status."""

TEXT_BYTES: Final = 1_024
"""Longer texts are cut: a text travels twice, up to three times as long as it is, and gRPC clients take 8 KiB."""

RETRY_AFTER: Final = 1.0
"""Seconds that a caller is asked to wait where nobody knows better."""

_FIELD: Final = "field"
_TYPES: Final = "type.googleapis.com/"
_CODES: Final = {kind: grpc.StatusCode[kind.name] for kind in Kind}
_BY_NUMBER: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}
_RETRYABLE: Final = frozenset({Reason.TOO_MANY_IN_FLIGHT, Reason.RATE_LIMITED}) | {
    reason for reason in Reason if reason.value.kind is Kind.UNAVAILABLE
}
_CLOSEST: Final = {
    # What arrives without a reason of ours was said by gRPC itself, by a proxy, or by a newer node.
    grpc.StatusCode.INVALID_ARGUMENT: Reason.REQUEST_MALFORMED,
    grpc.StatusCode.OUT_OF_RANGE: Reason.FIELD_OUT_OF_RANGE,
    grpc.StatusCode.ALREADY_EXISTS: Reason.IDENTIFIER_EXISTS,
    grpc.StatusCode.NOT_FOUND: Reason.IDENTIFIER_UNKNOWN,
    grpc.StatusCode.PERMISSION_DENIED: Reason.NOT_AUTHORISED,
    grpc.StatusCode.UNAUTHENTICATED: Reason.NOT_AUTHORISED,
    grpc.StatusCode.FAILED_PRECONDITION: Reason.STORE_FORMAT_UNKNOWN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.TOO_MANY_IN_FLIGHT,
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_SPENT,
    grpc.StatusCode.UNAVAILABLE: Reason.NODE_UNREACHABLE,
    grpc.StatusCode.UNIMPLEMENTED: Reason.METHOD_UNKNOWN,
    # A server that stops in the middle of a call cancels it.
    grpc.StatusCode.CANCELLED: Reason.NODE_UNREACHABLE,
}


def code_of(fault: Fault) -> grpc.StatusCode:
    """Give the gRPC code of a fault's kind."""
    return _CODES[fault.kind]


def status_of(fault: Fault) -> Any:
    """Say a fault as a google.rpc.Status."""
    status = status_pb2.Status(code=code_of(fault).value[0], message=_sendable(fault.detail))
    metadata = {key: _sendable(value) for key, value in fault.variables.items()}
    if fault.field:
        metadata[_FIELD] = _sendable(fault.field)
    _add(status, error_details_pb2.ErrorInfo(reason=fault.reason.name, domain=DOMAIN, metadata=metadata))
    if fault.field and fault.kind is Kind.INVALID_ARGUMENT:
        refused = error_details_pb2.BadRequest()
        refused.field_violations.add(field=metadata[_FIELD], description=status.message, reason=fault.reason.name)
        _add(status, refused)
    retry_after = _retry_after(fault)
    if retry_after is not None:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromNanoseconds(round(retry_after * 1e9))
        _add(status, info)
    return status


def fault_of(status: Any) -> Fault:
    """Read a google.rpc.Status. A reason that is not ours becomes the closest one for the code; the text stays."""
    info = _detail(status, error_details_pb2.ErrorInfo())
    retry = _detail(status, error_details_pb2.RetryInfo())
    variables = dict(info.metadata) if info else {}
    field = variables.pop(_FIELD, "")
    reason = Reason.__members__.get(info.reason) if info and info.domain == DOMAIN else None
    if reason is None:
        reason = _closest(_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN), status.message)
        if info:
            variables["reason"] = info.reason
    retry_after = retry.retry_delay.ToNanoseconds() / 1e9 if retry else None
    return Fault(reason, status.message, field=field, retry_after=retry_after, variables=variables)


def fault_of_rpc_error(error: grpc.aio.AioRpcError) -> Fault:
    """Read why a call failed: what the node said of it, else what gRPC itself says."""
    return fault_of_call(error.code().value[0], error.details() or "", error.trailing_metadata() or ())


def fault_of_call(code: int, text: str, beside: Iterable[tuple[str, str | bytes]]) -> Fault:
    """Read why a call failed out of its code, its text and the metadata behind it."""
    for key, value in beside:
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return fault_of(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    return Fault(_closest(_BY_NUMBER.get(code, grpc.StatusCode.UNKNOWN), text), text)


def error_frame(fault: Fault) -> bytes:
    """Encode a fault as one result of a batch answer, in the shape of `resolver.answer.Ready.frame`."""
    response = pb.BatchResolveResponse()
    response.results.add().error.CopyFrom(status_of(fault))
    return response.SerializeToString()


def _closest(code: grpc.StatusCode, text: str) -> Reason:
    # What is much too large gRPC refuses on its own, with the code of any other exhaustion.
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
        return Reason.REQUEST_TOO_LARGE
    return _CLOSEST.get(code, Reason.INTERNAL)


def _retry_after(fault: Fault) -> float | None:
    if fault.retry_after is None and fault.reason in _RETRYABLE:
        return RETRY_AFTER
    return fault.retry_after


def _add(status: Any, detail: Message) -> None:
    # What Pack does, in two thirds of its time: a batch may need a thousand of these. The order of a map's entries
    # would differ from process to process; a journal keeps these bytes and is planned again to the same.
    value = detail.SerializeToString(deterministic=True)
    status.details.add(type_url=_TYPES + detail.DESCRIPTOR.full_name, value=value)


def _detail(status: Any, into: Any) -> Any | None:
    """Give the first detail of this type, None where there is none or it cannot be read."""
    for detail in status.details:
        try:
            if detail.Unpack(into):
                return into
        except DecodeError:
            return None
    return None


def _sendable(text: str) -> str:
    # A path that is not UTF-8 reaches a detail as lone surrogates, which no wire takes.
    octets = text.encode(errors="replace")
    return octets[:TEXT_BYTES].decode(errors="ignore")
