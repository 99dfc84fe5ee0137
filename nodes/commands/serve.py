"""`topnode serve`: running a node until it is told to stop."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypedDict, Unpack

import click


@click.group()
def command() -> None:
    """Run a node until it is told to stop.

    SIGTERM and SIGINT let it finish what it works on; a second SIGINT ends it at once.
    """


class Serving(TypedDict):
    """What the options of a tier say; None where they were not given."""

    data: Path | None
    config: Path | None
    listen: str | None
    streaming: str | None
    registry: str | None
    admin: str | None
    workers: int | None
    log_level: str | None
    log_format: str | None
    as_json: bool


_OPTIONS: Final = (
    click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="The folder that holds the store."),
    click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The file of settings, TOML."),
    click.option("--listen", metavar="HOST:PORT", help="Where callers connect; port 0 takes a free one."),
    click.option("--streaming", metavar="HOST:PORT", help="Where StreamResolve and reflection are; port 0 as above."),
    click.option("--registry", metavar="HOST:PORT", help="Where signed requests are taken; port 0 takes a free one."),
    click.option("--admin", metavar="HOST:PORT", help="Where metrics, health and readiness are."),
    click.option(
        "--workers",
        type=int,
        metavar="N",
        help="Resolver processes; 0 runs everything in one. Default: one for each usable core.",
    ),
    click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What is logged."),
    click.option("--log-format", type=click.Choice(["text", "json"]), help="How it is logged, on standard error."),
    click.option(
        "--json", "as_json", is_flag=True, help="When it serves, tell so as one JSON document, not in words."
    ),
)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a tier the options that all tiers have."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@command.command()
@_options
def top(**serving: Unpack[Serving]) -> None:
    """Run a top-level node: one writer, N resolvers on one port, one admin endpoint.

    A store is made where there is none. When all of the node serves, one line on standard output says so: in words,
    or with --json as a document with node, address, streaming, registry, admin, data, workers and pid. Everything
    else is the log, on standard error. Options overrule the environment (TOPNODE_SECTION__KEY), and that the file.
    """
    _serve("top", serving)


@command.command()
@_options
def secondary(**serving: Unpack[Serving]) -> None:
    """Run a secondary node: the same parts as a top-level node has, with a registry of its own for what is below.

    Where the settings name a node above (upward.registry), it applies there, and pushes its routes and what is
    registered here. All else is as in `topnode serve top`.
    """
    _serve("secondary", serving)


@command.command()
@_options
def enterprise(**serving: Unpack[Serving]) -> None:
    """Run an enterprise node, which holds the records of one enterprise; otherwise as `topnode serve secondary`."""
    _serve("enterprise", serving)


def _serve(tier: str, serving: Serving) -> None:
    # Imported here: `topnode serve --help` needs none of it.
    from nodes.logs import set_up  # noqa: PLC0415
    from nodes.serving.running import run  # noqa: PLC0415
    from nodes.serving.started import Started  # noqa: PLC0415
    from nodes.settings import read  # noqa: PLC0415
    from nodes.terminal import print_json  # noqa: PLC0415

    options = {
        "data": serving["data"],
        "serving.address": serving["listen"],
        "front.streaming": serving["streaming"],
        "registry.address": serving["registry"],
        "admin": serving["admin"],
        "workers": serving["workers"],
        "log.level": serving["log_level"],
        "log.format": serving["log_format"],
    }
    settings = read(serving["config"], os.environ, options, tier=tier).settings
    set_up(settings.log, "node")

    def announce(started: Started) -> None:
        if serving["as_json"]:
            print_json(started)
        else:
            click.echo(started.to_text())

    sys.exit(run(settings, announce))
