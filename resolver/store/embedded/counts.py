"""Counts in LMDB: one database of their own, in the file of the store and in none of its commits.

    "c", day, source, 0, prefix -> figures
    "d", day, source            -> SourceDay
    "l", source                 -> Life

A day is four bytes, so that days sort as numbers do. Prefixes that are counted (`counting.PREFIX_BYTES`) and names of
nodes are short enough for a key. A store from before there were counts gets the database when its owner opens it.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

import lmdb
import msgspec

from resolver.counting import IN_TOTAL, NOTHING, Figures
from resolver.store.counts import Delta, Life, SourceDay, overtaken
from resolver.store.embedded.border import Border

if TYPE_CHECKING:
    from lmdb import Transaction, _Database

DATABASE: Final = b"counts"

_ROW: Final = b"c"
_DAY: Final = b"d"
_LIFE: Final = b"l"
_END: Final = b"\x00"
_FORGOTTEN_AT_ONCE: Final = 5_000
"""Rows that go in one transaction, which others wait for: some milliseconds."""

_encoder: Final = msgspec.msgpack.Encoder()
_row_decoder: Final = msgspec.msgpack.Decoder(Figures)
_day_decoder: Final = msgspec.msgpack.Decoder(SourceDay)
_life_decoder: Final = msgspec.msgpack.Decoder(Life)


class InTurn(Protocol):
    """Runs what writes in a transaction, in its turn with commits."""

    def __call__(self, transact: Callable[[], Any], /) -> Awaitable[Any]: ...


class EmbeddedCounts:
    """Counts, in the process that owns the store."""

    def __init__(self, environment: lmdb.Environment, border: Border, in_turn: InTurn) -> None:
        self._environment = environment
        self._border = border
        self._in_turn = in_turn
        with border:
            self._database: _Database = environment.open_db(DATABASE, create=True)

    async def take_over(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Put rows of another store's counts (`kept_rows`) here, where nothing was counted yet."""
        await self._in_turn(partial(self._write, partial(_put_rows, rows)))

    async def add(self, deltas: Sequence[Delta]) -> None:
        await self._in_turn(partial(self._write, partial(_add, deltas)))

    async def mark(self, source: str, day: int, *, is_partial: bool) -> None:
        await self._in_turn(partial(self._write, partial(_mark, source, day, is_partial)))

    async def reached(self, source: str, day: int) -> SourceDay:
        with self._border, self._environment.begin(self._database) as transaction:
            return _reached(transaction, _day_row(source, day))

    async def days(self) -> list[int]:
        days: list[int] = []
        with self._border, self._environment.begin(self._database) as transaction, transaction.cursor() as cursor:
            following = _DAY
            while cursor.set_range(following) and cursor.key().startswith(_DAY):
                days.append(_day_in(cursor.key()))
                following = _DAY + _four(days[-1] + 1)
        return days

    async def sources(self, day: int) -> list[str]:
        beginning = _DAY + _four(day)
        with self._border, self._environment.begin(self._database) as transaction, transaction.cursor() as cursor:
            return [key[len(beginning) :].decode() for key, _ in _from(cursor, beginning)]

    async def rows(self, source: str, day: int, after: bytes | None, limit: int) -> list[tuple[bytes, Figures]]:
        beginning = _rows_of(source, day)
        with self._border, self._environment.begin(self._database) as transaction, transaction.cursor() as cursor:
            behind = beginning + (after or b"")
            found = (item for item in _from(cursor, beginning, behind) if item[0] != behind)
            start = len(beginning)
            return [(key[start:], _row_decoder.decode(row)) for key, row in islice(found, limit)]

    async def put_life(self, life: Life) -> None:
        await self._in_turn(partial(self._write, partial(_put_life, life)))

    async def lives(self) -> list[Life]:
        with self._border, self._environment.begin(self._database) as transaction, transaction.cursor() as cursor:
            return [_life_decoder.decode(row) for _, row in _from(cursor, _LIFE)]

    async def forget(self, before: int) -> None:
        while await self._in_turn(partial(self._write, partial(_forget, before))):
            pass

    # --- in the writing thread ---------------------------------------------------------------------------------

    def _write(self, writes: "Callable[[Transaction[bytes]], Any]") -> Any:
        with self._environment.begin(self._database, write=True) as transaction:
            return writes(transaction)


def kept_rows(environment: lmdb.Environment) -> list[tuple[bytes, bytes]]:
    """Give all rows of the counts in a store that is open for reading; none where it was never counted in."""
    try:
        database = environment.open_db(DATABASE, create=False)
    except lmdb.NotFoundError:
        return []
    with environment.begin(database) as transaction, transaction.cursor() as cursor:
        return list(cursor.iternext())


def _put_rows(rows: Iterable[tuple[bytes, bytes]], transaction: "Transaction[bytes]") -> None:
    for key, row in rows:
        transaction.put(key, row)


def _add(deltas: Sequence[Delta], transaction: "Transaction[bytes]") -> None:
    for delta in deltas:
        row = _day_row(delta.source, delta.day)
        held = _reached(transaction, row)
        if delta.sequence <= held.sequence:
            continue
        if delta.follows not in {None, held.sequence}:
            raise overtaken(delta)
        is_partial = held.is_partial or delta.is_partial
        transaction.put(row, _encoder.encode(SourceDay(delta.sequence, delta.kept, is_partial)))
        beginning = _rows_of(delta.source, delta.day)
        for prefix, figures in delta.rows:
            key = beginning + prefix
            octets = transaction.get(key)
            before = NOTHING if octets is None else _row_decoder.decode(octets)
            transaction.put(key, _encoder.encode(before + figures))


def _mark(source: str, day: int, is_partial: bool, transaction: "Transaction[bytes]") -> None:  # noqa: FBT001 - what it marks
    row = _day_row(source, day)
    held = _reached(transaction, row)
    transaction.put(row, _encoder.encode(SourceDay(held.sequence, held.kept, is_partial)))


def _put_life(life: Life, transaction: "Transaction[bytes]") -> None:
    transaction.put(_LIFE + life.source.encode(), _encoder.encode(life))


def _forget(before: int, transaction: "Transaction[bytes]") -> bool:
    """Forget some of what is older, and say whether there may be more."""
    gone = 0
    with transaction.cursor() as cursor:
        # Rows first: as long as the day of a source is there, there may be rows of it.
        for kind in (_ROW, _DAY):
            while gone < _FORGOTTEN_AT_ONCE and cursor.set_range(kind + _four(IN_TOTAL + 1)):
                if not cursor.key().startswith(kind) or _day_in(cursor.key()) >= before:
                    break
                cursor.delete()
                gone += 1
        if gone < _FORGOTTEN_AT_ONCE:
            ended = [key for key, row in _from(cursor, _LIFE) if _is_over(_life_decoder.decode(row), before)]
            for key in ended:
                transaction.delete(key)
    return gone >= _FORGOTTEN_AT_ONCE


def _is_over(life: Life, before: int) -> bool:
    return life.has_ended and life.day < before


def _reached(transaction: "Transaction[bytes]", row: bytes) -> SourceDay:
    octets = transaction.get(row)
    return SourceDay() if octets is None else _day_decoder.decode(octets)


def _from(
    cursor: "lmdb.Cursor[bytes]", beginning: bytes, first: bytes | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """Go through what begins so, from this key on."""
    if not cursor.set_range(beginning if first is None else first):
        return
    for key, row in cursor.iternext():
        if not key.startswith(beginning):
            return
        yield key, row


def _day_row(source: str, day: int) -> bytes:
    return _DAY + _four(day) + source.encode()


def _rows_of(source: str, day: int) -> bytes:
    return _ROW + _four(day) + source.encode() + _END


def _four(day: int) -> bytes:
    return day.to_bytes(4, "big")


def _day_in(key: bytes) -> int:
    return int.from_bytes(key[1:5], "big")
