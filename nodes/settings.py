"""All settings of a node. Each section stands beside the code that it steers; here they are only put together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

from nodes import layers
from nodes.listening import Address
from nodes.logs import LogSettings
from nodes.probing.settings import ProbingSettings
from nodes.serving.restarts import RestartSettings
from nodes.upward.identity import check_upward
from nodes.upward.settings import UpwardSettings
from registry.keyring import check_journal_key, read_operators
from registry.settings import RegistrySettings
from resolver.cache.memory import MemorySettings
from resolver.cache.redis.settings import RedisSettings
from resolver.chain import ChainSettings
from resolver.errors import Fault, Reason
from resolver.federation.settings import FederationSettings
from resolver.following import FollowingSettings
from resolver.front.core import FrontSettings
from resolver.front.native_front import NativeSettings, is_installed
from resolver.rpc.serving import ServingSettings
from resolver.rpc.tls import ServerTls, read_server
from resolver.store.cassandra.settings import CassandraSettings
from resolver.store.shared import SharedSettings

WORKERS_MAX: Final = 1_024

TIER: Final = "tier"
"""The one setting that the command alone says."""


class NodeSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be set."""

    tier: Literal["top", "secondary", "enterprise"] = "top"
    """What the node is. The command says so (`topnode serve TIER`), and neither a file nor the environment."""

    node: str = "top"
    """The node's identifier, by which its answers name it."""

    data: Path = Path("topnode-data")
    """The folder that holds the store."""

    workers: int | None = None
    """How many resolver processes; 0: everything in one process; not set: one for each usable core."""

    admin: str = "127.0.0.1:3642"
    """Host and port of the admin endpoint (metrics, health, readiness); port 0: any free one. Everybody who
    can reach it may look: keep it where only operators are."""

    serving: ServingSettings = ServingSettings()
    front: FrontSettings = FrontSettings()
    native: NativeSettings = NativeSettings()
    chain: ChainSettings = ChainSettings()
    memory: MemorySettings = MemorySettings()
    following: FollowingSettings = FollowingSettings()
    federation: FederationSettings = FederationSettings()
    probing: ProbingSettings = ProbingSettings()
    registry: RegistrySettings = RegistrySettings()
    upward: UpwardSettings = UpwardSettings()
    cassandra: CassandraSettings = CassandraSettings()
    redis: RedisSettings = RedisSettings()
    shared: SharedSettings = SharedSettings()
    log: LogSettings = LogSettings()
    restarts: RestartSettings = RestartSettings()

    def __post_init__(self) -> None:
        if not self.node or not self.node.isprintable():
            raise Fault(Reason.SETTING_INVALID, "A node's identifier is printable text, and not empty.", field="node")
        if self.tier != "top" and self.node == "top":
            detail = f"A node of the tier {self.tier} has an identifier of its own, such as 88.111."
            raise Fault(Reason.SETTING_INVALID, detail, field="node")
        if self.workers is not None and not 0 <= self.workers <= WORKERS_MAX:
            raise Fault(Reason.SETTING_INVALID, f"Resolvers are 0 to {WORKERS_MAX}.", field="workers")
        if self.cassandra.hosts and self.workers == 0:
            raise Fault(Reason.SETTING_INVALID, "On a ring there is a resolver process at least.", field="workers")

    @property
    def has_native(self) -> bool:
        """Does the native front serve? Without it everything works as well, and slower."""
        return self.native.enabled and is_installed()

    @property
    def has_prober(self) -> bool:
        """Does a node with these settings probe? An enterprise has nobody below it."""
        return self.probing.enabled and self.tier != "enterprise"


def read(
    config: Path | None, environment: Mapping[str, str], options: Mapping[str, object | None], *, tier: str = "top"
) -> layers.Settled[NodeSettings]:
    """Settle the settings of a node of this tier.

    Defaults, then the file, then the environment, then the options, the last one on top.

    Raises:
        Fault: FILE_UNREADABLE, SETTING_UNKNOWN, SETTING_INVALID.
    """
    files = [] if config is None else [layers.from_toml(NodeSettings, config)]
    sources = [*files, layers.from_environment(NodeSettings, environment)]
    for source in sources:
        if TIER in source.values:
            detail = f"{TIER} ({source.name}) is said by the command: `topnode serve TIER`."
            raise Fault(Reason.SETTING_UNKNOWN, detail, field=TIER, variables={"source": source.name})
    return layers.settle(NodeSettings, [*sources, layers.from_options({**options, TIER: tier})])


def check(settings: NodeSettings) -> None:
    """Check what can be checked without starting: addresses, and the files that are named.

    Raises:
        Fault: SETTING_INVALID, FILE_UNREADABLE, KEY_INVALID.
    """
    Address.from_text(settings.serving.address, field="serving.address")
    Address.from_text(settings.registry.address, field="registry.address")
    Address.from_text(settings.admin, field="admin")
    Address.from_text(settings.front.streaming, field="front.streaming")
    _check_tls(settings.serving.tls, "serving")
    _check_tls(settings.registry.tls, "registry")
    read_operators(settings.registry, settings.data)
    check_journal_key(settings.registry, settings.data, settings.node)
    has_tls = settings.serving.tls is not None
    check_upward(settings.upward, settings.data, settings.serving.address, tier=settings.tier, has_tls=has_tls)
    if settings.redis.is_set and not settings.cassandra.hosts:
        sentence = "A shared cache stands in front of a ring, and cassandra.hosts names none."
        raise Fault(Reason.SETTING_INVALID, sentence, field="redis")
    if settings.cassandra.hosts and not settings.registry.key:
        sentence = "Whoever becomes the writer of a ring signs its journal with the same key: name the key's file."
        raise Fault(Reason.SETTING_INVALID, sentence, field="registry.key")
    if settings.cassandra.hosts and settings.upward.is_set and not settings.upward.key:
        sentence = (
            "Whoever becomes the writer of a ring signs to the node above with the same key: name the key's file."
        )
        raise Fault(Reason.SETTING_INVALID, sentence, field="upward.key")


def _check_tls(tls: ServerTls | None, section: str) -> None:
    if tls is None:
        return
    try:
        read_server(tls)
    except Fault as fault:
        raise fault.anew(field=f"{section}.{fault.field}") from None
