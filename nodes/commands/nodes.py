"""`topnode nodes`: how the nodes below a node are, as its prober sees them."""

from datetime import UTC, datetime
from typing import Final

import click
from rich.text import Text

from nodes.asking.answers import safe, time_text
from nodes.asking.seen_nodes import ADMIN, fetch_seen
from nodes.probing.deciding import Standing
from nodes.probing.incidents import Incident
from nodes.probing.seen import ChildSeen, NodesSeen
from nodes.terminal import messages, output, print_json, table
from resolver.errors import Fault, Reason

_STYLES: Final = {Standing.UP: "bold green", Standing.DOWN: "bold red", Standing.UNKNOWN: "bold yellow"}
_NOTHING: Final = "-"


@click.command()
@click.argument("node_id", metavar="[NODE]", required=False)
@click.option("--admin", default=ADMIN, metavar="HOST:PORT", show_default=True, help="The admin endpoint to ask.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON document.")
def command(node_id: str | None, admin: str, *, as_json: bool) -> None:
    """Show how the nodes below are, as the prober of a node sees them; of NODE, its endpoints and incidents too.

    A node is down when 51 of 100 probes of the window failed. "due" is what is to be done about it, and by whom.
    """
    seen = fetch_seen(admin)
    children = [child for child in seen.children if node_id in (None, child.node)]
    if node_id is not None and not children:
        raise Fault(Reason.NODE_UNKNOWN, f"No node named {node_id} is probed.", field="node")
    if as_json:
        print_json(seen if node_id is None else children[0])
        return
    if node_id is None:
        _print_all(seen)
    else:
        _print_one(children[0])
    _warn(seen)


def _print_all(seen: NodesSeen) -> None:
    numbers = ("available", "probes", "p50 ms", "p95 ms", "endpoints")
    shown = table("node", "tier", "standing", *numbers, "incident", "taken over", "due", right=numbers)
    for child in seen.children:
        good = sum(bool(each.good) for each in child.endpoints)
        shown.add_row(
            Text(safe(child.node)),
            child.tier,
            _standing(child),
            _NOTHING if child.availability is None else f"{child.availability:.1%}",
            str(child.probes + child.elsewhere.probes),
            _milliseconds(child, "p50"),
            _milliseconds(child, "p95"),
            f"{good}/{len(child.endpoints)}",
            _incident(child.incident) if child.incident else _NOTHING,
            _takeover(child),
            Text(child.due or _NOTHING, style="bold yellow" if child.due else ""),
        )
    output().print(shown)


def _print_one(child: ChildSeen) -> None:
    console = output()
    console.print(Text.assemble((safe(child.node), "bold"), "  ", _standing(child)))
    shown = table("of the node", "")
    tally = f"{child.probes} probes of the window, {child.failed} failed"
    elsewhere = child.elsewhere
    lines = [
        ("seen from here", tally),
        ("and elsewhere", f"{elsewhere.probes} probes, {elsewhere.failed} failed" if elsewhere.probes else ""),
        ("latency", ", ".join(f"{name} {took * 1_000:.1f} ms" for name, took in child.latency_seconds.items())),
        ("when down", "taken over by itself, as agreed" if child.agreement else "taken over by an operator"),
        ("taken over", f"{_takeover(child)}: {safe(child.takeover_reason)}" if child.takeover else ""),
        ("due", child.due),
    ]
    for endpoint in child.endpoints:
        how = "good" if endpoint.good else endpoint.cause or "not probed yet"
        lines.append(("endpoint", f"{safe(endpoint.endpoint)}  {how}"))
    lines += [("incident", f"{each.number}: {_incident(each)}") for each in child.incidents]
    for name, text in lines:
        if text:
            shown.add_row(name, Text(text))
    console.print(shown)


def _warn(seen: NodesSeen) -> None:
    """Say on standard error what spoils the picture."""
    console = messages()
    if seen.suspects_itself:
        sentence = f"{seen.failing} of {seen.counted} nodes fail together: {safe(seen.node)} suspects itself."
        console.print(Text(f"{sentence} Nothing is taken over by itself.", style="bold red"))
    if seen.left_out:
        console.print(Text(f"{seen.left_out} more nodes are not probed (probing.children).", style="bold yellow"))
    for each in seen.vantage:
        if not each.counts:
            console.print(Text(f"The vantage point {safe(each.name)} does not count: {safe(each.cause)}."))


def _standing(child: ChildSeen) -> Text:
    return Text(child.standing, style=_STYLES[child.standing])


def _milliseconds(child: ChildSeen, percentile: str) -> str:
    took = child.latency_seconds.get(percentile)
    return _NOTHING if took is None else f"{took * 1_000:.1f}"


def _incident(incident: Incident) -> str:
    since = datetime.fromtimestamp(incident.began_at, UTC)
    if incident.is_open:
        return f"since {since:%Y-%m-%d %H:%M:%S} UTC, {safe(incident.cause)}"
    return f"{since:%Y-%m-%d %H:%M:%S} UTC for {incident.ended_at - incident.began_at} s, {safe(incident.cause)}"


def _takeover(child: ChildSeen) -> str:
    if not child.takeover:
        return _NOTHING
    how = "by itself" if child.takeover_automatic else "by an operator"
    return f"since {time_text(child.takeover_since)}, {how}"
