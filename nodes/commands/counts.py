"""`topnode counts`: what was asked and registered, by prefix and day, here and as nodes below have reported it."""

import asyncio
from collections.abc import AsyncIterator, Container, Sequence
from typing import Any, Final, Unpack

import click
from msgspec.structs import asdict
from rich.text import Text

from nodes.asking.answers import safe
from nodes.client.counting import Counted, DayCounts, Sent
from nodes.registering.reach import Signing, open_counts, signing_options
from nodes.terminal import messages, output, print_json, print_ndjson, table

_COLUMNS: Final = ("queries", "found", "recursive", "rec. found", "registered", "deleted", "prefixes")


@click.command()
@click.argument("prefix", default="")
@click.option(
    "--day", "days", multiple=True, metavar="DAY", help="Such as 2026-11-29. May be given again. Default: today."
)
@click.option("--total", is_flag=True, help="What was registered since the beginning.")
@click.option("--send", is_flag=True, help="Report what is owed to the node above now, and show nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
@signing_options
def command(
    prefix: str, *, days: tuple[str, ...], total: bool, send: bool, as_json: bool, **signing: Unpack[Signing]
) -> None:
    """Show what was asked and registered at PREFIX and below it (default: everything), as an operator.

    Days are those of Asia/Shanghai. Each line is what one node has counted: this one itself, or a node below, as far
    as it has reported. Queries are identifiers that were answered, found those that were registered; those asked
    recursively stand apart. Prefixes are those that were allocated directly below.
    """
    if send:
        if prefix or days or total:
            raise click.UsageError("--send reports everything that is owed: name no prefix and no day.")
        _tell_sent(asyncio.run(_send(signing)), as_json=as_json)
        return
    wanted = [*days, *(["total"] if total else [])] or [""]
    asyncio.run((_print if as_json else _show)(prefix, wanted, signing))


async def _print(prefix: str, days: Sequence[str], signing: Signing) -> None:
    """Print what there is as it comes."""
    async for page, partial in _pages(prefix, days, signing):
        print_ndjson(_plain(page.day, row, partial) for row in page.rows)


async def _show(prefix: str, days: Sequence[str], signing: Signing) -> None:
    shown = table("day", "prefix", "node", *_COLUMNS, right=_COLUMNS)
    lacking: dict[str, frozenset[str]] = {}
    async for page, partial in _pages(prefix, days, signing):
        lacking[page.day] = partial
        for row in page.rows:
            figures = [f"{count:,}" for count in asdict(row.figures).values()]
            shown.add_row(page.day, Text(safe(row.prefix)), Text(safe(row.node)), *figures)
    output().print(shown)
    for day, nodes in lacking.items():
        for node in sorted(nodes):
            messages().print(f"{day}: {safe(node) or 'this node'} has counted more than it knows of.")


async def _pages(
    prefix: str, days: Sequence[str], signing: Signing
) -> AsyncIterator[tuple[DayCounts, frozenset[str]]]:
    """Give the pages of these days, each with those whose counts of its day are not all."""
    async with open_counts(signing) as client:
        for day in days:
            partial: frozenset[str] = frozenset()
            async for page in client.pages(day, prefix):
                # Said on the first page of a day.
                partial = partial or frozenset(page.partial)
                yield page, partial


async def _send(signing: Signing) -> Sent:
    async with open_counts(signing) as client:
        return await client.send()


def _tell_sent(sent: Sent, *, as_json: bool) -> None:
    if as_json:
        print_json(sent)
        return
    refused = f"; {sent.refused:,} were refused" if sent.refused else ""
    click.echo(f"{sent.reports:,} reports with {sent.rows:,} rows were taken{refused}.")


def _plain(day: str, row: Counted, partial: Container[str]) -> dict[str, Any]:
    counts = asdict(row.figures)
    return {"day": day, "prefix": row.prefix, "node": row.node, **counts, "partial": row.node in partial}
