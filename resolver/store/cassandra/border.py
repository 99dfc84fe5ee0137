"""The border to the driver: what it raises leaves the store as a Fault, is counted, and told once in a while."""

import logging
from typing import Final

from cassandra import (
    AuthenticationFailed,
    CoordinationFailure,
    InvalidRequest,
    OperationTimedOut,
    Timeout,
    Unauthorized,
    Unavailable,
    UnresolvableContactPoints,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from prometheus_client import CollectorRegistry, Counter

from resolver.clock import Clock
from resolver.errors import Fault, Reason

_RETRY_SECONDS: Final = 1.0
_LOG_EVERY: Final = 1.0
_log: Final = logging.getLogger(__name__)

_KINDS: Final[tuple[tuple[str, tuple[type[BaseException], ...]], ...]] = (
    ("timeout", (OperationTimedOut, Timeout)),
    ("unavailable", (Unavailable,)),
    ("failed", (CoordinationFailure,)),
    ("refused", (AuthenticationFailed, Unauthorized)),
    ("schema", (InvalidRequest,)),
    ("unreachable", (NoHostAvailable, UnresolvableContactPoints, ConnectionException, OSError)),
)
"""Kinds of failure, the first that fits: no answer in time; too few replicas; replicas that failed; login or rights;
no such table; no connection. What fits nowhere is "other"."""


class Border:
    """Makes Faults of what the driver raises about one ring.

    Failure policy: an error is the caller's. Here it is counted by kind, and a kind is logged once a second at most.
    """

    def __init__(self, keyspace: str, *, clock: Clock, registry: CollectorRegistry) -> None:
        self._keyspace = keyspace
        self._clock = clock
        self._logged: dict[str, float] = {}
        self._failures = Counter(
            "topnode_cassandra_failures_total",
            "Queries that failed, after what the driver tried again, by kind.",
            ["kind"],
            registry=registry,
        )
        for kind, _ in _KINDS:
            self._failures.labels(kind)

    def fault(self, error: BaseException) -> Fault:
        """Give STORE_UNAVAILABLE, STORE_NOT_MIGRATED where a table is missing, SETTING_INVALID where login is."""
        kind = kind_of(error)
        told = _told(error)
        self._note(kind, told)
        if kind == "schema":
            return not_migrated(self._keyspace, told)
        if kind == "refused":
            return Fault(Reason.SETTING_INVALID, f"The ring refuses this user: {told}.", field="user")
        return unavailable(kind, told)

    def overdue(self, seconds: float) -> Fault:
        """Give STORE_UNAVAILABLE for what was not answered at all."""
        told = f"no answer within {seconds:g} s"
        self._note("timeout", told)
        return unavailable("timeout", told)

    def _note(self, kind: str, told: str) -> None:
        self._failures.labels(kind).inc()
        now = self._clock.monotonic()
        if now - self._logged.get(kind, float("-inf")) >= _LOG_EVERY:
            self._logged[kind] = now
            _log.warning("Cassandra: %s: %s", kind, told, extra={"kind": kind})


def kind_of(error: BaseException) -> str:
    """Name the kind of a failure."""
    if isinstance(error, NoHostAvailable) and isinstance(error.errors, dict):
        inner = [each for each in error.errors.values() if isinstance(each, BaseException)]
        # Nobody was left to ask: what the last ones said is the reason, unless it was the way to them.
        if inner and all(isinstance(each, AuthenticationFailed) for each in inner):
            return "refused"
    return next((kind for kind, classes in _KINDS if isinstance(error, classes)), "other")


def unavailable(kind: str, told: str) -> Fault:
    """Say that the ring does not do what it is asked: trying again may help."""
    return Fault(
        Reason.STORE_UNAVAILABLE,
        f"Cassandra does not answer: {told}.",
        retry_after=_RETRY_SECONDS,
        variables={"kind": kind},
    )


def closed() -> Fault:
    """Say that the store was closed by this process itself."""
    return Fault(Reason.STORE_UNAVAILABLE, "The store is closed.")


def not_migrated(keyspace: str, what: str) -> Fault:
    """Say that the schema is not there, or not as this version needs it."""
    return Fault(
        Reason.STORE_NOT_MIGRATED,
        f"The keyspace {keyspace} is not as this version needs it: {what}.",
        variables={"keyspace": keyspace},
    )


def _told(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")[:400]
