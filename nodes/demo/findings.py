"""What was seen and measured, as a document and as tables. Times are in seconds, sizes in bytes."""

from msgspec import Struct
from rich.table import Table

from nodes.demo.asking import Measured
from nodes.demo.failing import Failed
from nodes.demo.joining import Joined
from nodes.demo.registering import Registered
from nodes.demo.tiers import Running
from nodes.demo.watching import Footprint, Looked
from nodes.demo.wuhan import Secondary
from nodes.terminal import table
from resolver.routes import Hosting, Prefix

_MIB = 1 << 20
_SHOWN_ENDPOINTS = 1


class Findings(Struct, frozen=True, kw_only=True):
    """The demo's report. `loaded` is none where the store came out of an earlier demo's backup.

    `asked` are the node's own answers; `recursed` those that it fetched from nodes below, first new and then again.
    `right` and `wrong` count compared answers; `differences` are the first of the wrong ones, in words.
    """

    registrations: int
    prefixes: int
    loaded: Registered | None
    asked: list[Measured]
    running: Running
    recursed: list[Measured]
    joined: list[Joined]
    failed: Failed
    packages: Registered | None
    node: Looked
    right: int
    wrong: int
    differences: list[str]
    seconds: float


def connected(nodes: tuple[Secondary, ...]) -> Table:
    """Show who is connected."""
    shown = table("prefix", "node", "records", "answers at", title="Connected")
    for node in nodes:
        shown.add_row(node.prefix, node.name, *_place(node.allocation), style="bold")
        for enterprise in node.enterprises:
            shown.add_row(f"  {enterprise.prefix}", enterprise.maker, *_place(enterprise.allocation))
    return shown


def asked(measured: list[Measured], title: str = "Asked") -> Table:
    """Show how fast was answered."""
    columns = ("identifiers a call", "calls at once", "calls", "identifiers", "identifiers/s", "p50 ms", "p99 ms")
    shown = table(*columns, title=title, right=columns)
    for each in measured:
        shown.add_row(
            f"{each.batch:,}",
            f"{each.in_flight}",
            f"{each.calls:,}",
            f"{each.identifiers:,}",
            f"{each.rate:,.0f}",
            f"{each.p50 * 1_000:.2f}",
            f"{each.p99 * 1_000:.2f}",
        )
    return shown


def joined(nodes: list[Joined]) -> Table:
    """Show who joined, and how soon everybody was told so."""
    numbers = ("enterprises", "with own nodes", "registrations", "known everywhere after")
    shown = table("prefix", "node", *numbers, title="Joined while it ran", right=numbers)
    for each in nodes:
        counts = (
            f"{each.enterprises}",
            f"{each.own_nodes}",
            f"{each.registrations:,}",
            f"{each.known_after * 1_000:.0f} ms",
        )
        shown.add_row(each.prefix, each.name, *counts)
    return shown


def failed(failing: Failed) -> Table:
    """Show what became of a node that was killed, and what callers were told meanwhile."""
    numbers = ("after", "took")
    shown = table("after", "asked for", "told", "took", title=f"{failing.node} is killed", right=numbers)
    for each in failing.events:
        took = f"{each.took * 1_000:.1f} ms" if each.took else ""
        shown.add_row(f"{each.after:.1f} s", each.what, each.told, took)
    return shown


def processes(seen: list[Footprint]) -> Table:
    """Show what the processes hold."""
    numbers = ("pid", "own memory", "looks at the store")
    shown = table("process", *numbers, title="Processes", right=numbers)
    for each in seen:
        shown.add_row(each.name, str(each.pid), _mib(each.own), _mib(each.mapped))
    return shown


def totals(findings: Findings) -> Table:
    """Show the rest."""
    node = findings.node
    shown = table("what", "figure", title="In all", right=["figure"])
    shown.add_row("registrations", f"{findings.registrations:,}")
    shown.add_row("prefixes", f"{findings.prefixes:,}")
    shown.add_row("store on disk", f"{_mib(node.store_bytes)}")
    shown.add_row("of it for a registration", f"{node.store_bytes / findings.registrations:,.0f} bytes")
    shown.add_row("lookups in memory caches", f"{node.cache_lookups:,}")
    shown.add_row("of them answered there", f"{node.hit_ratio:.1%}")
    shown.add_row("answers compared", f"{findings.right + findings.wrong:,}")
    shown.add_row("answers wrong", f"{findings.wrong:,}")
    shown.add_row("time", f"{findings.seconds:.1f} s")
    return shown


def _place(prefix: Prefix) -> tuple[str, str]:
    if prefix.hosting is Hosting.HERE:
        return "here", ""
    endpoints = [f"{each.protocol.name.lower()} {each.address}:{each.port}" for each in prefix.endpoints]
    more = len(endpoints) - _SHOWN_ENDPOINTS
    return "below, copies here", ", ".join(endpoints[:_SHOWN_ENDPOINTS]) + (f" and {more} more" if more else "")


def _mib(octets: int) -> str:
    return f"{octets / _MIB:,.0f} MiB"
