"""The one error family and the registry of its reasons.

Nothing here knows gRPC: `resolver.rpc.errors` maps a Fault to a status and back, and the table in docs is made
from `REASONS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, unique
from types import MappingProxyType
from typing import Final


class Kind(Enum):
    """What went wrong, as a caller must treat it. The names are those of gRPC's status codes."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAVAILABLE = "UNAVAILABLE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason says: its kind, what happened, and what the caller can do."""

    kind: Kind
    happened: str
    remedy: str


@unique
class Reason(Enum):
    """Every reason that a node gives. A name is for ever: never renamed, never used for something else."""

    IDENTIFIER_EMPTY = Meaning(Kind.INVALID_ARGUMENT, "The identifier is empty.", "Send `prefix/suffix`.")
    IDENTIFIER_TOO_LONG = Meaning(
        Kind.INVALID_ARGUMENT, "The identifier is longer than 2,048 bytes of UTF-8.", "Send a shorter one."
    )
    IDENTIFIER_NOT_UTF8 = Meaning(
        Kind.INVALID_ARGUMENT, "The identifier is not UTF-8.", "Encode it as UTF-8, without another code page."
    )
    IDENTIFIER_CONTROL_CHARACTER = Meaning(
        Kind.INVALID_ARGUMENT,
        "The identifier holds a control character (U+0000 to U+001F, U+007F to U+009F).",
        "Remove it; look for line ends and tabs left over from a file.",
    )
    IDENTIFIER_NO_SLASH = Meaning(
        Kind.INVALID_ARGUMENT, "There is no slash between prefix and suffix.", "Send `prefix/suffix`."
    )
    IDENTIFIER_EMPTY_SUFFIX = Meaning(
        Kind.INVALID_ARGUMENT, "Nothing stands behind the first slash.", "Send `prefix/suffix`."
    )
    PREFIX_EMPTY_SEGMENT = Meaning(
        Kind.INVALID_ARGUMENT,
        "A segment of the prefix is empty: nothing before the slash, or two dots in a row.",
        "Write the prefix as segments with single dots between: `88.111.1`.",
    )
    PREFIX_HAS_SLASH = Meaning(
        Kind.INVALID_ARGUMENT, "A prefix was asked for and a slash stands in it.", "Send the part before the slash."
    )
    REQUEST_MALFORMED = Meaning(
        Kind.INVALID_ARGUMENT, "The request is not the message that the method takes.", "Use the published proto."
    )
    FIELD_OUT_OF_RANGE = Meaning(
        Kind.INVALID_ARGUMENT, "A field is outside the range that it allows.", "See the field's bounds."
    )
    ENUM_UNKNOWN = Meaning(
        Kind.INVALID_ARGUMENT, "A field holds a number that its enumeration does not know.", "Use a known value."
    )
    BATCH_EMPTY = Meaning(Kind.INVALID_ARGUMENT, "The batch holds no identifier.", "Send 1 to 1,000.")
    BATCH_TOO_LARGE = Meaning(
        Kind.INVALID_ARGUMENT,
        "The batch holds more than 1,000 identifiers.",
        "Split it; GetNodeInfo tells the bound.",
    )
    PAGE_TOKEN_INVALID = Meaning(
        Kind.INVALID_ARGUMENT,
        "The page token was not made by this node for this prefix and flag, or was altered.",
        "Start again without a token.",
    )
    ROW_MALFORMED = Meaning(
        Kind.INVALID_ARGUMENT, "A row of a load cannot be read.", "Mend the row; the field is named."
    )
    ROW_TRUNCATED = Meaning(
        Kind.INVALID_ARGUMENT,
        "The input ends in the middle of a row.",
        "Fetch the file again; then load it again: rows that are already in are skipped.",
    )
    RECORD_TOO_LARGE = Meaning(
        Kind.INVALID_ARGUMENT, "The record is larger than 256 KiB or has more than 2,048 values.", "Shorten it."
    )
    VALUE_INVALID = Meaning(
        Kind.INVALID_ARGUMENT, "A value breaks a rule; the field is named.", "See the bounds of a value."
    )
    SETTING_UNKNOWN = Meaning(
        Kind.INVALID_ARGUMENT, "The configuration has a key that no part of the node reads.", "Correct or remove it."
    )
    SETTING_INVALID = Meaning(
        Kind.INVALID_ARGUMENT, "A setting has a value that it cannot take.", "See the setting's description."
    )
    ADDRESS_TAKEN = Meaning(
        Kind.FAILED_PRECONDITION, "Another process listens on this address.", "Stop it, or choose another port."
    )
    FILE_UNREADABLE = Meaning(Kind.FAILED_PRECONDITION, "A file cannot be read.", "Check its path and its rights.")
    IDENTIFIER_EXISTS = Meaning(
        Kind.ALREADY_EXISTS,
        "The identifier is registered already, with other content.",
        "Ask for overwriting where that is meant.",
    )
    IDENTIFIER_DELETED = Meaning(
        Kind.FAILED_PRECONDITION,
        "The identifier was deleted and is not given out again silently.",
        "Ask for overwriting where that is meant.",
    )
    PREFIX_NOT_ALLOCATED = Meaning(
        Kind.FAILED_PRECONDITION, "No allocated prefix covers the identifier.", "Have the prefix allocated first."
    )
    PREFIX_DISABLED = Meaning(
        Kind.FAILED_PRECONDITION, "The prefix is disabled: nothing is said below it.", "Ask the prefix's holder."
    )
    PREFIX_EXPIRED = Meaning(
        Kind.FAILED_PRECONDITION, "The prefix's term is over: nothing is said below it.", "Ask the prefix's holder."
    )
    PREFIX_RULE_FIXED = Meaning(
        Kind.FAILED_PRECONDITION,
        "The case rule of a prefix is fixed when it is created.",
        "Allocate another prefix with the other rule.",
    )
    PREFIX_EXISTS = Meaning(
        Kind.ALREADY_EXISTS,
        "The prefix is allocated already, with other content.",
        "Ask for overwriting where that is meant.",
    )
    LISTING_NOT_ALLOWED = Meaning(
        Kind.PERMISSION_DENIED,
        "This caller may not list identifiers here.",
        "Ask as its holder, as one above it or as an operator: sign the query, or show the node's certificate.",
    )
    ANSWER_TOO_LARGE = Meaning(
        Kind.RESOURCE_EXHAUSTED,
        "This answer no longer fit into the batch's 3.5 MiB.",
        "Ask for the identifiers with this reason again, in a smaller batch.",
    )
    REQUEST_TOO_LARGE = Meaning(
        Kind.RESOURCE_EXHAUSTED,
        "The request is larger than its method allows.",
        "Split it; GetNodeInfo tells the bound. A packed one may hold 64 KiB, or 100 times its size up to 256 KiB.",
    )
    TOO_MANY_IN_FLIGHT = Meaning(
        Kind.RESOURCE_EXHAUSTED, "The node works on as much as it accepts at once.", "Retry after the stated time."
    )
    RATE_LIMITED = Meaning(
        Kind.RESOURCE_EXHAUSTED, "This caller asks faster than its limit.", "Retry after the stated time."
    )
    DEADLINE_SPENT = Meaning(
        Kind.DEADLINE_EXCEEDED, "The deadline was over before the answer was there.", "Allow more time."
    )
    STORE_UNAVAILABLE = Meaning(
        Kind.UNAVAILABLE, "The store does not answer.", "Retry after the stated time; operators: see the store's log."
    )
    STORE_FULL = Meaning(
        Kind.RESOURCE_EXHAUSTED,
        "The disk that holds the store is full. What was acknowledged is safe, nothing more was written.",
        "Make room, then send the same again.",
    )
    STORE_OWNED = Meaning(
        Kind.FAILED_PRECONDITION,
        "Another process is the writer of this store.",
        "Write through that process, or stop it first.",
    )
    STORE_FENCED = Meaning(
        Kind.UNAVAILABLE,
        "Another process has become the writer of this store; this one commits nothing more.",
        "Retry: the new writer answers.",
    )
    STORE_FORMAT_UNKNOWN = Meaning(
        Kind.FAILED_PRECONDITION,
        "The store was written in a format that this version does not know.",
        "Use the version that wrote it, or a newer one.",
    )
    STORE_NOT_MIGRATED = Meaning(
        Kind.FAILED_PRECONDITION,
        "The store's schema is not there, or older than this version needs.",
        "Run `topnode store migrate`, once for the whole cluster.",
    )
    STORE_MISSING = Meaning(
        Kind.FAILED_PRECONDITION, "There is no store in this folder.", "Check the path, or load something first."
    )
    STORE_EXISTS = Meaning(
        Kind.FAILED_PRECONDITION, "There is a store in this folder already.", "Restore into an empty folder."
    )
    BACKUP_DAMAGED = Meaning(
        Kind.FAILED_PRECONDITION, "The backup is not whole: a checksum differs.", "Use another copy of the backup."
    )
    TOOL_FAILED = Meaning(
        Kind.FAILED_PRECONDITION,
        "A program that the node called failed, or did not end in time.",
        "Read what it said; mend that, and begin the step again.",
    )
    LOAD_OUT_OF_STEP = Meaning(
        Kind.FAILED_PRECONDITION,
        "The rows do not follow on what this load has taken so far.",
        "Begin the load again: it tells where to go on.",
    )
    LOAD_UNSORTED = Meaning(
        Kind.INVALID_ARGUMENT,
        "A row of a load around the store's servers does not come behind the one before, by its canonical key.",
        "Sort the rows by canonical key, byte by byte, without repetitions; rows that are in stay as they are.",
    )
    LOAD_PREFIX_IN_USE = Meaning(
        Kind.FAILED_PRECONDITION,
        "Something is registered already below a prefix that is loaded around the store's servers.",
        "Load the rows below this prefix with `topnode load`.",
    )
    LOAD_UNFINISHED = Meaning(
        Kind.FAILED_PRECONDITION,
        "A load around the store's servers has begun and not ended; nothing else is written before it has.",
        "Go on with it: `topnode store load` with the same name and folder.",
    )
    ENVELOPE_MALFORMED = Meaning(
        Kind.INVALID_ARGUMENT,
        "The request is not a signed envelope: a field is missing, unknown or repeated, or bytes are cut off.",
        "Send the DSSE envelope exactly as it was signed.",
    )
    PAYLOAD_TYPE_UNKNOWN = Meaning(
        Kind.INVALID_ARGUMENT, "The node knows no payload of this type here.", "See docs/registry.md for the kinds."
    )
    PAYLOAD_MALFORMED = Meaning(
        Kind.INVALID_ARGUMENT, "The signed payload cannot be read; the field is named.", "Mend it, and sign it anew."
    )
    KEY_INVALID = Meaning(
        Kind.INVALID_ARGUMENT,
        "This is no key that can be used here.",
        "Use Ed25519, ECDSA P-256 or ML-DSA-65: `topnode key new` makes one.",
    )
    KEY_UNKNOWN = Meaning(
        Kind.PERMISSION_DENIED, "No actor has registered this key.", "Apply first, or sign with the registered key."
    )
    KEY_NOT_ALLOWED = Meaning(
        Kind.PERMISSION_DENIED, "This key may not sign any more.", "Sign with the key that took its place."
    )
    SIGNATURE_INVALID = Meaning(
        Kind.PERMISSION_DENIED,
        "The signature does not fit the payload and the key that it names.",
        "Sign exactly the bytes that are sent.",
    )
    ACTOR_MISMATCH = Meaning(
        Kind.PERMISSION_DENIED, "The key belongs to another actor than the head names.", "Name the key's own actor."
    )
    AUDIENCE_WRONG = Meaning(
        Kind.PERMISSION_DENIED,
        "The request was signed for another node or another method.",
        "Sign it for this node and method; GetNodeInfo tells the node.",
    )
    ENVELOPE_EXPIRED = Meaning(
        Kind.FAILED_PRECONDITION,
        "The time in which the request may be sent is over.",
        "Correct the clock by the server's time, and sign it anew under the same request id.",
    )
    ENVELOPE_NOT_YET_VALID = Meaning(
        Kind.FAILED_PRECONDITION,
        "The request was issued in the future.",
        "Correct the clock by the server's time, and sign it anew under the same request id.",
    )
    ENVELOPE_LIFETIME = Meaning(
        Kind.INVALID_ARGUMENT, "A request may be sent for at most 5 minutes.", "Sign it with an earlier expiry."
    )
    NONCE_SPENT = Meaning(
        Kind.FAILED_PRECONDITION,
        "This nonce was used before, for another request.",
        "Sign it anew with a fresh nonce, under the same request id.",
    )
    REQUEST_ID_REUSED = Meaning(
        Kind.ALREADY_EXISTS,
        "Another request with other content was accepted under this request id.",
        "Use a fresh request id for what is not a retry.",
    )
    NOT_AUTHORISED = Meaning(
        Kind.PERMISSION_DENIED, "This actor may not do this.", "Have it signed by whoever may: the detail says who."
    )
    NODE_UNKNOWN = Meaning(Kind.NOT_FOUND, "No node has this identifier.", "Have it apply first.")
    NODE_EXISTS = Meaning(
        Kind.ALREADY_EXISTS, "There is a node with this identifier already.", "Apply under another identifier."
    )
    APPLICATIONS_WAITING = Meaning(
        Kind.RESOURCE_EXHAUSTED,
        "As many applications wait for a review as may wait at once.",
        "Apply again later, or ask the operators of this node.",
    )
    NODE_NOT_ENABLED = Meaning(
        Kind.PERMISSION_DENIED,
        "The node is not enabled: it was not reviewed yet, or it was suspended, rejected or revoked.",
        "Ask the operators of this node.",
    )
    NODE_STATE_CONFLICT = Meaning(
        Kind.FAILED_PRECONDITION,
        "The node's state does not allow this.",
        "See the table of states in docs/registry.md.",
    )
    PREFIX_NOT_HELD = Meaning(
        Kind.PERMISSION_DENIED,
        "The prefix belongs to another holder.",
        "Have it signed by the holder of the longest allocated prefix.",
    )
    PREFIX_STATE_CONFLICT = Meaning(
        Kind.FAILED_PRECONDITION,
        "The prefix's state does not allow this.",
        "See the table of states in docs/registry.md.",
    )
    PREFIX_TERM_INVALID = Meaning(
        Kind.FAILED_PRECONDITION,
        "A term ends in the future, and not after that of the prefix above.",
        "Renew the prefix above first, or choose an earlier end.",
    )
    IDENTIFIER_UNKNOWN = Meaning(Kind.NOT_FOUND, "There is no such identifier to be changed.", "Register it first.")
    VERSION_MISMATCH = Meaning(
        Kind.FAILED_PRECONDITION,
        "The record has another version than was expected: somebody changed it.",
        "Read it again, and decide anew.",
    )
    ROW_REPEATED = Meaning(
        Kind.INVALID_ARGUMENT, "Two rows of one request are about the same thing.", "Send them one after another."
    )
    ROW_NOT_TAKEN = Meaning(
        Kind.FAILED_PRECONDITION,
        "All rows or none were asked for, and another row was refused.",
        "Mend the refused rows, or ask for those that can be taken.",
    )
    CHUNK_MISMATCH = Meaning(
        Kind.INVALID_ARGUMENT,
        "The chunk is not the one that the envelope names: its bytes differ, or it is not readable.",
        "Send the chunk again, unchanged.",
    )
    INPUT_CHANGED = Meaning(
        Kind.FAILED_PRECONDITION,
        "The input changed while it was read.",
        "Load a copy that nobody writes to; rows that are already in are skipped.",
    )
    RECEIPT_INVALID = Meaning(
        Kind.FAILED_PRECONDITION,
        "The receipt does not prove what it should; the field is named.",
        "Fetch it anew; where it stays so, the node's operator must explain.",
    )
    JOURNAL_DAMAGED = Meaning(
        Kind.FAILED_PRECONDITION,
        "Journal and store do not fit together; the place is named.",
        "Rebuild the store from the journal, or restore a backup.",
    )
    ENTRY_UNKNOWN = Meaning(Kind.NOT_FOUND, "The journal has no entry of this index.", "See the checkpoint's size.")
    NODE_DRAINING = Meaning(
        Kind.UNAVAILABLE, "This process is being stopped.", "Retry: another process of the node answers."
    )
    NODE_UNREACHABLE = Meaning(Kind.UNAVAILABLE, "The node does not answer.", "Check address, port and network.")
    HOP_LIMIT = Meaning(
        Kind.FAILED_PRECONDITION,
        "The question went through as many nodes as it may, and the one that knows lies further down.",
        "Ask a node that is nearer to the holder: with REFERRAL, this one names the next.",
    )
    REFERRAL_LOOP = Meaning(
        Kind.FAILED_PRECONDITION,
        "The question came back to a node that it had gone through: nodes delegate a prefix to each other in a ring.",
        "Tell the prefix's holder: one of the nodes named delegates what it should host.",
    )
    CHILD_UNREACHABLE = Meaning(
        Kind.UNAVAILABLE,
        "The node below that knows does not answer, and nothing that may be given in its place is held here.",
        "Retry after the stated time; or ask with `with_copy` for the registered copy.",
    )
    CHILD_ANSWER_REFUSED = Meaning(
        Kind.FAILED_PRECONDITION,
        "The node below that was asked said what it may not say, or nothing that can be read; it was dropped.",
        "Tell the prefix's holder: its node answers for what was not asked, or is not delegated to it.",
    )
    METHOD_UNKNOWN = Meaning(
        Kind.UNIMPLEMENTED,
        "The node does not offer this method, or does not take requests compressed like this one.",
        "Compare GetNodeInfo's wire version with the published proto; send requests uncompressed.",
    )
    INTERNAL = Meaning(Kind.INTERNAL, "The node made a mistake.", "Report it with the request id.")


DOMAIN: Final = "topnode"
"""The domain of every ErrorInfo."""

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


class Fault(Exception):
    """Something went wrong, for a reason out of the registry.

    `detail` is one sentence for a person. `field` names the field of the request (or the setting, or the column)
    that caused it. `retry_after` is in seconds. `variables` are what varies in the sentence, for machines.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        field: str = "",
        retry_after: float | None = None,
        variables: Mapping[str, str] = _NOTHING,
    ) -> None:
        self.reason = reason
        self.detail = detail or reason.value.happened
        self.field = field
        self.retry_after = retry_after
        self.variables = variables
        super().__init__(reason, self.detail)

    @property
    def kind(self) -> Kind:
        return self.reason.value.kind

    def anew(self, *, field: str | None = None) -> "Fault":
        """Say the same again, perhaps about another field. Raising a fault changes it, so each has one of its own."""
        return Fault(
            self.reason,
            self.detail,
            field=self.field if field is None else field,
            retry_after=self.retry_after,
            variables=self.variables,
        )

    def __str__(self) -> str:
        where = f" ({self.field})" if self.field else ""
        return f"{self.reason.name}{where}: {self.detail} {self.reason.value.remedy}"


def first_fault(group: BaseExceptionGroup[Fault]) -> Fault:
    """Take one of the Faults with which a TaskGroup ended."""
    first = group.exceptions[0]
    return first_fault(first) if isinstance(first, BaseExceptionGroup) else first
