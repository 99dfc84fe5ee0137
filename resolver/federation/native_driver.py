"""The driver for nodes of this project over a native channel: by BatchResolve, with answers left as they came."""

from resolver.clock import Clock
from resolver.federation.driver import Question, Reply
from resolver.federation.messages import BATCH, NODE, Replies, batch_request, seconds_left
from resolver.federation.usual import native_split
from resolver.routes import Endpoint
from resolver.rpc.native_channel import NativeChannel
from resolver.rpc.tls import ClientTls
from resolver.trust.answers import AnswerVerifier


class NativeDriver:
    """Asks over one channel."""

    def __init__(
        self, endpoint: Endpoint, tls: ClientTls | None, clock: Clock, verifier: AnswerVerifier | None = None
    ) -> None:
        """Make it within the running loop.

        Raises:
            Fault: FILE_UNREADABLE naming a TLS file.
        """
        self._monotonic = clock.monotonic
        self._replies = Replies(verifier, native_split())
        self._channel = NativeChannel(endpoint.address, endpoint.port, clock, tls=tls, tls_name=endpoint.tls_name)

    async def ask(self, question: Question) -> Reply:
        request = batch_request(question)
        within = seconds_left(question, self._monotonic())
        response, beside = await self._channel.call(BATCH, request, within)
        return self._replies.of_call(question, request, response, beside)

    async def probe(self, within: float) -> None:
        await self._channel.call(NODE, b"", within)

    async def close(self, grace: float = 0) -> None:
        await self._channel.close(grace)
