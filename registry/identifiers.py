"""Requests of the kind `identifiers.v1`: registering, changing and deleting up to 1,000 identifiers."""

import asyncio
from base64 import b32encode
from collections import Counter
from hashlib import sha256
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from registry import changes
from registry.bodies import check_rows, decode
from registry.intake import Intake, over
from registry.plans import Outcome, Plan, Request
from registry.records import stamped, write_of
from registry.rows import ValueRow
from registry.state import State
from resolver.errors import Fault, Reason
from resolver.record import Record
from resolver.store import Write
from resolver.wire import decode_record

MINTED_BYTES: Final = 10
"""Bytes of hash in a suffix that the node makes up: 16 letters and digits."""

SLICE: Final = 128
"""Rows between two turns of the event loop: about a millisecond."""

Op = Literal["register", "update", "set_values", "remove_values", "delete"]

_ALLOWED: Final[dict[str, frozenset[str]]] = {
    "register": frozenset({"values", "overwrite", "mint", "registrant"}),
    "update": frozenset({"values", "expected_version", "registrant"}),
    "set_values": frozenset({"values", "expected_version"}),
    "remove_values": frozenset({"indexes", "expected_version"}),
    "delete": frozenset({"reason", "expected_version"}),
}
_NEEDED: Final = {"register": "values", "update": "values", "set_values": "values", "remove_values": "indexes"}
_FIELDS: Final = ("values", "indexes", "expected_version", "overwrite", "mint", "reason", "registrant")


class Row(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What is to be done with one identifier.

    `register` registers it, or what the node makes up below the prefix `mint`; with `overwrite` in the place of what
    is there, or was deleted. `update` replaces all of its content, `set_values` adds values in the place of those
    with the same indexes, `remove_values` takes those with these `indexes` away, `delete` leaves a tombstone. All
    but `register` may say which version they expect. Without a registrant it is the prefix's holder, or stays.
    """

    identifier: str = ""
    op: Op = "register"
    values: list[ValueRow] | UnsetType = UNSET
    indexes: list[int] | UnsetType = UNSET
    expected_version: Annotated[int, Meta(ge=1)] | None = None
    overwrite: bool = False
    mint: str = ""
    reason: str = ""
    registrant: str = ""

    def __post_init__(self) -> None:
        # A ValueError is what msgspec makes an error of that names the row's place.
        if self.op != "register" or self.values is UNSET or self.indexes or self.reason or self.expected_version:
            _check_fields(self)
        if bool(self.identifier) is bool(self.mint):
            raise ValueError("A row names an identifier, or a prefix below which one is made up (`mint`)")


def _check_fields(row: Row) -> None:
    allowed = _ALLOWED[row.op]
    for name in _FIELDS:
        if getattr(row, name) and name not in allowed:
            raise ValueError(f"A row that says {row.op} has no `{name}`")
    needed = _NEEDED.get(row.op)
    if needed and getattr(row, needed) is UNSET:
        raise ValueError(f"A row that says {row.op} has `{needed}`")


class Identifiers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body. `partial`: rows that can be taken are taken; else one that is refused refuses them all."""

    rows: list[Row]
    partial: bool = False


def minted_below(prefix: str, envelope_sha256: bytes, position: int) -> str:
    """Make up the identifier of the row at this position of the request in this envelope."""
    digest = sha256(envelope_sha256 + position.to_bytes(4, "big")).digest()
    return f"{prefix}/{b32encode(digest[:MINTED_BYTES]).decode()}"


class _Admitted(Struct, frozen=True, gc=False):
    """A row that its actor may ask for. `write` is there where it registers: what it comes to if nothing is held."""

    position: int
    row: Row
    key: bytes
    write: Write | None


async def plan(request: Request, state: State) -> Plan:
    """Say what a request comes to: one outcome for each row.

    Where a row is refused and all or none were asked for, every row is REFUSED, and nothing is to be written.

    Raises:
        Fault: PAYLOAD_MALFORMED, BATCH_EMPTY, BATCH_TOO_LARGE; the store's.
    """
    body = decode(request.body, Identifiers)
    check_rows(len(body.rows))
    planning = _Planning(request, state, body)
    await planning.admit()
    planning.refuse_repeated()
    await planning.settle()
    return planning.plan()


class _Planning:
    """One request being planned. Its rows are about different identifiers, so that their order does not matter."""

    def __init__(self, request: Request, state: State, body: Identifiers) -> None:
        self._request = request
        self._state = state
        self._body = body
        self._intake = Intake(request.actor, state.scope, request.at)
        self._admitted: list[_Admitted] = []
        self._outcomes = [Outcome.REGISTERED] * len(body.rows)
        self._refusals: dict[int, Fault] = {}
        self._minted: dict[int, str] = {}
        self._writes: list[Write] = []

    async def admit(self) -> None:
        """Check what can be checked without knowing what is registered."""
        for position, row in enumerate(self._body.rows):
            try:
                self._admitted.append(self._admit(position, row))
            except Fault as fault:
                self._refusals[position] = fault
            if position % SLICE == SLICE - 1:
                await asyncio.sleep(0)

    def refuse_repeated(self) -> None:
        """Refuse rows about the same identifier."""
        if len({each.key for each in self._admitted}) == len(self._admitted):
            return
        times = Counter(each.key for each in self._admitted)
        for each in self._admitted:
            if times[each.key] > 1:
                self._refusals[each.position] = Fault(Reason.ROW_REPEATED, field="identifier")
        self._admitted = [each for each in self._admitted if times[each.key] == 1]

    async def settle(self) -> None:
        """Compare with what is held."""
        held = await self._state.held([each.key for each in self._admitted])
        for each in self._admitted:
            body = held.get(each.key)
            if body is None and each.write is not None:
                self._writes.append(each.write)
                continue
            try:
                self._outcomes[each.position] = self._settle(each, body)
            except Fault as fault:
                self._refusals[each.position] = fault

    def plan(self) -> Plan:
        """Give the plan."""
        refusals = dict(sorted(self._refusals.items()))
        rows = range(len(self._body.rows))
        if refusals and not self._body.partial:
            whole = {position: refusals.get(position) or _not_taken() for position in rows}
            return Plan(outcomes=[Outcome.REFUSED for _ in rows], refusals=whole)
        for position in refusals:
            self._outcomes[position] = Outcome.REFUSED
        minted = {position: identifier for position, identifier in self._minted.items() if position not in refusals}
        return Plan(outcomes=self._outcomes, refusals=refusals, minted=minted, writes=self._writes)

    def _admit(self, position: int, row: Row) -> _Admitted:
        if row.op != "register":
            return _Admitted(position, row, self._intake.key(row.identifier), None)
        identifier = row.identifier or self._mint(position, row.mint)
        write = self._intake.new(identifier, row.values or (), row.registrant)
        return _Admitted(position, row, write.key, write)

    def _mint(self, position: int, prefix: str) -> str:
        """Make up an identifier: planning the same request again makes up the same."""
        minted = self._minted[position] = minted_below(prefix, self._request.envelope_sha256, position)
        return minted

    def _settle(self, each: _Admitted, body: bytes | None) -> Outcome:
        row = each.row
        if each.write is not None and body is not None:
            return self._take(over(body, each.write, stamped(row.values or ()), overwrite=row.overwrite))
        held = changes.check_held(None if body is None else decode_record(body), row.expected_version)
        changed = self._changed(held, row)
        if changed == held:
            return Outcome.UNCHANGED
        self._take(write_of(each.key, replace(changed, updated_at=self._request.at)))
        return Outcome.DELETED if changed.tombstone else Outcome.REPLACED

    def _changed(self, held: Record, row: Row) -> Record:
        now = self._request.at
        match row.op:
            case "update":
                return changes.updated(held, row.values or (), row.registrant, now)
            case "set_values":
                return changes.with_values(held, row.values or (), now)
            case "remove_values":
                return changes.without_values(held, row.indexes or ())
            case _:
                return changes.deleted(held, row.reason, now)

    def _take(self, write: Write | None) -> Outcome:
        if write is None:
            return Outcome.UNCHANGED
        self._writes.append(write)
        return Outcome.REPLACED


def _not_taken() -> Fault:
    return Fault(Reason.ROW_NOT_TAKEN)
