"""`topnode config`: looking at the configuration without starting anything."""

import os
from pathlib import Path

import click
import msgspec

from nodes import layers
from nodes.settings import NodeSettings, check, read
from nodes.terminal import output, print_json, table


@click.group()
def command() -> None:
    """Look at the configuration."""


@command.command("check")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The file of settings, TOML.")
@click.option(
    "--tier",
    type=click.Choice(["top", "secondary", "enterprise"]),
    default="top",
    show_default=True,
    help="Which `topnode serve` they are for.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check_command(config: Path | None, tier: str, *, as_json: bool) -> None:
    """Check the settings and say where each value comes from.

    Reads what `serve` would read: the defaults, the file, and the environment (TOPNODE_SECTION__KEY). Also reads the
    files that the settings name. The exit code is 0 when a node could start with them, else 1.
    """
    settled = read(config, os.environ, {}, tier=tier)
    check(settled.settings)
    values = layers.values_of(settled.settings)
    descriptions = layers.descriptions(NodeSettings)
    if as_json:
        print_json(
            [
                {
                    "key": key,
                    "value": msgspec.to_builtins(value, enc_hook=layers.to_text),
                    "from": settled.origins[key],
                    "description": descriptions[key],
                }
                for key, value in values.items()
            ]
        )
        return
    shown = table("setting", "value", "from", "what it is")
    for key, value in values.items():
        shown.add_row(key, _text(value), settled.origins[key], descriptions[key])
    output().print(shown)


def _text(value: object) -> str:
    """Write a value as one reads it in a table."""
    if value is None:
        return "not set"
    if isinstance(value, tuple | list | frozenset):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return layers.to_text(value)
