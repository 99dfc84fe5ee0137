"""`topnode load`: registering in bulk, from NDJSON or CSV. How it is done is in `nodes.loading.loads`."""

import asyncio
import os
import secrets
from contextlib import closing
from pathlib import Path

import click

from nodes.loading.imports import Operator, open_imports
from nodes.loading.inputs import Input
from nodes.loading.line_files import LineFile
from nodes.loading.loads import Manner, default_name
from nodes.loading.run import Run, format_of
from nodes.loading.summaries import HAS_REJECTS
from nodes.settings import read
from resolver.clock import SystemClock
from resolver.errors import Fault
from resolver.trust.operators import LOCAL


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
    manner = Manner(format=format_of(source, row_format), overwrite=overwrite, registrant=registrant)
    settings = read(config, os.environ, {"data": data}).settings
    with closing(Input.open(source)) as rows:
        known = name or default_name(rows, manner)
        run = Run(rows, known or secrets.token_hex(16), manner, LineFile(rejects, "--rejects") if rejects else None)
        try:
            imports = open_imports(settings, Operator(name=actor, key=key), SystemClock())
            asyncio.run(run.load(imports, restart=restart))
        except (KeyboardInterrupt, Fault):
            run.tell_interrupted(can_go_on=known is not None)
            raise
    run.print_summary(as_json=as_json)
    if run.tally.reached.rejected:
        context.exit(HAS_REJECTS)
