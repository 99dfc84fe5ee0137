"""Long calls: a message, its answer, and only then the next message, until either side has had enough.

A message costs grpc.aio about half of what a call costs: nothing is set up for it, and nothing is taken down.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import grpc

from resolver.errors import Fault
from resolver.rpc.calls import Context, Method

Turn = Callable[[bytes, Context], Awaitable[bytes]]
"""What answers one message; what goes wrong is a Fault."""

Refusal = Callable[[Fault], bytes]
"""Makes the message that says so, for the call goes on."""

_EOF: Final[object] = grpc.aio.EOF


def _note(talk: "asyncio.Task[None]") -> None:
    """Take note of how it ended: where its caller went away, nobody else does."""
    if not talk.cancelled():
        talk.exception()


class Turns:
    """The long calls of one server. Drained, it takes no further message, and those that wait for one end well."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Task[None]] = set()
        self._is_draining = False

    def serve(self, method: Method, turn: Turn, refusal: Refusal) -> "grpc.RpcMethodHandler[bytes, bytes]":
        """Make a method out of what answers one of its messages. Each message counts as a call of it."""

        async def answered(octets: bytes, context: Context) -> bytes:
            began = method.monotonic()
            try:
                answer = await turn(octets, context)
            except BaseException as error:  # noqa: BLE001 - the outermost; told apart there
                return refusal(method.refuse(error, began))
            method.ended(began)
            return answer

        async def call(_requests: AsyncIterator[bytes], context: Context) -> None:
            # In a task of its own, so that a drain ends the waiting for a message and not the call: its caller is
            # told that it is over, and not that something went wrong.
            talk = asyncio.ensure_future(self._talk(answered, context))
            try:
                await asyncio.wait((talk,))
            finally:
                talk.cancel()
                talk.add_done_callback(_note)
            if not talk.cancelled():
                talk.result()

        return grpc.stream_stream_rpc_method_handler(call)

    def drain(self) -> None:
        """End all calls: at once those that wait for a message, the others behind their answer."""
        self._is_draining = True
        for talk in self._waiting:
            talk.cancel()

    async def _talk(self, turn: Turn, context: Context) -> None:
        talk = asyncio.current_task()
        assert talk is not None  # noqa: S101 - a coroutine runs in a task; this tells the type checker
        waiting = self._waiting
        try:
            while not self._is_draining:
                waiting.add(talk)
                octets = await context.read()
                waiting.discard(talk)
                if octets is _EOF:
                    return
                await context.write(await turn(octets, context))
        finally:
            waiting.discard(talk)
