from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_LOCAL: _ClassVar[Mode]
    MODE_REFERRAL: _ClassVar[Mode]
    MODE_RECURSIVE: _ClassVar[Mode]

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_FOUND: _ClassVar[Outcome]
    OUTCOME_ABSENT: _ClassVar[Outcome]
    OUTCOME_NOT_HERE: _ClassVar[Outcome]
    OUTCOME_REFERRAL: _ClassVar[Outcome]

class Standing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STANDING_UNSPECIFIED: _ClassVar[Standing]
    STANDING_AUTHORITATIVE: _ClassVar[Standing]
    STANDING_REGISTERED_COPY: _ClassVar[Standing]
    STANDING_CACHED: _ClassVar[Standing]

class Protocol(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROTOCOL_UNSPECIFIED: _ClassVar[Protocol]
    PROTOCOL_GRPC: _ClassVar[Protocol]
    PROTOCOL_HANDLE_TCP: _ClassVar[Protocol]
    PROTOCOL_HANDLE_UDP: _ClassVar[Protocol]
    PROTOCOL_HTTP: _ClassVar[Protocol]

class Trust(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRUST_UNSPECIFIED: _ClassVar[Trust]
    TRUST_TRUSTED: _ClassVar[Trust]
    TRUST_UNKNOWN: _ClassVar[Trust]
    TRUST_NOT_TRUSTED: _ClassVar[Trust]
MODE_UNSPECIFIED: Mode
MODE_LOCAL: Mode
MODE_REFERRAL: Mode
MODE_RECURSIVE: Mode
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_FOUND: Outcome
OUTCOME_ABSENT: Outcome
OUTCOME_NOT_HERE: Outcome
OUTCOME_REFERRAL: Outcome
STANDING_UNSPECIFIED: Standing
STANDING_AUTHORITATIVE: Standing
STANDING_REGISTERED_COPY: Standing
STANDING_CACHED: Standing
PROTOCOL_UNSPECIFIED: Protocol
PROTOCOL_GRPC: Protocol
PROTOCOL_HANDLE_TCP: Protocol
PROTOCOL_HANDLE_UDP: Protocol
PROTOCOL_HTTP: Protocol
TRUST_UNSPECIFIED: Trust
TRUST_TRUSTED: Trust
TRUST_UNKNOWN: Trust
TRUST_NOT_TRUSTED: Trust

class Options(_message.Message):
    __slots__ = ("types", "indexes", "mode", "authoritative", "with_copy", "trace", "path", "signed", "nonce")
    TYPES_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    AUTHORITATIVE_FIELD_NUMBER: _ClassVar[int]
    WITH_COPY_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    types: _containers.RepeatedScalarFieldContainer[str]
    indexes: _containers.RepeatedScalarFieldContainer[int]
    mode: Mode
    authoritative: bool
    with_copy: bool
    trace: bool
    path: Path
    signed: bool
    nonce: bytes
    def __init__(self, types: _Optional[_Iterable[str]] = ..., indexes: _Optional[_Iterable[int]] = ..., mode: _Optional[_Union[Mode, str]] = ..., authoritative: _Optional[bool] = ..., with_copy: _Optional[bool] = ..., trace: _Optional[bool] = ..., path: _Optional[_Union[Path, _Mapping]] = ..., signed: _Optional[bool] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class Path(_message.Message):
    __slots__ = ("visited", "hops_left")
    VISITED_FIELD_NUMBER: _ClassVar[int]
    HOPS_LEFT_FIELD_NUMBER: _ClassVar[int]
    visited: _containers.RepeatedScalarFieldContainer[str]
    hops_left: int
    def __init__(self, visited: _Optional[_Iterable[str]] = ..., hops_left: _Optional[int] = ...) -> None: ...

class ResolveRequest(_message.Message):
    __slots__ = ("identifier", "options")
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    identifier: str
    options: Options
    def __init__(self, identifier: _Optional[str] = ..., options: _Optional[_Union[Options, _Mapping]] = ...) -> None: ...

class ResolveResponse(_message.Message):
    __slots__ = ("answer",)
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    answer: Answer
    def __init__(self, answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...

class BatchResolveRequest(_message.Message):
    __slots__ = ("identifiers", "options")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedScalarFieldContainer[str]
    options: Options
    def __init__(self, identifiers: _Optional[_Iterable[str]] = ..., options: _Optional[_Union[Options, _Mapping]] = ...) -> None: ...

class BatchResolveResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[BatchResult]
    def __init__(self, results: _Optional[_Iterable[_Union[BatchResult, _Mapping]]] = ...) -> None: ...

class BatchResult(_message.Message):
    __slots__ = ("answer", "error")
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    answer: Answer
    error: _status_pb2.Status
    def __init__(self, answer: _Optional[_Union[Answer, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class StreamResolveRequest(_message.Message):
    __slots__ = ("batch", "within_ms")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    WITHIN_MS_FIELD_NUMBER: _ClassVar[int]
    batch: BatchResolveRequest
    within_ms: int
    def __init__(self, batch: _Optional[_Union[BatchResolveRequest, _Mapping]] = ..., within_ms: _Optional[int] = ...) -> None: ...

class StreamResolveResponse(_message.Message):
    __slots__ = ("batch", "error", "trace", "signature")
    BATCH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    batch: BatchResolveResponse
    error: _status_pb2.Status
    trace: Trace
    signature: Envelope
    def __init__(self, batch: _Optional[_Union[BatchResolveResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., trace: _Optional[_Union[Trace, _Mapping]] = ..., signature: _Optional[_Union[Envelope, _Mapping]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("outcome", "record", "referral", "standing", "provenance", "stale", "version", "takeover")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    REFERRAL_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TAKEOVER_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    record: Record
    referral: Referral
    standing: Standing
    provenance: Provenance
    stale: bool
    version: int
    takeover: bool
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., record: _Optional[_Union[Record, _Mapping]] = ..., referral: _Optional[_Union[Referral, _Mapping]] = ..., standing: _Optional[_Union[Standing, str]] = ..., provenance: _Optional[_Union[Provenance, _Mapping]] = ..., stale: _Optional[bool] = ..., version: _Optional[int] = ..., takeover: _Optional[bool] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("identifier", "values", "registrant", "registered_at", "updated_at", "tombstone")
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    REGISTRANT_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONE_FIELD_NUMBER: _ClassVar[int]
    identifier: str
    values: _containers.RepeatedCompositeFieldContainer[Value]
    registrant: str
    registered_at: int
    updated_at: int
    tombstone: Tombstone
    def __init__(self, identifier: _Optional[str] = ..., values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ..., registrant: _Optional[str] = ..., registered_at: _Optional[int] = ..., updated_at: _Optional[int] = ..., tombstone: _Optional[_Union[Tombstone, _Mapping]] = ...) -> None: ...

class Tombstone(_message.Message):
    __slots__ = ("reason", "deleted_at")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DELETED_AT_FIELD_NUMBER: _ClassVar[int]
    reason: str
    deleted_at: int
    def __init__(self, reason: _Optional[str] = ..., deleted_at: _Optional[int] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("index", "type", "data", "ttl_seconds", "expires_at", "timestamp", "permissions", "references")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TTL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    index: int
    type: str
    data: bytes
    ttl_seconds: int
    expires_at: int
    timestamp: int
    permissions: int
    references: _containers.RepeatedCompositeFieldContainer[Reference]
    def __init__(self, index: _Optional[int] = ..., type: _Optional[str] = ..., data: _Optional[bytes] = ..., ttl_seconds: _Optional[int] = ..., expires_at: _Optional[int] = ..., timestamp: _Optional[int] = ..., permissions: _Optional[int] = ..., references: _Optional[_Iterable[_Union[Reference, _Mapping]]] = ...) -> None: ...

class Reference(_message.Message):
    __slots__ = ("handle", "index")
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    handle: str
    index: int
    def __init__(self, handle: _Optional[str] = ..., index: _Optional[int] = ...) -> None: ...

class Referral(_message.Message):
    __slots__ = ("prefix", "holder", "endpoints")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    holder: str
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    def __init__(self, prefix: _Optional[str] = ..., holder: _Optional[str] = ..., endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("protocol", "address", "port", "priority", "tls_name")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TLS_NAME_FIELD_NUMBER: _ClassVar[int]
    protocol: Protocol
    address: str
    port: int
    priority: int
    tls_name: str
    def __init__(self, protocol: _Optional[_Union[Protocol, str]] = ..., address: _Optional[str] = ..., port: _Optional[int] = ..., priority: _Optional[int] = ..., tls_name: _Optional[str] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("authority", "prefix", "hops", "expires_at", "trust")
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    HOPS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    TRUST_FIELD_NUMBER: _ClassVar[int]
    authority: str
    prefix: str
    hops: _containers.RepeatedCompositeFieldContainer[Hop]
    expires_at: int
    trust: Trust
    def __init__(self, authority: _Optional[str] = ..., prefix: _Optional[str] = ..., hops: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ..., expires_at: _Optional[int] = ..., trust: _Optional[_Union[Trust, str]] = ...) -> None: ...

class Hop(_message.Message):
    __slots__ = ("node", "protocol", "obtained_at")
    NODE_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    OBTAINED_AT_FIELD_NUMBER: _ClassVar[int]
    node: str
    protocol: Protocol
    obtained_at: int
    def __init__(self, node: _Optional[str] = ..., protocol: _Optional[_Union[Protocol, str]] = ..., obtained_at: _Optional[int] = ...) -> None: ...

class Trace(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[TraceStep]
    def __init__(self, steps: _Optional[_Iterable[_Union[TraceStep, _Mapping]]] = ...) -> None: ...

class TraceStep(_message.Message):
    __slots__ = ("node", "tier", "verdict", "microseconds")
    NODE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    node: str
    tier: str
    verdict: str
    microseconds: int
    def __init__(self, node: _Optional[str] = ..., tier: _Optional[str] = ..., verdict: _Optional[str] = ..., microseconds: _Optional[int] = ...) -> None: ...

class ListHandlesRequest(_message.Message):
    __slots__ = ("prefix", "derived", "page_size", "page_token")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    DERIVED_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    derived: bool
    page_size: int
    page_token: str
    def __init__(self, prefix: _Optional[str] = ..., derived: _Optional[bool] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListHandlesResponse(_message.Message):
    __slots__ = ("identifiers", "next_page_token")
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedScalarFieldContainer[str]
    next_page_token: str
    def __init__(self, identifiers: _Optional[_Iterable[str]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetNodeInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetNodeInfoResponse(_message.Message):
    __slots__ = ("node", "tier", "software_version", "wire_version", "store_format", "bounds", "recursion_available", "answer_tiers", "applied_index")
    NODE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    WIRE_VERSION_FIELD_NUMBER: _ClassVar[int]
    STORE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    BOUNDS_FIELD_NUMBER: _ClassVar[int]
    RECURSION_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_TIERS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    node: str
    tier: str
    software_version: str
    wire_version: str
    store_format: int
    bounds: Bounds
    recursion_available: bool
    answer_tiers: _containers.RepeatedScalarFieldContainer[str]
    applied_index: int
    def __init__(self, node: _Optional[str] = ..., tier: _Optional[str] = ..., software_version: _Optional[str] = ..., wire_version: _Optional[str] = ..., store_format: _Optional[int] = ..., bounds: _Optional[_Union[Bounds, _Mapping]] = ..., recursion_available: _Optional[bool] = ..., answer_tiers: _Optional[_Iterable[str]] = ..., applied_index: _Optional[int] = ...) -> None: ...

class Bounds(_message.Message):
    __slots__ = ("identifier_bytes", "value_data_bytes", "record_bytes", "record_values", "batch_identifiers", "answer_bytes", "list_page", "request_bytes", "envelope_bytes", "envelope_rows", "chunk_bytes", "answers_kept_seconds", "batch_bytes", "lookup_bytes")
    IDENTIFIER_BYTES_FIELD_NUMBER: _ClassVar[int]
    VALUE_DATA_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECORD_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECORD_VALUES_FIELD_NUMBER: _ClassVar[int]
    BATCH_IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    ANSWER_BYTES_FIELD_NUMBER: _ClassVar[int]
    LIST_PAGE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_ROWS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_BYTES_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_KEPT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_BYTES_FIELD_NUMBER: _ClassVar[int]
    identifier_bytes: int
    value_data_bytes: int
    record_bytes: int
    record_values: int
    batch_identifiers: int
    answer_bytes: int
    list_page: int
    request_bytes: int
    envelope_bytes: int
    envelope_rows: int
    chunk_bytes: int
    answers_kept_seconds: int
    batch_bytes: int
    lookup_bytes: int
    def __init__(self, identifier_bytes: _Optional[int] = ..., value_data_bytes: _Optional[int] = ..., record_bytes: _Optional[int] = ..., record_values: _Optional[int] = ..., batch_identifiers: _Optional[int] = ..., answer_bytes: _Optional[int] = ..., list_page: _Optional[int] = ..., request_bytes: _Optional[int] = ..., envelope_bytes: _Optional[int] = ..., envelope_rows: _Optional[int] = ..., chunk_bytes: _Optional[int] = ..., answers_kept_seconds: _Optional[int] = ..., batch_bytes: _Optional[int] = ..., lookup_bytes: _Optional[int] = ...) -> None: ...

class Envelope(_message.Message):
    __slots__ = ("payload", "payload_type", "signatures")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    payload_type: str
    signatures: _containers.RepeatedCompositeFieldContainer[Signature]
    def __init__(self, payload: _Optional[bytes] = ..., payload_type: _Optional[str] = ..., signatures: _Optional[_Iterable[_Union[Signature, _Mapping]]] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("sig", "keyid")
    SIG_FIELD_NUMBER: _ClassVar[int]
    KEYID_FIELD_NUMBER: _ClassVar[int]
    sig: bytes
    keyid: str
    def __init__(self, sig: _Optional[bytes] = ..., keyid: _Optional[str] = ...) -> None: ...
