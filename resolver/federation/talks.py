"""Long calls to one endpoint: a question, its answer, then the next question. As many as are under way at once.

A message in a long call costs both sides about half of what a call costs, so that is how a child is asked; by a call
of its own only when all long calls are busy, or when the child does not know them.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.rpc.errors import fault_of_rpc_error

TALKS: Final = 16
"""Long calls that are open at once, at most."""

TALK_SECONDS: Final = 60.0
"""How long a long call is gone on with: the next one may find another connection, where the child wants this to end.

So long, too, a child is not asked again whether it knows long calls."""


class Talks:
    """Sends messages by long calls, which `open_call` begins.

    Failure policy: where a long call ends instead of answering, the question is to be asked by a call of its own,
    unless the child was not reached at all. Nothing is tried again here.
    """

    def __init__(self, open_call: Callable[[], Any], clock: Clock) -> None:
        self._open_call = open_call
        self._monotonic = clock.monotonic
        self._idle: list[_Talk] = []
        self._busy = 0
        self._begin_from = float("-inf")
        self._is_closed = False

    async def send(self, message: bytes, within: float) -> bytes | None:
        """Give the answer to a message; None where it is to be asked in another way.

        Raises:
            Fault: DEADLINE_SPENT, or what gRPC says of the call.
        """
        talk = self._talk()
        if talk is None:
            return None
        self._busy += 1
        try:
            answer = await talk.send(message, within)
        except grpc.aio.AioRpcError as error:
            code = error.code()
            if code is grpc.StatusCode.UNIMPLEMENTED:
                self._begin_from = self._monotonic() + TALK_SECONDS
            elif code is grpc.StatusCode.UNAVAILABLE and not talk.has_answered:
                raise fault_of_rpc_error(error) from None
            # What a child says of a question stands in messages: this is the end of the call, whatever it was.
            return None
        finally:
            self._busy -= 1
            if talk.is_idle:
                self._put_back(talk)
        return answer

    def close(self) -> None:
        """Begin no further call, and end those that nobody waits for."""
        self._begin_from, self._is_closed = float("inf"), True
        while self._idle:
            self._idle.pop().close()

    def _talk(self) -> "_Talk | None":
        """Give a long call that nobody uses, the one that was used last, or a new one where there may be one more."""
        now = self._monotonic()
        while self._idle:
            talk = self._idle.pop()
            if now < talk.until:
                return talk
            talk.close()
        if self._busy >= TALKS or now < self._begin_from:
            return None
        return _Talk(self._open_call(), now + TALK_SECONDS)

    def _put_back(self, talk: "_Talk") -> None:
        if self._is_closed:
            talk.close()
        else:
            self._idle.append(talk)


class _Talk:
    """One long call, to be gone on with until then (monotonic)."""

    __slots__ = ("_call", "has_answered", "is_idle", "until")

    def __init__(self, call: Any, until: float) -> None:
        self.until = until
        self.has_answered = self.is_idle = False
        self._call = call

    async def send(self, message: bytes, within: float) -> bytes | None:
        """Give the answer to a message; None where the child has ended the call instead.

        Whoever does not wait for the answer ends the call: nobody else must get it.
        """
        self.is_idle = False
        call = self._call
        try:
            # It cancels whoever waits, and not only the call: gRPC forgets who waits for a connection to be made.
            async with asyncio.timeout(within):
                await call.write(message)
                answer: Any = await call.read()
        except TimeoutError:
            raise Fault(Reason.DEADLINE_SPENT) from None
        except asyncio.InvalidStateError:
            # It was over before the message was sent.
            return None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not this task was cancelled: the channel was closed under the call.
            raise Fault(Reason.NODE_UNREACHABLE, "The connection was given up.") from None
        else:
            if answer is grpc.aio.EOF:
                return None
            self.has_answered = self.is_idle = True
            return bytes(answer)
        finally:
            if not self.is_idle:
                call.cancel()

    def close(self) -> None:
        """End it."""
        self._call.cancel()
