"""A load from an input into a store: through the process that owns it, or as its owner. Prints nothing."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from nodes.loading.inputs import Input
from registry.intake import Intake, Manner
from registry.loading import Loading, Taken, TakesLoads
from registry.parts import Cutter, Part
from registry.rows import RowFormat
from resolver.clock import Clock
from resolver.store import Checkpoint
from resolver.store.embedded import EmbeddedWriter, Owner, current_owner

WHAT: Final = "topnode load"
"""How this process is named to others that want to write while it is the owner."""

OnBegin = Callable[[Checkpoint], None]
OnTaken = Callable[[Part, Taken], None]


@asynccontextmanager
async def open_loads(data: Path, clock: Clock) -> AsyncIterator[TakesLoads]:
    """Give what takes loads for the store in this folder: the process that owns it, else this one.

    Raises:
        Fault: STORE_OWNED by a process that takes none; else as `EmbeddedWriter.open`.
    """
    owner = current_owner(data)
    if owner is not None and owner.socket:
        # gRPC is imported only where a node runs.
        from nodes.loading.intake import RemoteLoads  # noqa: PLC0415

        remote = RemoteLoads(owner.socket)
        try:
            yield remote
        finally:
            await remote.close()
        return
    with closing(EmbeddedWriter.open(data, owner=Owner.here(WHAT, clock=clock), clock=clock)) as store:
        yield Loading(store, Intake(store, clock), CollectorRegistry())


def default_name(source: Input, manner: Manner) -> str | None:
    """Name a load by its input and the manner in which its rows are taken; None where the input has no name.

    Loading the same file in another manner is another load.
    """
    fingerprint = source.fingerprint()
    if fingerprint is None:
        return None
    said = f"{fingerprint} {manner.format} {manner.overwrite} {manner.registrant}"
    return hashlib.sha256(said.encode(errors="surrogateescape")).hexdigest()[:32]


async def run_load(
    source: Input,
    loads: TakesLoads,
    name: str,
    manner: Manner,
    *,
    restart: bool,
    on_begin: OnBegin,
    on_taken: OnTaken,
) -> None:
    """Load an input to its end, from where the load of this name has come; the next time it begins afresh.

    While a part is taken the next one is read.

    Raises:
        Fault: as `TakesLoads` and `Input`; the same call goes on behind the last part that was taken.
    """
    reached = await loads.begin(name, restart=restart)
    on_begin(reached)
    cutter = Cutter(manner.format)
    parts = _parts(source, cutter, reached)
    part = await anext(parts, None)
    if manner.format is RowFormat.CSV:
        manner = replace(manner, columns=cutter.columns or ())
    while part is not None:
        following = asyncio.ensure_future(anext(parts, None))
        try:
            on_taken(part, await loads.take(name, part, manner))
            part = await following
        finally:
            following.cancel()
    await loads.begin(name, restart=True)


async def _parts(source: Input, cutter: Cutter, reached: Checkpoint) -> AsyncIterator[Part]:
    while cutter.columns is None and (octets := await source.read()):
        cutter.add(octets)
    if cutter.columns is None:
        cutter.end()
    if reached.offset:
        await source.skip(cutter.skip_to(reached.offset, reached.lines))
    for part in cutter.parts():
        yield part
    while octets := await source.read():
        cutter.add(octets)
        for part in cutter.parts():
            yield part
    cutter.end()
    for part in cutter.parts():
        yield part
