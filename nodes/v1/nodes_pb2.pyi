from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetMetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetMetricsResponse(_message.Message):
    __slots__ = ("openmetrics",)
    OPENMETRICS_FIELD_NUMBER: _ClassVar[int]
    openmetrics: bytes
    def __init__(self, openmetrics: _Optional[bytes] = ...) -> None: ...

class AddCountsRequest(_message.Message):
    __slots__ = ("boot", "deltas", "is_last")
    BOOT_FIELD_NUMBER: _ClassVar[int]
    DELTAS_FIELD_NUMBER: _ClassVar[int]
    IS_LAST_FIELD_NUMBER: _ClassVar[int]
    boot: str
    deltas: _containers.RepeatedCompositeFieldContainer[CountDelta]
    is_last: bool
    def __init__(self, boot: _Optional[str] = ..., deltas: _Optional[_Iterable[_Union[CountDelta, _Mapping]]] = ..., is_last: _Optional[bool] = ...) -> None: ...

class CountDelta(_message.Message):
    __slots__ = ("sequence", "day", "rows", "is_partial")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    IS_PARTIAL_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    day: int
    rows: _containers.RepeatedCompositeFieldContainer[PrefixCount]
    is_partial: bool
    def __init__(self, sequence: _Optional[int] = ..., day: _Optional[int] = ..., rows: _Optional[_Iterable[_Union[PrefixCount, _Mapping]]] = ..., is_partial: _Optional[bool] = ...) -> None: ...

class PrefixCount(_message.Message):
    __slots__ = ("prefix", "queries", "found", "recursive_queries", "recursive_found")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_QUERIES_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_FOUND_FIELD_NUMBER: _ClassVar[int]
    prefix: bytes
    queries: int
    found: int
    recursive_queries: int
    recursive_found: int
    def __init__(self, prefix: _Optional[bytes] = ..., queries: _Optional[int] = ..., found: _Optional[int] = ..., recursive_queries: _Optional[int] = ..., recursive_found: _Optional[int] = ...) -> None: ...

class AddCountsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetNodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetNodesResponse(_message.Message):
    __slots__ = ("json",)
    JSON_FIELD_NUMBER: _ClassVar[int]
    json: bytes
    def __init__(self, json: _Optional[bytes] = ...) -> None: ...

class GetSilentEndpointsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetSilentEndpointsResponse(_message.Message):
    __slots__ = ("endpoints",)
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    endpoints: _containers.RepeatedCompositeFieldContainer[SilentEndpoint]
    def __init__(self, endpoints: _Optional[_Iterable[_Union[SilentEndpoint, _Mapping]]] = ...) -> None: ...

class SilentEndpoint(_message.Message):
    __slots__ = ("protocol", "address", "port", "tls_name", "silent_for_ms")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    TLS_NAME_FIELD_NUMBER: _ClassVar[int]
    SILENT_FOR_MS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    address: str
    port: int
    tls_name: str
    silent_for_ms: int
    def __init__(self, protocol: _Optional[int] = ..., address: _Optional[str] = ..., port: _Optional[int] = ..., tls_name: _Optional[str] = ..., silent_for_ms: _Optional[int] = ...) -> None: ...
