from google.rpc import status_pb2 as _status_pb2
from resolver.v1 import resolver_pb2 as _resolver_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ResolveRequestOctets(_message.Message):
    __slots__ = ("identifier", "options")
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    identifier: bytes
    options: _resolver_pb2.Options
    def __init__(self, identifier: _Optional[bytes] = ..., options: _Optional[_Union[_resolver_pb2.Options, _Mapping]] = ...) -> None: ...

class BatchResolveRequestOctets(_message.Message):
    __slots__ = ("identifiers", "options")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedScalarFieldContainer[bytes]
    options: _resolver_pb2.Options
    def __init__(self, identifiers: _Optional[_Iterable[bytes]] = ..., options: _Optional[_Union[_resolver_pb2.Options, _Mapping]] = ...) -> None: ...

class BatchResolveResponseOctets(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchResultOctets]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchResultOctets, _Mapping]]] = ...) -> None: ...

class BatchResultOctets(_message.Message):
    __slots__ = ("answer", "error")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    answer: bytes
    error: _status_pb2.Status
    def __init__(self, answer: _Optional[bytes] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class StreamResolveRequestOctets(_message.Message):
    __slots__ = ("batch", "within_ms")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    WITHIN_MS_FIELD_NUMBER: _ClassVar[int]
    batch: bytes
    within_ms: int
    def __init__(self, batch: _Optional[bytes] = ..., within_ms: _Optional[int] = ...) -> None: ...

class StreamResolveResponseOctets(_message.Message):
    __slots__ = ("batch", "error", "trace", "signature")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    batch: bytes
    error: _status_pb2.Status
    trace: bytes
    signature: bytes
    def __init__(self, batch: _Optional[bytes] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., trace: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
