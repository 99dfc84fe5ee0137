"""Long calls to one endpoint: a question, its answer, then the next question. As many as are under way at once.

A message in a long call costs both sides about half of what a call costs, so that is how a child is asked; by a call
of its own only when all long calls are busy, or when the child does not know them.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc

from resolver.errors import Fault, Reason
from resolver.rpc.errors import fault_of_rpc_error

TALKS: Final = 16
"""Long calls that are open at once, at most."""


class Talks:
    """Sends messages by long calls, which `open_call` begins.

    Failure policy: where a long call ends instead of answering, the question is to be asked by a call of its own,
    unless the child was not reached at all. Nothing is tried again here.
    """

    def __init__(self, open_call: Callable[[], Any]) -> None:
        self._open_call = open_call
        self._idle: list[_Talk] = []
        self._busy = 0
        self._is_known = True

    async def send(self, message: bytes, within: float) -> bytes | None:
        """Give the answer to a message; None where it is to be asked in another way.

        Raises:
            Fault: DEADLINE_SPENT, or what gRPC says of the call.
        """
        if self._idle:
            talk = self._idle.pop()
        elif self._is_known and self._busy < TALKS:
            talk = _Talk(self._open_call())
        else:
            return None
        self._busy += 1
        try:
            answer = await talk.send(message, within)
        except grpc.aio.AioRpcError as error:
            code = error.code()
            self._is_known &= code is not grpc.StatusCode.UNIMPLEMENTED
            if code is grpc.StatusCode.UNAVAILABLE and not talk.has_answered:
                raise fault_of_rpc_error(error) from None
            # What a child says of a question stands in messages: this is the end of the call, whatever it was.
            return None
        finally:
            self._busy -= 1
            if talk.is_idle:
                self._idle.append(talk)
        return answer

    def close(self) -> None:
        """Begin no further call, and end those that nobody waits for."""
        self._is_known = False
        while self._idle:
            self._idle.pop().close()


class _Talk:
    """One long call."""

    __slots__ = ("_call", "_is_late", "has_answered", "is_idle")

    def __init__(self, call: Any) -> None:
        self._call = call
        self._is_late = False
        self.has_answered = self.is_idle = False

    async def send(self, message: bytes, within: float) -> bytes | None:
        """Give the answer to a message; None where the child has ended the call instead.

        Whoever does not wait for the answer ends the call: nobody else must get it.
        """
        self.is_idle = False
        call = self._call
        timer = asyncio.get_running_loop().call_later(within, self._give_up)
        try:
            await call.write(message)
            answer: bytes | Any = await call.read()
        except asyncio.InvalidStateError:
            # It was over before the message was sent.
            return None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not this task was cancelled, but the call: by the timer, or with the channel.
            if self._is_late:
                raise Fault(Reason.DEADLINE_SPENT) from None
            raise Fault(Reason.NODE_UNREACHABLE, "The connection was given up.") from None
        else:
            if answer is grpc.aio.EOF:
                return None
            self.has_answered = self.is_idle = True
            return bytes(answer)
        finally:
            timer.cancel()
            if not self.is_idle:
                call.cancel()

    def close(self) -> None:
        """End it."""
        self._call.cancel()

    def _give_up(self) -> None:
        self._is_late = True
        self._call.cancel()
