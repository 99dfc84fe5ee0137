"""`topnode load`: registering in bulk, from NDJSON or CSV. How it is done is in `nodes.loading.loads`."""

import asyncio
import os
import secrets
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Final

import click

from nodes.loading.bars import bytes_bar
from nodes.loading.imports import Operator, Taken, open_imports
from nodes.loading.inputs import Input
from nodes.loading.line_files import LineFile
from nodes.loading.loads import Manner, default_name, rejects_of, run_load
from nodes.loading.pieces import Piece
from nodes.loading.summaries import HAS_REJECTS, Summary, print_summary, tell_interrupted
from nodes.loading.tallies import Tally
from nodes.serving.child import spare_collector
from nodes.settings import NodeSettings, read
from nodes.terminal import messages
from registry.rows import RowFormat
from resolver.clock import SystemClock
from resolver.errors import Fault
from resolver.store import Checkpoint
from resolver.trust.operators import LOCAL

_COUNTS: Final = ("registered", "replaced", "unchanged", "rejected")


@click.command()
@click.argument("source", metavar="FILE|-")
@click.option("--data", metavar="DIR", help="The folder that holds the store.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The node's settings, TOML: its name, folder and operators.",
)
@click.option(
    "--format",
    "row_format",
    type=click.Choice(["ndjson", "csv"]),
    help="How rows are written. Default: CSV for a file called *.csv, else NDJSON.",
)
@click.option("--overwrite", is_flag=True, help="Replace what is registered already with other content.")
@click.option("--rejects", type=click.Path(path_type=Path), metavar="FILE", help="Where refused rows go, as NDJSON.")
@click.option(
    "--registrant", default="", metavar="NODE", help="Who registers, where a row does not say. Default: the holder."
)
@click.option("--name", metavar="TEXT", help="Name of the load, by which it is found again. Default: by the file.")
@click.option("--restart", is_flag=True, help="Begin at the first row, not where an interrupted load stopped.")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The private key (PEM) of the operator who signs. Default: operator.pem in the folder of the store.",
)
@click.option("--actor", default=LOCAL, show_default=True, metavar="NAME", help="The operator who signs.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
@click.pass_context
def command(  # noqa: PLR0913 - one for each option
    context: click.Context,
    *,
    source: str,
    data: str | None,
    config: Path | None,
    row_format: str | None,
    overwrite: bool,
    rejects: Path | None,
    registrant: str,
    name: str | None,
    restart: bool,
    key: Path | None,
    actor: str,
    as_json: bool,
) -> None:
    """Register identifiers in bulk from a file, or from standard input (-).

    An operator of the node signs for the rows. They go through the node where one runs on the store, else this
    command writes itself. Each row is taken or refused for itself; a refused one is told with its line and reason.
    A row that is registered already with the same content changes nothing. Interrupted, the same command goes on
    behind the last durable row (standard input: only with --name). Of a file that was cut off all whole rows are
    taken and the last one is refused; then load the complete file.

    The exit code is 0 when all rows were taken, 3 when some were refused, 1 when it could not go on.
    """
    manner = Manner(format=_format(source, row_format), overwrite=overwrite, registrant=registrant)
    settings = read(config, os.environ, {"data": data}).settings
    with closing(Input.open(source)) as rows:
        known = name or default_name(rows, manner)
        run = _Run(rows, known or secrets.token_hex(16), manner, LineFile(rejects, "--rejects") if rejects else None)
        try:
            asyncio.run(run.load(settings, Operator(name=actor, key=key), restart=restart))
        except (KeyboardInterrupt, Fault):
            run.tell_interrupted(can_go_on=known is not None)
            raise
    run.print_summary(as_json=as_json)
    if run.tally.reached.rejected:
        context.exit(HAS_REJECTS)


def _format(source: str, said: str | None) -> RowFormat:
    if said is not None:
        return RowFormat[said.upper()]
    return RowFormat.CSV if source.lower().endswith(".csv") else RowFormat.NDJSON


class _Run:
    """One run of the command, as its user sees it."""

    def __init__(self, rows: Input, name: str, manner: Manner, rejects: LineFile | None) -> None:
        self.tally = Tally(SystemClock())
        self._rows = rows
        self._name = name
        self._manner = manner
        self._rejects = rejects

    async def load(self, settings: NodeSettings, operator: Operator, *, restart: bool) -> None:
        """Load, with a progress bar."""
        # Whatever exists by now stays: the collector need not look at it for each few hundred rows.
        spare_collector()
        with closing(self._rejects) if self._rejects else nullcontext(), bytes_bar("loading") as tell:

            def begin(reached: Checkpoint) -> None:
                self.tally.begin(reached)
                self._begin_rejects(reached)
                tell(reached.offset, self._rows.size, "")

            def take(piece: Piece, taken: Taken) -> None:
                rejects = rejects_of(piece, taken)
                self.tally.take(piece, taken, rejects)
                if self._rejects:
                    self._rejects.write(reject.plain() for reject in rejects)
                tell(piece.part.end_offset, self._rows.size, f"{self.tally.rate:,.0f} rows/s")

            async with open_imports(settings, operator, SystemClock()) as imports:
                await run_load(
                    self._rows, imports, self._name, self._manner, restart=restart, on_begin=begin, on_taken=take
                )

    def _begin_rejects(self, reached: Checkpoint) -> None:
        if self._rejects is None:
            return
        if not reached.offset:
            self._rejects.begin()
            return
        self._rejects.go_on()
        there = self._rejects.count()
        if there < reached.rejected:
            messages().print(
                f"{reached.rejected - there} rows that were refused before the interruption are not in the file of "
                "rejects; --restart tells them again."
            )

    def tell_interrupted(self, *, can_go_on: bool) -> None:
        """Tell what is in and how to go on."""
        lines = self.tally.reached.lines
        tell_interrupted("load", lines, "Give all rows again: these are skipped then.", can_go_on=can_go_on)

    def print_summary(self, *, as_json: bool) -> None:
        """Print what has come of all rows."""
        tally, reached = self.tally, self.tally.reached
        summary = Summary(
            source=self._rows.name,
            lines=reached.lines,
            octets=reached.offset,
            counts={name: getattr(reached, name) for name in _COUNTS},
            reasons=tally.reasons,
            resumed_at=tally.resumed_at,
            index=tally.index,
            seconds=tally.seconds,
            rate=tally.rate,
        )
        print_summary(summary, as_json=as_json, load=self._name)
