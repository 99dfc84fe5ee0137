"""What a native front hands on: who is asked about together, what a call gets, what the front may keep of it."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from resolver.answer import ABSENT, FAULT, FOUND, Failed, Ready
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.front.bursts import Bursts, Reply, Served, Taken
from resolver.front.core import Call, Core
from resolver.query import Asker
from resolver.routes import Hosting, Prefix, RouteTable
from resolver.trust.actors import NodeTable
from resolver.trust.operators import Operators
from resolver.trust.queries import QueryVerifier

ONE, BATCH = 0, 1
SEQUENCE = 7


class Front:
    """Hands on what a test puts there, all at once, and holds what is answered by token."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        self._waiting: list[Taken] = []
        self.replies: dict[int, Reply] = {}

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def hand_on(self, *taken: Taken) -> None:
        self._waiting += taken
        os.write(self._writer, b"!")

    def fileno(self) -> int:
        return self._reader

    def take(self, limit: int) -> list[Taken]:
        os.read(self._reader, 1)
        taken, self._waiting = self._waiting[:limit], self._waiting[limit:]
        return taken

    def answer(self, replies: Sequence[Reply]) -> None:
        assert not self.replies.keys() & {token for token, *_ in replies}
        self.replies |= {token: reply for token, *_ in replies for reply in replies if reply[0] == token}


class Answering:
    """Answers by what stands in `answers`, else that an identifier is found; refuses what is in `refused`."""

    def __init__(self, clock: SystemClock) -> None:
        self.identifiers = SimpleNamespace(by_outcome=[0] * 5)
        self.asked: list[tuple[list[bytes], Asker]] = []
        self.options: list[bytes] = []
        self.answers: dict[bytes, Ready] = {}
        self.refused: set[bytes] = set()
        self._later = clock.monotonic() + 1_000

    async def ready(
        self, identifiers: Sequence[bytes], deadline: float, asker: Asker, options: bytes
    ) -> Sequence[Ready]:
        assert 0 < deadline < self._later
        self.asked.append((list(identifiers), asker))
        self.options.append(options)
        if self.refused & set(identifiers):
            raise Fault(Reason.TOO_MANY_IN_FLIGHT)
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
            (Served("Resolve", whole, is_unary=True), Served("BatchResolve", whole)),
            signatures=QueryVerifier("88", NodeTable(), Operators([]), self.clock),
            routes=self.routes,
            sequence=lambda: SEQUENCE,
            clock=self.clock,
        )

    async def answered(self, *taken: Taken) -> dict[int, Reply]:
        """Hand these on in one burst, and give the replies when all are there."""
        self.front.hand_on(*taken)
        async with asyncio.timeout(10):
            while len(self.front.replies) < len(taken):  # noqa: ASYNC110 - nobody tells when all are answered
                await asyncio.sleep(0.001)
        return self.front.replies


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    site.bursts.begin()
    yield site
    await site.bursts.end()
    site.front.close()


def question(
    token: int,
    *identifiers: bytes,
    port: int = 1,
    address: str = "192.0.2.1",
    method: int = ONE,
    options: bytes = b"",
) -> Taken:
    return token, method, list(enumerate(identifiers)), 5_000, f"ipv4:{address}:{port}", None, [], options


def frame(identifier: bytes) -> tuple[bytes, bytes]:
    """Give what was answered and under which key it may be kept."""
    return b"found " + identifier, identifier.upper()


def told(reply: Reply) -> list[tuple[int, bytes, bytes]]:
    """Give place, frame and key of each answer in a reply."""
    _, code, said, _, _ = reply
    assert code == 0
    assert isinstance(said, list)
    return [(place, octets, key) for place, (octets, _, key, *_) in said]


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


async def test_a_batch_gets_its_own_places_among_single_lookups(site: Site) -> None:
    batch: Taken = (2, BATCH, [(3, b"88/b"), (5, b"88/c")], 5_000, "ipv4:192.0.2.1:1", None, [], b"")
    replies = await site.answered(question(1, b"88/a"), batch, question(3, b"88/d"))
    assert site.core.asked == [([b"88/a", b"88/b", b"88/c", b"88/d"], Asker("192.0.2.1"))]
    assert told(replies[1]) == [(0, *frame(b"88/a"))]
    assert told(replies[2]) == [(3, *frame(b"88/b")), (5, *frame(b"88/c"))]
    assert told(replies[3]) == [(0, *frame(b"88/d"))]


async def test_a_query_has_as_many_identifiers_as_it_may(site: Site) -> None:
    names = [b"88/%d" % number for number in range(600)]
    await site.answered(
        question(1, *names, method=BATCH), question(2, *names[:400], method=BATCH), question(3, b"88/a")
    )
    assert [len(identifiers) for identifiers, _ in site.core.asked] == [1_000, 1]


async def test_what_is_refused_together_is_asked_apart(site: Site) -> None:
    site.core.refused = {b"88/b"}
    replies = await site.answered(question(1, b"88/a"), question(2, b"88/b"), question(3, b"88/c"))
    assert [identifiers for identifiers, _ in site.core.asked] == [
        [b"88/a", b"88/b", b"88/c"],
        [b"88/a"],
        [b"88/b"],
        [b"88/c"],
    ]
    assert told(replies[1]) == [(0, *frame(b"88/a"))]
    assert replies[2][1] == 8
    assert told(replies[3]) == [(0, *frame(b"88/c"))]


async def test_a_fault_is_the_calls_own_and_in_a_batch_stands_in_its_place(site: Site) -> None:
    site.core.answers[b"88/b"] = Failed(fault=Fault(Reason.IDENTIFIER_EMPTY))
    replies = await site.answered(
        question(1, b"88/a"), question(2, b"88/b"), question(3, b"88/a", b"88/b", method=BATCH)
    )
    assert told(replies[1]) == [(0, *frame(b"88/a"))]
    assert replies[2][1] == 3
    ((_, *first), (place, _, key)) = told(replies[3])
    assert tuple(first) == frame(b"88/a")
    assert (place, key) == (1, b"")
    assert site.core.identifiers.by_outcome[FAULT] == 1


async def test_what_is_answered_is_kept_as_long_as_nothing_has_changed(site: Site) -> None:
    """By its generation, or where the routes have changed since, by its epoch; and only what has a key and a time."""
    found, scope = site.core.found, site.routes.scope(b"88")
    now = site.clock.monotonic()
    site.core.answers = {
        b"88/current": found(b"88/current", generation=site.routes.generation, epoch=99),
        b"88/compared": found(b"88/compared", generation=0, epoch=scope.epoch),
        b"88/changed": found(b"88/changed", generation=0, epoch=scope.epoch - 1),
        b"88/over": found(b"88/over", generation=site.routes.generation, expires=now - 1),
        b"88/nowhere": found(b"88/nowhere", generation=site.routes.generation, key=b""),
        b"88/absent": Ready(
            b"absent", ABSENT, now + 1_000, scope.epoch, site.routes.generation, 5, b"-88", b"88/ABSENT", is_own=True
        ),
    }
    replies = await site.answered(question(1, *site.core.answers, method=BATCH))
    said = replies[1][2]
    assert isinstance(said, list)
    assert {octets: (key, *rest) for _, (octets, keep, key, *rest) in said if keep} == {
        b"found 88/current": (b"88/CURRENT", FOUND, 5, SEQUENCE, b"+88", False),
        b"found 88/compared": (b"88/COMPARED", FOUND, 5, SEQUENCE, b"+88", False),
        b"absent": (b"88/ABSENT", ABSENT, 5, SEQUENCE, b"-88", True),
    }
    assert all(900_000 < keep <= 1_000_000 for _, (_, keep, *_) in said if keep)


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
