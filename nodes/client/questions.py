"""Questions to one service of a node: asked again where that helps, and signed where there is a signer."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from nodes.client.calls import NO_METADATA, Calls, Metadata, Method
from nodes.client.signing import NodeTime, Signer
from resolver.errors import Fault

_Response = TypeVar("_Response", bound=Message)


class Questions:
    """Asks. `audience` gives the identifier of the node, which a signature names."""

    def __init__(
        self,
        calls: Calls,
        signer: Signer | None,
        time: NodeTime,
        audience: Callable[[], Awaitable[str]],
        timeout: float,
    ) -> None:
        self.signer = signer
        self._calls = calls
        self._time = time
        self._audience = audience
        self._timeout = timeout

    async def ask(self, name: str, method: Method[_Response], request: Message) -> _Response:
        """Ask the method of this name.

        Raises:
            Fault: the node's, or NODE_UNREACHABLE, DEADLINE_SPENT.
        """
        octets = request.SerializeToString()
        try:
            return await self._ask(name, method, octets)
        except Fault as fault:
            if not self._time.correct(fault):
                raise
        return await self._ask(name, method, octets)

    async def signature(self, name: str, request: bytes) -> Metadata:
        """Give what a request says of who asks. A retry says the same: it changes nothing, so it may be repeated."""
        if self.signer is None:
            return NO_METADATA
        node = await self._audience()
        return self.signer.query(self._calls.name(name), request, node=node, now=self._time.now())

    async def _ask(self, name: str, method: Method[_Response], octets: bytes) -> _Response:
        metadata = await self.signature(name, octets)
        return await self._calls.call(method, octets, self._timeout, metadata)
