"""Requests planned and committed over a real store, without signatures: for the tests of planners."""

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from nodes.loading.imports import Taken
from nodes.loading.loads import Manner, body_of, rejects_of
from nodes.loading.pieces import piece_of
from nodes.loading.rejects import Reject
from registry import imports
from registry.parts import Part
from registry.plans import Actor, Outcome, Plan, Request
from registry.state import State
from resolver.clock import SetClock
from resolver.record import Record
from resolver.routes import Prefix
from resolver.store import Checkpoint, Commit, Entry, Write
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.trust.actors import Node
from resolver.wire import decode_record

NOW = 1_800_000_000
OPERATOR = Actor("local")
"""What a test's request is signed by where it says nobody else."""

_PLAIN = Manner()

Planner = Callable[[Request, State], Awaitable[Plan]]


class Took(Taken, frozen=True, kw_only=True):
    """What became of the rows of a chunk, those that could not be read included."""

    rejects: list[Reject]


class Committing:
    """A store in a folder, and the state above it."""

    def __init__(self, folder: Path, store: type[EmbeddedWriter] = EmbeddedWriter) -> None:
        self.clock = SetClock(wall=NOW)
        self.store = store.open(folder, owner=Owner.here("test", clock=self.clock))
        self.reopen()

    def reopen(self) -> None:
        """Begin again without anything remembered but what is in the store."""
        self.state = State(self.store, own_name="top")

    def request(self, body: Any, *, actor: Actor = OPERATOR, chunk: bytes = b"") -> Request:
        octets = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return Request(
            kind="test.v1",
            actor=actor,
            body=octets,
            at=int(self.clock.wall()),
            envelope_sha256=sha256(octets).digest(),
            key_ids=(),
            chunk=chunk,
        )

    async def plan(self, planner: Planner, body: Any, *, actor: Actor = OPERATOR, chunk: bytes = b"") -> Plan:
        """Plan a request as the next one; nothing is written."""
        await self.state.begin(self.clock.wall())
        return await planner(self.request(body, actor=actor, chunk=chunk), self.state)

    async def commit(self, plan: Plan) -> int:
        """Write what was planned."""
        self.state.add(plan)
        try:
            index = await self.write(
                writes=plan.writes, prefixes=plan.prefixes, nodes=plan.nodes, checkpoints=plan.checkpoints
            )
        except BaseException:
            self.state.forget()
            raise
        self.state.committed()
        return index

    async def write(
        self,
        *,
        writes: Sequence[Write] = (),
        prefixes: Sequence[Prefix] = (),
        nodes: Sequence[Node] = (),
        checkpoints: tuple[tuple[str, Checkpoint | None], ...] = (),
    ) -> int:
        """Write behind the state's back, as somebody else might."""
        index = await self.store.head() + 1
        entry = Entry(
            statement=b"%d" % index,
            artefacts=(b"",),
            result=b"",
            request=b"%d" % index,
            at=int(self.clock.wall()),
            writes=writes,
            prefixes=prefixes,
            nodes=nodes,
            checkpoints=checkpoints,
        )
        return await self.store.commit(Commit(entries=[entry]))

    async def record(self, key: str) -> Record | None:
        """Give what is held with all values."""
        (body,) = (await self.store.full([key.encode()])).bodies
        return None if body is None else decode_record(body)

    async def public(self, key: str) -> Record | None:
        (body,) = (await self.store.public([key.encode()])).bodies
        return None if body is None else decode_record(body)


class Importing(Committing):
    """Takes rows as `topnode load` does."""

    async def take(
        self, *rows: Any, manner: Manner = _PLAIN, name: str = "load", columns: Sequence[str] = (), **more: Any
    ) -> Took:
        """Take rows as the next chunk of an import; bytes are lines as they are, `more` goes into the part."""
        lines = b"".join((row if isinstance(row, bytes) else msgspec.json.encode(row)) + b"\n" for row in rows)
        reached = await self.store.checkpoint(name)
        said = {
            "offset": reached.offset,
            "end_offset": reached.offset + len(lines),
            "first_line": reached.lines + 1,
            **more,
        }
        part = Part(rows=lines, **said)
        piece = await piece_of(part, columns)
        body = body_of(piece, manner, reached.manifest, name=name, number=reached.chunks + 1)
        plan = await self.plan(imports.plan, body, chunk=piece.chunk)
        count = list(plan.outcomes).count
        taken = Taken(
            registered=count(Outcome.REGISTERED),
            replaced=count(Outcome.REPLACED),
            unchanged=count(Outcome.UNCHANGED),
            refusals=plan.refusals,
            index=await self.commit(plan),
        )
        return Took(rejects=rejects_of(piece, taken), **msgspec.structs.asdict(taken))
