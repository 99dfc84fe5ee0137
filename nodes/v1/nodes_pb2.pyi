from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RowFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROW_FORMAT_UNSPECIFIED: _ClassVar[RowFormat]
    ROW_FORMAT_NDJSON: _ClassVar[RowFormat]
    ROW_FORMAT_CSV: _ClassVar[RowFormat]
ROW_FORMAT_UNSPECIFIED: RowFormat
ROW_FORMAT_NDJSON: RowFormat
ROW_FORMAT_CSV: RowFormat

class GetMetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetMetricsResponse(_message.Message):
    __slots__ = ("openmetrics",)
    OPENMETRICS_FIELD_NUMBER: _ClassVar[int]
    openmetrics: bytes
    def __init__(self, openmetrics: _Optional[bytes] = ...) -> None: ...

class BeginLoadRequest(_message.Message):
    __slots__ = ("load", "restart")
    LOAD_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    load: str
    restart: bool
    def __init__(self, load: _Optional[str] = ..., restart: _Optional[bool] = ...) -> None: ...

class BeginLoadResponse(_message.Message):
    __slots__ = ("offset", "lines", "registered", "replaced", "unchanged", "rejected")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    offset: int
    lines: int
    registered: int
    replaced: int
    unchanged: int
    rejected: int
    def __init__(self, offset: _Optional[int] = ..., lines: _Optional[int] = ..., registered: _Optional[int] = ..., replaced: _Optional[int] = ..., unchanged: _Optional[int] = ..., rejected: _Optional[int] = ...) -> None: ...

class LoadRowsRequest(_message.Message):
    __slots__ = ("load", "format", "offset", "end_offset", "first_line", "rows", "overwrite", "columns", "registrant")
    LOAD_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    FIRST_LINE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OVERWRITE_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    REGISTRANT_FIELD_NUMBER: _ClassVar[int]
    load: str
    format: RowFormat
    offset: int
    end_offset: int
    first_line: int
    rows: bytes
    overwrite: bool
    columns: _containers.RepeatedScalarFieldContainer[str]
    registrant: str
    def __init__(self, load: _Optional[str] = ..., format: _Optional[_Union[RowFormat, str]] = ..., offset: _Optional[int] = ..., end_offset: _Optional[int] = ..., first_line: _Optional[int] = ..., rows: _Optional[bytes] = ..., overwrite: _Optional[bool] = ..., columns: _Optional[_Iterable[str]] = ..., registrant: _Optional[str] = ...) -> None: ...

class LoadRowsResponse(_message.Message):
    __slots__ = ("registered", "replaced", "unchanged", "rejects", "index")
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REJECTS_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    registered: int
    replaced: int
    unchanged: int
    rejects: _containers.RepeatedCompositeFieldContainer[Reject]
    index: int
    def __init__(self, registered: _Optional[int] = ..., replaced: _Optional[int] = ..., unchanged: _Optional[int] = ..., rejects: _Optional[_Iterable[_Union[Reject, _Mapping]]] = ..., index: _Optional[int] = ...) -> None: ...

class Reject(_message.Message):
    __slots__ = ("line", "error", "row")
    LINE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    line: int
    error: _status_pb2.Status
    row: bytes
    def __init__(self, line: _Optional[int] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., row: _Optional[bytes] = ...) -> None: ...
