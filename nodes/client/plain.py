"""The plain clients: the same methods, blocking, for programs without an event loop. Nothing is done here.

Each has a thread with an event loop, in which the real client runs. Threads may share one: what they look up at the
same time travels in batches.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Protocol, Self, TypeVar

from nodes.client.registering import RegistryClient, RegistryClientSettings
from nodes.client.resolving import Client, ClientSettings
from nodes.client.signing import Signer

LISTED_AT_ONCE: Final = 1_000
"""What a listing hands from thread to thread at once."""


class _Closable(Protocol):
    async def close(self) -> None: ...


_Real = TypeVar("_Real", bound=_Closable)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class _Plain(Generic[_Real]):
    """A real client in a loop of its own. `real` is that client, for what it counts; it is used in its loop only."""

    def __init__(self, make: Callable[[], _Real]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="topnode-client", daemon=True)
        self._thread.start()
        try:
            self.real = self.wait(_made(make))
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight end."""
        if not self.is_closed:
            self.wait(self.real.close())
            self._stop()

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def wait(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run it in the loop, and wait for what comes of it; an interrupted wait ends it."""
        running = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


async def _made(make: Callable[[], _Real]) -> _Real:
    return make()


def _plain(
    method: Callable[Concatenate[_Real, _Arguments], Coroutine[Any, Any, _Result]],
) -> Callable[Concatenate[_Plain[_Real], _Arguments], _Result]:
    """Make the blocking method of a method."""

    @wraps(method)
    def wait(self: _Plain[_Real], /, *arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        return self.wait(method(self.real, *arguments, **named))

    return wait


def _plain_iterator(
    method: Callable[Concatenate[_Real, _Arguments], AsyncIterator[_Result]], *, at_once: int = 1
) -> Callable[Concatenate[_Plain[_Real], _Arguments], Iterator[_Result]]:
    """Make the blocking method of a method that gives one after another."""

    @wraps(method)
    def iterate(self: _Plain[_Real], /, *arguments: _Arguments.args, **named: _Arguments.kwargs) -> Iterator[_Result]:
        results = method(self.real, *arguments, **named)
        try:
            while some := self.wait(_next(results, at_once)):
                yield from some
        finally:
            # A closed client has ended it already.
            if not self.is_closed:
                self.wait(_end(results))

    return iterate


async def _next(results: AsyncIterator[_Result], count: int) -> list[_Result]:
    some: list[_Result] = []
    async for result in results:
        some.append(result)
        if len(some) == count:
            break
    return some


async def _end(results: AsyncIterator[Any]) -> None:
    close: Callable[[], Awaitable[None]] | None = getattr(results, "aclose", None)
    if close is not None:
        await close()


class PlainClient(_Plain[Client]):
    """`Client`, blocking."""

    def __init__(self, address: str, settings: ClientSettings | None = None, *, signer: Signer | None = None) -> None:
        """As `Client`."""
        super().__init__(lambda: Client(address, settings, signer=signer))

    resolve = _plain(Client.resolve)
    resolve_traced = _plain(Client.resolve_traced)
    resolve_batch = _plain(Client.resolve_batch)
    list_handles = _plain_iterator(Client.list_handles, at_once=LISTED_AT_ONCE)
    node_info = _plain(Client.node_info)


class PlainRegistryClient(_Plain[RegistryClient]):
    """`RegistryClient`, blocking."""

    def __init__(
        self, address: str, signer: Signer | None = None, settings: RegistryClientSettings | None = None
    ) -> None:
        """As `RegistryClient`."""
        super().__init__(lambda: RegistryClient(address, signer, settings))

    register = _plain(RegistryClient.register)
    register_all = _plain_iterator(RegistryClient.register_all)
    apply = _plain(RegistryClient.apply)
    review = _plain(RegistryClient.review)
    suspend = _plain(RegistryClient.suspend)
    resume = _plain(RegistryClient.resume)
    revoke = _plain(RegistryClient.revoke)
    rotate = _plain(RegistryClient.rotate)
    apply_for_prefix = _plain(RegistryClient.apply_for_prefix)
    allocate = _plain(RegistryClient.allocate)
    set_prefix_state = _plain(RegistryClient.set_prefix_state)
    renew_prefix = _plain(RegistryClient.renew_prefix)
    set_route = _plain(RegistryClient.set_route)
    send = _plain(RegistryClient.send)
    node = _plain(RegistryClient.node)
    prefix = _plain(RegistryClient.prefix)
    nodes = _plain_iterator(RegistryClient.nodes, at_once=LISTED_AT_ONCE)
    listed_nodes = _plain_iterator(RegistryClient.listed_nodes, at_once=LISTED_AT_ONCE)
    receipt = _plain(RegistryClient.receipt)
    checkpoint = _plain(RegistryClient.checkpoint)
