"""`topnode prefix`: applying for prefixes, allocating and delegating them, their states and terms."""

import asyncio
from collections.abc import Sequence
from typing import IO, Any, Final, Unpack

import click
import msgspec
from rich.text import Text

from nodes.asking.answers import safe
from nodes.registering.acting import Acting, act, acting_options
from nodes.registering.reach import RegistryReach, open_reader, registry_options
from nodes.registering.shown import STYLES, plain_prefix, prefix_lines
from nodes.registering.words import EndpointParam, WhenParam
from nodes.terminal import output, print_json, table
from registry.rows import EndpointRow, PrefixRow
from resolver.errors import Fault, Reason
from resolver.handle import CaseRule
from resolver.routes import Endpoint, Hosting, Prefix, PrefixState

_HOSTINGS: Final = [hosting.name.lower() for hosting in Hosting]
_CASES: Final = [case.name.lower() for case in CaseRule]
_hosting = click.option(
    "--hosting", type=click.Choice(_HOSTINGS), default="here", show_default=True, help="Where its records are."
)
_case = click.option("--case", type=click.Choice(_CASES), help="Do suffixes differ by case? Default: as above it.")
_endpoint = click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    type=EndpointParam(),
    metavar="URL",
    help="Where a delegated prefix answers: grpc://HOST:PORT, handle-tcp://..., ?priority=N&tls=NAME. Repeatable.",
)
_expires = click.option(
    "--expires", type=WhenParam(), default="never", metavar="DATE", show_default=True, help="When its term ends."
)


@click.group()
def command() -> None:
    """Apply for prefixes, allocate and delegate them, and change their states and terms."""


@command.command()
@click.argument("prefix")
@_hosting
@_case
@_expires
@_endpoint
@acting_options
def apply(
    prefix: str,
    *,
    hosting: str,
    case: str | None,
    expires: int,
    endpoints: Sequence[Endpoint],
    **acting: Unpack[Acting],
) -> None:
    """Apply for PREFIX, as the node that wants to hold it; it means nothing until it is enabled."""
    act(
        acting,
        lambda client: client.apply_for_prefix(
            prefix,
            hosting=Hosting[hosting.upper()],
            case=CaseRule[case.upper()] if case else None,
            expires_at=expires,
            endpoints=endpoints,
            request_id=acting["request_id"],
        ),
        f"{acting['actor']} has applied for {prefix}.",
    )


@command.command()
@click.argument("prefix", required=False)
@click.option("--holder", metavar="NODE", help="The node that is to hold it.")
@click.option(
    "-f", "--file", "source", type=click.File("rb"), metavar="FILE|-", help="Up to 1,000 rows of prefixes, NDJSON."
)
@_hosting
@_case
@_expires
@_endpoint
@acting_options
def allocate(
    prefix: str | None,
    *,
    holder: str | None,
    source: IO[bytes] | None,
    hosting: str,
    case: str | None,
    expires: int,
    endpoints: Sequence[Endpoint],
    **acting: Unpack[Acting],
) -> None:
    """Allocate PREFIX to a node: as an operator, or as the holder of the prefix above, who so delegates it.

    Many at once come from a file, one JSON object a line as `topnode load` reads them; all of them or none.
    """
    if (prefix is None) is (source is None) or (prefix is None) is not (holder is None):
        raise click.UsageError("Name PREFIX and its --holder, or a file of rows with -f.")
    if source is not None:
        rows = _read_rows(source)
    else:
        said: dict[str, Any] = {"prefix": prefix, "holder": holder, "hosting": hosting, "expires_at": expires}
        said |= {"case": case} if case else {}
        said |= {"endpoints": [EndpointRow.of(endpoint) for endpoint in endpoints]}
        rows = [msgspec.convert(said, PrefixRow)]
    act(
        acting,
        lambda client: client.allocate(rows, request_id=acting["request_id"]),
        f"{len(rows):,} prefixes are allocated." if source else f"{prefix} is allocated to {holder}.",
    )


@command.command()
@click.argument("prefix")
@click.argument("to", metavar="STATE", type=click.Choice([each.name.lower() for each in PrefixState]))
@acting_options
def state(prefix: str, to: str, **acting: Unpack[Acting]) -> None:
    """Bring PREFIX into another STATE; docs/registry.md has the table of who may."""
    act(
        acting,
        lambda client: client.set_prefix_state(prefix, PrefixState[to.upper()], request_id=acting["request_id"]),
        f"{prefix} is {to} now.",
    )


@command.command()
@click.argument("prefix")
@click.option("--expires", type=WhenParam(), required=True, metavar="DATE", help="When its term ends; `never`.")
@acting_options
def renew(prefix: str, *, expires: int, **acting: Unpack[Acting]) -> None:
    """Have the term of PREFIX end at another time, an earlier one too."""
    act(
        acting,
        lambda client: client.renew_prefix(prefix, expires, request_id=acting["request_id"]),
        f"The term of {prefix} is changed.",
    )


@command.command()
@click.argument("prefix")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@registry_options
def show(prefix: str, *, as_json: bool, **reach: Unpack[RegistryReach]) -> None:
    """Show what is registered of exactly PREFIX: its holder, its state, its term, its endpoints."""
    found = asyncio.run(_show(prefix, reach))
    if as_json:
        print_json(plain_prefix(found))
        return
    console = output()
    style = STYLES.get(found.state.name, "bold green")
    console.print(Text.assemble((safe(found.text), "bold"), "  ", (found.state.name.lower(), style)))
    shown = table("of the prefix", "")
    for name, text in prefix_lines(found):
        shown.add_row(name, Text(text))
    console.print(shown)


async def _show(prefix: str, reach: RegistryReach) -> Prefix:
    async with open_reader(reach) as client:
        return await client.prefix(prefix)


def _read_rows(source: IO[bytes]) -> list[PrefixRow]:
    """Read rows of prefixes.

    Raises:
        Fault: ROW_MALFORMED naming the line.
    """
    rows = []
    for number, line in enumerate(source, 1):
        if line.isspace():
            continue
        try:
            rows.append(msgspec.json.decode(line, type=PrefixRow))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Fault(Reason.ROW_MALFORMED, f"Line {number}: {error}.", field="--file") from None
    return rows
