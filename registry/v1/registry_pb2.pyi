from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OUTCOME_REGISTERED: _ClassVar[Outcome]
    OUTCOME_REPLACED: _ClassVar[Outcome]
    OUTCOME_UNCHANGED: _ClassVar[Outcome]
    OUTCOME_DELETED: _ClassVar[Outcome]
    OUTCOME_REFUSED: _ClassVar[Outcome]

class Tier(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIER_UNSPECIFIED: _ClassVar[Tier]
    TIER_SECONDARY: _ClassVar[Tier]
    TIER_ENTERPRISE: _ClassVar[Tier]

class NodeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_STATE_UNSPECIFIED: _ClassVar[NodeState]
    NODE_STATE_APPLIED: _ClassVar[NodeState]
    NODE_STATE_REJECTED: _ClassVar[NodeState]
    NODE_STATE_ENABLED: _ClassVar[NodeState]
    NODE_STATE_SUSPENDED: _ClassVar[NodeState]
    NODE_STATE_REVOKED: _ClassVar[NodeState]
OUTCOME_UNSPECIFIED: Outcome
OUTCOME_REGISTERED: Outcome
OUTCOME_REPLACED: Outcome
OUTCOME_UNCHANGED: Outcome
OUTCOME_DELETED: Outcome
OUTCOME_REFUSED: Outcome
TIER_UNSPECIFIED: Tier
TIER_SECONDARY: Tier
TIER_ENTERPRISE: Tier
NODE_STATE_UNSPECIFIED: NodeState
NODE_STATE_APPLIED: NodeState
NODE_STATE_REJECTED: NodeState
NODE_STATE_ENABLED: NodeState
NODE_STATE_SUSPENDED: NodeState
NODE_STATE_REVOKED: NodeState

class SubmitRequest(_message.Message):
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

class SubmitResponse(_message.Message):
    __slots__ = ("result", "receipt", "repeated_answer")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REPEATED_ANSWER_FIELD_NUMBER: _ClassVar[int]
    result: Result
    receipt: Receipt
    repeated_answer: bool
    def __init__(self, result: _Optional[_Union[Result, _Mapping]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., repeated_answer: _Optional[bool] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("outcomes", "refusals", "minted", "tallies")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    MINTED_FIELD_NUMBER: _ClassVar[int]
    TALLIES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedScalarFieldContainer[Outcome]
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    minted: _containers.RepeatedCompositeFieldContainer[Minted]
    tallies: _containers.RepeatedCompositeFieldContainer[Tally]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, str]]] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., minted: _Optional[_Iterable[_Union[Minted, _Mapping]]] = ..., tallies: _Optional[_Iterable[_Union[Tally, _Mapping]]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("row", "error")
    ROW_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    row: int
    error: _status_pb2.Status
    def __init__(self, row: _Optional[int] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class Tally(_message.Message):
    __slots__ = ("prefix", "registered", "deleted", "allocated")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    registered: int
    deleted: int
    allocated: int
    def __init__(self, prefix: _Optional[str] = ..., registered: _Optional[int] = ..., deleted: _Optional[int] = ..., allocated: _Optional[int] = ...) -> None: ...

class Minted(_message.Message):
    __slots__ = ("row", "identifier")
    ROW_FIELD_NUMBER: _ClassVar[int]
    IDENTIFIER_FIELD_NUMBER: _ClassVar[int]
    row: int
    identifier: str
    def __init__(self, row: _Optional[int] = ..., identifier: _Optional[str] = ...) -> None: ...

class Statement(_message.Message):
    __slots__ = ("kind", "actor", "request_id", "key_ids", "accepted_at", "envelope_sha256", "refused")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_SHA256_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    kind: str
    actor: str
    request_id: str
    key_ids: _containers.RepeatedScalarFieldContainer[bytes]
    accepted_at: int
    envelope_sha256: bytes
    refused: bytes
    def __init__(self, kind: _Optional[str] = ..., actor: _Optional[str] = ..., request_id: _Optional[str] = ..., key_ids: _Optional[_Iterable[bytes]] = ..., accepted_at: _Optional[int] = ..., envelope_sha256: _Optional[bytes] = ..., refused: _Optional[bytes] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("index", "statement", "leaf_hash", "checkpoint", "inclusion_proof")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    LEAF_HASH_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    INCLUSION_PROOF_FIELD_NUMBER: _ClassVar[int]
    index: int
    statement: bytes
    leaf_hash: bytes
    checkpoint: bytes
    inclusion_proof: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, index: _Optional[int] = ..., statement: _Optional[bytes] = ..., leaf_hash: _Optional[bytes] = ..., checkpoint: _Optional[bytes] = ..., inclusion_proof: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ImportRequest(_message.Message):
    __slots__ = ("envelope", "chunk")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    envelope: bytes
    chunk: bytes
    def __init__(self, envelope: _Optional[bytes] = ..., chunk: _Optional[bytes] = ...) -> None: ...

class ImportResponse(_message.Message):
    __slots__ = ("registered", "replaced", "unchanged", "refusals", "receipt", "repeated_answer", "tallies")
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REPEATED_ANSWER_FIELD_NUMBER: _ClassVar[int]
    TALLIES_FIELD_NUMBER: _ClassVar[int]
    registered: int
    replaced: int
    unchanged: int
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    receipt: Receipt
    repeated_answer: bool
    tallies: _containers.RepeatedCompositeFieldContainer[Tally]
    def __init__(self, registered: _Optional[int] = ..., replaced: _Optional[int] = ..., unchanged: _Optional[int] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., receipt: _Optional[_Union[Receipt, _Mapping]] = ..., repeated_answer: _Optional[bool] = ..., tallies: _Optional[_Iterable[_Union[Tally, _Mapping]]] = ...) -> None: ...

class GetImportRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetImportResponse(_message.Message):
    __slots__ = ("offset", "lines", "chunks", "registered", "replaced", "unchanged", "rejected", "manifest_sha256")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SHA256_FIELD_NUMBER: _ClassVar[int]
    offset: int
    lines: int
    chunks: int
    registered: int
    replaced: int
    unchanged: int
    rejected: int
    manifest_sha256: bytes
    def __init__(self, offset: _Optional[int] = ..., lines: _Optional[int] = ..., chunks: _Optional[int] = ..., registered: _Optional[int] = ..., replaced: _Optional[int] = ..., unchanged: _Optional[int] = ..., rejected: _Optional[int] = ..., manifest_sha256: _Optional[bytes] = ...) -> None: ...

class GetReceiptRequest(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class GetReceiptResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: Receipt
    def __init__(self, receipt: _Optional[_Union[Receipt, _Mapping]] = ...) -> None: ...

class GetCheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCheckpointResponse(_message.Message):
    __slots__ = ("checkpoint", "verifier_key")
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_KEY_FIELD_NUMBER: _ClassVar[int]
    checkpoint: bytes
    verifier_key: str
    def __init__(self, checkpoint: _Optional[bytes] = ..., verifier_key: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("node", "tier", "state", "parent", "organisation", "industry", "keys", "applied_at", "changed_at", "reason", "version", "heartbeat", "takeover", "agreement", "takeover_automatic", "takeover_since", "takeover_reason")
    NODE_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    ORGANISATION_FIELD_NUMBER: _ClassVar[int]
    INDUSTRY_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_AT_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    TAKEOVER_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    TAKEOVER_AUTOMATIC_FIELD_NUMBER: _ClassVar[int]
    TAKEOVER_SINCE_FIELD_NUMBER: _ClassVar[int]
    TAKEOVER_REASON_FIELD_NUMBER: _ClassVar[int]
    node: str
    tier: Tier
    state: NodeState
    parent: str
    organisation: str
    industry: str
    keys: _containers.RepeatedCompositeFieldContainer[NodeKey]
    applied_at: int
    changed_at: int
    reason: str
    version: int
    heartbeat: NodeHeartbeat
    takeover: bool
    agreement: bool
    takeover_automatic: bool
    takeover_since: int
    takeover_reason: str
    def __init__(self, node: _Optional[str] = ..., tier: _Optional[_Union[Tier, str]] = ..., state: _Optional[_Union[NodeState, str]] = ..., parent: _Optional[str] = ..., organisation: _Optional[str] = ..., industry: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[NodeKey, _Mapping]]] = ..., applied_at: _Optional[int] = ..., changed_at: _Optional[int] = ..., reason: _Optional[str] = ..., version: _Optional[int] = ..., heartbeat: _Optional[_Union[NodeHeartbeat, _Mapping]] = ..., takeover: _Optional[bool] = ..., agreement: _Optional[bool] = ..., takeover_automatic: _Optional[bool] = ..., takeover_since: _Optional[int] = ..., takeover_reason: _Optional[str] = ...) -> None: ...

class NodeKey(_message.Message):
    __slots__ = ("keyid", "spki", "since", "until")
    KEYID_FIELD_NUMBER: _ClassVar[int]
    SPKI_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    keyid: str
    spki: bytes
    since: int
    until: int
    def __init__(self, keyid: _Optional[str] = ..., spki: _Optional[bytes] = ..., since: _Optional[int] = ..., until: _Optional[int] = ...) -> None: ...

class GetNodeRequest(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class GetNodeResponse(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: Node
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ...) -> None: ...

class Prefix(_message.Message):
    __slots__ = ("prefix", "holder", "state", "case", "hosting", "expires_at", "endpoints", "version")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CASE_FIELD_NUMBER: _ClassVar[int]
    HOSTING_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    holder: str
    state: str
    case: str
    hosting: str
    expires_at: int
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    version: int
    def __init__(self, prefix: _Optional[str] = ..., holder: _Optional[str] = ..., state: _Optional[str] = ..., case: _Optional[str] = ..., hosting: _Optional[str] = ..., expires_at: _Optional[int] = ..., endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ..., version: _Optional[int] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("protocol", "address", "port", "priority", "tls_name")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TLS_NAME_FIELD_NUMBER: _ClassVar[int]
    protocol: str
    address: str
    port: int
    priority: int
    tls_name: str
    def __init__(self, protocol: _Optional[str] = ..., address: _Optional[str] = ..., port: _Optional[int] = ..., priority: _Optional[int] = ..., tls_name: _Optional[str] = ...) -> None: ...

class GetPrefixRequest(_message.Message):
    __slots__ = ("prefix",)
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    def __init__(self, prefix: _Optional[str] = ...) -> None: ...

class GetPrefixResponse(_message.Message):
    __slots__ = ("prefix",)
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    prefix: Prefix
    def __init__(self, prefix: _Optional[_Union[Prefix, _Mapping]] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ("page_size", "after", "states")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    after: str
    states: _containers.RepeatedScalarFieldContainer[NodeState]
    def __init__(self, page_size: _Optional[int] = ..., after: _Optional[str] = ..., states: _Optional[_Iterable[_Union[NodeState, str]]] = ...) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes", "next_after")
    NODES_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    next_after: str
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ..., next_after: _Optional[str] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("node", "time", "applied_index", "software_version")
    NODE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    node: str
    time: int
    applied_index: int
    software_version: str
    def __init__(self, node: _Optional[str] = ..., time: _Optional[int] = ..., applied_index: _Optional[int] = ..., software_version: _Optional[str] = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ("time", "index")
    TIME_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    time: int
    index: int
    def __init__(self, time: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...

class NodeHeartbeat(_message.Message):
    __slots__ = ("heard_at", "given_at", "applied_index", "software_version")
    HEARD_AT_FIELD_NUMBER: _ClassVar[int]
    GIVEN_AT_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    heard_at: int
    given_at: int
    applied_index: int
    software_version: str
    def __init__(self, heard_at: _Optional[int] = ..., given_at: _Optional[int] = ..., applied_index: _Optional[int] = ..., software_version: _Optional[str] = ...) -> None: ...

class ListCountsRequest(_message.Message):
    __slots__ = ("day", "prefix", "page_size", "after")
    DAY_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    day: str
    prefix: str
    page_size: int
    after: str
    def __init__(self, day: _Optional[str] = ..., prefix: _Optional[str] = ..., page_size: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListCountsResponse(_message.Message):
    __slots__ = ("day", "rows", "next_after", "partial")
    DAY_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    day: str
    rows: _containers.RepeatedCompositeFieldContainer[CountRow]
    next_after: str
    partial: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, day: _Optional[str] = ..., rows: _Optional[_Iterable[_Union[CountRow, _Mapping]]] = ..., next_after: _Optional[str] = ..., partial: _Optional[_Iterable[str]] = ...) -> None: ...

class CountRow(_message.Message):
    __slots__ = ("prefix", "node", "queries", "found", "recursive_queries", "recursive_found", "registered", "deleted", "allocated")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_QUERIES_FIELD_NUMBER: _ClassVar[int]
    RECURSIVE_FOUND_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    node: str
    queries: int
    found: int
    recursive_queries: int
    recursive_found: int
    registered: int
    deleted: int
    allocated: int
    def __init__(self, prefix: _Optional[str] = ..., node: _Optional[str] = ..., queries: _Optional[int] = ..., found: _Optional[int] = ..., recursive_queries: _Optional[int] = ..., recursive_found: _Optional[int] = ..., registered: _Optional[int] = ..., deleted: _Optional[int] = ..., allocated: _Optional[int] = ...) -> None: ...

class SendCountsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SendCountsResponse(_message.Message):
    __slots__ = ("reports", "rows", "refused")
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    reports: int
    rows: int
    refused: int
    def __init__(self, reports: _Optional[int] = ..., rows: _Optional[int] = ..., refused: _Optional[int] = ...) -> None: ...
