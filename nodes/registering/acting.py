"""One signed request from the command line: signed, sent, told."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from nodes.asking.reach import with_options
from nodes.client import RegistryClient, Submitted
from nodes.registering.reach import Signing, open_signer, signing_options
from nodes.registering.receipt_files import keep_receipt
from nodes.registering.shown import plain_submitted
from nodes.terminal import print_json

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Acting(Signing):
    """What the options of a command that sends one request say."""

    request_id: str
    receipt: Path | None
    as_json: bool


_ACTING: Final = (
    click.option(
        "--request-id",
        default="",
        metavar="TEXT",
        help="Names the request: sent again under the same name, it gets its first answer. Default: a new one.",
    ),
    click.option(
        "--receipt",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Where the receipt is added, with what was signed.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print what became of it as one JSON document."),
)


def acting_options(command: _Command) -> _Command:
    """Give a command the options of `Acting`."""
    return with_options(signing_options(command), _ACTING)


def act(acting: Acting, request: Callable[[RegistryClient], Awaitable[Submitted]], said: str) -> None:
    """Send a request and tell what became of it; `said` is the sentence for people.

    Raises:
        Fault: why it was refused, or could not be sent.
    """
    submitted = asyncio.run(_submit(acting, request))
    if acting["receipt"] and submitted.receipt:
        keep_receipt(acting["receipt"], submitted.receipt, submitted.envelope)
    if acting["as_json"]:
        print_json(plain_submitted(submitted))
        return
    index = f" Entry {submitted.receipt.index:,} of the journal." if submitted.receipt else ""
    again = " It was accepted before." if submitted.is_repeated else ""
    click.echo(f"{said}{again}{index}")


async def _submit(acting: Acting, request: Callable[[RegistryClient], Awaitable[Submitted]]) -> Submitted:
    async with open_signer(acting) as client:
        return await request(client)
