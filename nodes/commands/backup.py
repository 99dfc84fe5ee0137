"""`topnode backup`: a copy of a store while its node runs."""

import os
from pathlib import Path

import click

from nodes.asking.answers import time_text
from nodes.loading.bars import bytes_bar
from nodes.settings import read
from nodes.terminal import output, print_json, table
from resolver.clock import SystemClock
from resolver.store.embedded import BackupManifest, backup


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", help="The folder that holds the store.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as one JSON document.")
def command(target: Path, *, data: str | None, as_json: bool) -> None:
    """Copy a store into the new or empty folder TARGET, while its node runs or stands still.

    The copy is of one moment, compacted, and has a manifest with its checksum.
    """
    folder = read(None, os.environ, {"data": data}).settings.data
    with bytes_bar("copying") as tell:
        manifest = backup(folder, target, clock=SystemClock(), progress=lambda done, total: tell(done, total, ""))
    print_manifest(f"{folder} is copied to {target}.", manifest, as_json=as_json)


def print_manifest(said: str, manifest: BackupManifest, *, as_json: bool) -> None:
    """Tell what is in a backup."""
    if as_json:
        print_json(manifest)
        return
    summary = table("of the copy", "")
    summary.add_row("identifiers (deleted ones too)", f"{manifest.identifiers:,}")
    summary.add_row("prefixes", f"{manifest.prefixes:,}")
    summary.add_row("journal index", f"{manifest.index:,}")
    summary.add_row("bytes", f"{manifest.bytes:,}")
    summary.add_row("made at", time_text(manifest.created_at))
    summary.add_row("SHA-256", manifest.sha256)
    click.echo(said)
    output().print(summary)
