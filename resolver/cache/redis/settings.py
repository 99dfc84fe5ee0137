"""What can be set about the Redis that resolvers share."""

from pathlib import Path
from typing import Final

from msgspec import Struct

from resolver.errors import Fault, Reason
from resolver.units import Duration

SHELVES: Final = 16
"""Shelves of a cluster: keys of one lie in one slot, so that a batch is a few commands. More than it has masters."""


class RedisTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The files by which Redis servers are known, and by which the node proves itself. PEM; read at connecting."""

    server_ca: str = ""
    """Path of the authorities of server certificates. Empty: those of the system."""

    certificate: str = ""
    """Path of the node's certificate, where the server asks for one."""

    key: str = ""
    """Path of that certificate's private key, not encrypted."""


class RedisSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Redis that resolvers share: one server, one that sentinels watch, or a cluster; none where nothing is set.

    It should evict what it has no room for: `maxmemory-policy volatile-ttl` keeps the markers of changes longest.
    """

    address: str = ""
    """Host and port of the server, or of any node of the cluster."""

    sentinels: tuple[str, ...] = ()
    """Host and port of each sentinel, in the place of an address. They are asked without a password."""

    master: str = "topnode"
    """The name under which the sentinels watch the server."""

    cluster: bool = False
    """Is it a cluster?"""

    namespace: str = "topnode"
    """What the names of keys and channels begin with: one for each node that shares the Redis."""

    user: str = ""
    """The ACL user; empty: the default one."""

    password_file: str = ""
    """Path of the file that holds the password, where there is one; a line's end behind it does not count."""

    tls: RedisTls | None = None
    """TLS, where the servers speak it."""

    deadline: Duration = Duration(0.03)
    """An answer that is not there by then is not waited for: the store is asked. Nothing is tried again."""

    connect_within: Duration = Duration(1)
    """Time for a connection, and for telling of a change. Callers never wait for that."""

    rest: Duration = Duration(1)
    """After three failures in a row a server is left alone for this long, then tried once."""

    positive_for: Duration = Duration(3_600)
    """How long a record is kept, give or take a tenth."""

    absent_for: Duration = Duration(60)
    """How long the authority's word is kept that there is no such identifier, give or take a tenth."""

    absent_entries: int = 100_000
    """Absent identifiers that each process has kept at once, at most."""

    markers_for: Duration = Duration(4 * 3_600)
    """How long the marker of a change is kept: longer than the store may take to mend a replica (three hours)."""

    def __post_init__(self) -> None:
        if self.sentinels and (self.address or self.cluster):
            raise Fault(Reason.SETTING_INVALID, "There are sentinels, or an address.", field="sentinels")
        if self.cluster and not self.address:
            raise Fault(Reason.SETTING_INVALID, "A cluster is found by the address of a node.", field="address")
        if not self.namespace or not self.namespace.isascii() or not self.namespace.isalnum():
            raise Fault(Reason.SETTING_INVALID, "A namespace is ASCII letters and digits.", field="namespace")
        for field in ("deadline", "connect_within", "rest", "positive_for", "absent_for", "markers_for"):
            if getattr(self, field) <= 0:
                raise Fault(Reason.SETTING_INVALID, "A duration is above 0.", field=field)
        if self.absent_entries < 0:
            raise Fault(Reason.SETTING_INVALID, "A number of entries is not negative.", field="absent_entries")
        for field, addresses in (("address", (self.address,) if self.address else ()), ("sentinels", self.sentinels)):
            for address in addresses:
                host_and_port(address, field)

    @property
    def is_set(self) -> bool:
        """Is there a Redis at all?"""
        return bool(self.address or self.sentinels)

    @property
    def shelves(self) -> int:
        """The number of shelves that keys are spread over."""
        return SHELVES if self.cluster else 1


def host_and_port(address: str, field: str) -> tuple[str, int]:
    """Read "host:port" or "[host]:port".

    Raises:
        Fault: SETTING_INVALID.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise Fault(Reason.SETTING_INVALID, f"{address!r} is not host and port: 10.0.0.7:6379.", field=field)
    return host.removeprefix("[").removesuffix("]"), int(port)


def read_password(settings: RedisSettings) -> str:
    """Read the password, empty where there is none.

    Raises:
        Fault: FILE_UNREADABLE.
    """
    if not settings.password_file:
        return ""
    try:
        return Path(settings.password_file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Fault(
            Reason.FILE_UNREADABLE,
            f"{settings.password_file}: {error}.",
            field="password_file",
            variables={"path": settings.password_file},
        ) from None
