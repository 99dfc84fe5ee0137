"""The Python side of a native front: what that cannot answer itself comes here in bursts, and goes back in bursts.

One look takes up to a thousand requests. Plain questions of one asker are put together into one query, whichever of
its connections and calls they came with: so a burst costs the chain what a batch costs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol, cast

from msgspec import Struct

from resolver import bounds
from resolver.answer import FAULT, Failed, Ready
from resolver.clock import Clock
from resolver.errors import Fault
from resolver.front.askers import asker_at, signer_of
from resolver.front.batches import field_of
from resolver.front.core import SERVICE, Answer, Call, Core, Metadata
from resolver.query import PUBLIC, Asker
from resolver.routes import RouteTable
from resolver.rpc.calls import as_fault, too_large
from resolver.rpc.errors import DETAILS_KEY, error_frame, status_of
from resolver.trust.queries import QUERY_KEY, QueryVerifier

TAKEN_AT_ONCE: Final = 1_024
"""Requests that one look takes."""

Frame = tuple[bytes, int, bytes, int, int, int, bytes, bool]
"""A framed answer; for how many milliseconds it may be kept (0: not) and under which canonical key; its outcome; the
journal index, and the sequence of route changes, as of which it was read; its counting tag; whether it is this node's
own word."""

Reply = tuple[int, int, bytes | list[tuple[int, Frame]], str, list[tuple[str, bytes]]]
"""Token, gRPC code, the response or a frame for each position that was wanted, message, trailing metadata."""

Taken = tuple[int, int, bytes | list[tuple[int, bytes]], int, str, bytes | None, list[tuple[str, bytes]], bytes]
"""Token, number of the method, the request or the identifiers that are wanted with their positions in it, the
milliseconds that are left, peer, proven identity, metadata, and the options that say how far to go for identifiers
(empty: the usual ones)."""


Plain = tuple[int, int, Sequence[tuple[int, bytes]], int]
"""Of a plain question what is needed to answer it: token, number of the method, the identifiers that are wanted with
their positions, and the milliseconds that are left."""


Group = tuple[Asker, bytes]
"""Whose plain questions are put together: who asks, and how far to go (options as they came)."""


Work = Callable[[], Awaitable[list[Reply]]]


class Native(Protocol):
    """What is used here of `topnode_front.Front`."""

    def fileno(self) -> int:
        """Give the descriptor that is readable while requests wait."""

    def take(self, limit: int) -> list[Taken]:
        """Take requests, without waiting for any."""

    def answer(self, replies: Sequence[Reply]) -> None:
        """Give answers."""


class Served(Struct, frozen=True):
    """A method of the front's table of paths: its name, and what answers a whole request of it.

    `is_unary`: its plain requests want one identifier, and what goes wrong with that is the call's own fault.
    """

    name: str
    answer: Answer
    is_unary: bool = False


class Bursts:
    """Answers what a native front hands on, from `begin` to `end`.

    Failure policy: whatever goes wrong is an answer; nothing that was taken is left without one.
    """

    def __init__(
        self,
        front: Native,
        core: Core,
        methods: Sequence[Served],
        *,
        signatures: QueryVerifier,
        routes: RouteTable,
        sequence: Callable[[], int],
        clock: Clock,
    ) -> None:
        """Make it; `methods` stand by their numbers. `sequence` counts the changes of routes that the front knows."""
        self._front = front
        self._core = core
        self._methods = methods
        self._signatures = signatures
        self._routes = routes
        self._sequence = sequence
        self._monotonic = clock.monotonic
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Look whenever something waits, in the running loop."""
        asyncio.get_running_loop().add_reader(self._front.fileno(), self._look)

    async def end(self) -> None:
        """Look no more. What was taken and is not answered yet nobody waits for any more: the front has drained."""
        asyncio.get_running_loop().remove_reader(self._front.fileno())
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def _look(self) -> None:
        """Take what waits and begin to answer it: what one asker asks plainly together, the rest one by one."""
        now = self._monotonic()
        plain: dict[Group, list[Plain]] = {}
        some: list[Plain] = []
        last: tuple[str, bytes | None, bytes] | None = None
        for token, number, wanted, left, peer, identity, metadata, options in self._front.take(TAKEN_AT_ONCE):
            if isinstance(wanted, bytes):
                method, call = self._methods[number], Call(now + left / 1_000, PUBLIC)
                asker_of = partial(self._asker, (peer, identity or b""), metadata, method.name)
                work = partial(self._whole, token, method, wanted, call, asker_of)
                self._do(work, partial(_fault_of, token, method, call))
                continue
            if last != (peer, identity, options):
                # What one connection asks stands together, and all connections of an asker go together.
                last = peer, identity, options
                some = plain.setdefault((asker_at(peer, identity or b""), options), [])
            some.append((token, number, wanted, left))
        for group, questions in plain.items():
            for together in _queries(questions):
                self._begin_plain(group, together, now)

    def _begin_plain(self, group: Group, questions: Sequence[Plain], now: float) -> None:
        self._do(partial(self._plain, group, questions, now), partial(self._apart, group, questions, now))

    def _do(self, work: Work, otherwise: Callable[[Exception], list[Reply]]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(self._answer(work, otherwise)))

    async def _answer(self, work: Work, otherwise: Callable[[Exception], list[Reply]]) -> None:
        """Answer what comes of the work; where it goes wrong, what is to be said then."""
        try:
            try:
                replies = await work()
            except Exception as error:  # noqa: BLE001 - the outermost: each call must be answered
                replies = otherwise(error)
            self._front.answer(replies)
        finally:
            # By itself: to be told that it is done would cost the loop one more turn.
            self._tasks.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    def _asker(
        self, who: tuple[str, bytes], metadata: Sequence[tuple[str, bytes]], method: str, octets: bytes
    ) -> Asker:
        """Say who calls: a signature says more than a certificate.

        Raises:
            Fault: the signature proves nothing.
        """
        signatures = [value for key, value in metadata if key == QUERY_KEY]
        if not signatures:
            return asker_at(*who)
        return signer_of(self._signatures, f"{SERVICE}/{method}", octets, signatures, peer=who[0])

    async def _whole(
        self, token: int, method: Served, octets: bytes, call: Call, asker_of: Callable[[bytes], Asker]
    ) -> list[Reply]:
        if len(octets) > bounds.REQUEST_BYTES:
            raise too_large(octets)
        call.asker = asker_of(octets)
        said = await method.answer(octets, call)
        return [(token, 0, said, "", list(call.beside))]

    def _apart(self, group: Group, questions: Sequence[Plain], now: float, error: Exception) -> list[Reply]:
        """Ask anew for each of the questions that were refused together; one alone is refused."""
        if len(questions) > 1:
            for question in questions:
                self._begin_plain(group, (question,), now)
            return []
        ((token, number, _, _),) = questions
        return [_refused(token, as_fault(self._methods[number].name, error))]

    async def _plain(self, group: Group, questions: Sequence[Plain], now: float) -> list[Reply]:
        wanted = [identifier for _, _, places, _ in questions for _, identifier in places]
        left = max([left for _, _, _, left in questions])
        answers = await self._core.ready(wanted, now + left / 1_000, *group)
        frames = self._frames(answers)
        if len(wanted) == len(questions) and FAULT not in [ready.outcome for ready in answers]:
            # As nearly all are: each call wants one identifier, and gets it.
            pairs = zip(questions, frames, strict=True)
            return [(token, 0, [(places[0][0], frame)], "", []) for (token, _, places, _), frame in pairs]
        replies: list[Reply] = []
        place = 0
        for token, number, places, _ in questions:
            part = slice(place, place := place + len(places))
            method = self._methods[number]
            replies.append(_reply(token, method, places, answers[part], frames[part]))
            if method.is_unary:
                # The front counts what it passes on, and that is a fault of the call.
                self._core.identifiers.by_outcome[FAULT] += answers[place - 1].outcome == FAULT
        return replies

    def _frames(self, answers: Sequence[Ready]) -> list[Frame]:
        """Say of each answer whether the front may keep it: if nothing has changed since it was read."""
        now, sequence, generation = self._monotonic(), self._sequence(), self._routes.generation
        frames: list[Frame] = []
        expires, left = 0.0, 0
        for ready in answers:
            if ready.expires is not expires:
                # What was read together has one time.
                expires = ready.expires
                left = max(0, int((expires - now) * 1_000))
            key = ready.key
            # What is of the current generation has been compared already.
            if left and key and (ready.generation == generation or self._is_of_epoch(key, ready.epoch)):
                frames.append((ready.frame, left, key, ready.outcome, ready.as_of, sequence, ready.tag, ready.is_own))
            else:
                frames.append((ready.frame, 0, b"", ready.outcome, 0, 0, ready.tag, False))
        return frames

    def _is_of_epoch(self, key: bytes, epoch: int) -> bool:
        return self._routes.scope(key.partition(b"/")[0]).epoch == epoch


def _queries(questions: Sequence[Plain]) -> Iterator[list[Plain]]:
    """Share questions out to queries of as many identifiers as one may have."""
    some: list[Plain] = []
    count = 0
    for question in questions:
        wanted = len(question[2])
        if some and count + wanted > bounds.BATCH_IDENTIFIERS:
            yield some
            some, count = [], 0
        some.append(question)
        count += wanted
    if some:
        yield some


def _reply(
    token: int,
    method: Served,
    places: Sequence[tuple[int, bytes]],
    answers: Sequence[Ready],
    frames: Sequence[Frame],
) -> Reply:
    said = []
    for (position, _), ready, frame in zip(places, answers, frames, strict=True):
        if not isinstance(ready, Failed):
            said.append((position, frame))
        elif method.is_unary:
            return _refused(token, ready.fault.anew(field="identifier"))
        else:
            error = error_frame(ready.fault.anew(field=field_of(position)))
            said.append((position, (error, 0, b"", ready.outcome, 0, 0, b"", False)))
    return token, 0, said, "", []


def _fault_of(token: int, method: Served, call: Call, error: Exception) -> list[Reply]:
    return [_refused(token, as_fault(method.name, error), call.beside)]


def _refused(token: int, fault: Fault, beside: Metadata = ()) -> Reply:
    status = status_of(fault)
    return token, status.code, b"", status.message, [*beside, (DETAILS_KEY, status.SerializeToString())]
