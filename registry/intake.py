"""What an actor may register: identifiers checked, found a place under their prefixes, and made into records.

Nothing is looked up here but prefixes, and nothing is written.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from registry.places import Place, Places, ScopeOf
from registry.plans import Actor
from registry.records import RecordMaker, renew, write_of
from registry.rows import ValueRow
from resolver.bounds import IDENTIFIER_BYTES
from resolver.errors import Fault, Reason
from resolver.handle import Handle, canonical
from resolver.store import Write
from resolver.wire import decode_record


class Intake:
    """Takes the rows of one request, which is accepted `now` (Unix seconds).

    `registrant` is who registers where a row does not say; empty: the holder of the prefix.
    """

    def __init__(self, actor: Actor, scope: ScopeOf, now: int, registrant: str = "") -> None:
        self._places = Places(actor, scope)
        self._maker = RecordMaker(now)
        self._registrant = registrant

    def key(self, identifier: str) -> bytes:
        """Give the key of an identifier that its actor may write.

        Raises:
            Fault: IDENTIFIER_*, PREFIX_*.
        """
        octets = identifier.encode()
        return _key(identifier, octets, self._place(identifier, octets))

    def new(self, identifier: str, values: Sequence[ValueRow], registrant: str) -> Write:
        """Make the write by which this is registered where nothing is held.

        Raises:
            Fault: as `key`; VALUE_INVALID, ROW_MALFORMED, RECORD_TOO_LARGE.
        """
        octets = identifier.encode()
        place = self._place(identifier, octets)
        key = _key(identifier, octets, place) if place.case_sensitive else octets.upper()
        return self._maker.write(key, identifier, octets, values, registrant or self._registrant or place.holder)

    def _place(self, identifier: str, octets: bytes) -> Place:
        prefix, _, suffix = identifier.partition("/")
        if not suffix or len(octets) > IDENTIFIER_BYTES or not identifier.isprintable():
            Handle.from_text(identifier)  # says what is wrong with it, if anything
        place = self._places[prefix]
        if place.refused:
            # A fault of its own for each row: raising one changes it.
            refused = place.refused
            raise Fault(refused.reason, refused.detail, field="identifier", variables=refused.variables)
        return place


def _key(identifier: str, octets: bytes, place: Place) -> bytes:
    prefix_length = len(identifier.partition("/")[0].encode())
    return canonical(octets, prefix_length=prefix_length, case_sensitive=place.case_sensitive)


def over(held: bytes, new: Write, said: set[int], *, overwrite: bool) -> Write | None:
    """Say what is written over a held body by a row that registers; None where the row changes nothing.

    `said` are the indexes of the values whose time stamps stand in the row. A tombstone is replaced by what is new;
    a record keeps the time of its registration, and values that do not change keep theirs.

    Raises:
        Fault: IDENTIFIER_EXISTS, IDENTIFIER_DELETED: not without `overwrite`.
    """
    before, row = decode_record(held), decode_record(new.full or new.public)
    if before.tombstone:
        if not overwrite:
            raise Fault(Reason.IDENTIFIER_DELETED, field="identifier")
        return replace(new, is_new=False, revives=True)
    renewed = renew(before, row, said)
    if renewed == before:
        return None
    if not overwrite:
        raise Fault(Reason.IDENTIFIER_EXISTS, field="identifier")
    return write_of(new.key, replace(renewed, updated_at=row.updated_at))
