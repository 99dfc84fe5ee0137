"""How the ring is reached: addresses, data centre, names and files. What is written where stands in `layout`."""

import re
from typing import Final

from msgspec import Struct

from resolver.bounds import BATCH_IDENTIFIERS
from resolver.errors import Fault, Reason
from resolver.units import Duration

QUERIES_MIN: Final = 8
"""Fewer queries than this in flight leave a coordinator waiting: it works through one `IN` serially."""

_KEYSPACE: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")
_REPLICAS_MAX: Final = 64


class CassandraTls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The files by which nodes of the ring are known, and by which this process proves itself. PEM."""

    server_ca: str = ""
    """Path of the authorities of the nodes' certificates. Empty: those of the operating system."""

    certificate: str = ""
    """Path of this process's certificate, where nodes ask for one."""

    key: str = ""
    """Path of that certificate's private key, not encrypted."""

    server_name: str = ""
    """The name that stands in the certificate of every node. Empty: each node's address."""


class LeaseSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long writers are waited for."""

    lease: Duration = Duration(6)
    """A writer that has given no sign of life for so long is replaced by one that stands by."""

    beat_every: Duration = Duration(1)
    """How often a writer gives one, and how often others look."""

    patience: Duration = Duration(10)
    """A commit that gets no answer for so long is given up; the next one finds out what became of it."""

    def __post_init__(self) -> None:
        if not 0 < self.beat_every * 3 <= self.lease:
            raise Fault(Reason.SETTING_INVALID, "A lease is at least three times the beat.", field="lease")
        if self.patience <= 0:
            raise Fault(Reason.SETTING_INVALID, "Patience is above 0.", field="patience")


class CassandraSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which ring, and how it is asked."""

    hosts: tuple[str, ...] = ()
    """Addresses of some nodes, by which the others are found. None: the store is the embedded one."""

    port: int = 9042
    """The port on which all nodes speak CQL."""

    datacenter: str = "datacenter1"
    """The data centre whose nodes are asked, as `nodetool status` names it."""

    keyspace: str = "topnode"
    """The keyspace that holds the store."""

    replicas: int = 3
    """Copies of each row in this data centre, when the keyspace is made."""

    user: str = ""
    """The role to log in with; empty: no login."""

    password_file: str = ""
    """Path of the file that holds the role's password and nothing else."""

    tls: CassandraTls | None = None
    """Left out: connections are not encrypted."""

    deadline: Duration = Duration(2)
    """What has not been read by then counts as not answered. A single write likewise; a commit tries again."""

    queries: int = 64
    """Queries for records that are in flight at once."""

    waiting: int = 100_000
    """Keys that may wait for one of these queries."""

    lease: LeaseSettings = LeaseSettings()

    def __post_init__(self) -> None:
        if not 0 < self.port < 65_536:
            raise Fault(Reason.SETTING_INVALID, "A port is 1 to 65535.", field="port")
        if not self.datacenter:
            raise Fault(Reason.SETTING_INVALID, "A data centre has a name.", field="datacenter")
        if not _KEYSPACE.fullmatch(self.keyspace):
            sentence = "A keyspace is 1 to 48 of a to z, 0 to 9 and _, and begins with a letter."
            raise Fault(Reason.SETTING_INVALID, sentence, field="keyspace")
        if not 0 < self.replicas <= _REPLICAS_MAX:
            raise Fault(Reason.SETTING_INVALID, f"Replicas are 1 to {_REPLICAS_MAX}.", field="replicas")
        if bool(self.user) != bool(self.password_file):
            raise Fault(Reason.SETTING_INVALID, "A user and a password go together.", field="password_file")
        if self.deadline <= 0:
            raise Fault(Reason.SETTING_INVALID, "A deadline is above 0.", field="deadline")
        if self.queries < QUERIES_MIN:
            raise Fault(Reason.SETTING_INVALID, f"Fewer than {QUERIES_MIN} leave the ring idle.", field="queries")
        if self.waiting < BATCH_IDENTIFIERS:
            raise Fault(Reason.SETTING_INVALID, "At least one whole batch must fit (1,000).", field="waiting")
