"""What the commands write: tables and progress for people, JSON for machines, and what went wrong.

Plain when piped, and where NO_COLOR is set. rich is imported when something of it is used.
"""

# ruff: noqa: PLC0415 - rich takes longer to import than most commands to run, and `--json` needs none of it.

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

import msgspec

from resolver.errors import Fault

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table


def output() -> "Console":
    """Give the console for results, on standard output."""
    return _console(sys.stdout)


def messages() -> "Console":
    """Give the console for everything that is not a result, on standard error."""
    return _console(sys.stderr)


def _console(file: TextIO) -> "Console":
    from rich.console import Console

    # What is piped isn't wrapped: a line stays a line for grep.
    return Console(file=file, width=None if file.isatty() else 10_000, highlight=False)


def table(*columns: str, title: str | None = None, right: Iterable[str] = ()) -> "Table":
    """Begin a table with these columns; those named in `right` hold numbers."""
    from rich import box
    from rich.table import Table

    begun = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    aligned = set(right)
    for column in columns:
        begun.add_column(column, justify="right" if column in aligned else "left")
    return begun


def progress(*, unit: str = "rows") -> "Progress":
    """Make a progress bar with rate and time left, on standard error; silent where that is no terminal.

    Use it as a context; `add_task(name, total=None)` and `advance(task, count)` are rich's.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(TextColumn):
        def render(self, task: "object") -> Text:
            speed = getattr(task, "speed", None)
            return Text("" if speed is None else f"{speed:,.0f} {unit}/s", justify="right")

    console = messages()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(""),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def print_json(value: object) -> None:
    """Print one JSON document: indented where people look, on one line where programs read."""
    encoded = msgspec.json.encode(value, enc_hook=str)
    if sys.stdout.isatty():
        encoded = msgspec.json.format(encoded)
    sys.stdout.flush()
    sys.stdout.buffer.write(encoded + b"\n")
    sys.stdout.buffer.flush()


def print_ndjson(values: Iterable[object]) -> None:
    """Print JSON documents, one a line."""
    encoder = msgspec.json.Encoder(enc_hook=str)
    sys.stdout.flush()
    for value in values:
        sys.stdout.buffer.write(encoder.encode(value) + b"\n")
    sys.stdout.buffer.flush()


def print_fault(fault: Fault) -> None:
    """Tell on standard error what went wrong, where, and what to do about it."""
    where = f" ({fault.field})" if fault.field else ""
    lines = [f"Error: {fault.detail}", f"  reason: {fault.reason.name}{where}", f"  do: {fault.reason.value.remedy}"]
    sys.stderr.write("\n".join(lines) + "\n")
