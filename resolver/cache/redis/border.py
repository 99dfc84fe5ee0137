"""The border to redis-py: what it raises and what servers refuse becomes Trouble of a kind, counted and told."""

import logging
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

ERRORS: Final = (RedisError, OSError, EOFError)
"""What calls and connections end with (a TimeoutError is an OSError)."""

KINDS: Final = ("timeout", "refused", "auth", "oom", "moved", "other")
"""No answer in time; no connection, or a lost one; password or rights; no room; keys are elsewhere; anything else."""

BUCKETS: Final = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)

_ELSEWHERE: Final = (AskError, MovedError, ReadOnlyError, ClusterDownError, TryAgainError)
_HARMLESS: Final = frozenset(("oom", "moved"))
"""Reading goes on while there is no room to write, and where a server has become a replica."""

_log: Final = logging.getLogger(__name__)


class Trouble(Exception):
    """A call that was not answered. It does not leave this package: without Redis the store is asked."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind

    @property
    def is_harmless(self) -> bool:
        """May the server be asked as before?"""
        return self.kind in _HARMLESS


def trouble(error: Exception) -> Trouble:
    """Say of what kind an error is that was raised by a call or a connection."""
    return Trouble(_kind(error), str(error) or type(error).__name__)


def _kind(error: Exception) -> str:
    if isinstance(error, TimeoutError | RedisTimeoutError):
        return "timeout"
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return "auth"
    if isinstance(error, ResponseError):
        return _kind_of_answer(error)
    return "refused" if isinstance(error, RedisError | OSError | EOFError) else "other"


def _kind_of_answer(error: ResponseError) -> str:
    text = str(error)
    # A script quotes the refusal of its own command, some servers without its code in front.
    if isinstance(error, OutOfMemoryError) or "'maxmemory'" in text:
        return "oom"
    return "moved" if isinstance(error, _ELSEWHERE) or "read only replica" in text else "other"


class Ledger:
    """What became of calls to all servers: metrics, and a line in the log whenever that changes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._failures = Counter(
            "topnode_redis_failures_total",
            "Calls and connections that failed, by kind.",
            ("kind",),
            registry=registry,
        )
        self._by_kind = {kind: self._failures.labels(kind) for kind in KINDS}
        self.left_alone = Gauge(
            "topnode_redis_left_alone", "Servers that are not asked: not reached, or failing.", registry=registry
        )
        self.seconds = Histogram(
            "topnode_redis_call_seconds", "Time until a call was answered.", buckets=BUCKETS, registry=registry
        )
        self._told: set[tuple[str, str]] = set()

    def failed(self, server: str, error: Trouble) -> None:
        """Count a failure. The first of its kind since all was well with that server is told."""
        self._by_kind[error.kind].inc()
        if (server, error.kind) not in self._told:
            self._told.add((server, error.kind))
            _log.warning("Redis: %s: %s: %s", server, error.kind, error, extra={"server": server, "kind": error.kind})

    def leaves_alone(self, server: str) -> None:
        _log.warning("Redis: %s is left alone, the store is asked", server, extra={"server": server})

    def works(self, server: str, *, writes: bool) -> None:
        """Note that a call was answered, perhaps one that writes: what is over now is told."""
        if self._told:
            over = {told for told in self._told if told[0] == server and (writes or told[1] not in _HARMLESS)}
            self._told -= over
            if over:
                kinds = ", ".join(sorted(kind for _, kind in over))
                _log.info("Redis: %s works again: no %s any more", server, kinds, extra={"server": server})
