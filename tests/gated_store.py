"""A store whose commits a test can count, hold back and let fail."""

import asyncio

from resolver.errors import Fault
from resolver.store import Commit
from resolver.store.embedded import EmbeddedWriter


class GatedStore(EmbeddedWriter):
    """A store like any other until a test says otherwise: `hold`, `fault`."""

    commits = 0
    is_held = False
    fault: Fault | None = None

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
        return await super().commit(commit)
