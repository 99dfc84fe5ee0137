"""What a request asks for, what it would change, and what its caller is told. Nothing is decided or written here."""

from collections.abc import Sequence
from enum import IntEnum

from msgspec import Struct

from resolver.counting import Figures
from resolver.errors import Fault
from resolver.routes import Prefix
from resolver.store import Checkpoint, Write
from resolver.trust.actors import Node


class Actor(Struct, frozen=True):
    """Who signed: an operator of this top-level node, or a node (then its row as it is now)."""

    name: str
    node: Node | None = None

    @property
    def is_operator(self) -> bool:
        return self.node is None


class Request(Struct, frozen=True, kw_only=True):
    """A verified request, on its way to be planned.

    `kind` is its kind with its version ("identifiers.v1"), `body` the JSON of its body, exactly as it was signed.
    `at` is when it is taken (Unix seconds); a plan uses no other time. `envelope_sha256` is of the whole envelope:
    whatever a plan must make up (a suffix) comes from it, so that planning it again gives the same. `key_ids` are
    those whose signatures were verified. `chunk` is what an import brought along.
    """

    kind: str
    actor: Actor
    body: bytes
    at: int
    envelope_sha256: bytes
    key_ids: tuple[str, ...]
    chunk: bytes = b""


class Outcome(IntEnum):
    """What became of one row; numbers as on the wire."""

    REGISTERED = 1
    REPLACED = 2
    UNCHANGED = 3
    DELETED = 4
    REFUSED = 5


class Plan(Struct, frozen=True, kw_only=True):
    """What a request comes to, as if it were the next one to be written.

    `outcomes` are one for each row; `refusals` say why, by the position of the row, for those that are REFUSED;
    `minted` are the identifiers that were made up, by the position of the row. A key stands once in `writes`, with
    the last of what was asked for it; so do rows of prefixes and of nodes. `checkpoints` as in `store.Entry`.
    `tallies` are what it adds to the counts, by folded prefix (`registry.tallies`).
    """

    outcomes: Sequence[Outcome]
    refusals: dict[int, Fault] = {}
    minted: dict[int, str] = {}
    writes: Sequence[Write] = ()
    prefixes: Sequence[Prefix] = ()
    nodes: Sequence[Node] = ()
    checkpoints: tuple[tuple[str, Checkpoint | None], ...] = ()
    tallies: Sequence[tuple[bytes, Figures]] = ()


def refused_bits(outcomes: Sequence[Outcome]) -> bytes:
    """Give one bit for each row, set where it was refused, the first row in the lowest bit of the first byte.

    Nothing where none was: as a Statement has it.
    """
    if Outcome.REFUSED not in outcomes:
        return b""
    bits = bytearray((len(outcomes) + 7) // 8)
    for row, outcome in enumerate(outcomes):
        if outcome is Outcome.REFUSED:
            bits[row >> 3] |= 1 << (row & 7)
    return bytes(bits)
