"""The push: the own journal followed from the watermark on, and what is owed beside it. One task, one step at a time.

Nothing is forgotten: the watermark goes on only behind what the node above has taken, or refused for good, which is
noted; what it takes nothing of at present is owed. After a crash the last step is done again, by the same requests.
"""

import logging
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from nodes.registering.words import endpoint_to_text
from nodes.upward.copies import Copies, Told
from nodes.upward.metrics import UpwardMetrics
from nodes.upward.outbox import Outbox, Window
from nodes.upward.routes import Routes
from nodes.upward.watermark import Owed, Watermark, WatermarkFile
from registry.journal import Store
from resolver.clock import Clock
from resolver.routes import Endpoint

RETRY_SECONDS: Final = 10.0
"""What was refused because of its prefix is tried again after so long; that costs one request a prefix."""

OWED_MAX: Final = 1_000
"""Prefixes that are owed one by one. Where there are more, all that is below the first prefixes is."""

LISTED_AT_ONCE: Final = 4_000

ROWS_AT_ONCE: Final = 1_000

_log: Final = logging.getLogger(__name__)


class Pushing:
    """Pushes to one node above, as long as it does not fail. None for what is not pushed."""

    def __init__(  # noqa: PLR0913 - where from, where to, and where it is kept how far that is
        self,
        *,
        store: Store,
        outbox: Outbox,
        routes: Routes | None,
        copies: Copies | None,
        endpoints: Sequence[Endpoint],
        file: WatermarkFile,
        mark: Watermark,
        metrics: UpwardMetrics,
        clock: Clock,
    ) -> None:
        self.mark = mark
        self._store = store
        self._outbox = outbox
        self._routes = routes
        self._copies = copies
        self._endpoints = sha256(" ".join(map(endpoint_to_text, endpoints)).encode()).hexdigest()
        self._file = file
        self._metrics = metrics
        self._clock = clock
        self._rest: dict[str, float] = {}
        self._routes_rest = 0.0
        self._is_compared = False
        self._is_forgotten = False
        self._is_own = False

    def tell_forgotten(self) -> None:
        """Tell that the journal above is shorter than it was: it was restored from a backup."""
        self._is_forgotten = True

    async def step(self) -> bool:
        """Do the next thing, and tell whether there was any.

        Raises:
            Fault: it is to be done again.
        """
        done = await self._begin_again() or await self._compare_routes()
        if not done:
            # Both: while much is registered there is always something to follow, and debts are to be paid too.
            followed, paid = await self._follow(), await self._pay()
            done = followed or paid
        await self._retry_routes()
        self._metrics.owed.set(len(self.mark.owed))
        return done

    async def _begin_again(self) -> bool:
        """Push everything again where the node above has forgotten what it took, or this node what it pushed."""
        if not self._is_own and not await self._is_own_journal():
            await self._begin_as_another()
            return True
        self._is_own = True
        if not self._is_forgotten:
            return False
        self._is_forgotten = self._is_compared = False
        _log.warning(
            "the journal above is shorter than it was; everything is pushed again",
            extra={"parent": self.mark.parent, "was": self.mark.taken},
        )
        await self._keep(self.mark.anew())
        return True

    async def _begin_as_another(self) -> None:
        _log.warning(
            "this node's journal is another one than was pushed, perhaps from a backup; everything is pushed again",
            extra={"pushed": self.mark.index},
        )
        self._is_compared = False
        await self._keep(self.mark.anew())

    async def _is_own_journal(self) -> bool:
        """Is the newest entry that was pushed still what it was? A journal from a backup may have grown past it."""
        return not self.mark.index or self.mark.entry == await self._entry(self.mark.index)

    async def _entry(self, index: int) -> str:
        """Give the SHA-256 of the statement of an entry; empty where there is none."""
        statements = await self._store.statements(index - 1, 1)
        return sha256(statements[0]).hexdigest() if statements else ""

    async def _compare_routes(self) -> bool:
        """Compare all rows of prefixes, where that was not done yet with these endpoints."""
        if self._routes is None or self._is_compared or self.mark.routes == self._endpoints:
            return False
        await self._bring_all(is_changed=False)
        self._is_compared = True
        await self._note_routes()
        return True

    async def _note_routes(self) -> None:
        """Note that all rows of prefixes are above as they should be; else they are compared after the next start."""
        if self._routes is not None and not self._routes.waiting:
            await self._keep(replace(self.mark, routes=self._endpoints))

    async def _follow(self) -> bool:
        """Push what the next entries changed."""
        mark = self.mark
        window = await self._outbox.after(mark.index, mark.until)
        self._metrics.behind.set(max(0, window.head - mark.index))
        if window.is_foreign:
            await self._begin_as_another()
            return True
        if window.end == mark.index:
            return False
        mark = replace(mark, until=window.end)
        await self._keep(mark)
        await self._bring(window)
        told = await self._push(window.keys, f"{window.start}-{window.end}")
        entry = await self._entry(window.end)
        mark = replace(mark, index=window.end, entry=entry, taken=max(mark.taken, told.taken))
        for each in sorted(told.owed):
            self._rest.setdefault(each, self._clock.monotonic() + RETRY_SECONDS)
            mark = mark.owing(each, since=window.start)
        for prefix in window.below if self._copies else ():
            mark = mark.owing(prefix.decode(), lists=True)
        await self._keep(self._collapsed(mark))
        self._metrics.behind.set(max(0, window.head - window.end))
        return True

    async def _pay(self) -> bool:
        """Push the next piece of what is owed."""
        now = self._clock.monotonic()
        prefix = next((each for each in self.mark.owed if self._rest.get(each, 0.0) <= now), None)
        if prefix is None:
            return False
        owed = self.mark.owed[prefix]
        keys, left = await (
            self._listed(prefix, owed) if owed.since is None else self._named(prefix, owed.since, owed)
        )
        place = f"owed/{prefix}/{owed.serial}/{owed.since}/{owed.after.hex() if owed.after else ''}"
        told = await self._push(keys, place)
        mark = replace(self.mark, taken=max(self.mark.taken, told.taken))
        for each in sorted(told.owed):
            self._rest[each] = now + RETRY_SECONDS
            # A listing names nothing but what is registered: whatever it is refused for is listed again.
            mark = mark.owing(each, since=owed.since, lists=owed.since is None)
        above = next((each for each in sorted(told.owed) if prefix.startswith(f"{each}.")), None)
        if above is not None and prefix in mark.owed:
            mark = mark.under(above, prefix)
        elif prefix not in told.owed:
            self._rest.pop(prefix, None)
            mark = mark.paid(prefix, left)
        await self._keep(self._collapsed(mark))
        return True

    async def _named(self, prefix: str, since: int, owed: Owed) -> tuple[Sequence[bytes], Owed]:
        """Give the keys below a prefix that the next entries named, and what is left then."""
        window = await self._outbox.after(since)
        inside = prefix.encode()
        # What the entries did not name is owed apart, since the watermark passed them.
        is_over = window.end >= self.mark.index or window.is_foreign
        left = replace(owed, since=None if is_over else window.end)
        return [key for key in window.keys if _is_inside(key.partition(b"/")[0], inside)], left

    async def _listed(self, prefix: str, owed: Owed) -> tuple[Sequence[bytes], Owed]:
        """Give the keys of the next page of a listing, and what is left then."""
        page = await self._store.identifiers(prefix.encode(), derived=True, after=owed.after, limit=LISTED_AT_ONCE)
        keys = [self._outbox.key(each) for each in page.identifiers]
        return keys, replace(owed, lists=page.next_after is not None, after=page.next_after)

    async def _push(self, keys: Sequence[bytes], place: str) -> Told:
        if self._copies is None or not keys:
            return Told()
        return await self._copies.push(keys, self.mark.life, place)

    async def _bring(self, window: Window) -> None:
        if self._routes is None:
            return
        if window.prefixes is None:
            await self._bring_all(is_changed=True)
        else:
            await self._routes.bring(window.prefixes, self.mark.life, is_changed=True)

    async def _bring_all(self, *, is_changed: bool) -> None:
        assert self._routes is not None  # noqa: S101 - whoever calls has looked; this tells the type checker
        after: bytes | None = None
        while rows := await self._store.prefixes(after, ROWS_AT_ONCE):
            await self._routes.bring([row.key for row in rows], self.mark.life, is_changed=is_changed)
            after = rows[-1].key

    async def _retry_routes(self) -> None:
        now = self._clock.monotonic()
        if self._routes is None or not self._routes.waiting or now < self._routes_rest:
            return
        self._routes_rest = now + RETRY_SECONDS
        await self._routes.bring(list(self._routes.waiting), self.mark.life, is_changed=False)
        await self._note_routes()

    def _collapsed(self, mark: Watermark) -> Watermark:
        """Owe what is below the first prefixes, where there are too many of the others."""
        if len(mark.owed) <= OWED_MAX:
            return mark
        for prefix in list(mark.owed):
            topmost = self._outbox.topmost(prefix.encode()).decode()
            if topmost != prefix:
                mark = mark.under(topmost, prefix)
                self._rest.pop(prefix, None)
        return mark

    async def _keep(self, mark: Watermark) -> None:
        if mark != self.mark:
            await self._file.write(mark)
            self.mark = mark


def _is_inside(prefix: bytes, above: bytes) -> bool:
    return prefix == above or prefix.startswith(above + b".")
