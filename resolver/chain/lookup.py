"""Lookup, the last link: asks the store and says what this node says of it."""

from collections.abc import Sequence

from resolver import wire
from resolver.answer import ABSENT, FOUND, Ready
from resolver.chain.scopes import Speaker
from resolver.clock import Clock
from resolver.freshness import FreshnessSettings
from resolver.query import Query
from resolver.routes import RouteTable
from resolver.store import Fetched, RecordReader


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
        fetched = await self._records.public(keys)
        # Routes that changed meanwhile: the answers are right, but for which epoch nobody can say.
        may_keep = generation == self._routes.generation
        answers = self._answers(keys, fetched, may_keep=may_keep)
        if query.trace:
            held = len(keys) - fetched.bodies.count(None)
            query.trace.step("store", f"{held} held, {len(keys) - held} not held")
        return answers

    def _answers(self, keys: Sequence[bytes], fetched: Fetched, *, may_keep: bool) -> list[Ready]:
        now, as_of, generation = self._clock.monotonic(), fetched.as_of, self._routes.generation
        found_until = now + self._positive_for if may_keep else 0.0
        absent_until = now + self._absent_for if may_keep else 0.0
        frame, outcome_of, answers = wire.frame, wire.body_outcome, []
        lines: dict[bytes, tuple[bytes | None, int]] = {}
        for key, body in zip(keys, fetched.bodies, strict=True):
            prefix = key.partition(b"/")[0]
            line = lines.get(prefix)
            if line is None:
                line = lines[prefix] = self._line(prefix)
            tail, epoch = line
            if body is None or tail is None or outcome_of(body) != FOUND:
                answers.append(self._other(prefix, body, absent_until, as_of))
            else:
                answers.append(Ready(frame(body + tail), FOUND, found_until, epoch, generation, as_of))
        return answers

    def _line(self, prefix: bytes) -> tuple[bytes | None, int]:
        """Give the tail that is said below a prefix, None where nothing is, and the epoch."""
        scope = self._routes.scope(prefix)
        sayings = self._speaker.sayings(scope)
        return (sayings.tail if sayings else None), scope.epoch

    def _other(self, prefix: bytes, body: bytes | None, expires: float, as_of: int) -> Ready:
        """Answer where there is no record to be given: none, a deleted one, or a prefix that refuses."""
        scope = self._routes.scope(prefix)
        sayings = self._speaker.sayings(scope)
        if sayings is None:
            return self._speaker.refusal(scope)
        if sayings.absent is None:
            # Absent comes only from the authority: a copy's deletion says only that there is no copy.
            return sayings.not_here
        frame = sayings.absent if body is None else wire.frame(body + sayings.tail)
        return Ready(frame, ABSENT, expires, scope.epoch, self._routes.generation, as_of)
