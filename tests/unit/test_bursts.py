"""What a native front hands on: who is asked about together, what a call gets, what the front may keep of it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from resolver.answer import ABSENT, FAULT, FOUND, Failed, Ready
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.front.bursts import TOKEN_BYTES, Bursts, Frame, Reply, Run, Served, State, Taken
from resolver.front.core import Call, Core
from resolver.query import Asker
from resolver.routes import Hosting, Prefix, RouteTable
from resolver.trust.actors import NodeTable
from resolver.trust.operators import Operators
from resolver.trust.queries import QueryVerifier

ONE, BATCH = 0, 1
SEQUENCE = 7


class Front:
    """Hands on what a test puts there, all at once, and holds what is answered by token, and as of when."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self._waiting: list[Taken | Run] = []
        self.replies: dict[int, Reply] = {}
        self.states: list[State] = []

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def hand_on(self, *taken: Taken | Run) -> None:
        self._waiting += taken
        os.write(self._writer, b"!")

    def fileno(self) -> int:
        return self._reader

    def take(self, limit: int) -> tuple[list[Taken], list[Run]]:
        os.read(self._reader, 1)
        assert len(self._waiting) <= limit
        taken, self._waiting = self._waiting, []
        others = [each for each in taken if not isinstance(each[0], bytes)]
        return others, cast("list[Run]", [each for each in taken if each not in others])

    def answer(self, replies: Sequence[Reply], state: State) -> None:
        assert replies
        assert not self.replies.keys() & {token for token, *_ in replies}
        self.replies |= {token: reply for token, *_ in replies for reply in replies if reply[0] == token}
        self.states.append(state)

    def answer_run(self, tokens: bytes, frames: list[Frame], state: State) -> list[int]:
        firsts = range(0, len(tokens), TOKEN_BYTES)
        numbers = [int.from_bytes(tokens[first : first + TOKEN_BYTES], "little") for first in firsts]
        given: list[Reply] = [
            (token, 0, [(0, each)], "", []) for token, each in zip(numbers, frames, strict=True) if each[1] != FAULT
        ]
        if given:
            self.answer(given, state)
        return [place for place, each in enumerate(frames) if each[1] == FAULT]


class Answering:
    """Answers by what stands in `answers`, else that an identifier is found; refuses what is in `refused`."""

    def __init__(self, clock: SystemClock) -> None:
        self.identifiers = SimpleNamespace(by_outcome=[0] * 5)
        self.asked: list[tuple[list[bytes], Asker]] = []
        self.options: list[bytes] = []
        self.answers: dict[bytes, Ready] = {}
        self.refused: set[bytes] = set()
        self.meanwhile: Callable[[], None] = lambda: None
        self._later = clock.monotonic() + 1_000

    async def ready(
        self, identifiers: Sequence[bytes], deadline: float, asker: Asker, options: bytes
    ) -> Sequence[Ready]:
        assert 0 < deadline < self._later
        self.asked.append((list(identifiers), asker))
        self.options.append(options)
        if self.refused & set(identifiers):
            raise Fault(Reason.TOO_MANY_IN_FLIGHT)
        self.meanwhile()
        return [self.answers.get(identifier, self.found(identifier)) for identifier in identifiers]

    def found(self, identifier: bytes, **changed: Any) -> Ready:
        kept = {"expires": self._later, "generation": 2, "as_of": 5, "tag": b"+88", "key": identifier.upper()}
        return Ready(b"found " + identifier, FOUND, **{**kept, **changed})


class Site:
    """Bursts between such a front and such a core."""

    def __init__(self) -> None:
        self.clock, self.front, self.routes = SystemClock(), Front(), RouteTable()
        self.routes.put([Prefix("88", "top", hosting=Hosting.HERE, epoch=3)])
        self.core = Answering(self.clock)

        async def whole(octets: bytes, call: Call) -> bytes:
            if not octets:
                raise Fault(Reason.BATCH_EMPTY)
            return b"whole " + octets + call.asker.address.encode()

        self.bursts = Bursts(
            self.front,
            cast("Core", self.core),
            (Served("Resolve", whole), Served("BatchResolve", whole)),
            signatures=QueryVerifier("88", NodeTable(), Operators([]), self.clock),
            routes=self.routes,
            sequence=lambda: SEQUENCE,
            clock=self.clock,
        )

    async def answered(self, *taken: Taken | Run) -> dict[int, Reply]:
        """Hand these on in one burst, and give the replies when all are there."""
        more = sum(len(each[0]) // TOKEN_BYTES if isinstance(each[0], bytes) else 1 for each in taken)
        count = len(self.front.replies) + more
        self.front.hand_on(*taken)
        async with asyncio.timeout(10):
            while len(self.front.replies) < count:  # noqa: ASYNC110 - nobody tells when all are answered
                await asyncio.sleep(0.001)
        return self.front.replies


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.bursts.begin()
    yield site
    await site.bursts.end()
    site.front.close()


def batch(token: int, *identifiers: bytes, first: int = 0) -> Taken:
    return token, BATCH, list(enumerate(identifiers, first)), 5_000, "ipv4:192.0.2.1:1", None, [], b""


def question(first: int, *identifiers: bytes, port: int = 1, address: str = "192.0.2.1", options: bytes = b"") -> Run:
    """Ask for each of these in a call of its own; their tokens count up."""
    tokens = b"".join((first + more).to_bytes(TOKEN_BYTES, "little") for more in range(len(identifiers)))
    return tokens, ONE, list(identifiers), 5_000, f"ipv4:{address}:{port}", None, options


def frame(identifier: bytes) -> tuple[bytes, bytes]:
    """Give what was answered and under which key it may be kept."""
    return b"found " + identifier, identifier.upper()


def told(reply: Reply) -> list[tuple[int, bytes, bytes]]:
    """Give place, frame and key of each answer in a reply."""
    _, code, said, _, _ = reply
    assert code == 0
    assert isinstance(said, list)
    return [(place, octets, key) for place, (octets, _, _, _, _, _, key, _) in said]


async def test_all_connections_of_an_asker_are_one_query(site: Site) -> None:
    """Whatever their ports; another address is another asker."""
    replies = await site.answered(
        question(1, b"88/a", port=1),
        question(2, b"88/b", port=2),
        question(3, b"88/c", port=1, address="192.0.2.2"),
        question(4, b"88/d", port=1),
    )
    assert site.core.asked == [
        ([b"88/a", b"88/b", b"88/d"], Asker("192.0.2.1")),
        ([b"88/c"], Asker("192.0.2.2")),
    ]
    assert {token: told(reply) for token, reply in replies.items()} == {
        token: [(0, *frame(identifier))]
        for token, identifier in ((1, b"88/a"), (2, b"88/b"), (3, b"88/c"), (4, b"88/d"))
    }


async def test_what_goes_another_way_is_another_query(site: Site) -> None:
    onward = b"\x18\x03"
    replies = await site.answered(
        question(1, b"88/a"),
        question(2, b"88/b", options=onward),
        question(3, b"88/c"),
        question(4, b"88/d", port=2, options=onward),
    )
    assert [identifiers for identifiers, _ in site.core.asked] == [[b"88/a", b"88/c"], [b"88/b", b"88/d"]]
    assert site.core.options == [b"", onward]
    assert sorted(replies) == [1, 2, 3, 4]


async def test_batches_of_an_asker_are_one_query_and_each_gets_its_own_places(site: Site) -> None:
    replies = await site.answered(question(1, b"88/a"), batch(2, b"88/b", b"88/c", first=3), batch(3, b"88/d"))
    assert [identifiers for identifiers, _ in site.core.asked] == [[b"88/a"], [b"88/b", b"88/c", b"88/d"]]
    assert told(replies[1]) == [(0, *frame(b"88/a"))]
    assert told(replies[2]) == [(3, *frame(b"88/b")), (4, *frame(b"88/c"))]
    assert told(replies[3]) == [(0, *frame(b"88/d"))]


async def test_a_query_has_as_many_identifiers_as_it_may(site: Site) -> None:
    names = [b"88/%d" % number for number in range(600)]
    replies = await site.answered(batch(1, *names), batch(2, *names[:400]), batch(3, b"88/a"))
    assert [len(identifiers) for identifiers, _ in site.core.asked] == [1_000, 1]
    site.core.asked.clear()
    replies = await site.answered(
        question(1_000, *names), question(2_000, *names[:400], port=2), question(4, b"88/a")
    )
    assert [len(identifiers) for identifiers, _ in site.core.asked] == [1_000, 1]
    assert told(replies[2_000]) == [(0, *frame(names[0]))]


async def test_what_is_refused_together_is_asked_apart(site: Site) -> None:
    site.core.refused = {b"88/b"}
    names = [b"88/a", b"88/b", b"88/c"]
    replies = await site.answered(question(1, *names))
    assert [identifiers for identifiers, _ in site.core.asked] == [names, *([name] for name in names)]
    assert told(replies[1]) == [(0, *frame(b"88/a"))]
    assert replies[2][1] == 8
    assert told(replies[3]) == [(0, *frame(b"88/c"))]
    site.core.asked.clear()
    replies = await site.answered(*(batch(4 + place, name) for place, name in enumerate(names)))
    assert [identifiers for identifiers, _ in site.core.asked] == [names, *([name] for name in names)]
    assert [replies[token][1] for token in (4, 5, 6)] == [0, 8, 0]


async def test_a_fault_is_the_calls_own_and_in_a_batch_stands_in_its_place(site: Site) -> None:
    site.core.answers[b"88/b"] = Failed(fault=Fault(Reason.IDENTIFIER_EMPTY))
    replies = await site.answered(question(1, b"88/a", b"88/b"), batch(3, b"88/a", b"88/b"))
    assert told(replies[1]) == [(0, *frame(b"88/a"))]
    assert replies[2][1] == 3
    ((_, *found), (place, _, key)) = told(replies[3])
    assert tuple(found) == frame(b"88/a")
    assert (place, key) == (1, b"")
    assert site.core.identifiers.by_outcome[FAULT] == 1


async def test_the_front_is_told_what_it_must_know_to_keep_an_answer(site: Site) -> None:
    """Of each what the chain says of it, and for all as of when it is said."""
    found, before = site.core.found(b"88/a"), site.clock.monotonic()
    absent = Ready(b"absent", ABSENT, before + 9, 3, 4, 5, b"-88", b"88/ABSENT", is_own=True)
    site.core.answers = {b"88/absent": absent}
    replies = await site.answered(batch(1, b"88/a", b"88/absent"), question(2, b"88/absent"))
    told_of_absent = (b"absent", ABSENT, before + 9, 4, 5, b"-88", b"88/ABSENT", True)
    assert replies[1][2] == [
        (0, (b"found 88/a", FOUND, found.expires, 2, 5, b"+88", b"88/A", False)),
        (1, told_of_absent),
    ]
    assert replies[2][2] == [(0, told_of_absent)]
    assert len(site.front.states) == 2
    for now, generation, sequence in site.front.states:
        assert before <= now <= site.clock.monotonic()
        assert (generation, sequence) == (site.routes.generation, SEQUENCE)


async def test_what_is_kept_is_as_of_before_it_was_asked_for(site: Site) -> None:
    """What was read after a change of routes is the answer to a key that was made before it."""
    before = site.routes.generation
    site.core.meanwhile = lambda: site.routes.put([Prefix("88.1", "top", hosting=Hosting.HERE, epoch=before + 9)])
    await site.answered(question(1, b"88/a"))
    between = site.routes.generation
    assert before < between
    await site.answered(batch(2, b"88/b"))
    assert [generation for _, generation, _ in site.front.states] == [before, between]
    assert between < site.routes.generation


async def test_a_whole_request_is_answered_by_itself(site: Site) -> None:
    peer = "ipv4:192.0.2.9:1"
    replies = await site.answered(
        (1, BATCH, b"octets ", 5_000, peer, None, [], b""),
        (2, BATCH, b"", 5_000, peer, None, [], b""),
        question(3, b"88/a"),
    )
    assert replies[1][:3] == (1, 0, b"whole octets 192.0.2.9")
    assert replies[2][1] == 3
    assert told(replies[3]) == [(0, *frame(b"88/a"))]
