"""What is asked: identifiers, who asks, and what is wanted of each."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, Self

from msgspec import Struct
from msgspec.structs import replace

from resolver.bounds import FILTER_TERMS, INDEX_MAX
from resolver.errors import Fault, Reason
from resolver.trace import Trace


class Mode(IntEnum):
    """How far to go for an answer under a delegated prefix; numbers as on the wire."""

    LOCAL = 1
    REFERRAL = 2
    RECURSIVE = 3


class Asker(Struct, frozen=True):
    """Who asks. `address` is for rate limits; `identity` is proven (a verified client certificate), else empty."""

    address: str = ""
    identity: str = ""


PUBLIC: Final = Asker()


class Query(Struct, frozen=True, kw_only=True):
    """One question about a batch of identifiers; a single identifier is a batch of one.

    `identifiers` are UTF-8 as the caller spelled them, unchecked at the front and canonical keys below the caching
    link. `deadline` is on the monotonic clock, in seconds. `trace` collects the way of the answer where asked for.
    """

    identifiers: Sequence[bytes]
    deadline: float
    asker: Asker = PUBLIC
    types: tuple[str, ...] = ()
    indexes: tuple[int, ...] = ()
    mode: Mode = Mode.LOCAL
    authoritative: bool = False
    with_copy: bool = False
    trace: Trace | None = None

    def __post_init__(self) -> None:
        if len(self.types) > FILTER_TERMS or len(self.indexes) > FILTER_TERMS:
            field = "options.types" if len(self.types) > FILTER_TERMS else "options.indexes"
            raise Fault(Reason.FIELD_OUT_OF_RANGE, f"At most {FILTER_TERMS} can be named.", field=field)
        for index in self.indexes:
            if not 0 < index <= INDEX_MAX:
                raise Fault(
                    Reason.FIELD_OUT_OF_RANGE, f"An index is 1 to {INDEX_MAX}, not {index}.", field="options.indexes"
                )
        for name in self.types:
            if not name or not name.isprintable():
                raise Fault(
                    Reason.FIELD_OUT_OF_RANGE, "A type to filter by is printable text.", field="options.types"
                )

    @property
    def is_filtered(self) -> bool:
        """Are only some values wanted?"""
        return bool(self.types or self.indexes)

    @property
    def is_shared(self) -> bool:
        """May this be answered from, and kept for, what everybody asks?

        Who asks does not matter: nobody is shown more than the public is. Restricted values are not read for answers.
        """
        return not self.authoritative

    def about(self, identifiers: Sequence[bytes]) -> Self:
        """Ask the same about other identifiers."""
        return replace(self, identifiers=identifiers)
