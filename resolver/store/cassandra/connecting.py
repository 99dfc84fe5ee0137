"""The way to a ring: nodes of one data centre, login and TLS, and how each way of asking is asked.

The driver has threads of its own: connect after the process has started, never across a fork.
"""

import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from cassandra import ConsistencyLevel, DriverException, ProtocolVersion, UnresolvableContactPoints
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.connection import ConnectionException
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    RetryPolicy,
    TokenAwarePolicy,
    WrapperPolicy,
)
from cassandra.pool import Host
from cassandra.protocol import ErrorMessage
from cassandra.query import tuple_factory

from resolver.errors import Fault, Reason
from resolver.store.cassandra.settings import CassandraSettings, CassandraTls
from resolver.store.cassandra.statements import Way

CONNECT_SECONDS: Final = 5.0
"""A node that has not let us in by then is passed over."""

DECIDE_SECONDS: Final = 5.0
"""A lightweight transaction may take several rounds between nodes."""

_RECONNECT_SECONDS: Final = 1.0
_HEARTBEAT_SECONDS: Final = 5
"""Between two questions to a connection that is not used, and until one without an answer is given up."""

DRIVER_ERRORS: Final = (DriverException, NoHostAvailable, ConnectionException, ErrorMessage, OSError)
"""What the driver raises because of the ring, or of the way to it."""


def connect(settings: CassandraSettings) -> tuple[Cluster, Session]:
    """Connect, whatever the keyspace is like. Waits, so not for the event loop.

    Raises:
        Fault: SETTING_INVALID when the data centre has another name; STORE_UNAVAILABLE when no host has an
            address; FILE_UNREADABLE.
        DRIVER_ERRORS: for the border.
    """
    options = _credentials(settings)
    try:
        cluster = Cluster(
            list(settings.hosts),
            port=settings.port,
            # Version 5 has checksums of its own, which the driver reckons in Python: 0.1 ms a query.
            protocol_version=ProtocolVersion.V4,
            compression=False,
            execution_profiles=_profiles(settings),
            connect_timeout=CONNECT_SECONDS,
            control_connection_timeout=CONNECT_SECONDS,
            reconnection_policy=ConstantReconnectionPolicy(_RECONNECT_SECONDS, max_attempts=None),
            idle_heartbeat_interval=_HEARTBEAT_SECONDS,
            idle_heartbeat_timeout=_HEARTBEAT_SECONDS,
            # A node that knows a statement not yet is told when it is asked. Telling all of them now would wait for
            # those that are down.
            prepare_on_all_hosts=False,
            **options,
        )
    except UnresolvableContactPoints as error:
        hosts = ", ".join(settings.hosts)
        raise Fault(
            Reason.STORE_UNAVAILABLE, f"None of these names has an address: {hosts}.", field="hosts"
        ) from error
    try:
        session = cluster.connect()
    except BaseException as error:
        cluster.shutdown()
        if isinstance(error, NoHostAvailable):
            _check_datacenter(cluster, settings)
        raise
    # Everything that is asked gives a bounded number of rows.
    session.default_fetch_size = None
    return cluster, session


def patience_of(settings: CassandraSettings) -> Mapping[Way, float]:
    """Give how many seconds each way waits for an answer."""
    deciding = {Way.DECIDE: DECIDE_SECONDS, Way.LAST_WORD: DECIDE_SECONDS}
    return dict.fromkeys(Way, float(settings.deadline)) | deciding


def _profiles(settings: CassandraSettings) -> Mapping[Any, ExecutionProfile]:
    nodes = Directed(TokenAwarePolicy(DCAwareRoundRobinPolicy(settings.datacenter), shuffle_replicas=True))

    def profile(way: Way | None, level: int, timeout: float | None = None) -> ExecutionProfile:
        decides = way is Way.DECIDE
        return ExecutionProfile(
            load_balancing_policy=nodes,
            retry_policy=FallthroughRetryPolicy() if decides else NextNode(),
            consistency_level=level,
            serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL if decides else None,
            # None: `asking` keeps the time.
            request_timeout=timeout,
            row_factory=tuple_factory,
        )

    return {
        EXEC_PROFILE_DEFAULT: profile(None, ConsistencyLevel.LOCAL_QUORUM, DECIDE_SECONDS),
        Way.NEAR: profile(Way.NEAR, ConsistencyLevel.LOCAL_ONE),
        Way.SURE: profile(Way.SURE, ConsistencyLevel.LOCAL_QUORUM),
        Way.WRITE: profile(Way.WRITE, ConsistencyLevel.LOCAL_QUORUM),
        Way.DECIDE: profile(Way.DECIDE, ConsistencyLevel.LOCAL_QUORUM),
        Way.LAST_WORD: profile(Way.LAST_WORD, ConsistencyLevel.LOCAL_SERIAL),
    }


class Directed(WrapperPolicy):  # type: ignore[misc] # the driver ships no types
    """Puts the nodes that a statement names as `wanted` before all others, and one that is `avoided` behind."""

    def make_query_plan(self, working_keyspace: str | None = None, query: object = None) -> Iterator[Host]:
        plan: Iterator[Host] = self._child_policy.make_query_plan(working_keyspace, query)
        wanted, avoided = getattr(query, "wanted", ()), getattr(query, "avoided", None)
        if not wanted and avoided is None:
            return plan
        order = {host: place for place, host in enumerate(wanted)}
        return iter(sorted(plan, key=lambda host: (host == avoided, order.get(host, len(order)))))


class NextNode(RetryPolicy):  # type: ignore[misc] # the driver ships no types
    """A failure is tried once more on another node: what one node says of its neighbours is its own view."""

    def on_read_timeout(self, *_args: Any, retry_num: int, **_more: Any) -> tuple[int, None]:
        return self._once(retry_num)

    def on_write_timeout(self, *_args: Any, retry_num: int, **_more: Any) -> tuple[int, None]:
        return self._once(retry_num)

    def on_unavailable(self, *_args: Any, retry_num: int, **_more: Any) -> tuple[int, None]:
        return self._once(retry_num)

    def on_request_error(self, *_args: Any, retry_num: int, **_more: Any) -> tuple[int, None]:
        return self._once(retry_num)

    def _once(self, retry_num: int) -> tuple[int, None]:
        return (self.RETRY_NEXT_HOST if retry_num == 0 else self.RETHROW), None


def _credentials(settings: CassandraSettings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if settings.user:
        password = _read(settings.password_file, "password_file").strip()
        found["auth_provider"] = PlainTextAuthProvider(settings.user, password)
    if settings.tls is not None:
        found["ssl_context"] = tls_context(settings.tls)
        if settings.tls.server_name:
            found["ssl_options"] = {"server_hostname": settings.tls.server_name}
    return found


def tls_context(tls: CassandraTls) -> ssl.SSLContext:
    """Read the files; nodes are verified, by name too.

    Raises:
        Fault: FILE_UNREADABLE, with the field.
    """
    try:
        context = ssl.create_default_context(cafile=tls.server_ca or None)
    except OSError as error:
        raise _unreadable(tls.server_ca, "tls.server_ca", error) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate:
        try:
            context.load_cert_chain(tls.certificate, tls.key or None)
        except OSError as error:
            raise _unreadable(tls.certificate, "tls.certificate", error) from None
    return context


def _read(path: str, field: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, field, error) from None


def _unreadable(path: str, field: str, error: Exception) -> Fault:
    return Fault(Reason.FILE_UNREADABLE, f"{path} cannot be used: {error}.", field=field, variables={"path": path})


def _check_datacenter(cluster: Cluster, settings: CassandraSettings) -> None:
    """See whether there are nodes that only are somewhere else: the driver says then that there is none at all."""
    found = sorted({host.datacenter for host in cluster.metadata.all_hosts() if host.datacenter})
    if not found or settings.datacenter in found:
        return
    named = ", ".join(found)
    raise Fault(
        Reason.SETTING_INVALID,
        f"The ring has no data centre {settings.datacenter}; it has {named}.",
        field="datacenter",
        variables={"datacenter": settings.datacenter, "found": named},
    )
