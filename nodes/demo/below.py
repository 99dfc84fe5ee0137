"""The nodes below as processes: a process for each secondary node, and some that share the enterprise nodes."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nodes.demo.connecting import Connecting, key_file, opened
from nodes.demo.node import Launched
from nodes.demo.together import together
from nodes.demo.topology import NodeFiles, Tier, settings_text, shared_out
from registry.keyring import OPERATOR_FILE
from resolver.clock import Clock
from resolver.store.embedded import current_owner
from resolver.trust.keys import PrivateKey

if TYPE_CHECKING:
    from nodes.serving.started import Started


class Below:
    """Starts nodes below, and knows where they are. Made within `below`, which stops them."""

    def __init__(self, folder: Path, keys: Path, clock: Clock, stack: AsyncExitStack) -> None:
        self.nodes: dict[str, Started] = {}
        """Where each node is, by its identifier, since it was started last."""
        self._folder = folder
        self._keys = keys
        self._clock = clock
        self._stack = stack
        self._files: dict[str, NodeFiles] = {}
        self._processes: dict[str, Launched] = {}
        self._hosts: list[Launched] = []
        self._registries: dict[str, Connecting] = {}

    @property
    def processes(self) -> dict[str, int]:
        """The pid of each process by what runs in it: a secondary node, or some enterprise nodes."""
        secondary = {name: process.pid for name, process in self._processes.items()}
        return secondary | {f"enterprises-{place}": process.pid for place, process in enumerate(self._hosts)}

    def prepare(self, name: str, tier: Tier, organisation: str, *, registry: str, push: Sequence[str]) -> None:
        """Write the settings of a node that has connected above, where signed requests are taken at `registry`."""
        files = NodeFiles(name=name, tier=tier, folder=self._folder / name)
        files.folder.mkdir(parents=True)
        key = key_file(self._keys, name)
        text = settings_text(files, registry=registry, key=key, organisation=organisation, push=push)
        files.config.write_text(text, encoding="utf-8")
        self._files[name] = files

    async def start(self, names: Sequence[str], tell: Callable[[int], None]) -> None:
        """Start secondary nodes that were prepared, all at once, a process each; they serve when this returns.

        `tell` is told of each that serves, how many that are: 1.

        Raises:
            Fault: INTERNAL when one does not start.
        """

        async def start(name: str) -> None:
            await self._start(name)
            tell(1)

        await together(start(name) for name in names)

    async def start_sharing(self, names: Sequence[str], tell: Callable[[int], None]) -> None:
        """Start enterprise nodes that were prepared, in as many processes as the machine has cores.

        Raises:
            Fault: as `start`.
        """
        groups = shared_out([self._files[name] for name in names], len(os.sched_getaffinity(0)))
        await together(self._host(group, tell) for group in groups)

    async def kill(self, name: str) -> None:
        """End a secondary node as a power failure would."""
        owner = current_owner(self._files[name].data)
        await self._processes.pop(name).kill()
        if owner:
            # Where paths are long this lies among the machine's temporary files, and nobody else would remove it.
            shutil.rmtree(Path(owner.socket).parent, ignore_errors=True)

    async def start_again(self, name: str) -> None:
        """Start one that was killed where it was.

        Raises:
            Fault: as `start`.
        """
        before = self.nodes[name]
        await self._start(name, "--listen", before.address, "--registry", before.registry)

    async def registry(self, name: str) -> Connecting:
        """Give the registry of a node that runs, seen as its operator and as those who connect to it."""
        if name not in self._registries:
            data = self._files[name].data
            operator = PrivateKey.from_file(data / OPERATOR_FILE)
            opening = opened(self.nodes[name].registry, operator, self._keys, self._clock)
            self._registries[name] = await self._stack.enter_async_context(opening)
        return self._registries[name]

    async def stop(self) -> None:
        """Stop them all: those further down first, so that none pushes to what is gone."""
        for processes in (self._hosts, list(self._processes.values())):
            await asyncio.gather(*(process.stop() for process in processes))

    async def _start(self, name: str, *options: str) -> None:
        files = self._files[name]
        command = ["nodes", "serve", files.tier, "--config", str(files.config), *options, "--json"]
        self._processes[name] = process = await Launched.start(command, files.log)
        self.nodes[name] = await process.started()

    async def _host(self, group: Sequence[NodeFiles], tell: Callable[[int], None]) -> None:
        configs = [str(files.config) for files in group]
        log = self._folder / f"enterprises-{group[0].name}.log"
        process = await Launched.start(["nodes.demo.hosting", group[0].tier, *configs], log)
        self._hosts.append(process)
        for _ in group:
            started = await process.started()
            self.nodes[started.node] = started
            tell(1)


@asynccontextmanager
async def below(folder: Path, keys: Path, clock: Clock) -> AsyncIterator[Below]:
    """Give the nodes below, with their files in this folder; all have ended when it is left.

    `keys` is the folder with the keys of those that connect above.
    """
    async with AsyncExitStack() as stack:
        made = Below(folder, keys, clock, stack)
        try:
            yield made
        finally:
            # Connections stay open while the nodes drain: they tell them to go.
            await made.stop()
