"""Who may call the methods that are for operators of a node, beside requests that are journalled."""

from resolver.errors import Fault, Reason
from resolver.rpc.calls import Context
from resolver.trust.queries import QUERY_KEY, QueryVerifier
from resolver.trust.signers import Signer


def signer_of(queries: QueryVerifier, method: str, octets: bytes, context: Context) -> Signer | None:
    """Tell who signed a call of the method with this full name, None where nobody did.

    Raises:
        Fault: as `QueryVerifier.signer`.
    """
    signed = dict(context.invocation_metadata() or ()).get(QUERY_KEY)
    return queries.signer(signed, method, octets) if isinstance(signed, bytes) else None


def check_operator(queries: QueryVerifier, method: str, octets: bytes, context: Context) -> None:
    """Check that an operator calls: by a signature, or through a Unix socket, which only the node's user can reach.

    Raises:
        Fault: NOT_AUTHORISED; as `signer_of`.
    """
    if context.peer().startswith("unix:"):
        return
    # By the key, and not by the name: a node may have had the name before there was such an operator.
    signer = signer_of(queries, method, octets, context)
    if signer is None or signer.node is not None:
        raise Fault(Reason.NOT_AUTHORISED, f"Operators of this node may; they sign in the metadata {QUERY_KEY}.")
