"""Lookup, the last link: asks the store and says what this node says of it."""

from collections.abc import Sequence
from typing import TypeAlias

from resolver.answer import ABSENT, FOUND, Ready
from resolver.chain.scopes import Speaker
from resolver.clock import Clock
from resolver.freshness import FreshnessSettings
from resolver.query import Query
from resolver.routes import RouteTable
from resolver.store import Fetched, RecordReader
from resolver.wire import HEADS, OUTCOME_AT, frame

_Line: TypeAlias = tuple[bytes | None, bytes | None, int, bytes, bytes]
"""What is said directly below a prefix: tail and frame of the absent, None where nothing is; the epoch; and the tags
of what is found and of what is not."""


class Lookup:
    """Answers canonical keys from the store.

    Raises:
        Fault: as the store does, STORE_UNAVAILABLE above all.
    """

    def __init__(
        self,
        records: RecordReader,
        *,
        routes: RouteTable,
        speaker: Speaker,
        clock: Clock,
        settings: FreshnessSettings,
    ) -> None:
        self._records = records
        self._routes = routes
        self._speaker = speaker
        self._clock = clock
        self._positive_for = float(settings.positive_for)
        self._absent_for = float(settings.absent_for)

    async def resolve(self, query: Query) -> Sequence[Ready]:
        keys, generation = query.identifiers, self._routes.generation
        # Who wants the authority's word gets it from the store itself, not from a cache in front of it.
        fetched = await (
            self._records.full(keys) if query.is_full else self._records.public(keys, confirmed=query.authoritative)
        )
        # Routes that changed meanwhile: the answers are right, but for which epoch nobody can say.
        may_keep = generation == self._routes.generation and not query.is_full
        answers = self._answers(keys, fetched, may_keep=may_keep)
        if query.trace:
            if fetched.shared:
                query.trace.step("redis", f"{fetched.shared} hit, {len(keys) - fetched.shared} miss")
            if fetched.shared < len(keys):
                held = len(keys) - fetched.bodies.count(None)
                query.trace.step("store", f"{held} held, {len(keys) - held} not held")
        return answers

    def _answers(self, keys: Sequence[bytes], fetched: Fetched, *, may_keep: bool) -> list[Ready]:
        now, as_of, generation = self._clock.monotonic(), fetched.as_of, self._routes.generation
        found_until = now + self._positive_for if may_keep else 0.0
        absent_until = now + self._absent_for if may_keep else 0.0
        heads, heads_end, outcome_at, join, answers = HEADS, len(HEADS), OUTCOME_AT, b"".join, []
        lines: dict[bytes, _Line] = {}
        for key, body in zip(keys, fetched.bodies, strict=True):
            prefix = key.partition(b"/")[0]
            line = lines.get(prefix)
            if line is None:
                line = lines[prefix] = self._line(prefix)
            tail, absent, epoch, found_tag, other_tag = line
            if body is None and absent is not None:
                answers.append(Ready(absent, ABSENT, absent_until, epoch, generation, as_of, other_tag, key, True))
                continue
            if body is None or tail is None or body[outcome_at] != FOUND:
                answers.append(self._other(prefix, key, body, absent_until, as_of))
                continue
            length = len(body) + len(tail)
            # As wire.frame does, without the call: this loop is a third of what the links cost.
            framed = join((heads[length], body, tail)) if length < heads_end else frame(body + tail)
            is_own = absent is not None
            answers.append(Ready(framed, FOUND, found_until, epoch, generation, as_of, found_tag, key, is_own))
        return answers

    def _line(self, prefix: bytes) -> _Line:
        scope = self._routes.scope(prefix)
        sayings = self._speaker.sayings(scope)
        if sayings is None:
            return None, None, scope.epoch, b"", b""
        return sayings.tail, sayings.absent, scope.epoch, sayings.found_tag, sayings.other_tag

    def _other(self, prefix: bytes, key: bytes, body: bytes | None, expires: float, as_of: int) -> Ready:
        """Answer where there is no record to be given, by a prefix that refuses or by a deleted record."""
        scope = self._routes.scope(prefix)
        sayings = self._speaker.sayings(scope)
        if sayings is None:
            return self._speaker.refusal(scope)
        if body is None or sayings.absent is None:
            # Absent comes only from the authority: a copy's deletion says only that there is no copy.
            return sayings.not_here
        framed, generation = frame(body + sayings.tail), self._routes.generation
        return Ready(framed, ABSENT, expires, scope.epoch, generation, as_of, sayings.other_tag, key, is_own=True)
