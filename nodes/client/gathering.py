"""Single lookups that run at the same time, gathered into batches. How a batch is asked for stands elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

from msgspec import Struct

from resolver.answer import Answer
from resolver.bounds import BATCH_IDENTIFIERS
from resolver.errors import Fault

BATCHES_AT_ONCE: Final = 4
"""Batches in flight; what is asked meanwhile waits, and goes together."""

_Options = TypeVar("_Options", bound=Struct)

Future = asyncio.Future[Answer]


class Gathering(Generic[_Options]):
    """What was asked for and is not on its way yet: by options, since a batch shares them, then by identifier.

    A batch leaves at the end of the turn of the loop in which it began, or when there is room for another one. Who
    asks for what is on its way or waits already shares its answer. A caller that goes away ends nothing.
    """

    def __init__(
        self, ask: Callable[[Sequence[str], _Options], Awaitable[Sequence[Answer | Fault]]], *, at_once: int
    ) -> None:
        """`ask` gives an answer or a Fault for each identifier, in order; it raises nothing."""
        self._ask = ask
        self._at_once = at_once
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[_Options, dict[str, list[Future]]] = {}
        self._last: tuple[_Options | None, dict[str, list[Future]]] = (None, {})
        self._flights: set[asyncio.Task[None]] = set()
        self._is_called = False

    def join(self, identifier: str, options: _Options) -> Future:
        """Ask for this one; its answer, or its Fault, will be in the future."""
        future: Future = self._loop.create_future()
        last, waiting = self._last
        if last is not options:
            waiting = self._batch(options)
        futures = waiting.get(identifier)
        if futures is None:
            waiting[identifier] = [future]
        else:
            futures.append(future)
        return future

    async def close(self) -> None:
        """End what is in flight or waits."""
        for flight in self._flights:
            flight.cancel()
        await asyncio.gather(*self._flights, return_exceptions=True)
        for waiting in self._waiting.values():
            for futures in waiting.values():
                for future in futures:
                    future.cancel()
        self._waiting.clear()

    def _batch(self, options: _Options) -> dict[str, list[Future]]:
        """Give the batch that these options go into. It is remembered: comparing options costs more than a lookup."""
        waiting = self._waiting.get(options)
        if waiting is None:
            waiting = self._waiting[options] = {}
            self._call_soon()
        self._last = (options, waiting)
        return waiting

    def _call_soon(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        """Send batches as long as there is room for them."""
        self._is_called = False
        self._last = (None, {})
        while self._waiting and len(self._flights) < self._at_once:
            options = next(iter(self._waiting))
            batch = self._waiting.pop(options)
            if len(batch) > BATCH_IDENTIFIERS:
                # The rest queues behind those who want something else.
                self._waiting[options] = dict(islice(batch.items(), BATCH_IDENTIFIERS, None))
                batch = dict(islice(batch.items(), BATCH_IDENTIFIERS))
            flight = self._loop.create_task(self._fly(batch, options))
            self._flights.add(flight)
            flight.add_done_callback(self._land)

    def _land(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        if self._waiting:
            self._call_soon()

    async def _fly(self, batch: dict[str, list[Future]], options: _Options) -> None:
        try:
            answers = await self._ask(list(batch), options)
        except BaseException:
            for futures in batch.values():
                for future in futures:
                    future.cancel()
            raise
        for futures, answer in zip(batch.values(), answers, strict=True):
            for future in futures:
                if future.done():
                    continue  # whoever asked went away
                if isinstance(answer, Fault):
                    # One for each: a raised exception gathers the way that it was raised.
                    future.set_exception(answer.anew())
                else:
                    future.set_result(answer)
