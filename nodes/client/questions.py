"""Questions to one service of a node: asked again where that helps, and signed where there is a signer."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from nodes.client.calls import NO_METADATA, Calls, Metadata, Method
from nodes.client.retries import Patience
from nodes.client.signing import NodeTime, Signer
from resolver.errors import Fault

_Response = TypeVar("_Response", bound=Message)


class Questions:
    """Asks. `audience` gives, within so many seconds, the identifier of the node, which a signature names."""

    def __init__(
        self,
        calls: Calls,
        signer: Signer | None,
        time: NodeTime,
        audience: Callable[[float], Awaitable[str]],
        timeout: float,
    ) -> None:
        self.signer = signer
        self._calls = calls
        self._time = time
        self._audience = audience
        self._timeout = timeout

    async def ask(self, name: str, method: Method[_Response], request: Message) -> _Response:
        """Ask the method of this name; all that this needs takes the time of one call at most.

        Raises:
            Fault: the node's, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        octets, patience = request.SerializeToString(), self.patience()
        try:
            return await self._ask(name, method, octets, patience)
        except Fault as fault:
            if not self._time.correct(fault):
                raise
        return await self._ask(name, method, octets, patience)

    def patience(self) -> Patience:
        """Begin the time that a call may take."""
        return Patience(self._calls.clock, self._timeout, self._calls.counts)

    async def signature(self, name: str, request: bytes, seconds: float) -> Metadata:
        """Give, within so many seconds, what a request says of who asks.

        A retry says the same: it changes nothing, so it may be repeated.

        Raises:
            Fault: of the question who the node is.
        """
        if self.signer is None:
            return NO_METADATA
        node = await self._audience(seconds)
        return self.signer.query(self._calls.name(name), request, node=node, now=self._time.now())

    async def _ask(self, name: str, method: Method[_Response], octets: bytes, patience: Patience) -> _Response:
        metadata = await self.signature(name, octets, patience.left)
        return await self._calls.call(method, octets, patience.left, metadata)
