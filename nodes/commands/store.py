"""`topnode store`: the ring of a node, prepared, looked at and filled. The embedded store needs none of it."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import click
from prometheus_client import CollectorRegistry

from nodes.commands.store_load import command as load
from nodes.settings import read
from nodes.terminal import output, print_json, table
from resolver.clock import Clock, SystemClock
from resolver.errors import Fault, Reason
from resolver.store.cassandra.settings import CassandraSettings

_T = TypeVar("_T")

UNFIT: Final = 1
"""Exit code where something was refused."""

_config = click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="The file of settings, TOML."
)
_hosts = click.option("--hosts", metavar="HOST,...", help="Addresses of some nodes of the ring.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group()
def command() -> None:
    """Prepare, check and fill the Cassandra ring that holds a node's store.

    Which ring that is stands in the section [cassandra] of the settings.
    """


@command.command()
@_config
@_hosts
@_json
def migrate(*, config: Path | None, hosts: str | None, as_json: bool) -> None:
    """Bring the keyspace to this version's schema; it is made where there is none.

    Can be done again at any time, by one at a time; nothing is ever taken back.
    """
    # The driver takes a while to import.
    from resolver.store.cassandra.migrating import migrate as migrate_keyspace  # noqa: PLC0415

    settings = _ring(config, hosts)
    applied = _run(lambda clock: migrate_keyspace(settings, clock=clock, registry=CollectorRegistry()))
    if as_json:
        print_json({"keyspace": settings.keyspace, "applied": applied})
    elif applied:
        click.echo(f"Applied to {settings.keyspace}: {', '.join(applied)}.")
    else:
        click.echo(f"The keyspace {settings.keyspace} has this version's schema already.")


@command.command()
@_config
@_hosts
@_json
def check(*, config: Path | None, hosts: str | None, as_json: bool) -> None:
    """Say whether the ring is fit to hold a registry.

    Asks every node of the data centre what it is set to. The exit code is 1 when something is refused: a node that
    tells of writes before they are on its disk, fewer than three copies, a node that is down.
    """
    from resolver.store.cassandra.checking import Fitness, check_ring  # noqa: PLC0415 - as above

    settings = _ring(config, hosts)
    found = _run(lambda clock: check_ring(settings, clock=clock, registry=CollectorRegistry()))
    if as_json:
        print_json(found)
    else:
        shown = table("where", "what", "found", "", "because")
        styles = {Fitness.GOOD: "green", Fitness.DOUBTFUL: "yellow", Fitness.REFUSED: "bold red"}
        for each in found:
            style = styles[each.fitness]
            shown.add_row(each.where, each.what, each.found, f"[{style}]{each.fitness}[/{style}]", each.reason)
        output().print(shown)
    if any(each.fitness is Fitness.REFUSED for each in found):
        raise click.exceptions.Exit(UNFIT)


command.add_command(load)


def _ring(config: Path | None, hosts: str | None) -> CassandraSettings:
    """Read which ring it is.

    Raises:
        Fault: SETTING_INVALID where none is named; as `settings.read`.
    """
    named = None if hosts is None else tuple(host.strip() for host in hosts.split(",") if host.strip())
    settings = read(config, os.environ, {"cassandra.hosts": named}).settings.cassandra
    if not settings.hosts:
        sentence = "No ring is named: give --hosts, or cassandra.hosts in the settings."
        raise Fault(Reason.SETTING_INVALID, sentence, field="cassandra.hosts")
    return settings


def _run(ask: Callable[[Clock], Awaitable[_T]]) -> _T:
    async def run() -> _T:
        return await ask(SystemClock())

    return asyncio.run(run())
