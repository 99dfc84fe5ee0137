"""Registered copies: what the store holds now of some identifiers, pushed to the node above."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import count
from typing import Final

import msgspec
from msgspec import Struct

from nodes.client import Outcome, RegistryClient, Submitted
from nodes.client.bulk import ROWS_BYTES, draft_of
from nodes.client.signing import Draft
from nodes.upward.metrics import UpwardMetrics
from nodes.upward.naming import request_id
from nodes.upward.outbox import Outbox
from nodes.upward.refused import Refused, RefusedFile
from nodes.upward.rows import row_of
from nodes.upward.verdicts import Verdict, of_row, of_rows
from registry.journal import Store
from resolver.bounds import ENVELOPE_ROWS
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.handle import lineage

AT_ONCE: Final = 4
"""Requests on their way at once: their rows are about different identifiers."""

FETCHED_AT_ONCE: Final = 128
"""Records that are read at once, between two turns of the event loop: each may have a quarter of a mebibyte."""

SEGMENTS: Final = 1_024

_encode: Final = msgspec.json.Encoder().encode


class Told(Struct, frozen=True):
    """What the node above told: the newest entry that a receipt named, and the prefixes that it takes nothing of."""

    taken: int = 0
    owed: frozenset[str] = frozenset()

    def with_(self, other: "Told") -> "Told":
        return Told(max(self.taken, other.taken), self.owed | other.owed)


class _Pushed(Struct, frozen=True, gc=False):
    """One row on its way: its key, what it does, and its JSON."""

    key: bytes
    op: str
    octets: bytes


class Copies:
    """Pushes copies. Each call is one batch of different keys, in as many requests as they take."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        client: RegistryClient,
        refused: RefusedFile,
        metrics: UpwardMetrics,
        clock: Clock,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._client = client
        self._refused = refused
        self._metrics = metrics
        self._clock = clock

    async def push(self, keys: Sequence[bytes], life: str, place: str) -> Told:
        """Push what is held now under these keys, named by their place in the outbox; the rest is passed over.

        When this returns the node above has taken every row, or refused it for good, which is noted, or said that it
        takes nothing below its prefix.

        Raises:
            Fault: nothing is known of what was not taken; the same is to be pushed again. The own store's, likewise.
        """
        told, number = Told(), 0
        running: deque[asyncio.Task[Told]] = deque()
        try:
            async for part in self._parts(keys):
                running.append(asyncio.create_task(self._send(part, life, f"{place}/{number}")))
                number += 1
                if len(running) >= AT_ONCE:
                    told = told.with_(await running.popleft())
            while running:
                told = told.with_(await running.popleft())
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        return told

    async def _parts(self, keys: Sequence[bytes]) -> AsyncIterator[list[_Pushed]]:
        part: list[_Pushed] = []
        size = 0
        for first in range(0, len(keys), FETCHED_AT_ONCE):
            some = keys[first : first + FETCHED_AT_ONCE]
            await asyncio.sleep(0)
            fetched = await self._store.public(some, confirmed=True)
            for key, body in zip(some, fetched.bodies, strict=True):
                if body is None:
                    continue
                row = row_of(body)
                pushed = _Pushed(key, row.op, _encode(row))
                if part and (len(part) >= ENVELOPE_ROWS or size + len(pushed.octets) >= ROWS_BYTES):
                    yield part
                    part, size = [], 0
                part.append(pushed)
                size += len(pushed.octets) + 1
        if part:
            yield part

    async def _send(self, rows: Sequence[_Pushed], life: str, place: str) -> Told:
        try:
            submitted = await self._submit(rows, life, place)
        except Fault as fault:
            if of_rows(fault) is Verdict.AGAIN:
                raise
            return await self._cut(rows, life, place, fault)
        self._metrics.repeated.inc(submitted.is_repeated)
        owed: set[str] = set()
        refused: list[Refused] = []
        for position, (row, outcome) in enumerate(zip(rows, submitted.outcomes, strict=True)):
            if outcome is not Outcome.REFUSED:
                self._metrics.outcomes[outcome].inc()
                continue
            refusal = submitted.refusals[position]
            verdict = of_row(refusal, deletes=row.op == "delete")
            self._metrics.rows[_BECAME[verdict]].inc()
            if verdict is Verdict.OWED:
                owed.add(self._owing(row.key, refusal))
            elif verdict is Verdict.FINAL:
                refused.append(self._note(row, refusal))
        await self._refused.add(refused)
        return Told(submitted.receipt.index if submitted.receipt else 0, frozenset(owed))

    async def _submit(self, rows: Sequence[_Pushed], life: str, place: str) -> Submitted:
        """Send rows under the first name of their place that other content has not taken.

        A request of which nothing was heard may still be on its way, and come after what is sent now. Of two requests
        with one name one is taken. Either it was that one: then what is held now goes under the next name. Or it is
        refused when it comes, and nothing older goes over what is newer.
        """
        body = draft_of([row.octets for row in rows], partial=True)
        for number in count():
            draft = Draft(body.kind, body.body, request_id(life, f"{place}#{number}"))
            try:
                return await self._client.send(draft)
            except Fault as fault:
                if fault.reason is not Reason.REQUEST_ID_REUSED:
                    raise
        raise AssertionError("Numbers do not end.")

    async def _cut(self, rows: Sequence[_Pushed], life: str, place: str, fault: Fault) -> Told:
        """Find the row because of which a whole request is refused, so that it holds up no other."""
        if len(rows) == 1:
            self._metrics.rows["refused"].inc()
            await self._refused.add([self._note(rows[0], fault)])
            return Told()
        half = len(rows) // 2
        told = await self._send(rows[:half], life, f"{place}.0")
        return told.with_(await self._send(rows[half:], life, f"{place}.1"))

    def _note(self, row: _Pushed, fault: Fault) -> Refused:
        return Refused.of(row.key.decode(), row.op, fault, self._clock.wall())

    def _owing(self, key: bytes, fault: Fault) -> str:
        """Give the folded prefix of which nothing is taken: the one that is named, where the key lies below it."""
        prefix = key.partition(b"/")[0]
        named = fault.variables.get("prefix", "").encode().upper()
        found = named if named in lineage(prefix, SEGMENTS) else self._outbox.topmost(prefix)
        return found.decode()


_BECAME: Final = {Verdict.OWED: "owed", Verdict.DONE: "done", Verdict.FINAL: "refused"}
