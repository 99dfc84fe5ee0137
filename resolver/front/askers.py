"""Who calls: an address for everybody, and an identity for whoever has proven one."""

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import unquote

from resolver.query import Asker
from resolver.rpc.calls import Context

AskerOf = Callable[[Context], Asker]


def public_asker(context: Context) -> Asker:
    """Say who calls where clients prove nothing: their address only."""
    return _asker_at(context.peer())


def proven_asker(context: Context) -> Asker:
    """Say who calls, by the verified client certificate: its first alternative name, else its common name."""
    return _asker_at(context.peer(), next(iter(context.peer_identities() or ()), b""))


def address_of(peer: str) -> str:
    """Cut the address out of what gRPC calls a peer: `ipv4:1.2.3.4:567`, `ipv6:%5B::1%5D:567`, `unix:path`."""
    family, _, rest = peer.partition(":")
    if family not in {"ipv4", "ipv6"}:
        return family
    return unquote(rest).rpartition(":")[0].strip("[]")


@lru_cache(maxsize=8_192)
def _asker_at(peer: str, identity: bytes = b"") -> Asker:
    # By both: a port may come again with another client behind it.
    return Asker(address_of(peer), identity.decode(errors="backslashreplace"))
