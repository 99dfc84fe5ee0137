"""In how many buckets the listing of each prefix lies, as the writer knows it.

A span only ever grows: one bucket; one and more wanted; more; and so on. So each state has a timestamp of its own,
and a late write of a writer that lost its place repeats what is known, or loses against it.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Final

from msgspec import Struct

from resolver.store.cassandra.carrying import Carrier, Request
from resolver.store.cassandra.layout import bucket_of, part_of
from resolver.store.cassandra.statements import PUT_SPAN, SPAN

KNOWN_MAX: Final = 100_000
"""Spans that are remembered; those that were learnt first are forgotten first and asked for again."""

_ASKED_AT_ONCE: Final = 64


class Span(Struct, frozen=True):
    """How many buckets are read, and how many are being filled beside them (0: none)."""

    buckets: int = 1
    wanted: int = 0

    @property
    def timestamp(self) -> int:
        """The timestamp with which this state of a span is written."""
        return 2 * self.buckets.bit_length() + bool(self.wanted)

    def buckets_of(self, hashed: int) -> Iterable[int]:
        """Give the buckets in which a key with this hash is written."""
        yield bucket_of(hashed, self.buckets)
        if self.wanted:
            yield bucket_of(hashed, self.wanted)

    def put(self, prefix: bytes) -> Request:
        """Write this as the state of the span of a folded prefix."""
        return PUT_SPAN, (part_of(prefix), prefix, self.buckets, self.wanted or None, self.timestamp)


NEW: Final = Span()
"""The span of a prefix below which nothing was yet."""


class Spans:
    """The spans that were asked for lately. Right as long as this process is the writer."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._known: dict[bytes, Span] = {}

    async def learn(self, prefixes: Collection[bytes]) -> tuple[Mapping[bytes, Span], list[bytes]]:
        """Give the spans of these folded prefixes, and which of them have none yet: those are NEW here.

        Raises:
            Fault: as `Carrier.ask`.
        """
        known = self._known
        unknown = iter([prefix for prefix in prefixes if prefix not in known])
        found: dict[bytes, Span] = {prefix: known[prefix] for prefix in prefixes if prefix in known}
        new: list[bytes] = []
        while asked := list(islice(unknown, _ASKED_AT_ONCE)):
            answers = await asyncio.gather(*[self._carrier.ask(SPAN, (part_of(each), each)) for each in asked])
            for prefix, rows in zip(asked, answers, strict=True):
                found[prefix] = Span(rows[0][0], rows[0][1] or 0) if rows else NEW
                if not rows:
                    new.append(prefix)
        return found, new

    def note(self, spans: Mapping[bytes, Span]) -> None:
        """Remember spans that are written."""
        for prefix, span in spans.items():
            self._known[prefix] = span
        for prefix in list(islice(self._known, max(0, len(self._known) - KNOWN_MAX))):
            del self._known[prefix]
