"""The command `topnode`: the table of its commands. What each does is in nodes/commands/.

A command's module is imported when the command runs and not before, so that `topnode --help` is there at once; that
is why the table, and not the command, holds the line of help.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Final, NoReturn

import click

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells count it: 128 and the number of the signal."""

PIPE_CLOSED: Final = 141
"""Exit code when nobody reads the output any more."""

COMMANDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "serve": ("nodes.commands.serve:command", "Run a node until it is told to stop."),
        "resolve": ("nodes.commands.resolve:command", "Ask a node about identifiers."),
        "key": ("nodes.commands.key:command", "Make the keys with which nodes and operators sign."),
        "node": ("nodes.commands.node:command", "Apply as a node; review, suspend and list nodes."),
        "nodes": ("nodes.commands.nodes:command", "Show how the nodes below are, as they are probed."),
        "prefix": ("nodes.commands.prefix:command", "Apply for prefixes; allocate and delegate them."),
        "route": ("nodes.commands.route:command", "Say where the records of a prefix are."),
        "register": ("nodes.commands.register:command", "Register, change and delete identifiers, signed."),
        "receipt": ("nodes.commands.receipt:command", "Check the proofs of what was registered."),
        "load": ("nodes.commands.load:command", "Import identifiers in bulk as an operator, from NDJSON or CSV."),
        "counts": ("nodes.commands.counts:command", "Show what was asked and registered, by prefix and day."),
        "list": ("nodes.commands.list:command", "List the identifiers registered below a prefix."),
        "journal": ("nodes.commands.journal:command", "Show and verify the journal; make a store anew from it."),
        "store": ("nodes.commands.store:command", "Prepare, check and fill the Cassandra ring that holds a store."),
        "backup": ("nodes.commands.backup:command", "Copy a store while its node runs."),
        "restore": ("nodes.commands.restore:command", "Make a store from a backup."),
        "config": ("nodes.commands.config:command", "Check the configuration; tell where each value comes from."),
        "demo": ("nodes.commands.demo:command", "Run a whole node with a million registrations, and ask it."),
    }
)
"""Name -> where the command is, and its line of help."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - likewise
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; a Fault becomes an error message and exit code 1, a reader that went away a quiet end."""
        # Imported here because asking for help needs none of it.
        from nodes.terminal import print_fault  # noqa: PLC0415
        from resolver.errors import Fault  # noqa: PLC0415

        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except Fault as fault:
            print_fault(fault)
            ctx.exit(1)
        except BrokenPipeError:
            # What is still buffered goes nowhere when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(PIPE_CLOSED)
        return result


def _print_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click's
    if wanted:
        from nodes.version import software_version  # noqa: PLC0415 - reads the distribution's metadata

        click.echo(f"topnode {software_version()}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Every command explains itself: topnode COMMAND --help",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def topnode() -> None:
    """A top-level node for industrial-internet identifier resolution."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give its exit code: 0 done, 1 refused or failed, 2 not understood."""
    try:
        code = topnode.main(list(arguments), prog_name="topnode", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """The entry point."""
    # What goes wrong in a call is told as a Fault or counted. gRPC's own lines on standard error, one for each odd
    # client, would drown the log; children inherit this.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Nothing here uses gRPC on both sides of a fork, and its support for that can end a child before its exec
    # (grpc/grpc#43157).
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    sys.exit(run(sys.argv[1:]))
