"""Where a store is: it can be opened by whoever writes, closed, and opened again. One class for each kind."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeAlias

from resolver.clock import SystemClock
from resolver.store import StoreReader, StoreWriter
from resolver.store.cassandra.writer import Amounts, CassandraWriter
from resolver.store.counts import Counted
from resolver.store.embedded import EmbeddedWriter, Owner
from resolver.store.embedded.writing import Retention
from tests.keyspaces import Keyspace, Keyspaces


class Store(StoreReader, StoreWriter, Counted, Protocol):
    """A store, read and written."""


class Place(Protocol):
    """Where one store is."""

    async def open(self, *, changes_kept: int = 1_000, answers_kept: int = 1_000) -> Store:
        """Close it where it is open, and open it."""

    async def close(self) -> None:
        """Close it, if it is open."""


NewPlace: TypeAlias = Callable[[], AbstractAsyncContextManager[Place]]


class EmbeddedPlace:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: EmbeddedWriter | None = None

    async def open(self, *, changes_kept: int = 1_000, answers_kept: int = 1_000) -> Store:
        await self.close()
        self._opened = EmbeddedWriter.open(
            self._folder,
            owner=Owner.here("contract suite", clock=SystemClock()),
            retention=Retention(changes=changes_kept, answers=answers_kept),
        )
        return self._opened

    async def close(self) -> None:
        if self._opened is not None:
            self._opened.close()


class CassandraPlace:
    """A keyspace."""

    def __init__(self, keyspace: Keyspace) -> None:
        self._keyspace = keyspace
        self._opened: CassandraWriter | None = None

    async def open(self, *, changes_kept: int = 1_000, answers_kept: int = 1_000) -> Store:
        await self.close()
        self._opened = self._keyspace.writer(amounts=Amounts(changes=changes_kept, answers=answers_kept))
        await self._opened.begin()
        return self._opened

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()


@asynccontextmanager
async def embedded_place() -> AsyncIterator[Place]:
    """Give a place in a folder that goes away again."""
    with TemporaryDirectory() as folder:
        place = EmbeddedPlace(Path(folder) / "store")
        try:
            yield place
        finally:
            await place.close()


@asynccontextmanager
async def cassandra_place(keyspaces: Keyspaces) -> AsyncIterator[Place]:
    """Give a place in a keyspace that is emptied again."""
    with keyspaces.one() as keyspace:
        place = CassandraPlace(keyspace)
        try:
            yield place
        finally:
            await place.close()
