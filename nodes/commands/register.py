"""`topnode register`: registering identifiers from a file, signed. How it is done is in `nodes.registering.runs`."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Final, Unpack

import click

from nodes.client import Fault
from nodes.client.registering import ENVELOPES_AT_ONCE
from nodes.loading.bars import bytes_bar
from nodes.loading.inputs import Input
from nodes.loading.summaries import HAS_REJECTS, Summary, print_summary, tell_interrupted
from nodes.registering.kept_files import KeptFiles
from nodes.registering.reach import Signing, open_signer, signing_options
from nodes.registering.resuming import SUFFIX, Reached, StateFile
from nodes.registering.runs import Run
from resolver.clock import SystemClock

_ALL_AGAIN: Final = "Give all rows again: one that names its identifier is not registered twice, one with `mint` is."
_COUNTS: Final = ("registered", "replaced", "unchanged", "deleted", "rejected")


@click.command()
@click.argument("source", metavar="FILE|-")
@click.option("--rejects", type=click.Path(path_type=Path), metavar="FILE", help="Where refused rows go, as NDJSON.")
@click.option("--receipts", type=click.Path(path_type=Path), metavar="FILE", help="Where receipts are added, NDJSON.")
@click.option(
    "--minted",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where identifiers are added that the node made up, NDJSON.",
)
@click.option("--envelopes", is_flag=True, help="Keep with each receipt also what was signed.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Where it is kept how far this has come. Default: FILE{SUFFIX}, until all is told.",
)
@click.option("--restart", is_flag=True, help="Begin at the first row, not where an interrupted run stopped.")
@click.option(
    "--at-once",
    type=click.IntRange(1, 64),
    default=ENVELOPES_AT_ONCE,
    show_default=True,
    metavar="N",
    help="Envelopes on their way at once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document.")
@signing_options
@click.pass_context
def command(  # noqa: PLR0913 - one for each option
    context: click.Context,
    *,
    source: str,
    rejects: Path | None,
    receipts: Path | None,
    minted: Path | None,
    envelopes: bool,
    state: Path | None,
    restart: bool,
    at_once: int,
    as_json: bool,
    **signing: Unpack[Signing],
) -> None:
    """Register, change and delete identifiers from FILE, or from standard input (-), as their holder.

    One JSON object a line: a row of identifiers.v1 (docs/registry.md), such as
    {"identifier": "88.111.1/SN-1", "values": [{"index": 1, "type": "URL", "data": "https://..."}]}.
    They travel in signed envelopes of up to 1,000, each answered with a receipt that is checked. Each row is taken or
    refused for itself; rows about one identifier keep their order. Interrupted, the same command goes on behind what
    is told, and nothing is done twice (standard input: give all rows again; those with `mint` are then done twice).

    The exit code is 0 when all rows were taken, 3 when some were refused, 1 when it could not go on.
    """
    with closing(Input.open(source)) as rows:
        state_file = _state_file(rows, source, state)
        kept = KeptFiles(
            state=state_file, rejects=rejects, receipts=receipts, minted=minted, with_envelopes=envelopes
        )
        run = Run(rows, _reached(rows, state_file, restart=restart), kept, SystemClock())
        is_done = False
        try:
            kept.begin(run.reached)
            asyncio.run(_register(run, rows, signing, at_once))
            is_done = True
        except (KeyboardInterrupt, Fault):
            tell_interrupted("registration", run.reached.lines, _ALL_AGAIN, can_go_on=state_file is not None)
            raise
        finally:
            kept.close(is_done=is_done)
    print_summary(_summary(run, source), as_json=as_json)
    if run.reached.rejected:
        context.exit(HAS_REJECTS)


def _state_file(rows: Input, source: str, said: Path | None) -> StateFile | None:
    """Give where the state is kept; of what cannot be read twice, none is."""
    if rows.size is None:
        return None
    return StateFile(said or Path(f"{source}{SUFFIX}"))


def _reached(rows: Input, state: StateFile | None, *, restart: bool) -> Reached:
    source = rows.fingerprint() or ""
    reached = state.read(source) if state and not restart else None
    return reached or Reached.begin(source)


async def _register(run: Run, rows: Input, signing: Signing, at_once: int) -> None:
    with bytes_bar("registering") as bar:

        def tell(run: Run) -> None:
            bar(run.reached.offset, rows.size, f"{run.rate:,.0f} rows/s")

        tell(run)
        async with open_signer(signing) as client:
            await run.register(client, at_once=at_once, tell=tell)


def _summary(run: Run, source: str) -> Summary:
    reached = run.reached
    return Summary(
        source=source,
        lines=reached.lines,
        octets=reached.offset,
        counts={name: getattr(reached, name) for name in _COUNTS},
        reasons=run.reasons,
        resumed_at=run.resumed_at,
        index=reached.index,
        seconds=run.seconds,
        rate=run.rate,
    )
