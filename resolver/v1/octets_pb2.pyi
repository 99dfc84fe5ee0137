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
