"""Many rows: cut into requests, and several of these on their way at once."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from nodes.client.signing import Draft
from resolver.bounds import ENVELOPE_BYTES, ENVELOPE_ROWS

Row = Mapping[str, Any] | Struct | msgspec.Raw
"""A row of identifiers.v1: a `registry.identifiers.Row`, the same as a mapping, or its JSON as it is."""

KIND: Final = "identifiers.v1"

ROWS_BYTES: Final = ENVELOPE_BYTES - 64 * 1024
"""Bytes of the rows of one envelope; the rest is for everything else in it."""

_Result = TypeVar("_Result")
_encode: Final = msgspec.json.Encoder().encode


def identifiers(rows: Iterable[Row], *, partial: bool, request_id: str = "") -> Draft:
    """Make the request of at most 1,000 rows: all or none of them, or with `partial` those that can be taken."""
    return draft_of([_encode(row) for row in rows], partial=partial, request_id=request_id)


def draft_of(encoded: Sequence[bytes], *, partial: bool, request_id: str = "") -> Draft:
    """Make the request of rows that are encoded already."""
    body = b'{"partial":%b,"rows":[%b]}' % (b"true" if partial else b"false", b",".join(encoded))
    return Draft.of(KIND, msgspec.Raw(body), request_id)


def cut(rows: Iterable[Row]) -> Iterator[list[bytes]]:
    """Cut rows into pieces of as many as an envelope takes."""
    piece: list[bytes] = []
    size = 0
    for row in rows:
        octets = _encode(row)
        if piece and (len(piece) >= ENVELOPE_ROWS or size + len(octets) >= ROWS_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(octets)
        size += len(octets) + 1
    if piece:
        yield piece


async def in_order(works: Iterable[Coroutine[Any, Any, _Result]], at_once: int) -> AsyncIterator[_Result]:
    """Run so many of them at once, and give their results in order; what runs ends when one fails."""
    running: deque[asyncio.Task[_Result]] = deque()
    try:
        for work in works:
            running.append(asyncio.ensure_future(work))
            if len(running) >= at_once:
                yield await running.popleft()
        while running:
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
