"""Prefixes and where they lead: the row of one prefix, and the table of all of them that each resolver holds.

The table keeps packed rows; a `Scope` (everything that the read path must know about a prefix, ready for use) exists
only for the prefixes that somebody asked about lately. A change of a prefix raises an epoch and enumerates nothing.
"""

import heapq
from collections.abc import Iterable
from enum import Enum, IntEnum
from typing import Final

import msgspec
from msgspec import Struct

from resolver.errors import Fault, Reason
from resolver.handle import CaseRule, ancestors, check_prefix

SCOPES_MAX: Final = 65_536
"""Scopes held at once; the one made first is forgotten first and made again when asked for."""


class PrefixState(IntEnum):
    """The six states of a prefix, numbered as in the field's registration systems."""

    DISABLED = 0
    ENABLED = 1
    TO_DELETE = 2
    REJECTED = 3
    PENDING = 4
    IN_REVIEW = 5


class Hosting(IntEnum):
    """Where the records of a prefix have their authority."""

    HERE = 0
    DELEGATED = 1


class Protocol(IntEnum):
    """What is spoken at an endpoint; numbers as on the wire."""

    GRPC = 1
    HANDLE_TCP = 2
    HANDLE_UDP = 3
    HTTP = 4


class Endpoint(Struct, frozen=True, array_like=True):
    """Where a child answers. Lower priorities are tried first; an empty TLS name means no TLS."""

    protocol: Protocol
    address: str
    port: int
    priority: int = 0
    tls_name: str = ""

    def __post_init__(self) -> None:
        if not self.address or not self.address.isprintable() or " " in self.address:
            raise Fault(Reason.FIELD_OUT_OF_RANGE, "An address is a host name or an IP address.", field="address")
        if not 0 < self.port < 65_536:
            raise Fault(Reason.FIELD_OUT_OF_RANGE, "A port is 1 to 65535.", field="port")
        if not 0 <= self.priority < 65_536:
            raise Fault(Reason.FIELD_OUT_OF_RANGE, "A priority is 0 to 65535.", field="priority")


class Referral(Struct, frozen=True, kw_only=True):
    """The node that knows."""

    prefix: str
    holder: str
    endpoints: tuple[Endpoint, ...] = ()


class Prefix(Struct, frozen=True, array_like=True):
    """The row of one prefix. New fields come last with a default, none is moved: rows are kept for years.

    `text` is the registered spelling, `holder` a node identifier, `expires_at` the end of the term in Unix seconds
    (0: none), `epoch` the journal index of the last change.
    """

    text: str
    holder: str
    state: PrefixState = PrefixState.ENABLED
    case: CaseRule = CaseRule.INSENSITIVE
    hosting: Hosting = Hosting.HERE
    expires_at: int = 0
    endpoints: tuple[Endpoint, ...] = ()
    epoch: int = 0

    def __post_init__(self) -> None:
        check_prefix(self.text.encode())
        if not self.holder or not self.holder.isprintable():
            raise Fault(Reason.FIELD_OUT_OF_RANGE, "A prefix has a holder: a node identifier.", field="holder")

    @property
    def key(self) -> bytes:
        """The folded prefix, under which rows are kept."""
        return self.text.encode().upper()

    def to_bytes(self) -> bytes:
        return _encoder.encode(self)

    @staticmethod
    def from_bytes(row: bytes) -> "Prefix":
        return _decoder.decode(row)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Prefix)


class Verdict(Enum):
    """What a resolver may say below a prefix."""

    ANSWER = "answer"
    REFUSE_DISABLED = "disabled"
    REFUSE_EXPIRED = "expired"
    NOT_ALLOCATED = "not allocated"


_BY_STATE: Final = {
    PrefixState.ENABLED: Verdict.ANSWER,
    # Its deletion is asked for, not done: like a domain before its delete, it resolves until it is gone.
    PrefixState.TO_DELETE: Verdict.ANSWER,
    PrefixState.DISABLED: Verdict.REFUSE_DISABLED,
    # An application is not an allocation: the parent answers as if the row were not there.
    PrefixState.REJECTED: Verdict.NOT_ALLOCATED,
    PrefixState.PENDING: Verdict.NOT_ALLOCATED,
    PrefixState.IN_REVIEW: Verdict.NOT_ALLOCATED,
}


def verdict(state: PrefixState, *, is_expired: bool) -> Verdict:
    """The table of what is said under a prefix: by its state, then by its term. A pure function."""
    said = _BY_STATE[state]
    if said is Verdict.ANSWER and is_expired:
        return Verdict.REFUSE_EXPIRED
    return said


class Scope:
    """What holds for every identifier directly below one prefix text: one allocation, one rule, one verdict.

    `prefix` is the longest allocated one, None where there is none. `epoch` changes whenever anything in the chain
    of prefixes above has changed. `ready` is the lookup link's own: answers that are the same for all of the scope.
    """

    __slots__ = ("case_sensitive", "epoch", "prefix", "ready", "verdict")

    def __init__(self, prefix: Prefix | None, said: Verdict, epoch: int, *, case_sensitive: bool) -> None:
        self.prefix = prefix
        self.verdict = said
        self.epoch = epoch
        self.case_sensitive = case_sensitive
        self.ready: object = None


class RouteTable:
    """All prefixes of a node: packed rows, found by longest match of segments.

    At a million prefixes it must stay below 250 MB, so rows stay packed bytes. `generation` goes up with each
    change: a cached answer whose generation is current needs no further comparison.
    """

    def __init__(self) -> None:
        self.generation = 1
        self._rows: dict[bytes, bytes] = {}
        self._touched: dict[bytes, int] = {}
        self._scopes: dict[bytes, Scope] = {}
        self._ends: list[tuple[int, bytes]] = []
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, prefixes: Iterable[Prefix]) -> None:
        """Take new or changed rows; an older epoch than the held one is passed over."""
        for prefix in prefixes:
            key = prefix.key
            held = self._rows.get(key)
            if held is not None and _decoder.decode(held).epoch > prefix.epoch:
                continue
            self._rows[key] = prefix.to_bytes()
            if prefix.expires_at:
                heapq.heappush(self._ends, (prefix.expires_at, key))
        self._forget_scopes()

    def touch(self, prefixes: Iterable[bytes], index: int) -> None:
        """Note that records below these folded prefixes changed at a journal index, without naming them."""
        for prefix in prefixes:
            self._touched[prefix] = index
        self._forget_scopes()

    def replace(self, prefixes: Iterable[Prefix]) -> None:
        """Start afresh with these rows only."""
        self._rows.clear()
        self._touched.clear()
        self._ends.clear()
        self.put(prefixes)

    def tell_time(self, wall: float) -> None:
        """Let terms end: `wall` is Unix time in seconds. Called regularly, so that reading needs no clock."""
        self._now = wall
        ended = False
        while self._ends and self._ends[0][0] <= wall:
            heapq.heappop(self._ends)
            ended = True
        if ended:
            self._forget_scopes()

    def scope(self, prefix: bytes) -> Scope:
        """Give what holds directly below a folded prefix that has no empty segment."""
        scope = self._scopes.get(prefix)
        if scope is None:
            scope = self._make_scope(prefix)
            if len(self._scopes) >= SCOPES_MAX:
                self._scopes.pop(next(iter(self._scopes)))
            self._scopes[prefix] = scope
        return scope

    def allocation(self, prefix: bytes) -> Prefix | None:
        """Give the row of exactly this folded prefix."""
        row = self._rows.get(prefix)
        return None if row is None else _decoder.decode(row)

    def _make_scope(self, asked: bytes) -> Scope:
        nearest: Prefix | None = None
        said = Verdict.NOT_ALLOCATED
        epoch = 0
        for key in ancestors(asked):
            epoch = max(epoch, 2 * self._touched.get(key, 0))
            row = self._rows.get(key)
            if row is None:
                continue
            prefix = _decoder.decode(row)
            is_expired = bool(prefix.expires_at) and prefix.expires_at <= self._now
            # Doubled, so that the end of a term, which has no journal index, makes another epoch too.
            epoch = max(epoch, 2 * prefix.epoch + is_expired)
            here = verdict(prefix.state, is_expired=is_expired)
            if here is Verdict.NOT_ALLOCATED:
                continue
            if nearest is None:
                nearest, said = prefix, here
            elif said is Verdict.ANSWER and here is not Verdict.ANSWER:
                # A disabled or expired parent silences everything below it.
                said = here
        sensitive = nearest is not None and nearest.case is CaseRule.SENSITIVE
        return Scope(nearest, said, epoch, case_sensitive=sensitive)

    def _forget_scopes(self) -> None:
        self._scopes.clear()
        self.generation += 1
