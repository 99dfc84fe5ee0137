"""`topnode list`: what is registered below a prefix."""

import asyncio
from typing import Unpack

import click

from nodes.asking.answers import safe
from nodes.asking.reach import Reach, open_client, reach_options
from nodes.terminal import messages, print_ndjson
from resolver.bounds import LIST_PAGE


@click.command()
@click.argument("prefix")
@click.option("--derived", is_flag=True, help="Also what is registered below prefixes derived from it.")
@click.option(
    "--page-size", type=click.IntRange(1, LIST_PAGE), default=LIST_PAGE, metavar="N", help="Asked for at once."
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, metavar="N", show_default=True, help="At most so many."
)
@click.option("--all", "without_limit", is_flag=True, help="All of them.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
@reach_options
def command(
    prefix: str,
    *,
    derived: bool,
    page_size: int,
    limit: int,
    without_limit: bool,
    as_json: bool,
    **reach: Unpack[Reach],
) -> None:
    """List the identifiers registered below exactly this PREFIX, in the registered spelling.

    Serial numbers are business secrets: only the prefix's holder may, the holders of prefixes above it, and operators
    of the node. They show who they are by a signature (--actor, --key), or a node by its certificate (--cert).
    """
    limit_or_none = None if without_limit else limit
    asyncio.run(_list(prefix, reach, derived=derived, page_size=page_size, limit=limit_or_none, as_json=as_json))


async def _list(
    prefix: str, reach: Reach, *, derived: bool, page_size: int, limit: int | None, as_json: bool
) -> None:
    printed = 0
    async with open_client(**reach) as client:
        async for identifier in client.list_handles(prefix, derived=derived, page_size=page_size):
            if printed == limit:
                messages().print(f"There are more than {limit:,}; --all lists them.")
                return
            if as_json:
                print_ndjson([{"identifier": identifier}])
            else:
                click.echo(safe(identifier))
            printed += 1
