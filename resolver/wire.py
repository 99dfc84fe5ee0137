"""Between nouns and protobuf, both ways. The only module of this floor that imports both.

Records are the exception on the way out: a load encodes them by hand, in `resolver.encoding`.

An answer on the wire is a concatenation of fields, and protobuf lets an encoder write them one after the other in
separate pieces. The read path lives on that: a store keeps the *body* (outcome, record and version) and the lookup
appends the *tail* (standing and provenance) which is the same for all identifiers of a scope; nothing is decoded.

    frame = 0x0a len(result) 0x0a len(answer) body tail      one BatchResult inside a BatchResolveResponse
            `------ head ------'
    unary = frame without its first tag and length           a ResolveResponse
"""

from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import Final, TypeVar

from google.protobuf.message import DecodeError

from resolver.answer import Answer, Hop, Outcome, Standing
from resolver.bounds import HOPS_MAX, RECORD_BYTES
from resolver.encoding import encode_record, varint
from resolver.errors import Fault, Reason
from resolver.handle import Handle
from resolver.query import Mode, Path
from resolver.record import DEFAULT_LIFETIME, DEFAULT_TTL, Absolute, Record, Reference, Relative, Tombstone, Value
from resolver.routes import Endpoint, Prefix, Protocol, Referral
from resolver.trace import Step
from resolver.trust.verdicts import Trust
from resolver.v1 import resolver_pb2 as pb

_Enumeration = TypeVar("_Enumeration", bound=IntEnum)

_ANSWER_TAG: Final = (
    b"\x0a"  # field 1, length-delimited: of ResolveResponse, BatchResult and BatchResolveResponse alike
)
_OUTCOME: Final = {outcome: bytes((0x08, outcome)) for outcome in Outcome}  # Answer field 1, varint
_IDENTIFIER_TAG: Final = b"\x0a"  # BatchResolveRequest field 1, length-delimited
_OPTIONS_TAG: Final = b"\x12"  # BatchResolveRequest field 2, length-delimited
_RECORD_TAG: Final = b"\x12"  # Answer field 2, length-delimited
_VERSION_TAG: Final = b"\x38"  # Answer field 7, varint
_STALE: Final = b"\x30\x01"  # Answer field 6, true
_TAKEOVER: Final = b"\x40\x01"  # Answer field 8, true

# Clients decode answers by the thousand: calling an enumeration costs ten times what looking its member up costs.
_OUTCOMES: Final = {int(outcome): outcome for outcome in Outcome}
_STANDINGS: Final = {int(standing): standing for standing in Standing}


def _head(answer_length: int) -> bytes:
    result = _ANSWER_TAG + varint(answer_length)
    return _ANSWER_TAG + varint(len(result) + answer_length) + result


HEADS: Final = tuple(_head(length) for length in range(4_096))
"""What stands before an answer of each of these lengths, for those who frame a thousand at a time."""

OUTCOME_AT: Final = 1
"""Where in a body its outcome stands."""


def frame(answer: bytes) -> bytes:
    """Put an encoded answer into the frame in which batches carry it."""
    length = len(answer)
    return (HEADS[length] if length < 4_096 else _head(length)) + answer


def unary(framed: bytes) -> bytes:
    """Cut the unary response out of a frame."""
    # Behind the tag stands the length, in 1 to 3 bytes of which all but the last have their top bit set.
    if framed[1] < 0x80:
        return framed[2:]
    return framed[3:] if framed[2] < 0x80 else framed[4:] if framed[3] < 0x80 else framed[5:]


def answer_bytes(framed: bytes) -> bytes:
    """Cut the bare encoded answer out of a frame."""
    return framed[_behind_varint(framed, _behind_varint(framed, 1) + 1) :]


def stale_frame(framed: bytes) -> bytes:
    """Mark a ready answer as past its time."""
    return frame(answer_bytes(framed) + _STALE)


def takeover_frame(framed: bytes) -> bytes:
    """Mark a ready answer as given in the place of the authority, which is down."""
    return frame(answer_bytes(framed) + _TAKEOVER)


def _behind_varint(octets: bytes, start: int) -> int:
    while octets[start] >= 0x80:
        start += 1
    return start + 1


# --- what a store keeps ------------------------------------------------------------------------------------------


def record_body(record: Record, *, public: bool) -> bytes:
    """Encode outcome and record, with all values or only those that everybody may read. The version comes later.

    Raises:
        Fault: RECORD_TOO_LARGE.
    """
    encoded = encode_record(record, public=public)
    if len(encoded) > RECORD_BYTES:
        raise Fault(
            Reason.RECORD_TOO_LARGE,
            f"The record has {len(encoded)} bytes; {RECORD_BYTES} are allowed.",
            field="values",
            variables={"bytes": str(len(encoded)), "allowed": str(RECORD_BYTES)},
        )
    outcome = _OUTCOME[Outcome.ABSENT if record.tombstone else Outcome.FOUND]
    return outcome + _RECORD_TAG + varint(len(encoded)) + encoded


def body_outcome(body: bytes) -> int:
    """Read the outcome of a body, ABSENT or FOUND, without decoding it."""
    return body[1]


def registered_spelling(body: bytes) -> str:
    """Read the identifier of a body's record without decoding the rest: it is the record's first field."""
    # Outcome (two bytes), tag and length of the record, tag and length of the identifier.
    length_at = _behind_varint(body, 3) + 1
    start = _behind_varint(body, length_at)
    length = body[length_at] & 0x7F | (body[length_at + 1] << 7 if start - length_at > 1 else 0)
    return body[start : start + length].decode()


def version_field(version: int) -> bytes:
    """Encode the version as it stands at the end of a body."""
    return _VERSION_TAG + varint(version)


def body_version(body: bytes) -> int:
    """Read the version at the end of a body, without decoding the rest."""
    # Bytes of a varint but the last have their top bit set; the tag before the first has not.
    start = len(body) - 1
    while body[start - 1] & 0x80:
        start -= 1
    version = 0
    for octet in reversed(body[start:]):
        version = version << 7 | octet & 0x7F
    return version


def decode_record(body: bytes) -> Record:
    """Read a record back out of a body (with or without version and tail)."""
    message = pb.Answer.FromString(body)
    return _record(message.record, message.version)


def tail(standing: Standing, authority: str, prefix: str) -> bytes:
    """Encode standing and provenance: what is the same for all answers of a scope."""
    message = pb.Answer(
        standing=pb.Standing.Name(standing), provenance=pb.Provenance(authority=authority, prefix=prefix)
    )
    return message.SerializeToString()


def bare_body(outcome: Outcome) -> bytes:
    """Encode an answer that has no record."""
    return _OUTCOME[outcome]


def referral_body(prefix: Prefix) -> bytes:
    """Encode the referral to the holder of a delegated prefix."""
    referral = Referral(prefix=prefix.text, holder=prefix.holder, endpoints=prefix.endpoints)
    return pb.Answer(outcome=pb.OUTCOME_REFERRAL, referral=_referral_message(referral)).SerializeToString()


# --- whole answers -----------------------------------------------------------------------------------------------


def encode_answer(answer: Answer) -> bytes:
    """Encode an answer with everything in it (holders and clients; the read path joins pieces instead)."""
    message = pb.Answer(
        outcome=pb.Outcome.Name(answer.outcome),
        standing=pb.Standing.Name(answer.standing),
        stale=answer.stale,
        takeover=answer.takeover,
    )
    if answer.record:
        message.record.ParseFromString(encode_record(answer.record, public=False))
        message.version = answer.record.version
    if answer.referral:
        message.referral.CopyFrom(_referral_message(answer.referral))
    if answer.authority or answer.prefix:
        message.provenance.authority = answer.authority
        message.provenance.prefix = answer.prefix
    if answer.hops or answer.expires_at or answer.trust:
        trust = pb.Trust.Name(answer.trust)
        message.provenance.MergeFrom(pb.Provenance(expires_at=answer.expires_at, trust=trust))
        for hop in answer.hops:
            message.provenance.hops.add(
                node=hop.node, protocol=pb.Protocol.Name(hop.protocol), obtained_at=hop.obtained_at
            )
    return message.SerializeToString()


def decode_answer(octets: bytes) -> Answer:
    """Read an encoded answer.

    Raises:
        Fault: REQUEST_MALFORMED when it is not one, else as `answer_from_message`.
    """
    try:
        message = pb.Answer.FromString(octets)
    except DecodeError:
        raise Fault(Reason.REQUEST_MALFORMED, "The answer cannot be decoded.", field="answer") from None
    return answer_from_message(message)


def answer_from_message(message: pb.Answer) -> Answer:
    """Translate an answer.

    Raises:
        Fault: ENUM_UNKNOWN where a newer node uses a number that this version does not know; VALUE_INVALID and
            others where a noun's rules are broken.
    """
    provenance = message.provenance
    return Answer(
        outcome=outcome_from_wire(message.outcome),
        record=_record(message.record, message.version) if message.HasField("record") else None,
        referral=referral_from_message(message.referral) if message.HasField("referral") else None,
        standing=standing_from_wire(message.standing),
        authority=provenance.authority,
        prefix=provenance.prefix,
        stale=message.stale,
        takeover=message.takeover,
        hops=hops_from_wire(provenance),
        expires_at=provenance.expires_at,
        trust=trust_from_wire(provenance.trust),
    )


def outcome_from_wire(number: int) -> Outcome:
    """Read what kind of answer it is.

    Raises:
        Fault: ENUM_UNKNOWN.
    """
    return _OUTCOMES.get(number) or _known(Outcome, number, "answer.outcome")


def standing_from_wire(number: int) -> Standing:
    """Read with what right an answer is given.

    Raises:
        Fault: ENUM_UNKNOWN.
    """
    return _STANDINGS.get(number) or _known(Standing, number, "answer.standing")


def trust_from_wire(number: int) -> Trust:
    """Read what came of an answer's signature.

    Raises:
        Fault: ENUM_UNKNOWN.
    """
    return _known(Trust, number, "provenance.trust") if number else Trust.UNSPECIFIED


def hops_from_wire(message: pb.Provenance) -> tuple[Hop, ...]:
    """Read the hops by which an answer came.

    Raises:
        Fault: ENUM_UNKNOWN.
    """
    if not message.hops:
        return ()
    return tuple(
        [Hop(hop.node, _known(Protocol, hop.protocol, "provenance.hops"), hop.obtained_at) for hop in message.hops]
    )


def _known(enumeration: type[_Enumeration], number: int, field: str) -> _Enumeration:
    try:
        return enumeration(number)
    except ValueError:
        name = enumeration.__name__.lower()
        raise Fault(
            Reason.ENUM_UNKNOWN,
            f"{number} is no {name} that is known.",
            field=field,
            variables={"number": str(number)},
        ) from None


def select_values(answer: bytes, types: Sequence[str], indexes: Sequence[int]) -> bytes:
    """Cut an encoded answer down to the values of these types or indexes (RFC 3652 section 3.2: the lists add up)."""
    message = pb.Answer.FromString(answer)
    if message.HasField("record"):
        wanted = [value for value in message.record.values if _is_wanted(value, types, indexes)]
        del message.record.values[:]
        message.record.values.extend(wanted)
    return message.SerializeToString()


def with_referral(answer: bytes, referral: bytes) -> bytes:
    """Join a referral with the registered copy that is held beside it; the outcome is the referral's."""
    message = pb.Answer.FromString(answer)
    if message.outcome != pb.OUTCOME_FOUND:
        return referral
    # Fields that stand twice are merged, the later one wins (protobuf.dev, "Last One Wins").
    return answer + referral


def _is_wanted(value: pb.Value, types: Sequence[str], indexes: Sequence[int]) -> bool:
    if value.index in indexes:
        return True
    has = _fold(value.type)
    return any(_is_type(has, _fold(wanted)) for wanted in types)


def _is_type(has: str, wanted: str) -> bool:
    if wanted.endswith("."):
        return has == wanted[:-1] or has.startswith(wanted)
    return has == wanted


def _fold(text: str) -> str:
    return text.encode().upper().decode()


# --- messages and nouns ------------------------------------------------------------------------------------------


def mode_from_wire(number: int) -> Mode:
    """Read a mode; unspecified is LOCAL.

    Raises:
        Fault: ENUM_UNKNOWN.
    """
    return _known(Mode, number or Mode.LOCAL, "options.mode")


def path_from_wire(message: pb.Path) -> Path:
    """Read the way of a recursive question.

    Raises:
        Fault: FIELD_OUT_OF_RANGE.
    """
    # One more than the bound is enough to be refused by.
    return Path(tuple(message.visited[: HOPS_MAX + 1]), message.hops_left)


def recursive_request(
    identifiers: Iterable[bytes], path: Path, *, authoritative: bool, trace: bool, nonce: bytes = b""
) -> bytes:
    """Ask a node below for a batch: for whole answers, from wherever they lie. With a nonce they are to be signed."""
    options = _plain_options(path, authoritative=authoritative, trace=trace)
    if nonce:
        options += pb.Options(signed=True, nonce=nonce).SerializeToString()
    parts: list[bytes] = []
    for identifier in identifiers:
        parts += (_IDENTIFIER_TAG, varint(len(identifier)), identifier)
    return b"".join((*parts, _OPTIONS_TAG, varint(len(options)), options))


@lru_cache(1_024)
def _plain_options(path: Path, *, authoritative: bool, trace: bool) -> bytes:
    octets: bytes = pb.Options(
        mode=pb.MODE_RECURSIVE,
        authoritative=authoritative,
        trace=trace,
        path=pb.Path(visited=path.visited, hops_left=path.hops_left),
    ).SerializeToString()
    return octets


def trace_message(steps: Sequence[Step]) -> bytes:
    """Encode the way of an answer for the trailing metadata."""
    return pb.Trace(
        steps=[
            pb.TraceStep(node=step.node, tier=step.tier, verdict=step.verdict, microseconds=step.microseconds)
            for step in steps
        ]
    ).SerializeToString()


def trace_steps(octets: bytes) -> list[Step]:
    """Read the way of an answer.

    Raises:
        DecodeError: it is none.
    """
    return [Step(step.node, step.tier, step.verdict, step.microseconds) for step in pb.Trace.FromString(octets).steps]


def _record(message: pb.Record, version: int) -> Record:
    tombstone = None
    if message.HasField("tombstone"):
        tombstone = Tombstone(reason=message.tombstone.reason, deleted_at=message.tombstone.deleted_at)
    return Record(
        identifier=Handle.from_text(message.identifier),
        values=tuple([_value(value) for value in message.values]),
        version=version,
        registrant=message.registrant,
        registered_at=message.registered_at,
        updated_at=message.updated_at,
        tombstone=tombstone,
    )


def _value(message: pb.Value) -> Value:
    references = message.references
    return Value(
        index=message.index,
        type=message.type,
        data=message.data,
        lifetime=DEFAULT_LIFETIME if message.ttl_seconds == DEFAULT_TTL else _lifetime(message),
        timestamp=message.timestamp,
        permissions=message.permissions,
        references=tuple([Reference(each.handle, each.index) for each in references]) if references else (),
    )


def _lifetime(message: pb.Value) -> Relative | Absolute:
    if message.WhichOneof("lifetime") == "expires_at":
        return Absolute(message.expires_at)
    return Relative(message.ttl_seconds)


def _referral_message(referral: Referral) -> pb.Referral:
    message = pb.Referral(prefix=referral.prefix, holder=referral.holder)
    for endpoint in referral.endpoints:
        message.endpoints.add(
            protocol=pb.Protocol.Name(endpoint.protocol),
            address=endpoint.address,
            port=endpoint.port,
            priority=endpoint.priority,
            tls_name=endpoint.tls_name,
        )
    return message


def referral_from_message(message: pb.Referral) -> Referral:
    """Translate a referral.

    Raises:
        Fault: ENUM_UNKNOWN, FIELD_OUT_OF_RANGE.
    """
    return Referral(
        prefix=message.prefix,
        holder=message.holder,
        endpoints=tuple(
            Endpoint(
                _known(Protocol, each.protocol, "endpoints.protocol"),
                each.address,
                each.port,
                each.priority,
                each.tls_name,
            )
            for each in message.endpoints
        ),
    )
