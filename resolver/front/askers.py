"""Who calls: an address for everybody, and an identity for whoever has proven one, by certificate or by signature."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from urllib.parse import unquote

from resolver.errors import Fault, Reason
from resolver.query import Asker
from resolver.rpc.calls import Context
from resolver.trust.queries import QUERY_KEY, QueryVerifier

AskerOf = Callable[[Context, bytes], Asker]
"""Says who calls, by what is known of the call and by the request's bytes."""


def public_asker(context: Context, octets: bytes) -> Asker:  # noqa: ARG001 - an AskerOf's shape
    """Say who calls where clients prove nothing: their address only."""
    return asker_at(context.peer())


def proven_asker(context: Context, octets: bytes) -> Asker:  # noqa: ARG001 - an AskerOf's shape
    """Say who calls, by the verified client certificate: its first alternative name, else its common name."""
    return asker_at(context.peer(), next(iter(context.peer_identities() or ()), b""))


def signing_asker(verifier: QueryVerifier, method: str) -> AskerOf:
    """Make what says who signed a call of this method (its full name); a certificate beside it does not matter.

    It raises a Fault where the signature proves nothing: who signs wants more than the public, and is told why not.
    """

    def asker_of(context: Context, octets: bytes) -> Asker:
        return signer_of(verifier, method, octets, signatures_of(context), peer=context.peer())

    return asker_of


def signer_of(
    verifier: QueryVerifier, method: str, octets: bytes, signatures: Sequence[bytes], *, peer: str
) -> Asker:
    """Say who signed a call of a method (its full name).

    Raises:
        Fault: ENVELOPE_MALFORMED where it is not signed once; as `QueryVerifier.signer`.
    """
    if len(signatures) != 1:
        raise Fault(Reason.ENVELOPE_MALFORMED, "A query is signed once.", field=QUERY_KEY)
    signer = verifier.signer(signatures[0], method, octets)
    return Asker(address_of(peer), signer.name, is_operator=signer.node is None)


def signatures_of(context: Context) -> list[bytes]:
    """Give the signatures that a call carries: one, or none for nearly every call."""
    metadata = context.invocation_metadata() or ()
    return [octets for key, octets in metadata if key == QUERY_KEY and isinstance(octets, bytes)]


def address_of(peer: str) -> str:
    """Cut the address out of what gRPC calls a peer: `ipv4:1.2.3.4:567`, `ipv6:%5B::1%5D:567`, `unix:path`."""
    family, _, rest = peer.partition(":")
    if family not in {"ipv4", "ipv6"}:
        return family
    return unquote(rest).rpartition(":")[0].strip("[]")


@lru_cache(maxsize=8_192)
def asker_at(peer: str, identity: bytes = b"") -> Asker:
    """Say who calls, by what gRPC calls a peer and by the name in its certificate (empty: none)."""
    # By both: a port may come again with another client behind it.
    return Asker(address_of(peer), identity.decode(errors="backslashreplace"))
