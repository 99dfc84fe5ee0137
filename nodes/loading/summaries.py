"""What a command that takes rows tells at its end: what has come of them, or where it was interrupted."""

from collections import Counter
from typing import Any, Final

import click
from msgspec import Struct

from nodes.terminal import messages, output, print_json, table

HAS_REJECTS: Final = 3
"""Exit code when some rows were refused and all others are in."""


class Summary(Struct, frozen=True, kw_only=True):
    """What has come of all rows of an input.

    `counts` are rows by what became of them; `reasons` why rows were refused in this run, which began behind the line
    `resumed_at`, took so many `seconds`, and read lines at this `rate` a second; `index` is the newest journal index.
    """

    source: str
    lines: int
    octets: int
    counts: dict[str, int]
    reasons: Counter[str]
    resumed_at: int
    index: int
    seconds: float
    rate: float

    def plain(self) -> dict[str, Any]:
        """Give it as the JSON document has it."""
        return {
            "input": self.source,
            "lines": self.lines,
            "bytes": self.octets,
            **self.counts,
            "reasons": dict(self.reasons.most_common()),
            "resumed_at_line": self.resumed_at,
            "index": self.index,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rate),
        }


def print_summary(summary: Summary, *, as_json: bool, **named: object) -> None:
    """Print it, as one JSON document that begins with what is `named`, or for people."""
    if as_json:
        print_json({**named, **summary.plain()})
        return
    shown = table("rows", "count", right=["count"])
    for what, count in summary.counts.items():
        shown.add_row(what, f"{count:,}")
    for reason, count in summary.reasons.most_common():
        shown.add_row(f"  {reason}", f"{count:,}")
    click.echo(f"{summary.source}: {summary.lines:,} lines")
    output().print(shown)
    click.echo(f"{summary.seconds:,.1f} s, {summary.rate:,.0f} rows/s; the newest entry is {summary.index:,}")


def tell_interrupted(what: str, lines: int, otherwise: str, *, can_go_on: bool) -> None:
    """Tell how far an interrupted command came, and how to go on: `otherwise` where it cannot by itself."""
    if lines:
        how = "The same command goes on behind it." if can_go_on else otherwise
        messages().print(f"The {what} has come to line {lines:,}. {how}")
