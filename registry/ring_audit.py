"""Whether a ring holds what its journal comes to: compared with a rebuilt store, row by row.

A ring gives its rows in no order that the rebuilt store has, and it may be written to meanwhile. So each of its rows
is looked up in the rebuilt store, and counted; only where there are fewer than there should be is each of those asked
for. A row that is newer than what was read of the journal is passed over: it is the next audit's. What was to be
remembered for a while may be forgotten, or not yet.

Not compared is what is the ring's own: its secret, its writers' epochs and signs of life, and what they proposed.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, Protocol, TypeVar

import msgspec
from google.protobuf.message import DecodeError
from msgspec.structs import replace

from registry.audit import Databases, Difference, differences, finding_of
from registry.kinds import IMPORT
from registry.rebuild import Finding, Note, Tell
from registry.v1 import registry_pb2 as pb
from resolver import wire
from resolver.answer import ABSENT
from resolver.bounds import ANSWERS_KEPT
from resolver.errors import Fault, Reason
from resolver.store import CHANGES_KEPT, Change, Checkpoint, JournalReader, Nonce, StoreReader
from resolver.store.embedded.layout import import_row, nonce_until
from resolver.store.naming import prefix_of
from resolver.store.scanning import Held, HeldRow, Scanned

_T = TypeVar("_T")

BATCH: Final = 1_000
"""Rows that are asked of a store at once."""

_checkpoint_decoder: Final = msgspec.msgpack.Decoder(Checkpoint)

_ROW_NAME_MAX: Final = 500
"""Names of requests and nonces are no longer: a longer one was written by nobody."""


class Planned(StoreReader, JournalReader, Databases, Protocol):
    """The rebuilt store, as rows and as a store."""

    def held(self, prefix: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Go through the canonical keys and public bodies of all records, or of those below exactly this prefix."""


async def compare_ring(
    held: Scanned, planned: Planned, *, size: int, now: float, note: Note, tell: Tell
) -> dict[str, int]:
    """Compare a ring with the store that was made of its first `size` entries; give how many rows each table has.

    `now` is in Unix seconds: by it is decided what may be forgotten.

    Raises:
        Fault: whatever `note` raises; STORE_UNAVAILABLE.
    """
    return await _Comparison(held, planned, size, await _newest_time(planned, size, now), note, tell).run()


async def check_loads(held: Scanned) -> None:
    """Check that no import is under way around the servers of the ring: its records come in at its end.

    Raises:
        Fault: LOAD_UNFINISHED, STORE_UNAVAILABLE.
    """
    async for rows in held.imports():
        for each in rows:
            with suppress(msgspec.MsgspecError):
                if _checkpoint_decoder.decode(each.row).offline is not None:
                    name = each.key.decode(errors="replace")
                    sentence = f"The load {name!r} has not ended; what it has brought so far is not in the ring yet."
                    raise Fault(Reason.LOAD_UNFINISHED, sentence, variables={"name": name})


class _Comparison:
    """One comparison. `newest` is the newest entry of which the ring has told; `latest` the latest time known."""

    def __init__(self, held: Scanned, planned: Planned, size: int, latest: float, note: Note, tell: Tell) -> None:
        self._held = held
        self._planned = planned
        self._size = size
        self._newest = size
        self._latest = latest
        self._note = note
        self._tell = tell
        self._done = 0
        # Records are compared once by themselves and once in the listing.
        self._total = 2 * planned.count("records") + planned.count("answered") + planned.count("nonces")

    async def run(self) -> dict[str, int]:
        counts = {
            "entries": self._size,
            "records": await self._records(),
            "listing": await self._listings(),
            "prefixes": await self._table("prefixes", self._held.prefix_rows(), await _prefixes(self._planned)),
            "nodes": await self._table("nodes", self._held.node_rows(), await _nodes(self._planned)),
            "tiles": await self._table("tiles", self._held.tiles(), dict(self._planned.rows("tiles"))),
            "imports": await self._imports(),
            "answered": await self._answers(),
            "nonces": await self._nonces(),
            "feed": await self._feed(),
        }
        self._tell(self._total, self._total)
        return counts

    def _progress(self, rows: int) -> None:
        self._done = min(self._done + rows, self._total)
        self._tell(self._done, self._total)

    def _differ(self, name: str, key: bytes, held: bytes | None, planned: bytes | None) -> None:
        self._note(finding_of(name, Difference(key, held, planned)))

    async def _is_newer(self, index: int) -> bool:
        """Was a row written by an entry behind those that were read? One above all entries was written by nobody."""
        if index > max(self._size, self._newest):
            self._newest = await self._held.committed()
        return self._size < index <= self._newest

    async def _has_grown(self) -> bool:
        self._newest = await self._held.committed()
        return self._newest > self._size

    # --- records ---------------------------------------------------------------------------------------------------

    async def _records(self) -> int:
        count = known = 0
        async for rows in self._held.records():
            keys = [each.key for each in rows]
            public, full = (await self._planned.public(keys)).bodies, (await self._planned.full(keys)).bodies
            for each, planned, planned_full in zip(rows, public, full, strict=True):
                known += planned is not None
                if (each.public, each.full) != (planned, planned_full) or planned is None:
                    await self._record(each, planned, planned_full)
            count += len(rows)
            self._progress(len(rows))
        if known < self._planned.count("records"):
            await self._missing_records()
        return count

    async def _record(self, held: Held, planned: bytes | None, planned_full: bytes | None) -> None:
        if await self._is_newer(held.index):
            return
        if planned is None or held.public != planned:
            self._differ("records", held.key, held.public or b"", planned)
        else:
            self._differ("full", held.key, held.full, planned_full)

    async def _missing_records(self) -> None:
        for rows in _batches(self._planned.held()):
            bodies = (await self._held.public([key for key, _ in rows], confirmed=True)).bodies
            for (key, planned), body in zip(rows, bodies, strict=True):
                if body is None:
                    self._differ("records", key, None, planned)

    # --- listings --------------------------------------------------------------------------------------------------

    async def _listings(self) -> int:
        expected = Counter[bytes]()
        for key, body in self._planned.held():
            expected[prefix_of(key)] += _is_listed(body)
        count = 0
        async for prefixes in self._held.spans():
            for prefix in prefixes:
                is_known = prefix in expected
                count += await self._listing(prefix, expected.pop(prefix, 0), is_known=is_known)
        for prefix, planned in expected.items():
            if planned:
                await self._missing_below(prefix)
        return count

    async def _listing(self, prefix: bytes, planned: int, *, is_known: bool) -> int:
        count = known = 0
        async for rows in self._held.listing(prefix):
            bodies = (await self._planned.public([each.key for each in rows])).bodies
            for each, body in zip(rows, bodies, strict=True):
                is_below = prefix_of(each.key) == prefix
                spelling = _spelling(body) if is_below else None
                if each.row == spelling:
                    known += 1
                elif not await self._is_newer(each.index):
                    self._differ("listing", each.key, each.row, spelling)
            count += len(rows)
            self._progress(len(rows))
        if known < planned:
            await self._missing_below(prefix)
        if not count and not is_known and not await self._has_grown():
            self._differ("listing", prefix, b"", None)
        return count

    async def _missing_below(self, prefix: bytes) -> None:
        rows = ((key, body) for key, body in self._planned.held(prefix) if _is_listed(body))
        for some in _batches(rows):
            are_listed = await self._held.listed([key for key, _ in some])
            for (key, body), is_listed in zip(some, are_listed, strict=True):
                if not is_listed and not await self._is_changed(key):
                    self._differ("listing", key, None, _spelling(body))

    async def _is_changed(self, key: bytes) -> bool:
        """Was a record written anew since the journal was read?"""
        (body,) = (await self._held.public([key], confirmed=True)).bodies
        return bool(body) and await self._is_newer(wire.body_version(body or b""))

    # --- tables that are small enough to be held at once -----------------------------------------------------------

    async def _table(
        self, name: str, scanned: AsyncIterator[Sequence[HeldRow]], planned: Mapping[bytes, bytes]
    ) -> int:
        held = {each.key: each async for rows in scanned for each in rows}
        ours = ((key, held[key].row) for key in sorted(held))
        for difference in differences(ours, iter(sorted(planned.items()))):
            row = held.get(difference.key)
            if row is None or not await self._is_newer(row.index):
                self._note(finding_of(name, difference))
        return len(held)

    async def _imports(self) -> int:
        """Compare how far imports have come. What a finished one leaves is nothing, which has no index."""
        first = import_row("")
        planned = {key: row for key, row in self._planned.rows("meta") if key.startswith(first)}
        held = {
            import_row(each.key.decode(errors="surrogateescape")): each.row
            async for rows in self._held.imports()
            for each in rows
        }
        if held != planned and not await self._has_grown():
            for difference in differences(iter(sorted(held.items())), iter(sorted(planned.items()))):
                self._note(finding_of("imports", difference))
        return len(held)

    # --- what is remembered for a while ----------------------------------------------------------------------------

    async def _answers(self) -> int:
        count = known = 0
        async for rows in self._held.answers():
            indexes = await self._planned.answered([each.key[:_ROW_NAME_MAX] for each in rows])
            for each, index in zip(rows, indexes, strict=True):
                answered = int.from_bytes(each.row, "big")
                known += bool(index)
                if (index and answered == index) or await self._is_newer(answered):
                    continue
                if index or not await self._may_be_forgotten(answered):
                    self._differ("answered", each.key, each.row, index.to_bytes(8, "big") if index else None)
            count += len(rows)
            self._progress(len(rows))
        if known < self._planned.count("answered"):
            await self._missing_answers()
        return count

    async def _missing_answers(self) -> None:
        for rows in _batches(self._planned.rows("answered")):
            indexes = await self._held.answered([key for key, _ in rows])
            for (key, row), index in zip(rows, indexes, strict=True):
                if not index and not await self._may_be_forgotten(int.from_bytes(row, "big")):
                    self._differ("answered", key, None, row)

    async def _may_be_forgotten(self, index: int) -> bool:
        """Is it so long ago that this entry was accepted that its request may get another answer?"""
        if not 0 < index <= self._size:
            return False
        return await _accepted_at(self._planned, index) + ANSWERS_KEPT < self._latest

    async def _nonces(self) -> int:
        count = known = 0
        async for rows in self._held.nonces():
            spent = await self._planned.spent([_nonce(each.key) for each in rows])
            for each, is_spent in zip(rows, spent, strict=True):
                known += is_spent
                # Which entry brought it along is not said.
                if not is_spent and nonce_until(each.key) >= self._latest and not await self._has_grown():
                    self._differ("nonces", each.key, b"", None)
            count += len(rows)
            self._progress(len(rows))
        if known < self._planned.count("nonces"):
            await self._missing_nonces()
        return count

    async def _missing_nonces(self) -> None:
        must_be = (key for key, _ in self._planned.rows("nonces") if nonce_until(key) > self._latest)
        for keys in _batches(must_be):
            spent = await self._held.spent([_nonce(key) for key in keys])
            for key, is_spent in zip(keys, spent, strict=True):
                if not is_spent:
                    self._differ("nonces", key, None, b"")

    # --- the feed --------------------------------------------------------------------------------------------------

    async def _feed(self) -> int:
        """Compare the changes that both still remember."""
        count, after = 0, max(0, await self._held.committed() - CHANGES_KEPT)
        while after < self._size:
            held = await self._changes(after)
            if not held:
                forgotten = await self._held.committed() - CHANGES_KEPT
                if after >= forgotten:
                    detail = "What it changed is missing, or cannot be read."
                    self._note(Finding(index=after + 1, kind="feed", detail=detail))
                after = max(after + 1, forgotten)
                continue
            planned = {each.index: each for each in (await self._planned.changes(after, len(held))).changes}
            for each in held:
                if not await self._is_told(each, planned.get(each.index, each)):
                    detail = "What it changed is told otherwise than the journal comes to."
                    self._note(Finding(index=each.index, kind="feed", detail=detail))
            after = held[-1].index
            count += len(held)
        return count

    async def _is_told(self, held: Change, planned: Change) -> bool:
        """Does a change say what it must? An import around the servers tells of its records at its end only."""
        if held == planned:
            return True
        of_rows = [replace(each, keys=(), below=()) for each in (held, planned)]
        return of_rows[0] == of_rows[1] and (await _statement(self._planned, held.index)).kind == IMPORT

    async def _changes(self, after: int) -> list[Change]:
        """Give changes that follow on this index; none where the next one cannot be given."""
        for limit in (BATCH, 1):
            try:
                return (await self._held.changes(after, limit)).changes
            except msgspec.MsgspecError:
                continue
        return []


async def _newest_time(planned: Planned, size: int, now: float) -> float:
    return max(now, await _accepted_at(planned, size)) if size else now


async def _accepted_at(planned: Planned, index: int) -> int:
    return (await _statement(planned, index)).accepted_at


async def _statement(planned: Planned, index: int) -> pb.Statement:
    """Give what an entry states, and nothing where that cannot be read."""
    (statement,) = await planned.statements(index - 1, 1)
    try:
        return pb.Statement.FromString(statement)
    except DecodeError:
        return pb.Statement()


async def _prefixes(planned: Planned) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    after: bytes | None = None
    while rows := await planned.prefixes(after, BATCH):
        found.update((row.key, row.to_bytes()) for row in rows)
        after = rows[-1].key
    return found


async def _nodes(planned: Planned) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    after: str | None = None
    while rows := await planned.nodes(after, BATCH):
        found.update((row.node.encode(), row.to_bytes()) for row in rows)
        after = rows[-1].node
    return found


def _nonce(row: bytes) -> Nonce:
    return Nonce(row[8:][:_ROW_NAME_MAX], nonce_until(row))


def _is_listed(body: bytes) -> bool:
    return wire.body_outcome(body) != ABSENT


def _spelling(body: bytes | None) -> bytes | None:
    """Give how a record is listed, None where it is not."""
    return None if body is None or not _is_listed(body) else wire.registered_spelling(body).encode()


def _batches(rows: Iterable[_T]) -> Iterator[list[_T]]:
    left = iter(rows)
    while batch := list(islice(left, BATCH)):
        yield batch
