"""Requests of the kind `import.v1`: one chunk of an operator's import, with rows of prefixes and of identifiers.

An import has a name. Under it the store keeps how far it has come, in the same entry as the rows, so that one that
was interrupted goes on behind the last durable chunk. Rows are taken one after another, those that can be.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from registry.allocation import plan_allocation
from registry.bodies import decode
from registry.chunks import Block, Chunk, manifest_with
from registry.drafts import Draft
from registry.intake import Intake, over
from registry.plans import Outcome, Plan, Request
from registry.records import stamped
from registry.rows import IdentifierRow, PrefixRow
from registry.state import State
from resolver.bounds import CHUNK_BYTES, CHUNK_ROWS
from resolver.errors import Fault, Reason
from resolver.store import Checkpoint, Write

NAME_LENGTH: Final = 256
"""Characters in the name of an import."""

_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Import(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body: which chunk this is, and where its rows stand in the input.

    Chunks are counted from 1 (`number`); `chunk_sha256` is this one's. `manifest_sha256` is the SHA-256 of the
    manifest so far (32 zero bytes before the first chunk) and of `chunk_sha256` behind it, both as bytes: so the
    last envelope says of which chunks the whole import was made, and in which order.

    The input's bytes from `offset` to `end_offset`, lines from `first_line` to `lines`, are this chunk's part;
    `rejected` are the rows of it that could not be read and are not in the chunk. `overwrite` puts rows in the place
    of what is there already. `registrant` is who registers where a row does not say; empty: the holder of the prefix.

    The last chunk ends the import: the next one of its name begins afresh. So does the first one where `restart` says
    so, wherever an interrupted import of its name had come.
    """

    name: str
    number: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    chunk_sha256: _Sha256
    manifest_sha256: _Sha256
    chunk_bytes: Annotated[int, Meta(ge=0, le=CHUNK_BYTES)]
    rows: Annotated[int, Meta(ge=0, le=CHUNK_ROWS)]
    first_line: _Count
    lines: _Count
    offset: _Count
    end_offset: _Count
    rejected: _Count = 0
    overwrite: bool = False
    registrant: str = ""
    is_last: bool = False
    restart: bool = False


async def plan(request: Request, state: State) -> Plan:
    """Say what a chunk comes to: one outcome for each row, and how far the import has come.

    Raises:
        Fault: PAYLOAD_MALFORMED, NOT_AUTHORISED, FIELD_OUT_OF_RANGE, LOAD_OUT_OF_STEP, CHUNK_MISMATCH; the store's.
    """
    body = decode(request.body, Import)
    if not request.actor.is_operator:
        raise Fault(Reason.NOT_AUTHORISED, "Imports are signed by an operator of this node.")
    check_name(body.name)
    reached = await _reached(body, state)
    # Not in the event loop: a large one takes a tenth of a second.
    chunk = await asyncio.to_thread(
        Chunk.open, request.chunk, digest=body.chunk_sha256, size=body.chunk_bytes, rows=body.rows
    )
    planning = _Planning(request, state, body)
    for block in chunk.blocks():
        await planning.take(block)
    return planning.plan(reached)


def check_name(name: str) -> None:
    """Check that an import can have this name.

    Raises:
        Fault: FIELD_OUT_OF_RANGE.
    """
    if not 0 < len(name) <= NAME_LENGTH or not name.isprintable():
        detail = f"The name of an import is 1 to {NAME_LENGTH} printable characters."
        raise Fault(Reason.FIELD_OUT_OF_RANGE, detail, field="name")


async def _reached(body: Import, state: State) -> Checkpoint:
    """Give how far the import has come, if this chunk follows on that."""
    begins_afresh = body.restart and body.number == 1
    reached = Checkpoint() if begins_afresh else await state.checkpoint(body.name)
    if (body.number, body.offset) != (reached.chunks + 1, reached.offset):
        raise Fault(
            Reason.LOAD_OUT_OF_STEP,
            f"The import has come to byte {reached.offset} with chunk {reached.chunks}; this is chunk {body.number} "
            f"and begins at byte {body.offset}.",
            field="offset",
            variables={"offset": str(body.offset), "reached": str(reached.offset), "chunks": str(reached.chunks)},
        )
    if bytes.fromhex(body.manifest_sha256) != manifest_with(reached.manifest, bytes.fromhex(body.chunk_sha256)):
        raise Fault(
            Reason.LOAD_OUT_OF_STEP,
            "The manifest does not follow on that of the chunks so far.",
            field="manifest_sha256",
            variables={"manifest": reached.manifest.hex()},
        )
    return reached


class _Planning:
    """One chunk being planned: what its rows come to, as if they were written one after another."""

    def __init__(self, request: Request, state: State, body: Import) -> None:
        self._actor = request.actor
        self._at = request.at
        self._body = body
        self._state = state
        self._writes: dict[bytes, Write] = {}
        self._draft = Draft(state, self._writes)
        self._intake = Intake(request.actor, self._draft.scope, request.at, body.registrant)
        self._outcomes: list[Outcome] = []
        self._refusals: dict[int, Fault] = {}

    async def take(self, block: Block) -> None:
        """Take the rows of a block."""
        if block.prefixes:
            await self._take_prefixes(block.prefixes)
        if block.identifiers:
            await self._take_identifiers(block.identifiers)
        await asyncio.sleep(0)

    def plan(self, reached: Checkpoint) -> Plan:
        """Give the plan."""
        return Plan(
            outcomes=self._outcomes,
            refusals=self._refusals,
            writes=list(self._writes.values()),
            prefixes=list(self._draft.rows.values()),
            checkpoints=((self._body.name, None if self._body.is_last else self._advance(reached)),),
        )

    def _advance(self, reached: Checkpoint) -> Checkpoint:
        body, count = self._body, self._outcomes.count
        return Checkpoint(
            offset=body.end_offset,
            lines=body.lines,
            registered=reached.registered + count(Outcome.REGISTERED),
            replaced=reached.replaced + count(Outcome.REPLACED),
            unchanged=reached.unchanged + count(Outcome.UNCHANGED),
            rejected=reached.rejected + body.rejected + len(self._refusals),
            chunks=body.number,
            manifest=bytes.fromhex(body.manifest_sha256),
        )

    async def _take_prefixes(self, rows: Sequence[PrefixRow]) -> None:
        for row in rows:
            self._note(
                await plan_allocation(row, self._actor, self._draft, overwrite=self._body.overwrite, any_holder=True)
            )
        # Another one: what it remembers of prefixes may hold no longer.
        self._intake = Intake(self._actor, self._draft.scope, self._at, self._body.registrant)

    async def _take_identifiers(self, rows: Sequence[IdentifierRow]) -> None:
        made = [self._make(row) for row in rows]
        stored = await self._state.held([write.key for write in made if isinstance(write, Write)])
        writes, outcomes = self._writes, self._outcomes
        for row, write in zip(rows, made, strict=True):
            if isinstance(write, Fault):
                self._note(write)
                continue
            earlier = writes.get(write.key)
            held = stored.get(write.key) if earlier is None else earlier.full or earlier.public
            if held is None:
                writes[write.key] = write
                outcomes.append(Outcome.REGISTERED)
            else:
                self._note(self._settle(row, write, held, earlier, is_new=write.key not in stored))

    def _make(self, row: IdentifierRow) -> Write | Fault:
        try:
            return self._intake.new(row.identifier, row.values, row.registrant)
        except Fault as fault:
            return fault

    def _settle(
        self, row: IdentifierRow, write: Write, held: bytes, earlier: Write | None, *, is_new: bool
    ) -> Outcome | Fault:
        """Compare with what is held, in the store or by an earlier row."""
        try:
            written = over(held, write, stamped(row.values), overwrite=self._body.overwrite)
        except Fault as fault:
            return fault
        if written is None:
            return Outcome.UNCHANGED
        revives = written.revives or (earlier is not None and earlier.revives)
        self._writes[write.key] = replace(written, is_new=is_new, revives=revives)
        return Outcome.REPLACED

    def _note(self, became: Outcome | Fault) -> None:
        if isinstance(became, Fault):
            self._refusals[len(self._outcomes)] = became
            became = Outcome.REFUSED
        self._outcomes.append(became)
