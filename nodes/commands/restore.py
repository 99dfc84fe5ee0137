"""`topnode restore`: a store out of a backup."""

import os
from pathlib import Path

import click

from nodes.commands.backup import print_manifest
from nodes.loading.bars import bytes_bar
from nodes.settings import read
from resolver.store.embedded import restore


@click.command()
@click.argument("backup", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", help="The folder that is to hold the store; new or empty.")
@click.option("--json", "as_json", is_flag=True, help="Print the backup's manifest as one JSON document.")
def command(backup: Path, *, data: str | None, as_json: bool) -> None:
    """Make a store in a new or empty folder from the copy in BACKUP, after checking all of it.

    The store appears only when all of it is there. Start the node afterwards.
    """
    folder = read(None, os.environ, {"data": data}).settings.data
    with bytes_bar("restoring") as tell:
        manifest = restore(backup, folder, progress=lambda done, total: tell(done, total, ""))
    print_manifest(f"{folder} holds what was in {backup}.", manifest, as_json=as_json)
