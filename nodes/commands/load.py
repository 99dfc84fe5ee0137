"""`topnode load`: registering in bulk, from NDJSON or CSV. How it is done is in `nodes.loading.loads`."""

import asyncio
import os
import secrets
from contextlib import closing
from pathlib import Path
from typing import Unpack

import click

from nodes.loading.imports import open_imports
from nodes.loading.inputs import Input
from nodes.loading.loads import Manner, default_name
from nodes.loading.options import Loading, format_of, loading_options, operator_of, rejects_file
from nodes.loading.run import Run
from nodes.loading.summaries import HAS_REJECTS
from nodes.settings import read
from resolver.clock import SystemClock
from resolver.errors import Fault


@click.command()
@click.argument("source", metavar="FILE|-")
@click.option("--data", metavar="DIR", help="The folder that holds the store.")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The node's settings, TOML: its name, folder and operators.",
)
@click.option("--overwrite", is_flag=True, help="Replace what is registered already with other content.")
@click.option("--restart", is_flag=True, help="Begin at the first row, not where an interrupted load stopped.")
@loading_options
@click.pass_context
def command(
    context: click.Context,
    *,
    source: str,
    data: str | None,
    config: Path | None,
    overwrite: bool,
    restart: bool,
    **loading: Unpack[Loading],
) -> None:
    """Register identifiers in bulk from a file, or from standard input (-).

    An operator of the node signs for the rows. They go through the node where one runs on the store, else this
    command writes itself. Each row is taken or refused for itself; a refused one is told with its line and reason.
    A row that is registered already with the same content changes nothing. Interrupted, the same command goes on
    behind the last durable row (standard input: only with --name). Of a file that was cut off all whole rows are
    taken and the last one is refused; then load the complete file.

    The exit code is 0 when all rows were taken, 3 when some were refused, 1 when it could not go on.
    """
    manner = Manner(format=format_of(source, loading), overwrite=overwrite, registrant=loading["registrant"])
    settings = read(config, os.environ, {"data": data}).settings
    with closing(Input.open(source)) as rows:
        known = loading["name"] or default_name(rows, manner)
        run = Run(rows, known or secrets.token_hex(16), manner, rejects_file(loading))
        try:
            imports = open_imports(settings, operator_of(loading), SystemClock())
            asyncio.run(run.load(imports, restart=restart))
        except (KeyboardInterrupt, Fault):
            run.tell_interrupted(can_go_on=known is not None)
            raise
    run.print_summary(as_json=loading["as_json"])
    if run.tally.reached.rejected:
        context.exit(HAS_REJECTS)
