"""The native front over real sockets: what its cache answers, what Python is asked, and what is refused."""

import contextlib
import gzip
import re
import resource
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from resolver.front.native_front import make_room_for_files
from tests.certificates import Authority
from tests.services import hpack
from tests.services.http2 import CANCEL, END_HEADERS, ClosedError, Connection, Kind, Setting, call_headers, frame
from tests.services.http2 import message as framed

pytestmark = pytest.mark.needs("native-front")

SERVICE: Final = "/topnode.test.Lookup"
ONE: Final = f"{SERVICE}/One"
BATCH: Final = f"{SERVICE}/Batch"
OTHER: Final = f"{SERVICE}/Other"
ELSEWHERE: Final = f"{SERVICE}/Elsewhere"
HEALTH: Final = "/grpc.health.v1.Health/Check"
SIGNED: Final = "test-signature-bin"
MEBI: Final = 1 << 20
SETTINGS: Final[dict[str, Any]] = {
    "address": "127.0.0.1:0",
    "paths": [
        (ONE, "one", 10_000, (8, "Zu groß für einen", b"\x08\x08")),
        (BATCH, "batch", MEBI, None),
        (OTHER, "other", MEBI, None),
        (ELSEWHERE, "refer", 0, None),
    ],
    "python_keys": [SIGNED],
    "refer": "This method is served at port 3642.",
    "batch_identifiers": 10,
    "answer_bytes": 3_670_016,
    "refusals": {"too_large": (8, "Zu groß: 100%", b"\x08\x08")},
    "streams": 16,
    "connections": 20,
    "connections_per_peer": 10,
    "flights": 50,
    "buffered_bytes": 32 << 20,
    "body_timeout_ms": 1_000,
    "deadline_ms": 2_000,
    "connection_age_ms": 60_000,
    "connection_grace_ms": 1_000,
    "keepalive_ms": 60_000,
    "keepalive_timeout_ms": 20_000,
    "ping_interval_ms": 10_000,
    "cache_bytes": 1 << 20,
    "absent_bytes": 1 << 18,
    "entry_bytes": 1 << 16,
    "spellings": 4,
    "latency_bounds_ms": [1, 1_000],
}
FILTERED: Final = b"\x12\x05\x0a\x03URL"
"""Options that say what is wanted of records."""

REFERRAL: Final = b"\x12\x02\x18\x02"
RECURSIVE: Final = b"\x12\x02\x18\x03"
ONWARD: Final = b"\x12\x0b\x18\x03\x3a\x07\x0a\x03top\x10\x02"
"""Options that say how far to go: the last one as a node asks those below it."""

NOW: Final = 7_000.0
GENERATION: Final = 3
STATE: Final = (NOW, GENERATION, 1)
"""As of when Python answers here."""

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
PING: Final = bytes.fromhex("000008060000000000") + bytes(8)

Reply = tuple[int, int, Any, str, list[tuple[str, bytes]]]
Question = tuple[Any, ...]


def field(octets: bytes) -> bytes:
    """Encode field 1 of a message."""
    length, written = len(octets), b""
    while length >= 0x80:
        written += bytes([length & 0x7F | 0x80])
        length >>= 7
    return b"\x0a" + written + bytes([length]) + octets


def answer_of(identifier: bytes) -> bytes:
    return field(b"answer to " + identifier.upper())


def frame_of(
    identifier: bytes,
    *,
    keep: float = 60,
    as_of: int = 1,
    outcome: int = 1,
    generation: int = GENERATION,
    is_own: bool = False,
) -> Any:
    """Say an answer; `keep` is for how many seconds it may be kept, at a moment that never passes here."""
    expires = NOW + keep if keep else 0.0
    return field(answer_of(identifier)), outcome, expires, generation, as_of, b"+88", identifier.upper(), is_own


def made(**settings: Any) -> Any:
    """Make a front. What is asked for here is loaded by the test that needs it."""
    return import_module("topnode_front").Front(**settings)


class Site:
    """A running front, and a thread that answers its questions."""

    def __init__(self, **changes: Any) -> None:
        self.front = made(**SETTINGS | changes)
        self.asked: list[Question] = []
        self.runs: list[Any] = []
        self.reply: Callable[[Question], Reply | None] = self.answered
        self.frame: Callable[[bytes], Any] = frame_of
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._answer)
        self.front.current_for(60_000)
        self.front.start()
        self._thread.start()

    def answered(self, question: Question) -> Reply:
        token, _path, body = question[:3]
        if isinstance(body, bytes):
            return token, 0, b"whole " + body, "", []
        return token, 0, [(position, self.frame(identifier)) for position, identifier in body], "", []

    def close(self) -> None:
        self.front.close()
        self._over.set()
        self._thread.join()

    def identifiers(self) -> list[list[bytes]]:
        """What identifiers each question asked for."""
        return [[each for _, each in body] for _, _, body, *_ in self.asked if not isinstance(body, bytes)]

    def _answer(self) -> None:
        while not self._over.is_set():
            if not select.select([self.front.fileno()], [], [], 0.02)[0]:
                continue
            questions, runs = self.front.take(100)
            self.runs += runs
            questions += [question for run in runs for question in singly(run)]
            self.asked += questions
            replies = [reply for question in questions if (reply := self.reply(question))]
            self.front.answer(replies, STATE)


def singly(run: Any) -> Iterator[Question]:
    """Give the questions of a run in the shape of all others."""
    tokens, path, identifiers, left, peer, identity, options = run
    for (token,), identifier in zip(struct.iter_unpack("<Q", tokens), identifiers, strict=True):
        yield token, path, [(0, identifier)], left, peer, identity, [], options


@contextlib.contextmanager
def running(**changes: Any) -> Iterator[Site]:
    site = Site(**changes)
    try:
        yield site
    finally:
        site.close()


@pytest.fixture
def site() -> Iterator[Site]:
    with running() as site:
        yield site


class Caller:
    """A client of a site."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel: Any = channel

    def call(self, path: str, message: bytes = b"", **more: Any) -> bytes:
        octets: bytes = self.channel.unary_unary(path)(message, **{"timeout": 10, **more})
        return octets

    def later(self, path: str, message: bytes = b"", **more: Any) -> Any:
        return self.channel.unary_unary(path).future(message, **{"timeout": 10, **more})

    def refused(self, path: str, message: bytes = b"", **more: Any) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as refusal:
            self.call(path, message, **more)
        return refusal.value


@pytest.fixture
def caller(site: Site) -> Iterator[Caller]:
    with calling(site) as caller:
        yield caller


@contextlib.contextmanager
def calling(site: Site) -> Iterator[Caller]:
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{site.front.port}", options) as channel:
        yield Caller(channel)


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def test_python_is_asked_once_for_what_may_be_kept(site: Site, caller: Caller) -> None:
    for spelling in (b"88.1/a", b"88.1/a", b"88.1/A"):
        assert caller.call(ONE, field(spelling)) == answer_of(spelling)
    assert site.identifiers() == [[b"88.1/a"]]
    site.frame = lambda identifier: frame_of(identifier, keep=0)
    for _ in range(2):
        caller.call(ONE, field(b"88.1/b"))
    assert site.identifiers()[1:] == [[b"88.1/b"]] * 2
    assert site.front.counts() == [(b"+88", 5, 0)]
    assert site.front.counts() == []
    stats = site.front.stats()
    assert stats["calls"] == {(ONE, 0): 5}
    assert (stats["cache"]["hits"], stats["cache"]["misses"], stats["identifiers"][1]) == (2, 3, 5)
    assert [sum(stats["latency"][ONE, tier][0]) for tier in ("front", "python")] == [2, 3]


def test_equal_questions_share_one_flight_and_a_shorter_deadline_ends_alone(site: Site, caller: Caller) -> None:
    site.reply = lambda _: None
    calls = [caller.later(ONE, field(b"88.1/a"), timeout=5) for _ in range(3)]
    hasty = caller.later(ONE, field(b"88.1/a"), timeout=0.2)
    assert hasty.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: site.front.stats()["waiting"] == 3)
    assert len(site.asked) == 1
    site.front.answer([site.answered(site.asked[0])], STATE)
    assert [each.result() for each in calls] == [answer_of(b"88.1/a")] * 3
    stats = site.front.stats()
    assert (stats["flights"], stats["waiting"], stats["joined"]) == (0, 0, 3)
    assert site.front.counts() == [(b"+88", 3, 0)]


def test_a_flight_has_its_own_time_and_a_request_its_callers(site: Site, caller: Caller) -> None:
    caller.call(ONE, field(b"88.1/a"), timeout=0.5)
    caller.call(OTHER, b"?", timeout=0.5)
    (_, path, _, left, peer, identity, metadata, _), other = site.asked
    assert (path, identity, metadata) == (0, None, [])
    assert 1_500 < left <= 2_000
    assert 0 < other[3] <= 500
    assert peer.startswith("ipv4:127.0.0.1:")


def test_calls_of_a_connection_are_a_run_and_errors_in_it_are_replied_to_apart(site: Site, caller: Caller) -> None:
    site.reply = lambda _: None
    names = [b"88.1/a", b"88.1/b", b"88.1/c"]
    calls = [caller.later(ONE, field(name)) for name in names]
    until(lambda: sum(len(identifiers) for _, _, identifiers, *_ in site.runs) == 3)
    for tokens, path, identifiers, left, peer, identity, options in site.runs:
        assert len(tokens) == 8 * len(identifiers)
        assert (path, identity, options) == (0, None, b"")
        assert 1_500 < left <= 2_000
        assert peer.startswith("ipv4:127.0.0.1:")
        frames = [frame_of(name, outcome=0 if name == names[1] else 1) for name in identifiers]
        errors = site.front.answer_run(tokens, frames, STATE)
        assert errors == [place for place, name in enumerate(identifiers) if name == names[1]]
    (refused,) = (question for question in site.asked if question[2] == [(0, names[1])])
    assert not calls[1].done()
    site.front.answer([(refused[0], 5, b"", "", [])], STATE)
    assert [call.exception() and call.code() for call in calls] == [None, grpc.StatusCode.NOT_FOUND, None]
    for name in (names[0], names[2]):
        assert caller.call(ONE, field(name)) == answer_of(name)
    assert len(site.asked) == 3


def test_a_run_of_another_shape_is_a_mistake(site: Site, caller: Caller) -> None:
    site.reply = lambda _: None
    calls = [caller.later(ONE, field(name)) for name in (b"88.1/a", b"88.1/b")]
    until(lambda: len(site.asked) == 2)
    tokens = b"".join(each[0] for each in site.runs)
    frames = [(b"no frame", 1, 0.0, 1, 1, b"", b"", False), frame_of(b"88.1/b")]
    for odd, given in ((tokens[1:], frames), (tokens, frames[1:])):
        with pytest.raises(ValueError, match="eight bytes"):
            site.front.answer_run(odd, given, STATE)
    with pytest.raises(ValueError, match="frame"):
        site.front.answer_run(tokens, frames, STATE)
    assert sorted(each.code().name for each in calls) == ["INTERNAL", "OK"]


@pytest.mark.parametrize("changed", [{"keep": 0}, {"keep": -1}, {"generation": GENERATION - 1}])
def test_what_may_not_be_kept_is_asked_for_again(site: Site, caller: Caller, changed: dict[str, int]) -> None:
    site.frame = lambda identifier: frame_of(identifier, **changed)  # type: ignore[arg-type] # numbers, all of them
    for path in (ONE, BATCH):
        for _ in range(2):
            caller.call(path, field(b"88.1/a"))
    assert len(site.asked) == 4


def test_a_batch_is_merged_in_order_of_what_is_kept_and_what_python_says(site: Site, caller: Caller) -> None:
    caller.call(ONE, field(b"88.1/b"))
    for _ in range(2):
        answer = caller.call(BATCH, b"".join(field(b"88.1/" + each) for each in (b"a", b"b", b"c", b"b")))
        assert answer == b"".join(field(answer_of(b"88.1/" + each)) for each in (b"a", b"b", b"c", b"b"))
    assert site.identifiers() == [[b"88.1/b"], [b"88.1/a", b"88.1/c"]]
    assert site.asked[1][2] == [(0, b"88.1/a"), (2, b"88.1/c")]
    assert site.front.counts() == [(b"+88", 9, 0)]


def test_what_is_not_only_identifiers_goes_to_python_whole(site: Site, caller: Caller) -> None:
    for path, message in (
        (ONE, field(b"88.1/a") + FILTERED),
        (BATCH, field(b"88.1/a") + FILTERED),
        (ONE, b""),
        (ONE, b"\x0a\x05ab"),
        (BATCH, b""),
        (BATCH, field(b"88.1/a") * 11),
        (OTHER, field(b"88.1/a")),
    ):
        assert caller.call(path, message) == b"whole " + message
    assert site.front.counts() == []


@pytest.mark.parametrize("options", [b"\x12\x00", b"\x12\x02\x18\x00", b"\x12\x02\x18\x01"])
def test_options_that_say_the_usual_are_as_none(site: Site, caller: Caller, options: bytes) -> None:
    for path, expected in ((ONE, answer_of(b"88.1/a")), (BATCH, field(answer_of(b"88.1/a")))):
        for message in (field(b"88.1/a"), field(b"88.1/a") + options):
            assert caller.call(path, message) == expected
    assert site.identifiers() == [[b"88.1/a"]]


@pytest.mark.parametrize("options", [REFERRAL, RECURSIVE, ONWARD])
def test_a_nodes_own_word_is_given_however_far_a_question_goes(site: Site, caller: Caller, options: bytes) -> None:
    """Whoever asked first."""
    site.frame = lambda identifier: frame_of(identifier, is_own=True)
    caller.call(ONE, field(b"88.1/a"))
    caller.call(ONE, field(b"88.1/b") + options)
    for path, expected in ((ONE, answer_of), (BATCH, lambda identifier: field(answer_of(identifier)))):
        for identifier in (b"88.1/a", b"88.1/b"):
            for message in (field(identifier), field(identifier) + options):
                assert caller.call(path, message) == expected(identifier)
    assert site.identifiers() == [[b"88.1/a"], [b"88.1/b"]]
    assert [question[7] for question in site.asked] == [b"", options[2:]]
    direct, recursive = (5, 5) if options != REFERRAL else (10, 0)
    assert site.front.counts() == [(b"+88", direct, recursive)]


def test_what_is_not_a_nodes_own_word_is_asked_for_by_each_that_goes_another_way(site: Site, caller: Caller) -> None:
    """And what it gets is not kept for those who ask in the usual way, either."""
    both = field(b"88.1/a") + field(b"88.1/b")
    site.frame = lambda identifier: frame_of(identifier, is_own=identifier == b"88.1/b")
    for message in (both + ONWARD, both, both + ONWARD, both):
        assert caller.call(BATCH, message) == field(answer_of(b"88.1/a")) + field(answer_of(b"88.1/b"))
    assert [(question[2], question[7]) for question in site.asked] == [
        ([(0, b"88.1/a"), (1, b"88.1/b")], ONWARD[2:]),
        ([(0, b"88.1/a")], b""),
        ([(0, b"88.1/a")], ONWARD[2:]),
    ]
    assert site.front.counts() == [(b"+88", 4, 4)]


def test_questions_that_go_another_way_share_no_flight(site: Site, caller: Caller) -> None:
    site.reply = lambda _: None
    calls = [caller.later(ONE, field(b"88.1/a") + options, timeout=5) for options in (b"", ONWARD, ONWARD, RECURSIVE)]
    until(lambda: len(site.asked) == 4)
    site.front.answer([site.answered(question) for question in site.asked], STATE)
    assert [each.result() for each in calls] == [answer_of(b"88.1/a")] * 4
    assert site.front.stats()["joined"] == 0
    assert site.front.counts() == [(b"+88", 1, 3)]


def test_an_identifier_that_stands_again_in_a_batch_is_asked_for_once(site: Site, caller: Caller) -> None:
    site.frame = lambda identifier: frame_of(identifier, keep=0)
    wanted = [b"88.1/a", b"88.1/b", b"88.1/a", b"88.1/a", b"88.1/A"]
    answer = caller.call(BATCH, b"".join(map(field, wanted)))
    assert answer == b"".join(field(answer_of(each)) for each in wanted)
    assert [question[2] for question in site.asked] == [[(0, b"88.1/a"), (1, b"88.1/b"), (4, b"88.1/A")]]
    assert site.front.counts() == [(b"+88", 5, 0)]


def test_an_error_names_its_own_place_so_a_batch_that_repeats_one_goes_to_python_whole(
    site: Site, caller: Caller
) -> None:
    site.frame = lambda identifier: frame_of(identifier, keep=0, outcome=0)
    alone = field(b"88.1/a") + field(b"88.1/b")
    assert caller.call(BATCH, alone) == field(answer_of(b"88.1/a")) + field(answer_of(b"88.1/b"))
    repeated = field(b"88.1/a") * 2
    assert caller.call(BATCH, repeated) == b"whole " + repeated


def test_a_batch_that_is_too_large_goes_to_python_whole() -> None:
    with running(answer_bytes=100) as site, calling(site) as caller:
        message = field(b"88.1/a") * 10
        for _ in range(2):
            assert caller.call(BATCH, message) == b"whole " + message
        assert site.front.counts() == []


@pytest.mark.parametrize("keep", [0, 60], ids=["asked anew", "kept"])
def test_large_and_small_answers_of_a_batch_come_in_their_order(site: Site, caller: Caller, keep: float) -> None:
    """The large ones are not copied together with the others, and so go apart."""
    sizes = [5, 20_000, 7, 16_384, 16_385, 190_000, 190_000, 0, 40_000, 9]
    site.frame = lambda identifier: (field(bytes(sizes[int(identifier[5:])])), *frame_of(identifier, keep=keep)[1:])
    asked = b"".join(field(b"88.1/%d" % place) for place in range(len(sizes)))
    for _ in range(2):
        assert caller.call(BATCH, asked) == b"".join(field(bytes(size)) for size in sizes)


def test_a_signed_request_goes_to_python_with_its_signature(site: Site, caller: Caller) -> None:
    caller.call(ONE, field(b"88.1/a"))
    assert caller.call(ONE, field(b"88.1/a"), metadata=((SIGNED, b"\xff\x00"), ("other", "x"))).startswith(b"whole")
    assert site.asked[-1][6] == [(SIGNED, b"\xff\x00")]


def test_what_is_dropped_is_asked_for_again_and_not_kept_as_it_was(site: Site, caller: Caller) -> None:
    held: list[Question] = []
    site.reply = held.append
    early = caller.later(ONE, field(b"88.1/a"))
    until(lambda: held)
    site.front.drop([b"88.1/A"], 2)
    late = caller.later(ONE, field(b"88.1/a"))
    until(lambda: len(held) == 2)
    site.front.answer([site.answered(question) for question in held], STATE)
    assert early.result() == late.result() == answer_of(b"88.1/a")
    site.reply = site.answered
    site.frame = lambda identifier: frame_of(identifier, as_of=2)
    for _ in range(2):
        caller.call(ONE, field(b"88.1/a"))
    assert len(site.asked) == 3
    site.front.clear(3)
    caller.call(ONE, field(b"88.1/a"))
    assert len(site.asked) == 4


def test_a_change_above_voids_and_nothing_is_given_beyond_its_time(site: Site, caller: Caller) -> None:
    identifiers = (b"88.1.2/a", b"88.2/a")
    for identifier in identifiers:
        caller.call(ONE, field(identifier))
    site.front.changed([b"88.1"], 2)
    for identifier in identifiers:
        caller.call(ONE, field(identifier))
    assert site.identifiers()[2:] == [[b"88.1.2/a"]]
    site.front.current_for(0)
    caller.call(ONE, field(b"88.2/a"))
    assert site.identifiers()[3:] == [[b"88.2/a"]]


def test_errors_and_trailers_come_as_python_says(site: Site, caller: Caller) -> None:
    site.reply = lambda question: (question[0], 5, b"", "nicht da: 50%\n", [("grpc-status-details-bin", b"\xfb\xff")])
    error: Any = caller.refused(ONE, field(b"88.1/a"))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "nicht da: 50%\n")
    assert ("grpc-status-details-bin", b"\xfb\xff") in error.trailing_metadata()
    site.reply = lambda question: (question[0], 0, b"traced", "", [("trace-bin", b"\x01")])
    call = caller.channel.unary_unary(OTHER)
    answer, told = call.with_call(b"")
    assert (answer, told.trailing_metadata()) == (b"traced", (("trace-bin", b"\x01"),))


def test_a_reply_of_another_shape_is_a_mistake_of_its_own_call_only(site: Site, caller: Caller) -> None:
    held: list[Question] = []
    site.reply = held.append
    calls = [caller.later(ONE, field(b"88.1/" + each)) for each in (b"a", b"b")]
    until(lambda: len(held) == 2)
    broken: Any = (held[0][0], 0, [(0, (b"no frame", 1, 0.0, 1, 1, b"", b"", False))], "", [])
    with pytest.raises(ValueError, match="frame"):
        site.front.answer([broken, site.answered(held[1])], STATE)
    assert sorted(each.code().name for each in calls) == ["INTERNAL", "OK"]


def test_what_python_does_not_answer_ends_at_its_deadline() -> None:
    with running(deadline_ms=200) as site, calling(site) as caller:
        site.reply = lambda _: None
        for path in (ONE, BATCH, OTHER):
            error: Any = caller.refused(path, field(b"88.1/a"))
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        until(lambda: site.front.stats()["waiting"] == 0)


def test_what_is_too_large_too_much_or_too_slow_is_refused() -> None:
    with running(flights=2, buffered_bytes=1_000, body_timeout_ms=100) as site, calling(site) as caller:
        error: Any = caller.refused(OTHER, bytes((1 << 20) + 1))
        assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "Zu groß: 100%")
        assert ("grpc-status-details-bin", b"\x08\x08") in error.trailing_metadata()
        assert caller.refused(ONE, bytes(10_001)).details() == "Zu groß für einen"
        assert caller.refused(OTHER, bytes(1_001)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        slow = caller.channel.stream_unary(OTHER).future(_after(1), timeout=5)
        assert slow.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        site.reply = lambda _: None
        calls = [caller.later(ONE, field(b"88.1/%d" % each)) for each in range(2)]
        until(lambda: len(site.asked) == 2)
        assert caller.refused(ONE, field(b"88.1/3")).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        refused = site.front.stats()["refused"]
        assert {name: count for name, count in refused.items() if count} == {
            "too_large": 2,
            "busy": 2,
            "body_timeout": 1,
        }


def _after(seconds: float) -> Iterator[bytes]:
    time.sleep(seconds)
    yield b"late"


def test_messages_may_be_compressed_with_gzip(caller: Caller) -> None:
    message = b"".join(field(b"88.111.1/%06d" % number) for number in range(15_000))
    assert caller.call(OTHER, message, compression=grpc.Compression.Gzip) == b"whole " + message
    for bomb in (message * 2, bytes(100_000)):
        assert caller.refused(OTHER, bomb, compression=grpc.Compression.Gzip).details() == "Zu groß: 100%"
    error: Any = caller.refused(ONE, bytes(10_001), compression=grpc.Compression.Gzip)
    assert error.details() == "Zu groß für einen"
    error = caller.refused(OTHER, message, compression=grpc.Compression.Deflate)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert len(gzip.compress(message)) < len(message) // 4


def test_health_is_told_as_set_and_other_methods_are_not_here(site: Site, caller: Caller) -> None:
    site.front.set_health({"": True, "topnode.test.Lookup": False})
    assert caller.call(HEALTH) == b"\x08\x01"
    assert caller.call(HEALTH, field(b"topnode.test.Lookup")) == b"\x08\x02"
    assert caller.refused(HEALTH, field(b"other")).code() is grpc.StatusCode.NOT_FOUND
    told = [(error.code().name, error.details()) for error in map(caller.refused, (ELSEWHERE, f"{SERVICE}/None"))]
    assert told == [("UNIMPLEMENTED", SETTINGS["refer"]), ("UNIMPLEMENTED", "Method not found!")]


def test_a_large_answer_goes_as_its_caller_takes_it(site: Site, caller: Caller) -> None:
    body = bytes(range(256)) * 12_000
    site.reply = lambda question: (question[0], 0, body, "", [])
    calls = [caller.later(OTHER, b"") for _ in range(4)]
    assert all(call.result() == body for call in calls)
    until(lambda: site.front.stats()["unread_bytes"] == 0)


def test_calls_wait_while_their_connection_does_not_take_what_it_has(site: Site, caller: Caller) -> None:
    body = bytes(MEBI)
    site.reply = lambda question: (question[0], 0, body, "", []) if question[1] == 2 else site.answered(question)
    with Connection(f"127.0.0.1:{site.front.port}") as connection:
        numbers = [connection.open_call(OTHER, framed(b"")) for _ in range(10)]
        # The first alone, then as many as fit, by its size.
        until(lambda: len(site.asked) == 4 and not site.front.stats()["flights"])
        small = connection.open_call(ONE, framed(field(b"88.1/a")))
        assert caller.call(ONE, field(b"88.1/a")) == answer_of(b"88.1/a")
        assert len(site.asked) == 5
        stats = site.front.stats()
        assert stats["waiting"] == 11
        assert stats["unread_bytes"] < 5 * MEBI
        assert stats["parked"] >= 7
        ended = connection.ended([*numbers, small])
    assert [ended[number].messages for number in numbers] == [(body,)] * 10
    assert ended[small].messages == (answer_of(b"88.1/a"),)
    until(lambda: site.front.stats()["unread_bytes"] == 0)


def test_small_answers_that_are_not_taken_count_too(site: Site) -> None:
    site.reply = lambda question: (question[0], 0, bytes(10_000), "", [])
    with Connection(f"127.0.0.1:{site.front.port}", said={Setting.INITIAL_WINDOW_SIZE: 0}) as connection:
        for number in range(16):
            connection.open_call(ONE, framed(field(b"88.1/%d" % number)))
        until(lambda: site.front.stats()["unread_bytes"] == 16 * 10_005)
        until(lambda: site.front.stats()["waiting"] == 0)
    until(lambda: site.front.stats()["unread_bytes"] == 0)


def test_what_waits_for_room_ends_at_its_deadline_and_is_bounded_too() -> None:
    with running(buffered_bytes=400_000, deadline_ms=500) as site:
        site.reply = lambda _: None
        with Connection(f"127.0.0.1:{site.front.port}") as connection:
            numbers = [connection.open_call(OTHER, framed(bytes(600)))]
            until(lambda: site.asked)
            numbers += [connection.open_call(OTHER, framed(bytes(60_000))) for _ in range(3)]
            ended = connection.ended(numbers)
        # A quarter of the room for requests is for those that wait.
        assert sorted(each.status or 0 for each in ended.values()) == [4, 4, 8, 8]
        assert len(site.asked) == 1


def test_who_takes_large_answers_gets_them_all_however_little_room_there_is() -> None:
    body = bytes(2_700_000)
    with running(buffered_bytes=8 * MEBI, deadline_ms=30_000) as site, contextlib.ExitStack() as stack:
        site.reply = lambda question: (question[0], 0, body, "", [])
        callers = [stack.enter_context(calling(site)) for _ in range(3)]
        calls = [caller.later(OTHER, b"", timeout=30) for _ in range(8) for caller in callers]
        assert all(call.result() == body for call in calls)
        stats = site.front.stats()
        assert stats["refused"]["busy"] == 0
        assert stats["parked"] > 0


def test_a_batch_that_finds_no_room_is_asked_for_again_when_there_is_some() -> None:
    large = field(bytes(2_700_000))
    held: list[Question] = []
    with running(buffered_bytes=8 * MEBI, deadline_ms=30_000) as site, contextlib.ExitStack() as stack:
        callers = [stack.enter_context(calling(site)) for _ in range(6)]
        # Batches bring little of late: room is kept for little.
        for number in range(60):
            callers[0].call(BATCH, field(b"88.1/%d" % number))
        site.reply = held.append
        calls = [caller.later(BATCH, field(b"88.1/large"), timeout=30) for caller in callers]
        until(lambda: len(held) == len(callers))
        site.frame = lambda identifier: (field(large), *frame_of(identifier, keep=0)[1:])
        site.reply = site.answered
        site.front.answer([site.answered(question) for question in held], STATE)
        assert all(call.result() == field(large) for call in calls)
        stats = site.front.stats()
        assert stats["refused"]["busy"] == 0
        assert stats["parked"] > 0
        assert len(site.asked) > 60 + len(callers)


def test_a_batch_of_more_than_there_is_room_for_goes_to_python_whole() -> None:
    with running(buffered_bytes=4 * MEBI, answer_bytes=MEBI) as site, calling(site) as caller:
        site.frame = lambda identifier: (field(field(bytes(2 * MEBI))), *frame_of(identifier, keep=0)[1:])
        wanted = b"".join(field(b"88.1/%d" % number) for number in range(3))
        assert caller.call(BATCH, wanted) == b"whole " + wanted
        assert len(site.asked) == 2


def test_who_keeps_the_room_of_all_and_takes_nothing_is_ended_for_those_who_wait() -> None:
    body = bytes(3 * MEBI)
    with (
        running(buffered_bytes=8 * MEBI, deadline_ms=30_000) as site,
        calling(site) as caller,
        calling(site) as other,
    ):
        site.reply = lambda question: (question[0], 0, body, "", []) if question[1] == 2 else site.answered(question)
        with Connection(f"127.0.0.1:{site.front.port}") as holder:
            for _ in range(2):
                holder.open_call(OTHER, framed(b""))
            until(lambda: site.front.stats()["unread_bytes"] >= 6 * MEBI)
            large = caller.later(OTHER, b"", timeout=30)
            until(lambda: site.front.stats()["parked"])
            assert other.call(ONE, field(b"88.1/a")) == answer_of(b"88.1/a")
            assert large.result() == body
            with pytest.raises(ClosedError):
                all(holder.frames())
        assert site.front.stats()["stalled"] == 1


@pytest.mark.parametrize("count", [1, 8])
def test_who_takes_next_to_nothing_is_ended_whatever_else_it_says(count: int) -> None:
    with running(keepalive_timeout_ms=300, ping_interval_ms=1) as site:
        site.reply = lambda question: (question[0], 0, bytes(200_000), "", [])
        with Connection(f"127.0.0.1:{site.front.port}", said={Setting.INITIAL_WINDOW_SIZE: 10}) as connection:
            numbers = [connection.open_call(OTHER, framed(b"")) for _ in range(count)]
            octet = struct.pack(">I", 1)
            updates = b"".join(frame(Kind.WINDOW_UPDATE, octet, stream=number) for number in (0, *numbers))
            with contextlib.suppress(ClosedError):
                for _ in range(500):
                    connection.send(PING + updates)
                    connection.waiting()
                    time.sleep(0.02)
        until(lambda: not site.front.stats()["connections"])
        stats = site.front.stats()
        assert (stats["stalled"], stats["calmed"], stats["unread_bytes"]) == (1, 0, 0)


def test_cancelled_calls_leave_room(site: Site, caller: Caller) -> None:
    site.reply = lambda _: None
    for _ in range(5):
        calls = [caller.later(ONE, field(b"88.1/a")) for _ in range(15)]
        until(lambda: site.asked)
        for call in calls:
            call.cancel()
    site.reply = site.answered
    assert caller.call(ONE, field(b"88.1/b")) == answer_of(b"88.1/b")
    assert site.front.stats()["waiting"] <= 17


@pytest.mark.parametrize("times", [1, 3])
def test_whoever_gives_all_calls_up_before_anybody_has_looked_at_them_keeps_the_connection(times: int) -> None:
    """As clients do whose time is over while a node is held up: what else they asked on it must not end with it."""
    block = hpack.write(call_headers(ONE))
    with running(streams=256) as site, Connection(f"127.0.0.1:{site.front.port}") as connection:
        octets = b""
        for _ in range(times):
            numbers = [connection.stream() for _ in range(256)]
            begun = [frame(Kind.HEADERS, block, flags=END_HEADERS, stream=number) for number in numbers]
            ended = [frame(Kind.RST_STREAM, CANCEL, stream=number) for number in numbers]
            octets += b"".join(begun + ended)
        connection.send(octets)
        asked = connection.call(ONE, framed(field(b"88.1/a")))
        assert connection.goaway is None
        assert asked is not None
        assert asked.messages == (answer_of(b"88.1/a"),)


def test_draining_finishes_what_is_in_flight(site: Site, caller: Caller) -> None:
    site.reply = lambda _: None
    call = caller.later(ONE, field(b"88.1/a"))
    until(lambda: site.asked)
    drain = threading.Thread(target=site.front.drain, args=(5_000,))
    drain.start()
    until(lambda: not _listens(site.front.port))
    assert drain.is_alive()
    site.front.answer([site.answered(site.asked[0])], STATE)
    assert call.result() == answer_of(b"88.1/a")
    drain.join(3)
    assert not drain.is_alive()
    assert site.front.counts() == [(b"+88", 1, 0)]


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_draining_ends_with_its_grace(site: Site, caller: Caller) -> None:
    site.reply = lambda _: None
    call = caller.later(ONE, field(b"88.1/a"), timeout=1.5)
    until(lambda: site.asked)
    began = time.monotonic()
    site.front.drain(100)
    assert time.monotonic() - began < 1
    assert (call.code(), call.details()) == (grpc.StatusCode.UNAVAILABLE, "The node is going away.")


def test_old_connections_are_told_to_go() -> None:
    with running(connection_age_ms=200, connection_grace_ms=200) as site, calling(site) as caller:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            assert caller.call(ONE, field(b"88.1/a")) == answer_of(b"88.1/a")
        assert 3 <= site.front.stats()["accepted"] <= 12


def test_a_panic_ends_its_own_connection_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_PANIC", ELSEWHERE)
    with running() as site, calling(site) as caller, calling(site) as other:
        assert other.call(ONE, field(b"88.1/a")) == answer_of(b"88.1/a")
        assert caller.refused(ELSEWHERE).code() is grpc.StatusCode.UNAVAILABLE
        assert other.call(ONE, field(b"88.1/a")) == answer_of(b"88.1/a")
        stats = site.front.stats()
        assert (stats["panics"], stats["accepted"]) == (1, 2)


def test_connections_are_bounded() -> None:
    with running(connections_per_peer=2) as site, contextlib.ExitStack() as stack:
        first, _ = [stack.enter_context(_connected(site)) for _ in range(2)]
        # At once, without a wait for its client, which the system would keep it for: perhaps while it still connects.
        with pytest.raises(ConnectionResetError), _connected(site) as third:
            third.recv(1)
        assert site.front.stats()["connections"] == 2
        first.close()
        until(lambda: site.front.stats()["connections"] == 1)


def _highest_file() -> int:
    return max(int(each.name) for each in Path("/proc/self/fd").iterdir())


def test_room_for_all_files_is_made_at_once_and_none_stays_open() -> None:
    """FDSize is what the system has made room for (proc(5)); it never shrinks."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(5_000, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    try:
        make_room_for_files(20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, most))
    (size,) = re.findall(r"^FDSize:\s+(\d+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert int(size) >= wanted
    assert _highest_file() < wanted - 1
    make_room_for_files(10)


def test_a_client_that_probes_for_ever_is_sent_away(site: Site) -> None:
    with _connected(site) as connection:
        connection.sendall(PREFACE + PING * 50)
        received = _all_of(connection)
    # GOAWAY with ENHANCE_YOUR_CALM.
    assert bytes.fromhex("0700 00000000 00000000 0000000b") in received
    assert site.front.stats()["calmed"] == 1


def test_a_silent_client_is_probed_and_then_dropped() -> None:
    with running(keepalive_ms=100, keepalive_timeout_ms=200) as site, _connected(site) as connection:
        connection.sendall(PREFACE)
        received = _all_of(connection)
        assert bytes.fromhex("0000080600000000003b7cdb7a0b8716b4") in received
        assert site.front.stats()["connections"] == 0


def _connected(site: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", site.front.port), timeout=5)


def _secured(context: ssl.SSLContext, connection: socket.socket) -> ssl.SSLSocket:
    return context.wrap_socket(connection, server_hostname="localhost")


def _all_of(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while octets := connection.recv(65_536):
            received += octets
    return received


def test_who_is_known_is_answered_by_python_each_time_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    """Each may be shown something else."""
    authority = Authority(tmp_path)
    server = authority.issue("node", alternatives=("localhost",))
    root, *rest = [Path(path).read_bytes() for path in (authority.path, server.certificate, server.key)]
    with running(tls=(*rest, root)) as site:
        for name in ("first", "second"):
            files = authority.issue(name)
            parts = [Path(path).read_bytes() for path in (files.key, files.certificate)]
            proven = grpc.ssl_channel_credentials(root, *parts)
            with grpc.secure_channel(f"localhost:{site.front.port}", proven) as channel:
                for path, expected in ((ONE, answer_of(b"88.1/a")), (BATCH, field(answer_of(b"88.1/a")))) * 2:
                    assert Caller(channel).call(path, field(b"88.1/a")) == expected
        assert [question[5] for question in site.asked] == [b"first"] * 4 + [b"second"] * 4
        assert site.front.stats()["cache"]["entries"] == 0


def test_clients_are_known_by_their_certificates(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    server = authority.issue("node", alternatives=("localhost",))
    pem = [Path(path).read_bytes() for path in (server.certificate, server.key, authority.path)]
    with running(tls=tuple(pem)) as site:

        def call(files: Any, root: str = authority.path) -> bytes:
            parts = [Path(path).read_bytes() for path in (root, files.key, files.certificate)]
            with grpc.secure_channel(f"localhost:{site.front.port}", grpc.ssl_channel_credentials(*parts)) as channel:
                return Caller(channel).call(OTHER)

        call(authority.issue("common"))
        call(authority.issue("common", alternatives=("first.example", "second.example"), to="named"))
        assert [question[5] for question in site.asked] == [b"common", b"first.example"]
        with pytest.raises(grpc.RpcError):
            call(other.issue("stranger"))
        with pytest.raises(ValueError, match="key"):
            site.front.replace_tls(pem[0], b"no key", None)
        renewed = other.issue("node", alternatives=("localhost",), to="renewed")
        chain, key = (Path(path).read_bytes() for path in (renewed.certificate, renewed.key))
        site.front.replace_tls(chain, key, pem[2])
        with pytest.raises(grpc.RpcError):
            call(authority.issue("common"))
        call(authority.issue("common"), root=other.path)
        context = ssl.create_default_context(cafile=other.path)
        with _connected(site) as connection, pytest.raises(ssl.SSLError), _secured(context, connection) as secured:
            # In TLS 1.3 it is told behind the handshake.
            secured.recv(1)
        until(lambda: site.front.stats()["handshakes_failed"] >= 2)


def test_a_front_listens_on_a_unix_socket_too(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/front.sock"
    # gRPC would send the path as the authority, which is none (RFC 9113 section 8.3.1): h2 refuses that.
    local = [("grpc.default_authority", "localhost")]
    for _ in range(2):
        with running(address=address) as site, grpc.insecure_channel(address, local) as channel:
            assert site.front.port == 1
            assert Caller(channel).call(OTHER) == b"whole "
            assert site.asked[0][4] == "unix:"


def test_what_cannot_be_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        made(**SETTINGS | {"address": f"unix:{tmp_path}/none/front.sock"})
    for change in (
        {"paths": [("/a/b", "odd", 1, None)]},
        {"refusals": {"odd": (1, "", b"")}},
        {"tls": (b"", b"", None)},
    ):
        with pytest.raises(ValueError):
            made(**SETTINGS | change)
    front = made(**SETTINGS)
    with pytest.raises(RuntimeError):
        front.counts()
    front.start()
    with pytest.raises(RuntimeError):
        front.start()
    front.close()
    front.close()
