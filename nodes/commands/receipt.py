"""`topnode receipt`: checking the proofs of what was registered."""

import asyncio
from collections.abc import Iterator
from typing import IO, Any, Final, Unpack

import click
from rich.text import Text

from nodes.asking.answers import safe, time_text
from nodes.client import Fault
from nodes.registering.reach import RegistryReach, open_reader, registry_options
from nodes.registering.receipt_files import KeptReceipt, read_receipts
from nodes.terminal import messages, output, print_ndjson, table

SHOWN: Final = 20
"""Lines of a file that are shown to people; every line that does not hold is."""


@click.group()
def command() -> None:
    """Check receipts."""


@command.command()
@click.argument("file", type=click.File("rb"), metavar="FILE|-")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each line.")
@registry_options
@click.pass_context
def verify(context: click.Context, *, file: IO[bytes], as_json: bool, **reach: Unpack[RegistryReach]) -> None:
    """Check each receipt in FILE: its entry is in the signed journal, and says what its envelope said.

    With --verifier-key nobody is asked: that is the proof. Without it, the registry is asked for its own key, and
    believed. The exit code is 0 when every receipt holds, else 1.
    """
    key = reach["verifier_key"] or asyncio.run(_ask_key(reach))
    checked = list(_check(file, key))
    if as_json:
        print_ndjson(each for each in checked)
    else:
        _show(checked, key, is_pinned=bool(reach["verifier_key"]))
    if not checked or not all(each["holds"] for each in checked):
        context.exit(1)


async def _ask_key(reach: RegistryReach) -> str:
    async with open_reader(reach) as client:
        return (await client.checkpoint()).verifier_key


def _check(file: IO[bytes], key: str) -> Iterator[dict[str, Any]]:
    for number, kept in read_receipts(file):
        said: dict[str, Any] = {"line": number, "holds": False}
        try:
            if isinstance(kept, Fault):
                raise kept
            said |= _said(kept)
            kept.check(key)
            said["holds"] = True
        except Fault as fault:
            said |= {"reason": fault.reason.name, "why": fault.detail}
        yield said


def _said(kept: KeptReceipt) -> dict[str, Any]:
    statement = kept.said()
    return {
        "index": kept.receipt.index,
        "kind": statement.kind,
        "actor": statement.actor,
        "request_id": statement.request_id,
        "accepted_at": statement.accepted_at,
        "with_envelope": bool(kept.envelope),
    }


def _show(checked: list[dict[str, Any]], key: str, *, is_pinned: bool) -> None:
    shown = table("line", "entry", "accepted", "kind", "actor", "holds", right=["line", "entry"])
    failed = [each for each in checked if not each["holds"]]
    for each in [*checked[:SHOWN], *(each for each in failed if each["line"] > SHOWN)]:
        verdict = ("yes", "bold green") if each["holds"] else (f"no: {each['why']}", "bold red")
        shown.add_row(
            f"{each['line']:,}",
            f"{each.get('index', 0):,}",
            time_text(each.get("accepted_at", 0)),
            safe(each.get("kind", "")),
            Text(safe(each.get("actor", ""))),
            Text(*verdict),
        )
    output().print(shown)
    click.echo(f"{len(checked) - len(failed):,} of {len(checked):,} receipts hold, by the key {key}")
    if not is_pinned:
        messages().print("The registry was asked for that key; pin it with --verifier-key to believe nobody.")
