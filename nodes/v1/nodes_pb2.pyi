from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetMetricsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetMetricsResponse(_message.Message):
    __slots__ = ("openmetrics",)
    OPENMETRICS_FIELD_NUMBER: _ClassVar[int]
    openmetrics: bytes
    def __init__(self, openmetrics: _Optional[bytes] = ...) -> None: ...
