"""`topnode demo`: a whole node and the nodes below it, seen from outside. The story is in `nodes.demo`."""

import asyncio
import signal
from pathlib import Path

import click

from nodes.demo.findings import Findings
from nodes.demo.place import Place, usual_folder
from nodes.demo.story import Story, Wishes
from nodes.serving.child import spare_collector
from nodes.terminal import messages, output, print_json
from resolver.clock import SystemClock


@click.command()
@click.option(
    "--registrations",
    type=click.IntRange(min=1_000, max=100_000_000),
    default=1_000_000,
    show_default=True,
    metavar="N",
    help="How many registrations the node begins with.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The folder for everything that the demo writes. Default: topnode/demo in the user's cache folder.",
)
@click.option(
    "--packages/--no-packages",
    default=True,
    help="Also register this machine's Debian package index, where there is one.",
)
@click.option("--keep", is_flag=True, help="Leave the store there at the end.")
@click.option("--clean", is_flag=True, help="Remove what earlier demos kept, and do nothing else.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print what was measured as one JSON document; the story goes to standard error.",
)
@click.pass_context
def command(
    context: click.Context,
    *,
    registrations: int,
    data: Path | None,
    packages: bool,
    keep: bool,
    clean: bool,
    as_json: bool,
) -> None:
    """Run a whole node with a million registrations and the nodes below it, and ask it.

    A top-level node is started on free ports of the loopback and filled by 7 secondary nodes and 25 enterprises; a
    client resolves singly and in batches and compares every answer. Then the nodes below start, as processes of their
    own, and are asked for through it: the 7 secondary ones, and those of all 25 enterprises, which share processes.
    5 more secondary nodes join with their enterprises; one of them is killed, is answered for, and comes back. At the
    end all of them are stopped and what they wrote is removed, but for a backup of the filled store, which makes the
    next demo quick.

    The exit code is 1 when an answer was wrong, or came too late.
    """
    place = Place(data or usual_folder())
    if clean:
        place.clean()
        return
    wishes = Wishes(registrations=registrations, packages=packages, keep=keep)
    # Answers by the ten thousand, none of them part of a cycle.
    spare_collector()
    story = Story(wishes, place, SystemClock(), messages() if as_json else output())
    found = asyncio.run(_told(story))
    if as_json:
        print_json(found)
    context.exit(1 if found.wrong else 0)


async def _told(story: Story) -> Findings:
    """Tell the story; SIGTERM ends it as Ctrl-C does, in order: the node is stopped and the folder removed."""
    telling = asyncio.ensure_future(story.tell())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, telling.cancel)
    try:
        return await telling
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
