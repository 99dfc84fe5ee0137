"""Small parts of the shared Redis: where keys lie, how commands are written, what kinds of trouble there are."""

import pytest
from prometheus_client import CollectorRegistry
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from resolver.cache.redis.border import Ledger, Trouble, trouble
from resolver.cache.redis.layout import Layout, command
from resolver.cache.redis.turnover import Turnover
from resolver.clock import SetClock

KEYS = [b"88.100/%d" % number for number in range(1_000)]


def test_commands_are_written_as_redis_reads_them() -> None:
    assert command(b"SET", b"a", b"\r\n") == b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n\r\n\r\n"
    layout = Layout("topnode", 1)
    names = [b"{topnode}", b"{topnode}88.100/A", b"{topnode}88.100/" + b"x" * 200]
    assert layout.batch(0, [b"88.100/A", b"88.100/" + b"x" * 200]) == command(b"MGET", *names)
    assert [layout.name(0, b"88.100/A")] == names[1:2]


def test_every_key_of_a_cluster_lies_on_one_of_many_shelves() -> None:
    spread = Layout("topnode", 16).spread(KEYS)
    assert sorted(place for _, places in spread for place in places) == list(range(len(KEYS)))
    assert {shelf for shelf, _ in spread} == set(range(16))
    assert max(len(places) for _, places in spread) < 2 * len(KEYS) / 16


def test_another_number_of_shelves_has_other_names() -> None:
    """Or markers would stand where nobody looks."""
    names = {tag for shelves in (1, 8, 16) for tag in Layout("topnode", shelves).tags}
    assert len(names) == 25


@pytest.mark.parametrize(
    ("error", "kind", "is_harmless"),
    [
        (TimeoutError(), "timeout", False),
        (RedisTimeoutError("Timeout connecting to server"), "timeout", False),
        (RedisConnectionError("Error 111"), "refused", False),
        (ConnectionResetError(), "refused", False),
        (AuthenticationError("WRONGPASS"), "auth", False),
        (NoPermissionError("NOPERM"), "auth", False),
        (OutOfMemoryError("command not allowed"), "oom", True),
        (ResponseError("Error running script: command not allowed when used memory > 'maxmemory'"), "oom", True),
        (ReadOnlyError("You can't write against a read only replica."), "moved", True),
        (ResponseError("Error running script: You can't write against a read only replica."), "moved", True),
        (MovedError("1 10.0.0.7:6379"), "moved", True),
        (ClusterDownError("The cluster is down"), "moved", True),
        (ResponseError("unknown command"), "other", False),
    ],
)
def test_what_goes_wrong_is_of_a_kind(error: Exception, kind: str, *, is_harmless: bool) -> None:
    found = trouble(error)
    assert (found.kind, found.is_harmless) == (kind, is_harmless)


def test_trouble_is_told_once_and_told_again_when_it_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    registry = CollectorRegistry()
    ledger = Ledger(registry)
    for _ in range(3):
        ledger.failed("a", Trouble("timeout", "no answer"))
        ledger.failed("a", Trouble("oom", "no room"))
    ledger.works("a", writes=False)
    ledger.works("a", writes=False)
    ledger.works("b", writes=True)
    ledger.works("a", writes=True)
    ledger.failed("a", Trouble("timeout", "no answer"))
    assert [record.getMessage() for record in caplog.records] == [
        "Redis: a: timeout: no answer",
        "Redis: a: oom: no room",
        "Redis: a works again: no timeout any more",
        "Redis: a works again: no oom any more",
        "Redis: a: timeout: no answer",
    ]
    assert registry.get_sample_value("topnode_redis_failures_total", {"kind": "timeout"}) == 4


def test_absences_are_bounded_at_any_time() -> None:
    clock = SetClock(monotonic=1_000.0)
    turnover = Turnover(10, 60.0, clock)
    began: list[float] = []
    for _ in range(400):
        if turnover.takes_one():
            began.append(clock.monotonic())
        alive = [each for each in began if each > clock.monotonic() - 60]
        assert len(alive) <= 10
        clock.advance(3)
    assert len(began) >= 10 * (400 * 3 / 60 / 2 - 1)
