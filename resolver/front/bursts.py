"""The Python side of a native front: what that cannot answer itself comes here in bursts, and goes back in bursts.

One look takes up to a thousand requests. Plain questions of one asker are put together, those for one identifier each
into one query and batches into another, whichever of its connections they came with: so a burst costs the chain what
a batch costs. Tokens of single questions are only handed back, and what may be kept of an answer the front sees.
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
from resolver.rpc.calls import as_fault
from resolver.rpc.errors import DETAILS_KEY, error_frame, status_of
from resolver.trust.queries import QUERY_KEY, QueryVerifier

TAKEN_AT_ONCE: Final = 1_024
"""Requests that one look takes."""

TOKEN_BYTES: Final = 8

Frame = tuple[bytes, int, float, int, int, bytes, bytes, bool]
"""Of an answer what a front must know to give it and to keep it, as `Ready` has it: frame, outcome, until when it may
be kept, generation, journal index as of which it was read, counting tag, canonical key, and whether it is this node's
own word."""

Routed = tuple[int, int]
"""The generation of the routes, and the sequence of their changes, as they were before a question was asked.

Not when it was answered: the canonical key of an identifier is made by the routes of before, and what is read after a
change passes for new. Kept for the identifier, it would be another one's answer where a case rule has changed.
"""

State = tuple[float, int, int]
"""As of when answers are given: the moment, and what holds of the routes."""

_NO_FRAMES: Final[State] = (0.0, 0, 0)
"""Of replies in which nothing can be kept."""

Reply = tuple[int, int, bytes | list[tuple[int, Frame]], str, list[tuple[str, bytes]]]
"""Token, gRPC code, the response or a frame for each position that was wanted, message, trailing metadata."""

Taken = tuple[int, int, bytes | list[tuple[int, bytes]], int, str, bytes | None, list[tuple[str, bytes]], bytes]
"""Token, number of the method, the request or the identifiers that are wanted with their positions in it, the
milliseconds that are left, peer, proven identity, metadata, and the options that say how far to go for identifiers
(empty: the usual ones)."""

Run = tuple[bytes, int, list[bytes], int, str, bytes | None, bytes]
"""Of plain questions of one connection for one identifier each: tokens, eight bytes each, number of the method,
identifiers, the most milliseconds that are left, peer, proven identity, and options."""

Plain = tuple[int, int, Sequence[tuple[int, bytes]], int]
"""Of a plain batch what is needed to answer it: token, number of the method, the identifiers that are wanted with
their positions, and the milliseconds that are left."""

Group = tuple[Asker, bytes]
"""Whose plain questions are put together: who asks, and how far to go (options as they came)."""


class Singles(Struct):
    """Plain questions for one identifier each, put together: their method, tokens as in runs, and until when."""

    number: int
    tokens: bytes
    identifiers: list[bytes]
    until: float

    def alone(self) -> "Iterator[Singles]":
        """Give each of them by itself."""
        for place, identifier in enumerate(self.identifiers):
            tokens = self.tokens[place * TOKEN_BYTES : (place + 1) * TOKEN_BYTES]
            yield Singles(self.number, tokens, [identifier], self.until)

    def token(self, place: int) -> int:
        """Give the token of one of them."""
        return int.from_bytes(self.tokens[place * TOKEN_BYTES : (place + 1) * TOKEN_BYTES], "little")


Work = Callable[[], Awaitable[list[Reply]]]


class Native(Protocol):
    """What is used here of `topnode_front.Front`."""

    def fileno(self) -> int:
        """Give the descriptor that is readable while requests wait."""

    def take(self, limit: int) -> tuple[list[Taken], list[Run]]:
        """Take requests, without waiting for any."""

    def answer(self, replies: Sequence[Reply], state: State) -> None:
        """Give answers."""

    def answer_run(self, tokens: bytes, frames: list[Frame], state: State) -> list[int]:
        """Give answers to runs, and tell at which places there are errors, which are not given."""


class Served(Struct, frozen=True):
    """A method of the front's table of paths: its name, and what answers a whole request of it."""

    name: str
    answer: Answer


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
        others, runs = self._front.take(TAKEN_AT_ONCE)
        singles: dict[tuple[Group, int], Singles] = {}
        for tokens, number, identifiers, left, peer, identity, options in runs:
            group = asker_at(peer, identity or b""), options
            run, held = Singles(number, tokens, identifiers, now + left / 1_000), singles.get((group, number))
            if held is None:
                singles[group, number] = run
            elif len(held.identifiers) + len(identifiers) > bounds.BATCH_IDENTIFIERS:
                self._begin_singles(group, held)
                singles[group, number] = run
            else:
                held.tokens += tokens
                held.identifiers += identifiers
                held.until = max(held.until, run.until)
        for (group, _), run in singles.items():
            self._begin_singles(group, run)
        plain: dict[Group, list[Plain]] = {}
        for token, number, wanted, left, peer, identity, metadata, options in others:
            if isinstance(wanted, bytes):
                method, call = self._methods[number], Call(now + left / 1_000, PUBLIC)
                asker_of = partial(self._asker, (peer, identity or b""), metadata, method.name)
                work = partial(self._whole, token, method, wanted, call, asker_of)
                self._do(work, partial(_fault_of, token, method, call))
                continue
            group = asker_at(peer, identity or b""), options
            plain.setdefault(group, []).append((token, number, wanted, left))
        for group, questions in plain.items():
            for together in _queries(questions):
                self._begin_plain(group, together, now)

    def _begin_singles(self, group: Group, run: Singles) -> None:
        self._do(partial(self._singles, group, run), partial(self._singles_apart, group, run))

    def _begin_plain(self, group: Group, questions: Sequence[Plain], now: float) -> None:
        self._do(partial(self._plain, group, questions, now), partial(self._apart, group, questions, now))

    def _do(self, work: Work, otherwise: Callable[[Exception], list[Reply]]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(self._answer(work, otherwise)))

    async def _answer(self, work: Work, otherwise: Callable[[Exception], list[Reply]]) -> None:
        """Answer what the work leaves to be said; where it goes wrong, what is to be said then."""
        try:
            try:
                replies = await work()
            except Exception as error:  # noqa: BLE001 - the outermost: each call must be answered
                replies = otherwise(error)
            if replies:
                self._front.answer(replies, _NO_FRAMES)
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
        call.asker = asker_of(octets)
        said = await method.answer(octets, call)
        return [(token, 0, said, "", list(call.beside))]

    async def _singles(self, group: Group, run: Singles) -> list[Reply]:
        routed = self._routed()
        answers = await self._core.ready(run.identifiers, run.until, *group)
        errors = self._front.answer_run(run.tokens, _frames(answers), (self._monotonic(), *routed))
        # The front counts what it passes on, and those are faults of the calls.
        self._core.identifiers.by_outcome[FAULT] += len(errors)
        return [_refused(run.token(place), _fault_in(answers[place])) for place in errors]

    def _singles_apart(self, group: Group, run: Singles, error: Exception) -> list[Reply]:
        """Ask anew for each of those that were refused together; one alone is refused."""
        if len(run.identifiers) > 1:
            for single in run.alone():
                self._begin_singles(group, single)
            return []
        return [_refused(run.token(0), as_fault(self._methods[run.number].name, error))]

    async def _plain(self, group: Group, questions: Sequence[Plain], now: float) -> list[Reply]:
        wanted = [identifier for _, _, places, _ in questions for _, identifier in places]
        left = max([left for _, _, _, left in questions])
        routed = self._routed()
        answers = await self._core.ready(wanted, now + left / 1_000, *group)
        frames = _frames(answers)
        replies: list[Reply] = []
        place = 0
        for token, _, places, _ in questions:
            part = slice(place, place := place + len(places))
            replies.append((token, 0, _said(places, answers[part], frames[part]), "", []))
        self._front.answer(replies, (self._monotonic(), *routed))
        return []

    def _apart(self, group: Group, questions: Sequence[Plain], now: float, error: Exception) -> list[Reply]:
        """Ask anew for each of the batches that were refused together; one alone is refused."""
        if len(questions) > 1:
            for question in questions:
                self._begin_plain(group, (question,), now)
            return []
        ((token, number, _, _),) = questions
        return [_refused(token, as_fault(self._methods[number].name, error))]

    def _routed(self) -> Routed:
        return self._routes.generation, self._sequence()


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


def _frames(answers: Sequence[Ready]) -> list[Frame]:
    # Whether each may be kept the front sees for itself: a branch here would cost as much as all the rest of it.
    return [
        (each.frame, each.outcome, each.expires, each.generation, each.as_of, each.tag, each.key, each.is_own)
        for each in answers
    ]


def _said(
    places: Sequence[tuple[int, bytes]], answers: Sequence[Ready], frames: Sequence[Frame]
) -> list[tuple[int, Frame]]:
    said = []
    for (position, _), ready, frame in zip(places, answers, frames, strict=True):
        if isinstance(ready, Failed):
            error = error_frame(ready.fault.anew(field=field_of(position)))
            said.append((position, (error, ready.outcome, 0.0, 0, 0, b"", b"", False)))
        else:
            said.append((position, frame))
    return said


def _fault_in(ready: Ready) -> Fault:
    return cast("Failed", ready).fault.anew(field="identifier")


def _fault_of(token: int, method: Served, call: Call, error: Exception) -> list[Reply]:
    return [_refused(token, as_fault(method.name, error), call.beside)]


def _refused(token: int, fault: Fault, beside: Metadata = ()) -> Reply:
    status = status_of(fault)
    return token, status.code, b"", status.message, [*beside, (DETAILS_KEY, status.SerializeToString())]
