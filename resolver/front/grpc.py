"""The gRPC front by grpcio: calls in, what the core answers out. It is there wherever Python is."""

import grpc
from prometheus_client import CollectorRegistry

from resolver.clock import Clock
from resolver.front.askers import AskerOf, proven_asker, public_asker, signatures_of, signing_asker
from resolver.front.core import ALLOWED, SERVICE, Answer, Call, Core, turn_refusal
from resolver.query import Asker
from resolver.rpc.calls import Body, Calls, Context, Method, too_large
from resolver.rpc.serving import Server
from resolver.rpc.turns import Turn
from resolver.trust.queries import QUERY_KEY, QueryVerifier


class GrpcFront:
    """Serves topnode.resolver.v1.ResolverService on a server of `resolver.rpc`."""

    def __init__(self, core: Core, *, signatures: QueryVerifier, clock: Clock, registry: CollectorRegistry) -> None:
        self._core = core
        self._signatures = signatures
        self._monotonic = clock.monotonic
        self.calls = Calls("resolver", clock, registry)

    def add_to(self, server: Server) -> None:
        """Offer the service on a server that has not started."""
        asker_of = proven_asker if server.proves_clients else public_asker
        calls, core = self.calls, self._core
        resolve = calls.method("Resolve"), core.resolve
        batch = calls.method("BatchResolve"), core.batch_resolve
        methods = {
            "Resolve": self._hot(*resolve, asker_of),
            "BatchResolve": self._hot(*batch, asker_of),
            "StreamResolve": server.turns.serve(calls.method("StreamResolve"), self._turn(asker_of), turn_refusal),
            "ListHandles": calls.serve("ListHandles", self._listing(asker_of), ALLOWED["ListHandles"]),
            "GetNodeInfo": calls.serve(
                "GetNodeInfo", self._body(core.get_node_info, asker_of), ALLOWED["GetNodeInfo"]
            ),
        }
        # Signed calls have methods of their own, so that no other call is even asked whether it is signed.
        signed = {
            "Resolve": self._hot(*resolve, self._signer("Resolve")),
            "BatchResolve": self._hot(*batch, self._signer("BatchResolve")),
        }
        server.add(SERVICE, methods, marked=signed, mark=QUERY_KEY)

    def _signer(self, method: str) -> AskerOf:
        return signing_asker(self._signatures, f"{SERVICE}/{method}")

    def _hot(self, method: Method, answer: Answer, asker_of: AskerOf) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Make a hot method: without the coroutines that `Calls.serve` would put around it."""
        monotonic, longest, most = self._monotonic, self._core.longest, ALLOWED[method.name]

        async def served(octets: bytes, context: Context) -> bytes:
            began = monotonic()
            call = None
            try:
                # Before anything is read of it, or proven by it.
                if len(octets) > most:
                    raise too_large(most)
                # None where the caller sets no deadline, whatever the stubs say; 0 where it is past.
                remaining: float | None = context.time_remaining()
                allowed = longest if remaining is None or remaining > longest else remaining
                call = Call(began + allowed, asker_of(context, octets))
                said = await answer(octets, call)
            except BaseException as error:  # noqa: BLE001 - the outermost; told apart there
                if call and call.beside:
                    context.set_trailing_metadata(call.beside)
                await method.failed(error, began, context)
            if call.beside:
                context.set_trailing_metadata(call.beside)
            method.ended(began)
            return said

        return grpc.unary_unary_rpc_method_handler(served)

    def _turn(self, asker_of: AskerOf) -> Turn:
        body, most = self._body(self._core.stream_resolve, asker_of), ALLOWED["StreamResolve"]

        async def turn(octets: bytes, context: Context) -> bytes:
            if len(octets) > most:
                raise too_large(most)
            return await body(octets, context)

        return turn

    def _listing(self, asker_of: AskerOf) -> Body:
        signer = self._signer("ListHandles")

        def who(context: Context, octets: bytes) -> Asker:
            return (signer if signatures_of(context) else asker_of)(context, octets)

        return self._body(self._core.list_handles, who)

    def _body(self, answer: Answer, asker_of: AskerOf) -> Body:
        async def body(octets: bytes, context: Context) -> bytes:
            return await answer(octets, Call(self._monotonic() + self._core.longest, asker_of(context, octets)))

        return body
