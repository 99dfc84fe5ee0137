"""A store whose commits a test can count, hold back and let fail, and whose reads can fail."""

import asyncio
from collections.abc import Sequence

from resolver.errors import Fault, Reason
from resolver.store import Commit, Nonce
from resolver.store.embedded import EmbeddedWriter


class GatedStore(EmbeddedWriter):
    """A store like any other until a test says otherwise: `hold`, `fault`, `loses_word`, `is_unreadable`.

    `fault` fails commits of which nothing is written; one that `loses_word` has written all of it. `asked` counts
    how often it was asked about requests, and about nonces.
    """

    commits = 0
    asked = 0
    is_held = False
    fault: Fault | None = None
    loses_word = False
    is_unreadable = False

    def hold(self) -> None:
        """Let commits wait from now on; `committing` is set when the first one does, `release` lets them go on."""
        self.committing = asyncio.Event()
        self._gate = asyncio.Event()
        self.is_held = True

    def release(self) -> None:
        """Let commits go on."""
        self._gate.set()
        self.is_held = False

    async def commit(self, commit: Commit) -> int:
        self.commits += 1
        if self.is_held:
            self.committing.set()
            await self._gate.wait()
        if self.fault:
            raise self.fault
        index = await super().commit(commit)
        if self.loses_word:
            raise Fault(Reason.STORE_UNAVAILABLE)
        return index

    async def head(self) -> int:
        if self.is_unreadable:
            raise Fault(Reason.STORE_UNAVAILABLE)
        return await super().head()

    async def answered(self, requests: Sequence[bytes]) -> list[int]:
        self.asked += 1
        return await super().answered(requests)

    async def spent(self, nonces: Sequence[Nonce]) -> list[bool]:
        self.asked += 1
        return await super().spent(nonces)
