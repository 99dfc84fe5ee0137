"""A store in a dict: a whole implementation of what is read, small enough to be seen through, and controllable.

It can fail (`fault`) and be slow (`hold`): a slow read has looked before it waits, as a slow disk or network has.
"""

import asyncio
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from resolver import wire
from resolver.handle import Handle
from resolver.record import Record, Tombstone, Value
from resolver.routes import Prefix
from resolver.store import Change, Changes, Fetched, Listed


def body(text: str, version: int = 1, *, data: str = "", deleted: bool = False) -> bytes:
    """Encode a record with a URL (index 1) and a name (index 2), or a tombstone, as a store keeps it."""
    values = (
        Value(index=1, type="URL", data=(data or f"https://example.org/{text}").encode()),
        Value(index=2, type="NAME.SHORT", data=b"a part"),
    )
    record = Record(
        identifier=Handle.from_text(text),
        values=() if deleted else values,
        tombstone=Tombstone(reason="scrapped", deleted_at=1) if deleted else None,
    )
    return wire.record_body(record, public=True) + wire.version_field(version)


class SmallStore:
    """A StoreReader. `asked` are the batches of keys that were read, in their order."""

    def __init__(self, records: Mapping[bytes, bytes] | None = None, prefixes: Sequence[Prefix] = ()) -> None:
        self.fault: Exception | None = None
        self._gate: asyncio.Event | None = None
        self.asked: list[list[bytes]] = []
        self.forgotten = 0
        self._records = dict(records or {})
        self._prefixes: dict[bytes, Prefix] = {}
        self._feed: list[Change] = []
        if prefixes:
            self.commit(prefixes=prefixes)

    @property
    def index(self) -> int:
        """The journal index of the newest commit."""
        return len(self._feed)

    def hold(self) -> None:
        """Let reads wait from now on."""
        self._gate = asyncio.Event()

    def release(self) -> None:
        """Let those that wait, and all others, go on."""
        if self._gate:
            self._gate.set()
        self._gate = None

    def commit(
        self,
        records: Mapping[bytes, bytes | None] | None = None,
        prefixes: Sequence[Prefix] = (),
        *,
        below: Sequence[bytes] | None = None,
    ) -> int:
        """Write (None removes), and name in the feed the keys or, where it is given, what they are below."""
        index = self.index + 1
        for key, octets in (records or {}).items():
            if octets is None:
                self._records.pop(key, None)
            else:
                self._records[key] = octets
        rows = tuple(replace(prefix, epoch=index) for prefix in prefixes)
        self._prefixes |= {row.key: row for row in rows}
        keys = tuple(records or ()) if below is None else ()
        self._feed.append(Change(index=index, keys=keys, prefixes=rows, below=tuple(below or ())))
        return index

    def rows(self) -> list[Prefix]:
        """Give all rows of prefixes."""
        return list(self._prefixes.values())

    async def public(self, keys: Sequence[bytes]) -> Fetched:
        self.asked.append(list(keys))
        fetched = Fetched([self._records.get(key) for key in keys], self.index)
        await self._pass()
        return fetched

    full = public

    async def identifiers(self, prefix: bytes, *, derived: bool, after: bytes | None, limit: int) -> Listed:
        raise NotImplementedError

    async def prefixes(self, after: bytes | None, limit: int) -> list[Prefix]:
        await self._pass()
        keys = sorted(key for key in self._prefixes if after is None or key > after)
        return [self._prefixes[key] for key in keys[:limit]]

    async def changes(self, after: int, limit: int) -> Changes:
        await self._pass()
        if after < self.forgotten or after > self.index:
            return Changes([], self.index, is_lost=True)
        return Changes(self._feed[after : after + limit], self.index)

    async def head(self) -> int:
        await self._pass()
        return self.index

    async def secret(self) -> bytes:
        return b"s" * 32

    async def _pass(self) -> None:
        if self._gate:
            await self._gate.wait()
        if self.fault:
            raise self.fault
