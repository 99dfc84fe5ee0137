"""What a child may say: each answer is checked, and made into one of this node. Pure functions; nobody is asked.

A child answers for what it was asked, below prefixes delegated to it, and for nothing else. What it says for longer
than this node believes it is cut, and what only some may read is left out, whoever the child took this node for.

`resolver.federation.usual` says the same of some answers, natively: whoever changes what stands here changes
`resolver/front/native/src/usual` too.
"""

import math
from typing import Final

from google.protobuf.message import DecodeError
from msgspec import Struct

from resolver.answer import ABSENT, FOUND, NOT_HERE, REFERRAL, Standing
from resolver.bounds import HOPS_MAX, RECORD_BYTES
from resolver.errors import Fault
from resolver.handle import canonical, fold, split
from resolver.record import Permission
from resolver.routes import Protocol, Referral
from resolver.trust.actors import check_node
from resolver.trust.verdicts import Trust
from resolver.v1 import resolver_pb2 as pb
from resolver.wire import frame, referral_from_message

_ANSWER_BYTES: Final = RECORD_BYTES + 16_384
"""A record, and everything that may stand beside it."""

_PUBLIC_READ: Final = int(Permission.PUBLIC_READ)
_PROTOCOLS: Final = {int(each): pb.Protocol.Name(int(each)) for each in Protocol}
_OUTCOMES: Final = frozenset((FOUND, ABSENT, NOT_HERE, REFERRAL))
_STANDINGS: Final = frozenset((0, *map(int, Standing)))
_WITHOUT_RECORD: Final = frozenset((NOT_HERE, REFERRAL))
_AUTHORITATIVE: Final = int(Standing.AUTHORITATIVE)
_CACHED: Final = int(Standing.CACHED)
_KEPT: Final = frozenset((_AUTHORITATIVE, _CACHED))
_NOT_TRUSTED: Final = int(Trust.NOT_TRUSTED)
_TRUST: Final = (pb.TRUST_UNSPECIFIED, pb.TRUST_TRUSTED, pb.TRUST_UNKNOWN, pb.TRUST_NOT_TRUSTED)
"""By number; what is worth less comes later."""


class Wanted(Struct, frozen=True):
    """A canonical key, the folded prefix by whose delegation a child is asked for it, and its case rule."""

    key: bytes
    below: bytes
    case_sensitive: bool


class Terms(Struct, frozen=True, kw_only=True):
    """Who answered, by what and when (Unix time in seconds), and how long it may be believed (seconds).

    `trust` is what the child's signature is worth.
    """

    child: str
    protocol: Protocol
    now: float
    positive_for: float
    absent_for: float
    trust: Trust = Trust.UNKNOWN


class Said(Struct, frozen=True, gc=False):
    """An answer that the child may give: framed, its outcome, and for how many seconds it may be kept (0: not)."""

    frame: bytes
    outcome: int
    keep_for: float


class Deeper(Struct, frozen=True):
    """The child names another node, further down or with the same prefix; `said` is that as an answer."""

    referral: Referral
    said: Said


class Refused(Struct, frozen=True):
    """What the child said is dropped. `why` is one of few words, for metrics."""

    why: str


def check(octets: bytes, wanted: Wanted, terms: Terms) -> Said | Deeper | Refused:
    """Check one encoded answer."""
    if len(octets) > _ANSWER_BYTES:
        return Refused("size")
    try:
        message = pb.Answer.FromString(octets)
    except DecodeError:
        return Refused("malformed")
    why = _wrong_record(message, wanted) or _wrong_origin(message, wanted, terms.child) or _wrong_hops(message)
    if why:
        return Refused(why)
    if message.outcome == REFERRAL:
        return _deeper(message, wanted, terms)
    return _said(message, terms)


def _wrong_record(message: pb.Answer, wanted: Wanted) -> str:
    """Say what is wrong with outcome and record; empty: nothing."""
    outcome = message.outcome
    if outcome not in _OUTCOMES or message.standing not in _STANDINGS:
        return "malformed"
    has_record = message.HasField("record")
    if outcome in _WITHOUT_RECORD:
        # A copy beside it was not asked for.
        message.ClearField("record")
        return ""
    if not has_record:
        return "record" if outcome == FOUND else ""
    record = message.record
    if (outcome == ABSENT) is not record.HasField("tombstone"):
        return "record"
    return "" if _is_key(record.identifier.encode(), wanted) else "identifier"


def _is_key(identifier: bytes, wanted: Wanted) -> bool:
    if identifier == wanted.key:
        return True
    try:
        prefix, _ = split(identifier)
    except Fault:
        return False
    return canonical(identifier, prefix_length=len(prefix), case_sensitive=wanted.case_sensitive) == wanted.key


def _wrong_origin(message: pb.Answer, wanted: Wanted, child: str) -> str:
    """Say what is wrong with authority and prefix; empty: nothing. What the child left out is filled in."""
    provenance = message.provenance
    if not provenance.authority:
        provenance.authority = child
    elif provenance.authority != child and not _is_node(provenance.authority):
        return "authority"
    if not provenance.prefix:
        provenance.prefix = wanted.below.decode()
        return ""
    prefix = fold(provenance.prefix.encode())
    return "" if is_within(prefix, wanted.below) and is_within(_prefix_of(wanted.key), prefix) else "prefix"


def _wrong_hops(message: pb.Answer) -> str:
    hops = message.provenance.hops
    if not hops:
        return ""
    is_sound = len(hops) < HOPS_MAX and all(_is_node(hop.node) and hop.protocol in _PROTOCOLS for hop in hops)
    return "" if is_sound else "hops"


def _deeper(message: pb.Answer, wanted: Wanted, terms: Terms) -> Deeper | Refused:
    try:
        referral = referral_from_message(message.referral)
    except Fault:
        return Refused("malformed")
    prefix = fold(referral.prefix.encode())
    # Further down, or to somebody else with the same prefix, as where a child has handed all of it on.
    is_onward = is_within(prefix, wanted.below) and (prefix != wanted.below or referral.holder != terms.child)
    if not is_onward or not is_within(_prefix_of(wanted.key), prefix) or not _is_node(referral.holder):
        return Refused("referral")
    return Deeper(referral, _said(message, terms))


def _said(message: pb.Answer, terms: Terms) -> Said:
    """Make the child's answer this node's: cached, by one more hop, believed for so long and no longer."""
    outcome, keep_for = message.outcome, _keep_for(message, terms)
    message.DiscardUnknownFields()
    if outcome != REFERRAL:
        message.ClearField("referral")
    if message.HasField("record"):
        _keep_public(message.record)
    if message.standing == _AUTHORITATIVE:
        message.standing = pb.STANDING_CACHED
    provenance = message.provenance
    had_hops = bool(provenance.hops)
    provenance.hops.add(node=terms.child, protocol=_PROTOCOLS[terms.protocol], obtained_at=round(terms.now * 1_000))
    provenance.expires_at = int(terms.now + keep_for) if keep_for else 0
    # What the child itself has from below is worth no more than it says.
    passed_on = min(int(provenance.trust), _NOT_TRUSTED) if had_hops else 0
    provenance.trust = _TRUST[max(passed_on, int(terms.trust))]
    return Said(frame(message.SerializeToString()), outcome, keep_for)


def _keep_for(message: pb.Answer, terms: Terms) -> float:
    """Tell for how many seconds an answer may be kept.

    Only the authority's word is kept, however it came: what stands in its place, is past its time, or whose signature
    does not fit, is given once.
    """
    is_forged = terms.trust is Trust.NOT_TRUSTED
    if is_forged or message.stale or message.takeover or message.standing not in _KEPT:
        return 0.0
    if message.outcome == FOUND:
        longest = terms.positive_for
        for value in message.record.values:
            longest = min(longest, _lifetime(value, terms.now))
    elif message.outcome == ABSENT:
        longest = terms.absent_for
    else:
        return 0.0
    expires_at = message.provenance.expires_at
    return max(0.0, min(longest, expires_at - terms.now) if expires_at else longest)


def _lifetime(value: pb.Value, now: float) -> float:
    """Tell for how many seconds a value may be kept (RFC 3651 section 3.1, TTL)."""
    if value.HasField("ttl_seconds"):
        return value.ttl_seconds
    return value.expires_at - now if value.HasField("expires_at") else math.inf


def _keep_public(record: pb.Record) -> None:
    public = [value for value in record.values if value.permissions & _PUBLIC_READ]
    if len(public) < len(record.values):
        del record.values[:]
        record.values.extend(public)


def is_within(prefix: bytes, above: bytes) -> bool:
    """Is this folded prefix the one above, or derived from it (by segments)?"""
    return prefix == above or prefix.startswith(above + b".")


def _prefix_of(key: bytes) -> bytes:
    return key.partition(b"/")[0]


def _is_node(name: str) -> bool:
    try:
        check_node(name, field="node")
    except Fault:
        return False
    return True
