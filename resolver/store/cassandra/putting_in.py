"""The end of a load around the servers: its run files become SSTables, the ring takes those, listings find them.

Each step can be done again. What was done is seen by what lies in the folder: finished SSTables have a report beside
them, and those that a node has taken are gone.
"""

import asyncio
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from resolver.clock import Clock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.bulk import (
    TABLES,
    BulkSettings,
    Report,
    build_sstables,
    import_sstables,
    stream_sstables,
    unseen,
)
from resolver.store.cassandra.layout import buckets_for
from resolver.store.cassandra.reader import LOOKED_MAX
from resolver.store.cassandra.runs import RunWriter
from resolver.store.cassandra.writer import CassandraWriter

RUNS: Final = "runs"
"""The folder of the run files, in the folder of a load."""

KNOWN_AFTER: Final = LOOKED_MAX + 1
"""Seconds after which no reader is without knowledge of what was committed: that records of this load are hidden."""

_MADE: Final = "made-"
"""How folders of SSTables begin: each attempt has one of its own, so that none meets what another left running."""

_REPORT: Final = "report.json"
_T = TypeVar("_T")


class Tools(Struct, frozen=True, kw_only=True):
    """The beginnings of commands: what builds SSTables, and either what imports them or what streams them.

    `nodetool` is for a node on this machine that keeps every row, `sstableloader` for any ring.
    """

    builder: tuple[str, ...]
    nodetool: tuple[str, ...] = ()
    sstableloader: tuple[str, ...] = ()


class Step(Struct, frozen=True):
    """What was done, with how many rows, in how many seconds."""

    step: str
    rows: int
    seconds: float


class PuttingIn:
    """Puts the run files in `folder` into the ring, and tells which step begins and what each has taken."""

    def __init__(
        self,
        store: CassandraWriter,
        folder: Path,
        keyspace: str,
        tools: Tools,
        settings: BulkSettings,
        *,
        clock: Clock,
        on_step: Callable[[str], None],
        on_done: Callable[[Step], None],
    ) -> None:
        self._store = store
        self._folder = folder
        self._keyspace = keyspace
        self._tools = tools
        self._settings = settings
        self._clock = clock
        self._on_step = on_step
        self._on_done = on_done

    async def __call__(self, runs: RunWriter) -> None:
        """Put in what is there, all of which belongs to entries that are committed.

        Raises:
            Fault: TOOL_FAILED: a program failed, or rows are missing afterwards; STORE_UNAVAILABLE.
        """
        runs.close()
        all_know = self._clock.monotonic() + KNOWN_AFTER
        rows = runs.rows
        buckets = {prefix: buckets_for(count) for prefix, count in runs.below.items()}
        made, report = await self._timed("build SSTables", rows, lambda: self._built(rows, buckets))
        await asyncio.sleep(max(0.0, all_know - self._clock.monotonic()))
        await self._timed("put them into the ring", rows, lambda: self._put(made))
        missing = await unseen(self._store, report)
        if missing:
            raise _wrong(f"{len(missing)} of {len(report.samples)} rows that were looked for are not in the ring")
        self._store.spread(buckets)

    async def _timed(self, step: str, rows: int, work: Callable[[], _T]) -> _T:
        self._on_step(step)
        began = self._clock.monotonic()
        done = await asyncio.to_thread(work)
        self._on_done(Step(step, rows, self._clock.monotonic() - began))
        return done

    def _built(self, rows: int, buckets: Mapping[bytes, int]) -> tuple[Path, Report]:
        """Build, unless that was done for the same rows."""
        for made in self._folder.glob(f"{_MADE}*"):
            file = made / _REPORT
            if file.exists():
                report = msgspec.json.decode(file.read_bytes(), type=Report)
                if report.rows == rows:
                    return made, report
            shutil.rmtree(made, ignore_errors=True)
        made = self._folder / f"{_MADE}{secrets.token_hex(4)}"
        report = build_sstables(
            self._folder / RUNS,
            made,
            program=self._tools.builder,
            keyspace=self._keyspace,
            buckets=buckets,
            settings=self._settings,
        )
        if not report.rows == report.records.written == rows:
            raise _wrong(f"{report.rows} rows were read and {report.records.written} written; there are {rows}")
        (made / _REPORT).write_bytes(msgspec.json.encode(report))
        return made, report

    def _put(self, made: Path) -> None:
        tools, keyspace, settings = self._tools, self._keyspace, self._settings
        if tools.sstableloader:
            stream_sstables(made, sstableloader=tools.sstableloader, keyspace=keyspace, settings=settings)
        elif any((made / keyspace / table).exists() for table in TABLES):
            import_sstables(made, nodetool=tools.nodetool, keyspace=keyspace, settings=settings)


def _wrong(what: str) -> Fault:
    return Fault(Reason.TOOL_FAILED, f"{what}.")
