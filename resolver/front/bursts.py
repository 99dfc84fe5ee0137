"""The Python side of a native front: what that cannot answer itself comes here in bursts, and goes back in bursts.

One look takes up to a thousand requests. Plain questions of one asker are put together into one query, whichever of
its connections and calls they came with: so a burst costs the chain what a batch costs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final, Protocol

from msgspec import Struct

from resolver import bounds
from resolver.answer import FAULT, Failed, Ready
from resolver.chain.keys import KeyMaker
from resolver.clock import Clock
from resolver.errors import Fault
from resolver.front.askers import asker_at, signer_of
from resolver.front.batches import field_of
from resolver.front.core import SERVICE, Answer, Call, Core, Metadata
from resolver.query import Asker
from resolver.routes import RouteTable
from resolver.rpc.calls import as_fault, too_large
from resolver.rpc.errors import DETAILS_KEY, error_frame, status_of
from resolver.trust.queries import QUERY_KEY, QueryVerifier

TAKEN_AT_ONCE: Final = 1_024
"""Requests that one look takes."""

Frame = tuple[bytes, int, bytes, int, int, int, bytes]
"""A framed answer; for how many milliseconds it may be kept (0: not) and under which canonical key; its outcome; the
journal index, and the sequence of route changes, as of which it was read; its counting tag."""

Reply = tuple[int, int, bytes | list[tuple[int, Frame]], str, list[tuple[str, bytes]]]
"""Token, gRPC code, the response or a frame for each position that was wanted, message, trailing metadata."""

Taken = tuple[int, int, bytes | list[tuple[int, bytes]], int, str, bytes | None, list[tuple[str, bytes]]]
"""Token, number of the method, the request or the identifiers that are wanted with their positions in it, the
milliseconds that are left, peer, proven identity, metadata."""


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
        keys: KeyMaker,
        routes: RouteTable,
        sequence: Callable[[], int],
        clock: Clock,
    ) -> None:
        """Make it; `methods` stand by their numbers. `sequence` counts the changes of routes that the front knows."""
        self._front = front
        self._core = core
        self._methods = methods
        self._signatures = signatures
        self._keys = keys
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
        now, methods = self._monotonic(), self._methods
        plain: dict[Asker, list[_Question]] = {}
        last: tuple[str, bytes | None] | None = None
        questions: list[_Question] = []
        for token, number, wanted, left, peer, identity, metadata in self._front.take(TAKEN_AT_ONCE):
            if isinstance(wanted, bytes):
                question = _Question(token, methods[number], now + left / 1_000)
                who = peer, identity or b""
                self._do((question,), partial(self._whole, wanted, partial(self._asker, who, metadata)))
                continue
            if (peer, identity) != last:
                # What one connection asks stands together, and all connections of an asker go together.
                last = peer, identity
                questions = plain.setdefault(asker_at(peer, identity or b""), [])
            questions.append(_Question(token, methods[number], now + left / 1_000, wanted))
        for asker, questions in plain.items():
            for some in _queries(questions):
                self._do(some, partial(self._plain, asker))

    def _do(self, questions: "Sequence[_Question]", work: "Work") -> None:
        task = asyncio.get_running_loop().create_task(self._answer(questions, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, questions: "Sequence[_Question]", work: "Work") -> None:
        """Answer questions together; where they are refused together, each for itself."""
        try:
            replies = await work(questions)
        except Exception as error:  # noqa: BLE001 - the outermost: each call must be answered
            if len(questions) > 1:
                for question in questions:
                    self._do((question,), work)
                return
            (question,) = questions
            replies = [_refused(question, as_fault(question.method.name, error))]
        self._front.answer(replies)

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
        self, octets: bytes, asker_of: Callable[[str, bytes], Asker], questions: "Sequence[_Question]"
    ) -> list[Reply]:
        (question,) = questions
        if len(octets) > bounds.REQUEST_BYTES:
            raise too_large(octets)
        call = Call(question.deadline, asker_of(question.method.name, octets))
        try:
            said = await question.method.answer(octets, call)
        finally:
            question.beside = call.beside
        return [(question.token, 0, said, "", list(call.beside))]

    async def _plain(self, asker: Asker, questions: "Sequence[_Question]") -> list[Reply]:
        wanted = [identifier for question in questions for _, identifier in question.wanted]
        answers = await self._core.ready(wanted, max([each.deadline for each in questions]), asker)
        frames = self._frames(wanted, answers)
        if len(wanted) == len(questions) and FAULT not in [ready.outcome for ready in answers]:
            # As nearly all are: each call wants one identifier, and gets it.
            pairs = zip(questions, frames, strict=True)
            return [(each.token, 0, [(each.wanted[0][0], frame)], "", []) for each, frame in pairs]
        replies: list[Reply] = []
        place = 0
        for question in questions:
            part = slice(place, place := place + len(question.wanted))
            replies.append(_reply(question, answers[part], frames[part]))
            if question.method.is_unary:
                # The front counts what it passes on, and that is a fault of the call.
                self._core.identifiers.by_outcome[FAULT] += answers[place - 1].outcome == FAULT
        return replies

    def _frames(self, wanted: Sequence[bytes], answers: Sequence[Ready]) -> list[Frame]:
        """Say of each answer whether the front may keep it: if nothing has changed since it was read."""
        now, sequence, generation = self._monotonic(), self._sequence(), self._routes.generation
        keys = self._keys.keys(wanted).keys
        frames: list[Frame] = []
        for key, ready in zip(keys, answers, strict=True):
            left = ready.expires - now
            # An answer of this generation has been compared already.
            if left > 0 and (ready.generation == generation or self._has_epoch_of(key, ready)):
                frames.append((ready.frame, int(left * 1_000), key, ready.outcome, ready.as_of, sequence, ready.tag))
            else:
                frames.append((ready.frame, 0, b"", ready.outcome, 0, 0, ready.tag))
        return frames

    def _has_epoch_of(self, key: bytes, ready: Ready) -> bool:
        return self._routes.scope(key.partition(b"/")[0]).epoch == ready.epoch


class _Question(Struct, gc=False):
    """A call: until when it waits, and where it is plain, the identifiers that it wants with their positions.

    `beside` goes back beside the answer, or beside the fault. One is made for each call; nothing here forms a cycle.
    """

    token: int
    method: Served
    deadline: float
    wanted: Sequence[tuple[int, bytes]] = ()
    beside: Metadata = ()


Work = Callable[[Sequence[_Question]], Awaitable[list[Reply]]]
"""Answers some questions; what goes wrong is a Fault."""


def _queries(questions: Sequence[_Question]) -> Iterator[list[_Question]]:
    """Share questions out to queries of as many identifiers as one may have."""
    some: list[_Question] = []
    count = 0
    for question in questions:
        if some and count + len(question.wanted) > bounds.BATCH_IDENTIFIERS:
            yield some
            some, count = [], 0
        some.append(question)
        count += len(question.wanted)
    if some:
        yield some


def _reply(question: _Question, answers: Sequence[Ready], frames: Sequence[Frame]) -> Reply:
    said = []
    for (position, _), ready, frame in zip(question.wanted, answers, frames, strict=True):
        if not isinstance(ready, Failed):
            said.append((position, frame))
        elif question.method.is_unary:
            return _refused(question, ready.fault.anew(field="identifier"))
        else:
            error = error_frame(ready.fault.anew(field=field_of(position)))
            said.append((position, (error, 0, b"", ready.outcome, 0, 0, b"")))
    return question.token, 0, said, "", []


def _refused(question: _Question, fault: Fault) -> Reply:
    status = status_of(fault)
    beside = [*question.beside, (DETAILS_KEY, status.SerializeToString())]
    return question.token, status.code, b"", status.message, beside
