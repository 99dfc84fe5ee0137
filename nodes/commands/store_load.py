"""`topnode store load`: registering in bulk around the servers of a ring. See `nodes.loading.offline`."""

import asyncio
import os
import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import Unpack

import click

from nodes.loading.inputs import Input
from nodes.loading.loads import Manner, default_name
from nodes.loading.options import Loading, format_of, loading_options, operator_of, rejects_file
from nodes.loading.run import Run
from nodes.loading.summaries import HAS_REJECTS
from nodes.settings import NodeSettings, read
from nodes.terminal import output, table
from resolver.clock import SystemClock
from resolver.errors import Fault, Reason
from resolver.units import Size


@click.command("load")
@click.argument("source", metavar="FILE|-")
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The node's settings, TOML: its name, ring and operators.",
)
@click.option("--data", metavar="DIR", help="The folder with the key of the operator.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    required=True,
    help="Where the load keeps its rows until it ends; for this load alone. About three times the input.",
)
@click.option(
    "--nodetool",
    metavar="COMMAND",
    help="How nodetool is called, for a ring whose one node, on this machine, keeps every row.",
)
@click.option("--sstableloader", metavar="COMMAND", help="How sstableloader is called, with -d and some hosts.")
@click.option(
    "--builder",
    metavar="COMMAND",
    help="How the program that makes SSTables is called. Default: python -m deploy.cassandra.bulk.",
)
@click.option("--memory", default="2GiB", show_default=True, metavar="SIZE", help="What sorting may take.")
@loading_options
@click.pass_context
def command(  # noqa: PLR0913 - one for each option
    context: click.Context,
    *,
    source: str,
    config: Path | None,
    data: str | None,
    folder: Path,
    nodetool: str | None,
    sstableloader: str | None,
    builder: str | None,
    memory: str,
    **loading: Unpack[Loading],
) -> None:
    """Register very many identifiers at once, from a file or from standard input (-), around the ring's servers.

    For a first load: rows are sorted by canonical key, byte by byte, each key once, and nothing is registered below
    their prefixes yet. They are planned, signed and kept in the journal as by `topnode load`; the records are built
    into SSTables, which the ring takes as they are. Give --nodetool, or --sstableloader.

    This command is the ring's writer meanwhile: stop the registries first. Resolvers go on, and find the records at
    its end. Interrupted, the same command goes on behind the last durable row; before it has ended nobody else
    writes.

    The exit code is 0 when all rows were taken, 3 when some were refused, 1 when it could not go on.
    """
    # The driver takes a while to import.
    from nodes.loading.offline import Around, open_offline  # noqa: PLC0415
    from resolver.store.cassandra.bulk import BulkSettings  # noqa: PLC0415 - as above
    from resolver.store.cassandra.putting_in import Step, Tools  # noqa: PLC0415 - as above

    if bool(nodetool) is bool(sstableloader):
        raise click.UsageError("Give one of --nodetool and --sstableloader.")
    tools = Tools(
        builder=_words(builder) or (sys.executable, "-m", "deploy.cassandra.bulk"),
        nodetool=_words(nodetool),
        sstableloader=_words(sstableloader),
    )
    around = Around(folder=folder, tools=tools, bulk=BulkSettings(memory=Size.from_text(memory)))
    settings = _settings(config, data)
    manner = Manner(format=format_of(source, loading), registrant=loading["registrant"])
    steps: list[Step] = []
    clock = SystemClock()
    with closing(Input.open(source)) as rows:
        known = loading["name"] or default_name(rows, manner)
        if known is None:
            raise click.UsageError("Give the load a --name: nothing else tells it from another.")
        run = Run(rows, known, manner, rejects_file(loading))
        offline = open_offline(
            settings, operator_of(loading), known, around, clock, on_step=run.say, on_done=steps.append
        )
        try:
            asyncio.run(run.load(offline))
        except (KeyboardInterrupt, Fault):
            run.tell_interrupted(can_go_on=True)
            raise
    if steps:
        # Planning and signing lasted until the first of the others began.
        planned = run.tally.seconds - sum(step.seconds for step in steps)
        steps.insert(0, Step("plan, sign and keep", run.tally.reached.lines - run.tally.resumed_at, planned))
    run.print_summary(as_json=loading["as_json"], steps=steps)
    if steps and not loading["as_json"]:
        shown = table("step", "rows", "seconds", "rows/s", right=["rows", "seconds", "rows/s"])
        for step in steps:
            rate = f"{step.rows / step.seconds:,.0f}" if step.seconds else ""
            shown.add_row(step.step, f"{step.rows:,}", f"{step.seconds:,.1f}", rate)
        output().print(shown)
    if run.tally.reached.rejected:
        context.exit(HAS_REJECTS)


def _words(command: str | None) -> tuple[str, ...]:
    return tuple(shlex.split(command or ""))


def _settings(config: Path | None, data: str | None) -> NodeSettings:
    """Read which node and ring it is.

    Raises:
        Fault: SETTING_INVALID where there is no ring; as `settings.read`.
    """
    settings = read(config, os.environ, {"data": data}).settings
    if not settings.cassandra.hosts:
        sentence = "No ring is named in the settings: cassandra.hosts."
        raise Fault(Reason.SETTING_INVALID, sentence, field="cassandra.hosts")
    return settings
