"""`topnode journal`: what was accepted, whether the store holds it, and a store made anew. See `nodes.auditing`."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from resolver.errors import Fault, Reason

if TYPE_CHECKING:
    from nodes.auditing import Told, Verdict
    from nodes.settings import NodeSettings
    from registry.rebuild import Tell
    from resolver.store import Kept

# ruff: noqa: PLC0415 - `topnode journal --help` needs none of the tree, the planners and the tables.

SHOWN: Final = 20
"""Entries that are listed."""

_data = click.option("--data", metavar="DIR", help="The folder that holds the store.")
_config = click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="The node's settings, with its operators."
)
_former = click.option(
    "--former",
    multiple=True,
    metavar="NAME=FILE",
    help="A public key (PEM) of an operator that no longer stands in the settings. May be given again.",
)
_pinned = click.option(
    "--verifier-key",
    default="",
    metavar="KEY",
    help="The journal's key as it is known elsewhere (`journal key`). Default: by the node's own key file.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@click.group()
def command() -> None:
    """Look at the journal, verify the store against it, or make a new store of it."""


@command.command(short_help="Read everything again, and compare.")
@_data
@_config
@_former
@_pinned
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where a second store is made to compare with, and removed. Default: where temporary files are.",
)
@_json
@click.pass_context
def verify(
    context: click.Context,
    *,
    data: str | None,
    config: Path | None,
    former: Sequence[str],
    verifier_key: str,
    scratch: Path | None,
    as_json: bool,
) -> None:
    """Read everything again, and compare the store, or the ring, with its journal. The node may run meanwhile.

    Each entry's envelope and chunk are compared with their hashes, its signature is verified with the keys that were
    registered at that time, and it is planned again; the tree over all entries is compared with its signed head. What
    comes of it is compared with the store, database by database. Where the settings name a ring that is read, and
    rows that are written meanwhile are passed over.

    The exit code is 0 when everything fits, else 1.
    """
    from nodes import auditing
    from nodes.terminal import print_json
    from resolver.clock import SystemClock

    settings = _settings(data, config)
    trust = auditing.read_trust(settings, settings.data, former=_former_keys(former), pinned=verifier_key)
    with _told() as told:
        if settings.cassandra.hosts:
            work = auditing.verify_ring(settings.cassandra, trust, scratch=scratch, clock=SystemClock(), told=told)
        else:
            work = auditing.verify(settings.data, trust, scratch=scratch, clock=SystemClock(), told=told)
        verdict = asyncio.run(work)
    if as_json:
        print_json(verdict)
    else:
        _print_verdict(verdict, _place(settings))
    if verdict.found:
        context.exit(1)


@command.command(short_help="Make a new store of journal, envelopes and chunks.")
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the journal is. Default: the ring in the settings.",
)
@click.option(
    "--to", "target", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new or empty folder."
)
@_config
@_former
@_pinned
@_json
def rebuild(
    *, source: Path | None, target: Path, config: Path | None, former: Sequence[str], verifier_key: str, as_json: bool
) -> None:
    """Make a new store out of journal, envelopes and chunks, with all its rows, and the keys beside it.

    Every entry is verified and planned again, as `verify` does; where one does not come to the same, nothing is made.
    The new folder appears when all of it is there. Start the node on it afterwards.
    """
    from nodes import auditing
    from nodes.terminal import print_json
    from resolver.clock import SystemClock

    settings = _settings(None, config)
    if source is None and not settings.cassandra.hosts:
        raise click.UsageError("Give --from, or settings that name a ring.")
    trust = auditing.read_trust(settings, source or settings.data, former=_former_keys(former), pinned=verifier_key)
    with _told() as told:
        if source is None:
            work = auditing.rebuild_ring(settings, target, trust, clock=SystemClock(), told=told)
        else:
            work = auditing.rebuild_store(source, target, trust, clock=SystemClock(), told=told)
        made = asyncio.run(work)
    if as_json:
        print_json({"entries": made.size, "root": made.root.hex(), "data": str(target)})
        return
    place = source or _place(settings)
    click.echo(f"{target} holds what the {made.size:,} entries of {place} come to; the root is {made.root.hex()}.")


@command.command(short_help="Print the key that signs the journal.")
@_data
@_config
@_json
def key(*, data: str | None, config: Path | None, as_json: bool) -> None:
    """Print the key with which receipts and checkpoints of this node's journal are verified."""
    from nodes import auditing
    from nodes.terminal import print_json

    settings = _settings(data, config)
    text = auditing.own_verifier_key(settings, settings.data)
    if as_json:
        print_json({"verifier_key": text})
        return
    click.echo(text)


@command.command(short_help="Show an entry, or the newest ones.")
@click.argument("index", type=click.IntRange(min=1), required=False)
@_data
@_config
@click.option("--body", is_flag=True, help="Print only what was signed, as JSON; it may hold what is not public.")
@_json
def show(index: int | None, *, data: str | None, config: Path | None, body: bool, as_json: bool) -> None:
    """Show the entry INDEX, or without one the newest entries and the signed head of the tree."""
    asyncio.run(_show(_settings(data, config), index, body=body, as_json=as_json))


async def _show(settings: "NodeSettings", index: int | None, *, body: bool, as_json: bool) -> None:
    from nodes.auditing import open_journal
    from nodes.terminal import print_json
    from resolver.clock import SystemClock

    async with open_journal(settings, SystemClock()) as journal:
        size = await journal.head()
        if index is None:
            first = max(size - SHOWN, 0) + 1
            shown = [_entry(await journal.kept(each)) for each in range(first, size + 1)]
            _print_newest((await journal.tree_head()).decode(), shown, as_json=as_json)
            return
        if index > size:
            raise Fault(Reason.ENTRY_UNKNOWN, f"The journal has {size:,} entries.", variables={"size": str(size)})
        kept = await journal.kept(index)
    if body:
        click.echo(_body(kept))
    elif as_json:
        print_json(_entry(kept))
    else:
        _print_entry(_entry(kept))


def _settings(data: str | None, config: Path | None) -> "NodeSettings":
    from nodes.settings import read

    return read(config, os.environ, {"data": data}).settings


def _place(settings: "NodeSettings") -> str:
    """Name what was verified."""
    if settings.cassandra.hosts:
        return f"the keyspace {settings.cassandra.keyspace} of {settings.cassandra.hosts[0]}"
    return str(settings.data)


def _former_keys(former: Sequence[str]) -> list[tuple[str, Path]]:
    named = [each.partition("=") for each in former]
    for name, _, path in named:
        if not name or not path:
            raise click.BadParameter(
                "Write the operator's name, an equals sign, and the file.", param_hint="--former"
            )
    return [(name, Path(path)) for name, _, path in named]


@contextmanager
def _told() -> Iterator["Told"]:
    """Show a bar for each part of the work."""
    from nodes.auditing import PLANNING
    from nodes.terminal import progress

    with ExitStack() as shown:

        def told(what: str) -> "Tell":
            shown.close()
            bars = shown.enter_context(progress(unit="entries" if what == PLANNING else "rows"))
            bar = bars.add_task(what, total=None)
            return lambda done, total: bars.update(bar, completed=done, total=total)

        yield told


# --- what is shown -----------------------------------------------------------------------------------------------


def _print_verdict(verdict: "Verdict", place: str) -> None:
    from nodes.terminal import output, table

    rows = table("database", "rows", right=["rows"])
    for name, count in verdict.rows.items():
        rows.add_row(name, f"{count:,}")
    output().print(rows)
    if verdict.findings:
        found = table("entry", "in", "what does not fit", right=["entry"])
        for each in verdict.findings:
            found.add_row(f"{each.index:,}" if each.index else "", each.kind, each.detail)
        output().print(found)
    click.echo(f"{verdict.entries:,} entries, root {verdict.root}")
    if not verdict.found:
        click.echo(f"Everything in {place} is what its journal comes to.")
        return
    click.echo(f"{verdict.found:,} things do not fit; what follows on the first may be its consequence.")


def _entry(kept: "Kept") -> dict[str, Any]:
    """Say an entry in plain values."""
    from nodes.asking.answers import time_text
    from registry.kinds import IMPORT
    from registry.v1 import registry_pb2 as pb

    statement = pb.Statement.FromString(kept.statement)
    return {
        "index": kept.index,
        "accepted": time_text(statement.accepted_at),
        "kind": statement.kind,
        "actor": statement.actor,
        "request_id": statement.request_id,
        "keys": [each.hex() for each in statement.key_ids],
        "envelope_sha256": statement.envelope_sha256.hex(),
        "bytes": sum(map(len, kept.artefacts)),
        "outcomes": _import_outcomes(kept.result) if statement.kind == IMPORT else _outcomes(kept.result),
    }


def _outcomes(result: bytes) -> dict[str, int]:
    from registry.plans import Outcome
    from registry.v1 import registry_pb2 as pb

    outcomes = pb.Result.FromString(result).outcomes
    counts = {each.name.lower(): sum(outcome == each.value for outcome in outcomes) for each in Outcome}
    return {name: count for name, count in counts.items() if count}


def _import_outcomes(result: bytes) -> dict[str, int]:
    from registry.v1 import registry_pb2 as pb

    message = pb.ImportResponse.FromString(result)
    counts = {name: getattr(message, name) for name in ("registered", "replaced", "unchanged")}
    counts["refused"] = len(message.refusals)
    return {name: count for name, count in counts.items() if count}


def _body(kept: "Kept") -> bytes:
    from resolver.trust.envelopes import Envelope
    from resolver.trust.heads import Payload

    return Payload.from_bytes(Envelope.from_bytes(kept.artefacts[0]).payload).body


def _print_newest(tree_head: str, entries: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    from nodes.terminal import output, print_json, table

    if as_json:
        print_json({"checkpoint": tree_head, "entries": entries})
        return
    shown = table("entry", "accepted", "kind", "actor", "outcomes", "bytes", right=["entry", "bytes"])
    for each in entries:
        told = (f"{each['index']:,}", each["accepted"], each["kind"], each["actor"])
        shown.add_row(*told, _counts(each["outcomes"]), f"{each['bytes']:,}")
    output().print(shown)
    click.echo(tree_head, nl=False)


def _print_entry(entry: dict[str, Any]) -> None:
    from nodes.terminal import output, table

    shown = table("of the entry", "")
    for name, value in entry.items():
        text = _counts(value) if name == "outcomes" else ", ".join(value) if name == "keys" else str(value)
        if text:
            shown.add_row(name.replace("_", " "), text)
    output().print(shown)


def _counts(outcomes: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in outcomes.items())
