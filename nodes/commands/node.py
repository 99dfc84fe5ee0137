"""`topnode node`: applying as a node, and what operators decide about nodes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

import click
from rich.text import Text

from nodes.asking.answers import safe, time_text
from nodes.asking.seen_nodes import ADMIN, fetch_seen
from nodes.client import PrivateKey, RegistryClient, Submitted
from nodes.client.receipts import node_of
from nodes.client.registered import ListedNode
from nodes.registering.acting import Acting, act, acting_options
from nodes.registering.reach import (
    RegistryReach,
    Signing,
    open_reader,
    open_signer,
    registry_options,
    signing_options,
)
from nodes.registering.shown import STYLES, node_lines, plain_listed, plain_node
from nodes.terminal import output, print_json, print_ndjson, table
from resolver.errors import Fault, Reason
from resolver.trust.actors import Node, NodeState, Tier

_reason = click.option("--reason", default="", metavar="TEXT", help="Why; it is told to everybody.")
_because = click.option("--reason", required=True, metavar="TEXT", help="Why; it is told to everybody.")


@click.group()
def command() -> None:
    """Apply as a node, or decide about nodes as an operator."""


@command.command()
@click.option("--tier", type=click.Choice(["secondary", "enterprise"]), required=True, help="What the node is.")
@click.option("--organisation", required=True, metavar="TEXT", help="The legal entity.")
@click.option("--parent", default="", metavar="NODE", help="The secondary node that an enterprise belongs to.")
@click.option("--industry", default="", metavar="CLASS", help="Its class by GB/T 4754, such as C3670.")
@click.option("--agreement", is_flag=True, help="It may be taken over by itself when it is down.")
@acting_options
def apply(
    *, tier: str, organisation: str, parent: str, industry: str, agreement: bool, **acting: Unpack[Acting]
) -> None:
    """Apply as the node that --actor names, with the key that is to be its own.

    An operator reviews the application; `topnode node status` tells how it stands.
    """
    act(
        acting,
        lambda client: client.apply(
            tier=Tier[tier.upper()],
            organisation=organisation,
            parent=parent,
            industry=industry,
            agreement=agreement,
            request_id=acting["request_id"],
        ),
        f"{acting['actor']} has applied.",
    )


@command.command()
@click.argument("node_id", metavar="NODE")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
@registry_options
def status(node_id: str, *, as_json: bool, **reach: Unpack[RegistryReach]) -> None:
    """Show what is registered of NODE: who it is, its state, its keys."""
    node = asyncio.run(_status(node_id, reach))
    if as_json:
        print_json(plain_node(node))
        return
    console = output()
    console.print(Text.assemble((safe(node.node), "bold"), "  ", _state(node)))
    shown = table("of the node", "")
    for name, text in node_lines(node):
        shown.add_row(name, Text(text))
    console.print(shown)


@command.command(name="list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.name.lower() for state in NodeState]),
    help="Only nodes in this state. May be given again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
@signing_options
def list_nodes(*, states: Sequence[str], as_json: bool, **signing: Unpack[Signing]) -> None:
    """List the nodes, as an operator: those that wait for a review with `--state applied`.

    `heard` is when the registry last had a sign of life from a node that serves below it.
    """
    nodes = asyncio.run(_list(signing, [NodeState[state.upper()] for state in states]))
    if as_json:
        print_ndjson(plain_listed(listed) for listed in nodes)
        return
    shown = table("node", "state", "tier", "parent", "organisation", "industry", "changed", "heard")
    for listed in nodes:
        node = listed.node
        texts = (node.parent, node.organisation, node.industry)
        shown.add_row(
            Text(safe(node.node)),
            _state(node),
            node.tier.name.lower(),
            *(Text(safe(text)) for text in texts),
            time_text(node.changed_at),
            time_text(int(listed.heard.heard_at)) if listed.heard else "",
        )
    output().print(shown)


@command.command()
@click.argument("node_id", metavar="NODE")
@click.option("--enable", "decision", flag_value="enable", help="It may sign from now on.")
@click.option("--reject", "decision", flag_value="reject", help="It may apply again.")
@click.option(
    "--agreement/--no-agreement",
    default=None,
    help="What was agreed about taking it over by itself when it is down. Default: what its application says.",
)
@_reason
@acting_options
def review(
    node_id: str, *, decision: str | None, agreement: bool | None, reason: str, **acting: Unpack[Acting]
) -> None:
    """Decide about the application of NODE, as an operator: --enable or --reject it."""
    if decision is None:
        raise click.UsageError("Say what is decided: --enable or --reject.")
    enable = decision == "enable"
    act(
        acting,
        lambda client: client.review(
            node_id, enable=enable, reason=reason, agreement=agreement, request_id=acting["request_id"]
        ),
        f"{node_id} is {'enabled' if enable else 'rejected'}.",
    )


@command.command()
@click.argument("node_id", metavar="NODE")
@_because
@acting_options
def suspend(node_id: str, *, reason: str, **acting: Unpack[Acting]) -> None:
    """Keep NODE from signing until it is resumed, as an operator; what it registered goes on resolving."""
    act(
        acting,
        lambda client: client.suspend(node_id, reason, request_id=acting["request_id"]),
        f"{node_id} is suspended.",
    )


@command.command()
@click.argument("node_id", metavar="NODE")
@_reason
@acting_options
def resume(node_id: str, *, reason: str, **acting: Unpack[Acting]) -> None:
    """Let the suspended NODE sign again, as an operator."""
    act(
        acting,
        lambda client: client.resume(node_id, reason, request_id=acting["request_id"]),
        f"{node_id} is enabled again.",
    )


@command.command()
@click.argument("node_id", metavar="NODE")
@_because
@acting_options
def revoke(node_id: str, *, reason: str, **acting: Unpack[Acting]) -> None:
    """Keep NODE from signing for good, as an operator; what it registered goes on resolving."""
    act(
        acting,
        lambda client: client.revoke(node_id, reason, request_id=acting["request_id"]),
        f"{node_id} is revoked.",
    )


@command.command()
@click.argument("node_id", metavar="NODE")
@click.option("--begin", "what", flag_value="begin", help="Answer in its place, out of registered copies.")
@click.option("--end", "what", flag_value="end", help="Have it answer for itself again.")
@_because
@click.option(
    "--admin",
    default=ADMIN,
    metavar="HOST:PORT",
    show_default=True,
    help="The admin endpoint of the node that is to answer; it is asked whether that node suspects itself.",
)
@click.option("--although-suspect", is_flag=True, help="Begin although that node suspects itself.")
@acting_options
def takeover(
    node_id: str,
    *,
    what: str | None,
    reason: str,
    admin: str,
    although_suspect: bool,
    **acting: Unpack[Acting],
) -> None:
    """Answer in the place of NODE, or no longer, as an operator: --begin or --end.

    Whoever asks recursively below its prefixes is then answered out of the registered copies, marked so. The node
    goes on writing as before. `topnode nodes` tells how the nodes below stand. What an operator begins, an operator
    ends; and where one ends it while the node is down, it is not begun again before the node has been up.

    Where more than half of the nodes below fail together it is rather the node above that has failed, or its network:
    then nothing is begun without --although-suspect.
    """
    if what is None:
        raise click.UsageError("Say what is done: --begin or --end.")
    is_begun = what == "begin"

    async def request(client: RegistryClient) -> Submitted:
        if not is_begun:
            return await client.hand_back(node_id, reason, request_id=acting["request_id"])
        if not although_suspect:
            await _check_unsuspected(client, admin)
        return await client.take_over(node_id, reason, request_id=acting["request_id"])

    act(acting, request, f"{node_id} is taken over." if is_begun else f"{node_id} answers for itself again.")


@command.command()
@click.argument("node_id", metavar="NODE")
@click.option("--yes", "agreed", flag_value="yes", help="It may.")
@click.option("--no", "agreed", flag_value="no", help="An operator must look at it first.")
@acting_options
def agree(node_id: str, *, agreed: str | None, **acting: Unpack[Acting]) -> None:
    """Say whether NODE may be taken over by itself when it is down: as that node, or as an operator."""
    if agreed is None:
        raise click.UsageError("Say what is agreed: --yes or --no.")
    may = agreed == "yes"
    act(
        acting,
        lambda client: client.agree(node_id, agreement=may, request_id=acting["request_id"]),
        f"{node_id} may be taken over {'by itself when it is down' if may else 'by operators only'}.",
    )


@command.command()
@click.option(
    "--new-key",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The key that takes its place (`topnode key new`).",
)
@acting_options
def rotate(*, new_key: Path, **acting: Unpack[Acting]) -> None:
    """Put another key in the place of the node's; both sign this, and only the new one from then on."""
    key = PrivateKey.from_file(new_key)
    act(
        acting,
        lambda client: client.rotate(key, request_id=acting["request_id"]),
        f"{acting['actor']} signs with {new_key} from now on.",
    )


async def _check_unsuspected(client: RegistryClient, admin: str) -> None:
    """Refuse where the node whose registry is asked suspects itself; where that cannot be learnt, say so.

    Raises:
        click.UsageError: it does.
        Fault: SETTING_INVALID for what is no address; the registry does not answer.
    """
    own = node_of((await client.checkpoint()).verifier_key)
    try:
        seen = await asyncio.to_thread(fetch_seen, admin)
    except Fault as fault:
        if fault.reason is not Reason.NODE_UNREACHABLE:
            raise
        unknown = fault.detail
    else:
        unknown = "" if seen.node == own else f"http://{admin} is of {safe(seen.node)}"
        if seen.node == own and seen.suspects_itself:
            together = f"{seen.failing} of {seen.counted} nodes fail together: {own} suspects itself."
            raise click.UsageError(f"{together} Look at its network first; --although-suspect begins all the same.")
    if unknown:
        click.echo(f"Whether {own} suspects itself is not known (--admin): {unknown}.", err=True)


async def _status(node_id: str, reach: RegistryReach) -> Node:
    async with open_reader(reach) as client:
        return await client.node(node_id)


async def _list(signing: Signing, states: Sequence[NodeState]) -> list[ListedNode]:
    async with open_signer(signing) as client:
        return [listed async for listed in client.listed_nodes(states)]


def _state(node: Node) -> Text:
    return Text(node.state.name.lower(), style=STYLES.get(node.state.name, ""))
