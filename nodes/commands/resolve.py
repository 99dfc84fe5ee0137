"""`topnode resolve`: asking a node about identifiers."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Final, Unpack

import click

from nodes.asking.answers import is_absence, plain
from nodes.asking.reach import Reach, open_client, reach_options
from nodes.client import Client, Options, Traced
from nodes.client.gathering import BATCHES_AT_ONCE
from nodes.terminal import output, print_ndjson
from resolver.answer import Answer
from resolver.bounds import BATCH_IDENTIFIERS, INDEX_MAX
from resolver.errors import Fault, Kind
from resolver.query import Mode

ABSENT: Final = 4
"""Exit code when everything was answered, and something is absent or not here."""

WINDOW: Final = BATCHES_AT_ONCE * BATCH_IDENTIFIERS
"""Identifiers that are asked for, and printed, at a time."""


@click.command()
@click.argument("identifiers", nargs=-1, metavar="IDENTIFIER...")
@click.option("-f", "--file", "source", type=click.File("rb"), metavar="FILE|-", help="Identifiers, one a line.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only these values; `T.` is T and all below it.")
@click.option("--index", "indexes", multiple=True, type=click.IntRange(1, INDEX_MAX), help="Only these values.")
@click.option(
    "--mode",
    type=click.Choice([mode.name.lower() for mode in Mode]),
    default="local",
    show_default=True,
    help="How far the node goes for what is delegated to another.",
)
@click.option("--authoritative", is_flag=True, help="Read from the store itself, past every cache.")
@click.option("--with-copy", is_flag=True, help="With a referral, also the registered copy.")
@click.option("--trace", is_flag=True, help="Show each tier that the answer passed, with its time.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line, in order.")
@reach_options
@click.pass_context
def command(  # noqa: PLR0913 - one for each option
    context: click.Context,
    *,
    identifiers: tuple[str, ...],
    source: IO[bytes] | None,
    types: tuple[str, ...],
    indexes: tuple[int, ...],
    mode: str,
    authoritative: bool,
    with_copy: bool,
    trace: bool,
    as_json: bool,
    **reach: Unpack[Reach],
) -> None:
    """Ask a node about identifiers, one or many.

    One is shown with everything in its answer, many as a table with a line for each. The exit code is 0 when all were
    found (or referred to another node, where that was asked for), 4 when something is absent or not here, 1 when
    something went wrong.
    """
    asked = _asked(identifiers, source)
    options = Options(
        types=types, indexes=indexes, mode=Mode[mode.upper()], authoritative=authoritative, with_copy=with_copy
    )
    codes = asyncio.run(_resolve(asked, options, reach, trace=trace, as_json=as_json))
    context.exit(1 if 1 in codes else max(codes, default=0))


def _asked(identifiers: Sequence[str], source: IO[bytes] | None) -> Iterator[str]:
    if not identifiers and source is None:
        raise click.UsageError("Name identifiers, or a file of them with -f.")
    yield from identifiers
    for line in source or ():
        # What is not UTF-8 is refused by its own error, in its place.
        identifier = line.rstrip(b"\r\n").decode(errors="surrogateescape")
        if identifier:
            yield identifier


async def _resolve(asked: Iterator[str], options: Options, reach: Reach, *, trace: bool, as_json: bool) -> set[int]:
    """Resolve window by window; gives what the answers come to as exit codes."""
    codes: set[int] = set()
    async with open_client(**reach) as client:
        is_first = True
        while window := list(islice(asked, WINDOW)):
            if trace:
                codes |= await _trace(client, window, options, as_json=as_json)
            else:
                answers = await _answers(client, window, options)
                _show(window, answers, as_json=as_json, in_full=is_first and len(window) == 1)
                codes |= {_code(answer) for answer in answers}
            is_first = False
    return codes


async def _answers(client: Client, window: Sequence[str], options: Options) -> list[Answer | Fault]:
    """Resolve a window.

    Raises:
        Fault: where the node answers nothing at all.
    """
    answers = await client.resolve_batch(window, options)
    faults = [answer for answer in answers if isinstance(answer, Fault)]
    if len(faults) == len(answers) and all(fault.kind is Kind.UNAVAILABLE for fault in faults):
        raise faults[0]
    return answers


async def _trace(client: Client, window: Sequence[str], options: Options, *, as_json: bool) -> set[int]:
    codes = set()
    for identifier in window:
        traced = await client.resolve_traced(identifier, options)
        _show_traced(identifier, traced, as_json=as_json)
        codes.add(_code(traced.answer))
    return codes


def _show(window: Sequence[str], answers: Sequence[Answer | Fault], *, as_json: bool, in_full: bool) -> None:
    if as_json:
        print_ndjson(plain(identifier, answer) for identifier, answer in zip(window, answers, strict=True))
        return
    # Imported here: rich takes longer to import than JSON to print.
    from nodes.asking import answer_tables  # noqa: PLC0415

    shown = answer_tables.one(window[0], answers[0]) if in_full else answer_tables.many(window, answers)
    output().print(shown)


def _show_traced(identifier: str, traced: Traced, *, as_json: bool) -> None:
    if as_json:
        print_ndjson([plain(identifier, traced.answer, traced)])
        return
    from nodes.asking import answer_tables  # noqa: PLC0415 - likewise

    console = output()
    console.print(answer_tables.one(identifier, traced.answer))
    console.print(answer_tables.way(traced))


def _code(answer: Answer | Fault) -> int:
    if isinstance(answer, Fault):
        return 1
    return ABSENT if is_absence(answer) else 0
