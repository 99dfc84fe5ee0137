"""The options that commands which load have alike: what the rows are, who signs for them, and what is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar

import click

from nodes.asking.reach import with_options
from nodes.loading.imports import Operator
from nodes.loading.line_files import LineFile
from registry.rows import RowFormat
from resolver.trust.operators import LOCAL

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Loading(TypedDict):
    """What these options say."""

    row_format: str | None
    rejects: Path | None
    registrant: str
    name: str | None
    key: Path | None
    actor: str
    as_json: bool


_LOADING: Final = (
    click.option(
        "--format",
        "row_format",
        type=click.Choice(["ndjson", "csv"]),
        help="How rows are written. Default: CSV for a file called *.csv, else NDJSON.",
    ),
    click.option(
        "--rejects", type=click.Path(path_type=Path), metavar="FILE", help="Where refused rows go, as NDJSON."
    ),
    click.option(
        "--registrant",
        default="",
        metavar="NODE",
        help="Who registers, where a row does not say. Default: the holder.",
    ),
    click.option(
        "--name", metavar="TEXT", help="Name of the load, by which it is found again. Default: by the file."
    ),
    click.option(
        "--key",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The private key (PEM) of the operator who signs. Default: operator.pem in the folder of --data.",
    ),
    click.option("--actor", default=LOCAL, show_default=True, metavar="NAME", help="The operator who signs."),
    click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON document."),
)


def loading_options(command: _Command) -> _Command:
    """Give a command the options of `Loading`."""
    return with_options(command, _LOADING)


def format_of(source: str, loading: Loading) -> RowFormat:
    """Give how the rows of this input are written: as was said, else by its name."""
    said = loading["row_format"]
    if said is not None:
        return RowFormat[said.upper()]
    return RowFormat.CSV if source.lower().endswith(".csv") else RowFormat.NDJSON


def operator_of(loading: Loading) -> Operator:
    """Give who signs."""
    return Operator(name=loading["actor"], key=loading["key"])


def rejects_file(loading: Loading) -> LineFile | None:
    """Give where refused rows go, if anywhere."""
    return LineFile(loading["rejects"], "--rejects") if loading["rejects"] else None
