"""What is asked: identifiers, who asks, and what is wanted of each."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, Self

from msgspec import Struct
from msgspec.structs import replace

from resolver.bounds import FILTER_TERMS, HOPS_MAX, INDEX_MAX
from resolver.errors import Fault, Reason
from resolver.trace import Trace
from resolver.trust.actors import check_node


class Mode(IntEnum):
    """How far to go for an answer under a delegated prefix; numbers as on the wire."""

    LOCAL = 1
    REFERRAL = 2
    RECURSIVE = 3


class Asker(Struct, frozen=True):
    """Who asks. `address` is for rate limits. `identity` is proven, by certificate or by signature, else empty.

    `is_operator`: of an operator of this node. Only a signature proves that; certificates name nodes.
    """

    address: str = ""
    identity: str = ""
    is_operator: bool = False


PUBLIC: Final = Asker()


class Path(Struct, frozen=True):
    """The way of a recursive question: the nodes that it went through, in order, and through how many more it may go.

    `hops_left` is 0 with nothing visited where the caller did not say: then the asked node decides.
    """

    visited: tuple[str, ...] = ()
    hops_left: int = 0

    def __post_init__(self) -> None:
        if len(self.visited) > HOPS_MAX or not 0 <= self.hops_left <= HOPS_MAX:
            raise Fault(
                Reason.FIELD_OUT_OF_RANGE, f"A path has at most {HOPS_MAX} nodes and hops.", field="options.path"
            )
        for node in self.visited:
            check_node(node, field="options.path.visited")


NO_PATH: Final = Path()


class Query(Struct, frozen=True, kw_only=True):
    """One question about a batch of identifiers; a single identifier is a batch of one.

    `identifiers` are UTF-8 as the caller spelled them, unchecked at the front and canonical keys below the caching
    link. `deadline` is on the monotonic clock, in seconds. `trace` collects the way of the answer where asked for.
    `is_full` asks for all values, also those that only the holder may read: set by the holding link, by nobody else.
    `path` is how a recursive question came here. `signed`: the response is to be signed, as far as it can be.
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
    is_full: bool = False
    path: Path = NO_PATH
    signed: bool = False

    def __post_init__(self) -> None:
        if not self.types and not self.indexes:
            return
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

        What holds more than the public may read is nobody's but its asker's: never kept, never merged with another's.
        """
        return not (self.authoritative or self.is_full)

    def about(self, identifiers: Sequence[bytes]) -> Self:
        """Ask the same about other identifiers."""
        return replace(self, identifiers=identifiers)
