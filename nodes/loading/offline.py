"""Where the chunks of `topnode store load` go: to a registry in this process, whose records go around the ring."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry

from nodes.loading.imports import ImportSigner, LocalImports, Operator, TakesImports
from nodes.settings import NodeSettings, check
from nodes.stores import marking, open_ring, tending
from registry.imports import check_name
from registry.opening import open_registry
from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.store import Checkpoint
from resolver.store.cassandra.bulk import BulkSettings
from resolver.store.cassandra.offline import OfflineWriter
from resolver.store.cassandra.putting_in import RUNS, PuttingIn, Step, Tools
from resolver.store.cassandra.runs import RunWriter, last_key, rows_through, run_files

_BEGUN: Final = Checkpoint()


class Around(Struct, frozen=True, kw_only=True):
    """The way around the ring: a folder that belongs to this load, the programs, and what they may take."""

    folder: Path
    tools: Tools
    bulk: BulkSettings


@asynccontextmanager
async def open_offline(
    settings: NodeSettings,
    operator: Operator,
    name: str,
    around: Around,
    clock: Clock,
    *,
    on_step: Callable[[str], None],
    on_done: Callable[[Step], None],
) -> AsyncIterator[TakesImports]:
    """Become the writer of the ring, and give what takes the import of this name and no other.

    Raises:
        Fault: STORE_OWNED by a registry, LOAD_UNFINISHED: another load; LOAD_OUT_OF_STEP, STORE_EXISTS,
            FILE_UNREADABLE where name and folder do not belong together; SETTING_INVALID; as `open_ring` and
            `open_registry`.
    """
    check_name(name)
    check(settings)
    metrics = CollectorRegistry()
    store = await open_ring(settings, clock, metrics, stop=os.getpid())
    async with AsyncExitStack() as later:
        later.push_async_callback(store.close)
        await store.begin(resumes=name)
        runs = later.enter_context(
            _runs(around.folder / RUNS, name, await store.checkpoint(name), await store.head())
        )
        put_in = PuttingIn(
            store,
            around.folder,
            settings.cassandra.keyspace,
            around.tools,
            around.bulk,
            clock=clock,
            on_step=on_step,
            on_done=on_done,
        )
        offline = OfflineWriter(store, name, runs, put_in, behind=last_key(around.folder / RUNS))
        opening = open_registry(
            offline,
            node=settings.node,
            data=settings.data,
            settings=settings.registry,
            clock=clock,
            registry=metrics,
        )
        async with tending(store), marking(store, settings, clock, metrics), opening as opened:
            yield LocalImports(opened, ImportSigner(operator, settings.data, settings.node, clock))


def _runs(folder: Path, name: str, reached: Checkpoint, head: int) -> RunWriter:
    """Open the run files of a load that has come so far; the journal has so many entries.

    Raises:
        Fault: as `open_offline`.
    """
    if reached.offline is None:
        if reached != _BEGUN:
            detail = f"The load {name} was begun without the folder {folder.parent}, by `topnode load`."
            raise Fault(Reason.LOAD_OUT_OF_STEP, detail, variables={"name": name})
        if run_files(folder):
            where = {"path": str(folder)}
            detail = f"There are run files of another load in {folder}: remove them, or name another folder."
            raise Fault(Reason.STORE_EXISTS, detail, variables=where)
        return RunWriter(folder)
    # Nobody else has written since: what is above the head was never committed.
    rows = rows_through(folder, head)
    if rows != reached.offline:
        detail = (
            f"Of the load {name} {reached.offline} records are in run files, and in {folder} there are {rows}. "
            "It can be finished only with the folder in which it was begun. Where that is lost, restore the backup "
            "from before the load, or begin with a new keyspace; what was taken so far is in the journal."
        )
        raise Fault(Reason.FILE_UNREADABLE, detail, variables={"path": str(folder), "name": name})
    return RunWriter(folder, through=head)
