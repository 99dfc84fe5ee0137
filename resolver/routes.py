"""Prefixes and where they lead: the row of one prefix, and the table of all of them that each resolver holds.

The table keeps packed rows; a `Scope` (everything that the read path must know about a prefix, ready for use) exists
only for the prefixes that somebody asked about lately. A change of a prefix raises an epoch and enumerates nothing.
"""

from array import array
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, IntEnum
from itertools import islice
from typing import Final

import msgspec
from msgspec import Struct

from resolver.bounds import SECONDS_MAX
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule, check_prefix, encoded, lineage

SHAPES_MAX: Final = 8_192
"""Different holders, endpoints and states of prefixes that are held once for all rows which have them."""

SCOPES_MAX: Final = 65_536
"""Scopes held at once; those made first are forgotten first and made again when asked for."""

_KEPT_PREFIX_BYTES: Final = 128
_ENDS_INSERTED: Final = 64

_CHAIN_MAX: Final = 2_048
"""More than the segments of any prefix. An epoch is the newest journal index in the chain times this, plus the
number of terms that have ended in it: the end of a term has no journal index, and makes another epoch too."""


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
        if self.tls_name and (not self.tls_name.isprintable() or " " in self.tls_name):
            raise Fault(Reason.FIELD_OUT_OF_RANGE, "A TLS name is a host name.", field="tls_name")


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
        check_prefix(encoded(self.text, field="prefix"))
        if not self.holder or not self.holder.isprintable():
            raise Fault(Reason.FIELD_OUT_OF_RANGE, "A prefix has a holder: a node identifier.", field="holder")
        if not 0 <= self.expires_at <= SECONDS_MAX:
            raise Fault(Reason.FIELD_OUT_OF_RANGE, f"A term is 0 to {SECONDS_MAX} seconds.", field="expires_at")

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
    """What holds for the identifiers below a prefix: one allocation, one rule, one verdict.

    `prefix` is the longest allocated one, None where there is none. `epoch` changes whenever anything in the chain
    of prefixes above has changed. `ready` is the lookup link's own: answers that are the same for all of the scope.
    Prefixes that are not allocated themselves share the scope of the one above.
    """

    __slots__ = ("case_sensitive", "epoch", "prefix", "ready", "verdict")

    def __init__(self, prefix: Prefix | None, said: Verdict, epoch: int) -> None:
        self.prefix = prefix
        self.verdict = said
        self.epoch = epoch
        self.case_sensitive = prefix is not None and prefix.case is CaseRule.SENSITIVE
        self.ready: object = None

    @property
    def changed_at(self) -> int:
        """The journal index of the newest change in the chain."""
        return self.epoch // _CHAIN_MAX

    def below(self, prefix: Prefix | None, *, touched: int, now: float) -> "Scope":
        """Give the scope of a prefix under this one: its row, where there is one, and the index of its last touch."""
        index, ended = divmod(self.epoch, _CHAIN_MAX)
        index = max(index, touched)
        if prefix is None:
            return Scope(self.prefix, self.verdict, index * _CHAIN_MAX + ended)
        is_expired = 0 < prefix.expires_at <= now
        epoch = max(index, prefix.epoch) * _CHAIN_MAX + ended + is_expired
        said = verdict(prefix.state, is_expired=is_expired)
        if said is Verdict.NOT_ALLOCATED:
            return Scope(self.prefix, self.verdict, epoch)
        if said is Verdict.ANSWER and self.prefix is not None:
            # A disabled or expired parent silences everything below it.
            said = self.verdict
        return Scope(prefix, said, epoch)


class _Shape(Struct, frozen=True, array_like=True, gc=False):
    """What many rows share: nearly all prefixes below one child are delegated to it, at the same endpoints."""

    holder: str | None
    state: PrefixState
    case: CaseRule
    hosting: Hosting
    endpoints: tuple[Endpoint, ...]


class _Row(Struct, frozen=True, array_like=True, gc=False):
    """A `Prefix` as the table packs it: no text where that is the key, and no holder where that is the text.

    `shape` is a number in the table's `_Shapes`, or stands here where those are full.
    """

    text: str | None
    shape: int | _Shape
    expires_at: int
    epoch: int


_row_decoder = msgspec.msgpack.Decoder(_Row)


class _Shapes:
    """Shapes of rows, each held once, at most `SHAPES_MAX`. None is forgotten: the table that they are of is."""

    def __init__(self) -> None:
        self._numbers: dict[_Shape, int] = {}
        self._shapes: list[_Shape] = []

    def pack(self, prefix: Prefix, key: bytes) -> bytes:
        """Pack a row for this key."""
        text = None if prefix.text.encode() == key else prefix.text
        holder = None if prefix.holder == prefix.text else prefix.holder
        shape = _Shape(holder, prefix.state, prefix.case, prefix.hosting, prefix.endpoints)
        packed = _encoder.encode(_Row(text, self._number(shape), prefix.expires_at, prefix.epoch))
        # Copied: the encoder's own bytes keep hold of more memory than they fill.
        return bytes(memoryview(packed))

    def unpack(self, packed: bytes, key: bytes) -> Prefix:
        """Give the row that was packed for this key."""
        row = _row_decoder.decode(packed)
        shape = self._shapes[row.shape] if isinstance(row.shape, int) else row.shape
        text = row.text or key.decode()
        return Prefix(
            text,
            shape.holder or text,
            shape.state,
            shape.case,
            shape.hosting,
            row.expires_at,
            shape.endpoints,
            row.epoch,
        )

    def _number(self, shape: _Shape) -> int | _Shape:
        number = self._numbers.get(shape)
        if number is None:
            number = len(self._shapes)
            if number == SHAPES_MAX:
                return shape
            self._numbers[shape] = number
            self._shapes.append(shape)
        return number


class RouteTable:
    """All prefixes of a node: packed rows, found by longest match of segments.

    With a million prefixes a resolver must stay below 250 MB (loadtest/federation.py), so rows stay packed bytes.
    `generation` goes up with each change: a cached answer whose generation is current needs no further comparison.
    """

    def __init__(self) -> None:
        self.generation = 1
        self._rows: dict[bytes, bytes] = {}
        self._shapes = _Shapes()
        self._touched: dict[bytes, int] = {}
        self._ends = array("q")
        self._loose_ends = array("q")
        self._segments = 0
        self._now = 0.0
        self._scopes: dict[bytes, Scope] = {}
        self._nowhere = Scope(None, Verdict.NOT_ALLOCATED, 0)
        self._tell: Callable[[Sequence[bytes] | None], None] | None = None

    def watch(self, tell: Callable[[Sequence[bytes] | None], None]) -> None:
        """Have somebody told at once of the prefixes at or below which anything changes; None: perhaps anywhere."""
        self._tell = tell

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, prefixes: Iterable[Prefix]) -> None:
        """Take new or changed rows; an older epoch than the held one is passed over."""
        ends = array("q")
        keys: list[bytes] = []
        for prefix in prefixes:
            key = prefix.key
            held = self._rows.get(key)
            if held is not None and _row_decoder.decode(held).epoch > prefix.epoch:
                continue
            self._rows[key] = self._shapes.pack(prefix, key)
            if self._tell is not None:
                keys.append(key)
            self._note_depth(key)
            if prefix.expires_at:
                ends.append(prefix.expires_at)
        self._note_ends(ends)
        self._forget_scopes(keys)

    def touch(self, prefixes: Iterable[bytes], index: int) -> None:
        """Note that records below these folded prefixes changed at a journal index, without naming them."""
        names = list(prefixes)
        for prefix in names:
            self._touched[prefix] = max(index, self._touched.get(prefix, 0))
            self._note_depth(prefix)
        self._forget_scopes(names)

    def replace(self, prefixes: Iterable[Prefix]) -> None:
        """Start afresh with these rows only."""
        fresh = RouteTable()
        fresh.put(prefixes)
        self.adopt(fresh)

    def adopt(self, other: "RouteTable") -> None:
        """Start afresh with what another table holds, which is not used any more: it was filled piece by piece."""
        other._order_ends()  # noqa: SLF001 - the same class
        self._rows, self._shapes = other._rows, other._shapes  # noqa: SLF001 - as above
        held = other._touched, other._ends, other._segments  # noqa: SLF001 - as above
        self._touched, self._ends, self._segments = held
        self._loose_ends = array("q")
        self._forget_scopes()

    def tell_time(self, wall: float) -> None:
        """Let terms end: `wall` is Unix time in seconds. Called regularly, so that reading needs no clock."""
        # Compared rather than taken off, so that a clock that was set back is followed too.
        self._order_ends()
        has_changed = bisect_right(self._ends, self._now) != bisect_right(self._ends, wall)
        self._now = wall
        if has_changed:
            self._forget_scopes()

    def scope(self, prefix: bytes) -> Scope:
        """Give what holds directly below a folded prefix that has no empty segment."""
        scope = self._scopes.get(prefix)
        return self._find(prefix) if scope is None else scope

    def allocation(self, prefix: bytes) -> Prefix | None:
        """Give the row of exactly this folded prefix."""
        row = self._rows.get(prefix)
        return None if row is None else self._shapes.unpack(row, prefix)

    def _find(self, asked: bytes) -> Scope:
        """Walk down from the first segment, as deep as there is anything to find."""
        scope = self._nowhere
        for key in lineage(asked, self._segments):
            if key in self._rows or key in self._touched:
                scope = self._scopes.get(key) or self._keep(key, self._scope_below(scope, key))
        # Strangers may ask for any prefix: long ones are looked up again each time.
        return self._keep(asked, scope) if len(asked) <= _KEPT_PREFIX_BYTES else scope

    def _scope_below(self, above: Scope, key: bytes) -> Scope:
        return above.below(self.allocation(key), touched=self._touched.get(key, 0), now=self._now)

    def _keep(self, key: bytes, scope: Scope) -> Scope:
        if len(self._scopes) >= SCOPES_MAX:
            # Many at once: the front of a dict is found the slower, the more was taken from it one by one.
            for oldest in list(islice(self._scopes, SCOPES_MAX // 4)):
                del self._scopes[oldest]
        self._scopes[key] = scope
        return scope

    def _note_depth(self, key: bytes) -> None:
        self._segments = max(self._segments, key.count(b".") + 1)

    def _note_ends(self, ends: "array[int]") -> None:
        if len(ends) > _ENDS_INSERTED:
            # A table is filled page by page: they are put in order once, when they are looked at.
            self._loose_ends += ends
            return
        for end in ends:
            insort(self._ends, end)

    def _order_ends(self) -> None:
        if self._loose_ends:
            self._ends = array("q", sorted(self._ends + self._loose_ends))
            self._loose_ends = array("q")

    def _forget_scopes(self, changed: Sequence[bytes] | None = None) -> None:
        """Forget what was put together; `changed` are the prefixes at or below which something is new (None: all)."""
        self._scopes.clear()
        self._nowhere = Scope(None, Verdict.NOT_ALLOCATED, 0)
        self.generation += 1
        if self._tell is not None:
            self._tell(changed)
